"""Convolutions that are wrong on purpose, one mistake each; the conformance check must reject every one.

`build()` without arguments is a right one, so that what is rejected is the mistake and not the scaffold.
"""

import numpy as np
from known_bad_rounding import F32, WRONG_SUMS, by_rule, chains, in_order

from pagnp.backends.numpy_ref.fma import fma_f32

ZERO = F32(0)
OUTSIDE = np.array([0x7FC5A5A5], np.uint32).view(F32)[0]  # a NaN of its own, in place of the padding's +0


def skip_zero_weight(w, x, s):
    """Skips a zero factor, as a sparse kernel would: loses NaN from 0 * inf and the sign of zero."""
    return np.where((w == 0) | (x == 0), s, fma_f32(w, x, s))


def skip_padding(w, x, s):
    """Skips what lies outside the map: keeps a -0, and hides a NaN or Inf weight."""
    outside = np.ascontiguousarray(x).view(np.uint32) == OUTSIDE.view(np.uint32)
    return np.where(outside, s, fma_f32(w, x, s))


def after_zero(totals):
    """Start the totals from +0 before the first block: turns a total of -0 into +0."""
    return in_order([np.zeros_like(totals[0]), *totals])


def columns(x, kernel, stride, padding, dilation, shape, frame):
    """Return the terms (pixels, k_h*k_w, c_in) of every output pixel; `frame` is what np.pad takes for the padding."""
    n, h_out, w_out = shape[:3]
    top, bottom, left, right = padding
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), **frame)
    taps = []
    for ky in range(kernel[0]):
        for kx in range(kernel[1]):
            y0, x0 = ky * dilation[0], kx * dilation[1]
            rows = padded[:, y0 : y0 + (h_out - 1) * stride[0] + 1 : stride[0]]
            taps.append(rows[:, :, x0 : x0 + (w_out - 1) * stride[1] + 1 : stride[1]])
    return np.stack(taps, axis=3).reshape(n * h_out * w_out, len(taps), x.shape[3])


def quiet(kernel):
    """Return the kernel without NumPy's warnings: overflow and NaN are results here."""

    def call(*args):
        with np.errstate(all="ignore"):
            kernel(*args)

    return call


def right_epilogue(acc, scale, shift, bias, residual, relu):
    """Norm or bias, residual, relu."""
    if scale is not None:
        acc = fma_f32(acc, scale, shift)
    elif bias is not None:
        acc = acc + bias
    acc = acc if residual is None else acc + residual
    return np.where(acc < 0, F32(0), acc) if relu else acc


def unfused_norm(acc, scale, shift, bias, residual, relu):
    """scale and shift as a product and a sum."""
    acc = acc if scale is None else acc * scale + shift
    return right_epilogue(acc, None, None, bias if scale is None else None, residual, relu)


def residual_first(acc, scale, shift, bias, residual, relu):
    """The residual before the norm."""
    return right_epilogue(acc if residual is None else acc + residual, scale, shift, bias, None, relu)


def residual_after_relu(acc, scale, shift, bias, residual, relu):
    """The residual after the relu."""
    acc = right_epilogue(acc, scale, shift, bias, None, relu)
    return acc if residual is None else acc + residual


def bias_always(acc, scale, shift, bias, residual, relu):
    """A missing bias added as +0: turns -0 into +0."""
    return right_epilogue(
        acc if bias is not None or scale is not None else acc + F32(0), scale, shift, bias, residual, relu
    )


def relu_as(keeps):
    """Return the epilogue whose relu keeps x where keeps(x): what a maximum with 0 is on one machine or another."""

    def epilogue(acc, scale, shift, bias, residual, relu):
        acc = right_epilogue(acc, scale, shift, bias, residual, False)
        return np.where(keeps(acc), acc, F32(0)) if relu else acc

    return epilogue


def store(out, rows, sites):
    """Write the rows (all pixels, c_out) to `out`, whatever its layout."""
    if sites is None:
        out[...] = rows.reshape(out.shape)
    elif out.ndim == 2:
        out[...] = rows[sites]
    else:
        out.reshape(-1, out.shape[-1])[sites] = rows[sites]


