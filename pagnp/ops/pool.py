"""Max and average pooling."""

from typing import TypeAlias

import numpy as np

from pagnp.backends.base import BackendLike
from pagnp.ops import checks
from pagnp.shapes import pool2d_size
from pagnp.types import Pair, Sides, Tensor

_Window: TypeAlias = tuple[tuple[int, int], tuple[int, int], tuple[int, int, int, int], tuple[int, int]]


def max_pool2d(
    x: Tensor,
    kernel: Pair,
    *,
    stride: Pair | None = None,
    padding: Sides = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    backend: BackendLike = "numpy",
) -> Tensor:
    """Take the maximum of each window; padding never wins, a NaN does.

    x         (n, h_in, w_in, c) float32
    kernel    int or (y, x); stride likewise (None: the kernel), dilation too
    padding   int or (top, bottom, left, right); ceil_mode as in PyTorch
    returns   (n, h_out, w_out, c) float32

    Numerics: EXACT; scan order, `v > best` or v NaN replaces.
    Raises:   DtypeError, UsageError; ShapeError also if a window holds no real pixel.
    """
    x, window = _check("max_pool2d", x, kernel, stride, padding, dilation)
    out = _allocate("max_pool2d", x, *window, ceil_mode)
    checks.kernel("max_pool2d", backend)(x, *window, out)
    return out


def avg_pool2d(
    x: Tensor,
    kernel: Pair,
    *,
    stride: Pair | None = None,
    padding: Sides = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    backend: BackendLike = "numpy",
) -> Tensor:
    """Average each window; padding counts unless `count_include_pad` is false.

    x         (n, h_in, w_in, c) float32
    kernel    int or (y, x); stride likewise (None: the kernel)
    padding   int or (top, bottom, left, right); ceil_mode and count_include_pad as in PyTorch
    returns   (n, h_out, w_out, c) float32

    Numerics: EXACT; sums from +0 in scan order, then / f32(count).
    Raises:   DtypeError, UsageError; ShapeError also if a window holds no real pixel.
    """
    x, (kernel, stride, padding, _) = _check("avg_pool2d", x, kernel, stride, padding, 1)
    out = _allocate("avg_pool2d", x, kernel, stride, padding, (1, 1), ceil_mode)
    checks.kernel("avg_pool2d", backend)(x, kernel, stride, padding, bool(count_include_pad), out)
    return out


def _check(
    op: str, x: Tensor, kernel: Pair, stride: Pair | None, padding: Sides, dilation: Pair
) -> tuple[Tensor, _Window]:
    """Return (x, (kernel, stride, padding, dilation)) checked and as tuples."""
    kernel = checks.pair(op, "kernel", kernel)
    stride = kernel if stride is None else checks.pair(op, "stride", stride)
    return checks.tensor(op, "x", x), (kernel, stride, checks.sides(op, padding), checks.pair(op, "dilation", dilation))


def _allocate(op, x, kernel, stride, padding, dilation, ceil_mode):
    size = pool2d_size(op, x.shape[1], x.shape[2], kernel, stride, padding, dilation, bool(ceil_mode))
    return np.empty((x.shape[0], *size, x.shape[3]), np.float32)
