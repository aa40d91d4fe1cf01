"""Resizing: bilinear (half-pixel and align_corners), nearest, and the transposed convolution with bilinear weights."""

import numpy as np

from pagnp.backends.base import BackendLike
from pagnp.errors import UsageError
from pagnp.ops import checks
from pagnp.ops.call import Call
from pagnp.ops.conv import conv_transpose2d
from pagnp.types import AnyTensor, Pair, Size, Tensor


def bilinear(
    x: AnyTensor,
    *,
    size: Size | None = None,
    scale: Pair | None = None,
    align_corners: bool = False,
    backend: BackendLike = "numpy",
    threads: int | None = None,
) -> Tensor:
    """Resize `x` by bilinear interpolation.

    x        (n, h_in, w_in, c) float32
    size     (h_out, w_out), or scale int or (y, x)
    returns  (n, h_out, w_out, c) float32

    Numerics: EXACT; source positions from integers, then fma(w, b-a, a) along x, along y (docs/NUMERICS.md).
    Raises:   DtypeError, ShapeError, UsageError.
    """
    call = Call("bilinear", backend, threads)
    x = call.tensor("x", x)
    return call.fill(x, bool(align_corners), shape=_shape("bilinear", x, size, scale))


def nearest(
    x: AnyTensor,
    *,
    size: Size | None = None,
    scale: Pair | None = None,
    backend: BackendLike = "numpy",
) -> Tensor:
    """Resize `x` by taking the nearest pixel, as PyTorch's mode "nearest" does.

    x        (n, h_in, w_in, c) float32
    size     (h_out, w_out), or scale int or (y, x)
    returns  (n, h_out, w_out, c) float32

    Numerics: EXACT; source min(floor(f32(o) * (f32(in)/f32(out))), in-1), values moved.
    Raises:   DtypeError, ShapeError, UsageError.
    """
    call = Call("nearest", backend)
    x = call.tensor("x", x)
    return call.fill(x, shape=_shape("nearest", x, size, scale))


def bilinear_deconv(x: AnyTensor, factor: int, *, backend: BackendLike = "numpy", threads: int | None = None) -> Tensor:
    """Upsample `x` by an even factor with a depthwise transposed convolution of bilinear weights.

    x        (n, h, w, c) float32
    returns  (n, h*factor, w*factor, c) float32; not a resize: it fades at the border

    Numerics: EXACT; conv_transpose2d, kernel 2*factor, stride factor, crop factor/2 on each side.
    Raises:   DtypeError, ShapeError, UsageError.
    Source:   Long et al. 2015; the deconvolution of the PAG authors' models.
    """
    channels = Call("bilinear_deconv", backend, threads).tensor("x", x).shape[3]
    plane = bilinear_deconv_weight(factor)
    weight = np.ascontiguousarray(np.broadcast_to(plane[:, :, None, None], (*plane.shape, channels, 1)))
    place = {"stride": factor, "padding": factor // 2, "groups": channels}
    return conv_transpose2d(x, weight, **place, backend=backend, threads=threads)


def bilinear_deconv_weight(factor: int) -> Tensor:
    """Return the (2*factor, 2*factor) float32 weight of `bilinear_deconv`.

    Numerics: w[k] = 1 - abs((k+.5)/factor - 1) and the product w[ky] * w[kx] in float64, rounded once.
    Raises:   UsageError if the factor is odd or less than 2.
    """
    factor = checks.integer("bilinear_deconv", "factor", factor, 2)
    if factor % 2:
        raise UsageError(f"bilinear_deconv: factor is {factor}, need an even number")
    w = 1 - np.abs((np.arange(2 * factor) + 0.5) / factor - 1)
    return (w[:, None] * w[None, :]).astype(np.float32)


def _shape(op, x, size, scale):
    if (size is None) == (scale is None):
        raise UsageError(f"{op}: give size=(h, w) or scale=, one of them")
    if size is None:
        scale = checks.pair(op, "scale", scale)
        size = x.shape[1] * scale[0], x.shape[2] * scale[1]
    else:
        size = checks.pair(op, "size", size)
    return x.shape[0], *size, x.shape[3]