def store_all(out, rows, sites):
    """Write scattered outputs everywhere, not only at the sites."""
    store(out, rows, None if out.ndim == 4 else sites)


def store_without_last(out, rows, sites):
    """Forget the pixels of an unfinished last tile of 8."""
    before = out.copy()
    store(out, rows, sites)
    pixels = out.reshape(-1, out.shape[-1])
    kept = len(pixels) // 8 * 8
    pixels[kept:] = before.reshape(pixels.shape)[kept:]


def store_without_row(out, rows, sites):
    """Forget the last row of a map, or the last site."""
    before = out[:, -1:].copy() if out.ndim == 4 else out[-1:].copy()
    store(out, rows, sites)
    if out.ndim == 4:
        out[:, -1:] = before
    else:
        out[-1:] = before


def store_without_columns(out, rows, sites):
    """Forget the columns of an unfinished last tile of 8, of each row."""
    before = out.copy()
    store(out, rows, sites)
    if out.ndim == 4:
        kept = out.shape[2] // 8 * 8
        out[:, :, kept:] = before[:, :, kept:]


def store_without_channels(out, rows, sites):
    """Forget the channels of an unfinished last vector of 8."""
    before = out.copy()
    store(out, rows, sites)
    kept = out.shape[-1] // 8 * 8
    out[..., kept:] = before[..., kept:]


def store_accumulating(out, rows, sites):
    """Add to whatever `out` held."""
    before = np.where(np.isfinite(out), out, F32(0))
    store(out, rows, sites)
    out += before


def store_beyond(out, rows, sites):
    """Write a whole vector over the end of `out`."""
    store(out, rows, sites)
    if out.size:
        np.lib.stride_tricks.as_strided(out.reshape(-1)[-1:], shape=(4,), strides=(4,))[1:] = 0


def build(epilogue=right_epilogue, write=store, frame=None, **sums):
    """Return a conv2d kernel with the given parts; `sums` are arguments of `chains`."""
    frame = frame or {"mode": "constant"}

    def conv2d(x, packed, scale, shift, bias, residual, relu, sites, stride, padding, dilation, groups, out):
        k_h, k_w, c_group, c_out = packed.shape
        h_out = (x.shape[1] + padding[0] + padding[1] - dilation[0] * (k_h - 1) - 1) // stride[0] + 1
        w_out = (x.shape[2] + padding[2] + padding[3] - dilation[1] * (k_w - 1) - 1) // stride[1] + 1
        terms = columns(x, (k_h, k_w), stride, padding, dilation, (x.shape[0], h_out, w_out), frame)
        rows = np.empty((len(terms), c_out), dtype=F32)
        per_group = c_out // groups
        for g in range(groups):
            part = np.ascontiguousarray(terms[:, :, g * c_group : (g + 1) * c_group]).reshape(len(terms), -1)
            weight = packed[..., g * per_group : (g + 1) * per_group].reshape(-1, per_group)
            rows[:, g * per_group : (g + 1) * per_group] = chains(weight, part.T[:, :, None], **sums)
        every = None
        if residual is not None:
            every = np.zeros_like(rows)
            where = slice(None) if sites is None else sites
            flat = residual.reshape(-1, c_out)
            every[where] = flat[sites] if sites is not None and residual.ndim == 4 else flat
        write(out, epilogue(rows, scale, shift, bias, every, relu), sites)

    return quiet(conv2d)


