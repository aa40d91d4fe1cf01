"""Convolution and transposed convolution."""

import numpy as np

from pagnp.backends.base import BackendLike
from pagnp.errors import ShapeError, UsageError
from pagnp.ops import checks
from pagnp.ops.call import Call
from pagnp.shapes import conv2d_size, conv_transpose2d_size
from pagnp.types import AnyIndex, AnyTensor, Pair, Sides, Tensor


def conv2d(
    x: AnyTensor,
    weight: AnyTensor,
    *,
    scale: AnyTensor | None = None,
    shift: AnyTensor | None = None,
    bias: AnyTensor | None = None,
    residual: AnyTensor | None = None,
    relu: bool = False,
    sites: AnyIndex | None = None,
    stride: Pair = 1,
    padding: Sides = 0,
    dilation: Pair = 1,
    groups: int = 1,
    backend: BackendLike = "numpy",
    threads: int | None = None,
) -> Tensor:
    """Convolve `x`; with `sites`, only at those output pixels, bit for bit as the dense result.

    x             (n, h_in, w_in, c_in)             float32
    weight        (k_h, k_w, c_in/groups, c_out)    float32
    scale, shift  (c_out,)                          float32, both or none; or bias (c_out,) alone
    residual      (n, h_out, w_out, c_out)          float32; with sites also (m, c_out)
    sites         (m,) int32, flat ((n*h_out) + oy)*w_out + ox, strictly increasing
    padding       int or (top, bottom, left, right); stride, dilation int or (y, x)
    returns       (n, h_out, w_out, c_out), or (m, c_out) with sites

    Numerics: EXACT; fma chains of 128 over ky, kx, ci; fma(acc, scale, shift) or acc + bias, + residual, relu.
    Raises:   DtypeError, ShapeError, UsageError; SiteError if sites are unsorted or out of range.
    Source:   perforated evaluation: Figurnov et al. 2016, without interpolation.
    """
    call = Call("conv2d", backend, threads)
    x = call.tensor("x", x)
    weight = call.array("weight", weight, np.float32, "(k_h, k_w, c_in/groups, c_out)")
    k_h, k_w, c_in_group, c_out = weight.shape
    groups = _check_groups("conv2d", x, weight, groups, c_in_group * checks.integer("conv2d", "groups", groups, 1))
    if c_out % groups:
        raise ShapeError(f"conv2d: {c_out} output channels cannot be cut into {groups} groups")
    stride, dilation = checks.pair("conv2d", "stride", stride), checks.pair("conv2d", "dilation", dilation)
    padding = checks.sides("conv2d", padding)
    vectors = _check_vectors(call, scale, shift, bias, c_out)
    size = conv2d_size(x.shape[1], x.shape[2], (k_h, k_w), stride, padding, dilation)
    shape = (x.shape[0], *size, c_out)
    if sites is not None:
        sites = call.sites(sites, shape[0] * size[0] * size[1])
    residual = _check_residual(call, residual, shape, sites)
    out = call.empty(shape if sites is None else (sites.size, c_out))
    if out.size:
        packed = call.run(weight, groups, kernel="pack_conv2d")
        call.run(x, packed, *vectors, residual, bool(relu), sites, stride, padding, dilation, groups, out)
    return call.result(out)


def conv_transpose2d(
    x: AnyTensor,
    weight: AnyTensor,
    *,
    scale: AnyTensor | None = None,
    shift: AnyTensor | None = None,
    bias: AnyTensor | None = None,
    residual: AnyTensor | None = None,
    relu: bool = False,
    stride: Pair = 1,
    padding: Sides = 0,
    output_padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
    backend: BackendLike = "numpy",
    threads: int | None = None,
) -> Tensor:
    """Convolve `x` transposed, in gather form: each output sums the taps that reach it.

    x         (n, h_in, w_in, c_in)             float32
    weight    (k_h, k_w, c_in, c_out/groups)    float32
    padding   crop: int or (top, bottom, left, right), may be negative; output_padding int or (y, x), bottom and right
    others    as conv2d
    returns   (n, h_out, w_out, c_out), h_out = (h_in-1)*stride + dilation*(k_h-1) + 1 - top - bottom + output_padding

    Numerics: EXACT; fma chains of 128 over the ky (kx) with (oy + top - ky*dilation) % stride == 0, then ci;
              inputs outside the map enter as +0.
    Raises:   DtypeError, ShapeError, UsageError.
    """
    op = "conv_transpose2d"
    call = Call(op, backend, threads)
    x = call.tensor("x", x)
    weight = call.array("weight", weight, np.float32, "(k_h, k_w, c_in, c_out/groups)")
    k_h, k_w, c_in, c_out_group = weight.shape
    groups = _check_groups(op, x, weight, groups, c_in)
    stride, dilation = checks.pair(op, "stride", stride), checks.pair(op, "dilation", dilation)
    padding = checks.sides(op, padding, low=-(1 << 20))
    output_padding = checks.pair(op, "output_padding", output_padding, low=0)
    vectors = _check_vectors(call, scale, shift, bias, c_out_group * groups)
    size = conv_transpose2d_size(x.shape[1], x.shape[2], (k_h, k_w), stride, padding, output_padding, dilation)
    shape = (x.shape[0], *size, c_out_group * groups)
    residual = _check_residual(call, residual, shape, None)
    return call.fill(x, weight, *vectors, residual, bool(relu), stride, padding, dilation, groups, shape=shape)


def _check_groups(op, x, weight, groups, expected):
    groups = checks.integer(op, "groups", groups, 1)
    c_in = x.shape[3]
    if expected != c_in:
        shapes = f"(x {x.shape}, weight {weight.shape})"
        in_groups = f" in {groups} groups" if groups > 1 else ""
        raise ShapeError(f"{op}: weight expects {expected} input channels{in_groups}, x has {c_in} {shapes}")
    if c_in % groups:
        raise ShapeError(f"{op}: {c_in} input channels cannot be cut into {groups} groups")
    return groups


def _check_vectors(call, scale, shift, bias, c_out):
    """Return (scale, shift, bias) checked: scale and shift together, or bias, or nothing."""
    if (scale is None) != (shift is None):
        given, missing = ("shift", "scale") if scale is None else ("scale", "shift")
        raise UsageError(f"{call.op}: {given} without {missing}; give both, or bias alone")
    if scale is not None and bias is not None:
        both = "bias together with scale and shift"
        raise UsageError(f"{call.op}: {both}; fold the bias into shift (shift + bias * scale)")
    named = (("scale", scale), ("shift", shift), ("bias", bias))
    return tuple(None if v is None else call.channel_vector(name, v, c_out) for name, v in named)


def _check_residual(call, residual, shape, sites):
    """Return the residual in the layout of the output; of a full map given with sites, its rows."""
    if residual is None:
        return None
    residual = call.adopt("residual", residual)
    if sites is not None and call.dtype(residual) is not None and residual.ndim == 2:
        residual, rows = call.array("residual", residual, np.float32, "(m, c)"), (sites.size, shape[3])
        if residual.shape != rows:
            raise ShapeError(f"{call.op}: residual has shape {residual.shape}, need {rows} or the full map {shape}")
        return residual
    residual = call.tensor("residual", residual)
    checks.same_shape(call.op, "residual", residual, shape, "the output")
    if sites is None or not sites.size:
        return residual
    rows = call.empty((sites.size, shape[3]))
    call.run(residual, sites, rows, kernel="gather")
    return rows
