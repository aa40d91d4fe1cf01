"""Max and average pooling."""

from typing import TypeAlias

from pagnp.backends.base import BackendLike
from pagnp.ops import checks
from pagnp.ops.call import Call
from pagnp.shapes import pool2d_size
from pagnp.types import AnyTensor, Pair, Sides, Tensor

_Window: TypeAlias = tuple[tuple[int, int], tuple[int, int], tuple[int, int, int, int], tuple[int, int]]


def max_pool2d(
    x: AnyTensor,
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
    call = Call("max_pool2d", backend)
    x, window = call.tensor("x", x), _window("max_pool2d", kernel, stride, padding, dilation)
    return call.fill(x, *window, shape=_shape("max_pool2d", x, window, ceil_mode))


def avg_pool2d(
    x: AnyTensor,
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
    call = Call("avg_pool2d", backend)
    x, window = call.tensor("x", x), _window("avg_pool2d", kernel, stride, padding, 1)
    return call.fill(x, *window[:3], bool(count_include_pad), shape=_shape("avg_pool2d", x, window, ceil_mode))


def _window(op: str, kernel: Pair, stride: Pair | None, padding: Sides, dilation: Pair) -> _Window:
    """Return (kernel, stride, padding, dilation) checked and as tuples."""
    kernel = checks.pair(op, "kernel", kernel)
    stride = kernel if stride is None else checks.pair(op, "stride", stride)
    return kernel, stride, checks.sides(op, padding), checks.pair(op, "dilation", dilation)


def _shape(op, x, window, ceil_mode):
    return x.shape[0], *pool2d_size(op, x.shape[1], x.shape[2], *window, bool(ceil_mode)), x.shape[3]