def transposed_terms(x, weight, phase, shape, stride, padding, dilation, outside):
    """Return the terms that reach the outputs of a phase: weight (taps, c_in, c_out/groups), x (taps, c_in, pixels)."""
    height, width = (len(range(phase[i], shape[i + 1], stride[i])) for i in (0, 1))
    margin = max(weight.shape[:2]) * max(dilation) + max(padding) + max(height, width)
    padded = np.pad(x, ((0, 0), (margin, margin), (margin, margin), (0, 0)), constant_values=outside)
    weights, values = [weight[:0, 0]], [np.empty((0, x.shape[3], x.shape[0] * height * width), F32)]
    for ky, kx in np.ndindex(*weight.shape[:2]):
        y, rest_y = divmod(phase[0] + padding[0] - ky * dilation[0], stride[0])
        x0, rest_x = divmod(phase[1] + padding[2] - kx * dilation[1], stride[1])
        if rest_y == rest_x == 0:
            read = padded[:, margin + y : margin + y + height, margin + x0 : margin + x0 + width]
            weights.append(weight[ky, kx][None])
            values.append(read.reshape(-1, x.shape[3]).T[None])
    return np.concatenate(weights), np.ascontiguousarray(np.concatenate(values))


def build_transposed(outside=ZERO, **sums):
    """Return a conv_transpose2d kernel; `outside` is read beyond the map, `sums` are arguments of `chains`."""

    def conv_transpose2d(x, weight, scale, shift, bias, residual, relu, stride, padding, dilation, groups, out):
        c_group = weight.shape[3]
        for phase in np.ndindex(min(stride[0], out.shape[1]), min(stride[1], out.shape[2])):
            terms = transposed_terms(x, weight, phase, out.shape, stride, padding, dilation, outside)
            place = (slice(None), slice(phase[0], None, stride[0]), slice(phase[1], None, stride[1]))
            acc = np.zeros((terms[1].shape[2], groups * c_group), F32)
            for g, part in enumerate(np.split(np.arange(x.shape[3]), groups) if len(terms[0]) else ()):
                weights, values = terms[0][:, part].reshape(-1, c_group), terms[1][:, part].reshape(-1, len(acc), 1)
                acc[:, g * c_group : (g + 1) * c_group] = chains(weights, values, **sums)
            rest = None if residual is None else residual[place]
            out[place] = right_epilogue(acc.reshape(out[place].shape), scale, shift, bias, rest, relu)

    return quiet(conv_transpose2d)


def pack(weight, groups):
    """The packed weight is the weight."""
    return weight


SKIPPED = {"mode": "constant", "constant_values": OUTSIDE}
WRONG_CONV2D = {
    **{name: build(**sums) for name, sums in WRONG_SUMS.items()},
    "zeros skipped": build(step=skip_zero_weight),
    "padding skipped": build(step=skip_padding, frame=SKIPPED),
    "padding replicated": build(frame={"mode": "edge"}),
    "totals from +0": build(totals=after_zero),
    "norm unfused": build(epilogue=unfused_norm),
    "residual before norm": build(epilogue=residual_first),
    "residual after relu": build(epilogue=residual_after_relu),
    "missing bias added": build(epilogue=bias_always),
    "relu by x > 0": build(epilogue=relu_as(lambda x: x > 0)),
    "relu that loses -0": build(epilogue=relu_as(lambda x: ~(x <= 0))),
    "relu that loses NaN": build(epilogue=relu_as(lambda x: x >= 0)),
    "last pixel tile missing": build(write=store_without_last),
    "last row missing": build(write=store_without_row),
    "last columns missing": build(write=store_without_columns),
    "last channels missing": build(write=store_without_channels),
    "adds to out": build(write=store_accumulating),
    "writes beyond out": build(write=store_beyond),
    "scattered writes everywhere": build(write=store_all),
}
WRONG_TRANSPOSED = {
    **{name: build_transposed(**sums) for name, sums in WRONG_SUMS.items()},
    "zeros skipped": build_transposed(step=skip_zero_weight),
    "padding skipped": build_transposed(step=skip_padding, outside=OUTSIDE),
}
WRONG_CONVS = {"conv2d": WRONG_CONV2D, "conv_transpose2d": WRONG_TRANSPOSED}
RIGHT_CONVS = {
    "conv2d": (build(), build(step=by_rule("even"))),
    "conv_transpose2d": (build_transposed(), build_transposed(step=by_rule("even"))),
}
