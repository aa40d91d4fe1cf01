"""Max and average pooling."""

import numpy as np

from pagnp.ops import checks
from pagnp.shapes import pool2d_size


def max_pool2d(x, kernel, *, stride=None, padding=0, dilation=1, ceil_mode=False, backend="numpy"):
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


def avg_pool2d(x, kernel, *, stride=None, padding=0, ceil_mode=False, count_include_pad=True, backend="numpy"):
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


def _check(op, x, kernel, stride, padding, dilation):
    """Return (x, (kernel, stride, padding, dilation)) checked and as tuples."""
    kernel = checks.pair(op, "kernel", kernel)
    stride = kernel if stride is None else checks.pair(op, "stride", stride)
    return checks.tensor(op, "x", x), (kernel, stride, checks.sides(op, padding), checks.pair(op, "dilation", dilation))


def _allocate(op, x, kernel, stride, padding, dilation, ceil_mode):
    size = pool2d_size(op, x.shape[1], x.shape[2], kernel, stride, padding, dilation, bool(ceil_mode))
    return np.empty((x.shape[0], *size, x.shape[3]), np.float32)
