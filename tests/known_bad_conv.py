"""Convolutions that are wrong on purpose, one mistake each; the conformance check must reject every one.

`build()` without arguments is a right one, so that what is rejected is the mistake and not the scaffold.
"""

import numpy as np

from pagnp.backends.numpy_ref.fma import fma_f32

F32 = np.float32
TINY = F32(2.0**-126)


def fused(w, x, s):
    """The right step."""
    return fma_f32(w, x, s)


def unfused(w, x, s):
    """Multiply, round, add, round: what a compiler without -mfma makes of it."""
    return w * x + s


def through_float64(w, x, s):
    """A fused step that rounds twice: wrong on near-ties only."""
    return (w.astype(np.float64) * x.astype(np.float64) + s.astype(np.float64)).astype(F32)


def flushed(w, x, s):
    """A fused step with subnormals flushed to zero."""
    out = fma_f32(w, x, s)
    return np.where(np.abs(out) < TINY, np.copysign(F32(0), out), out)


def skip_zero_weight(w, x, s):
    """Skips a zero factor, as a sparse kernel would: loses NaN from 0 * inf and the sign of zero."""
    return np.where((w == 0) | (x == 0), s, fma_f32(w, x, s))


def in_order(totals):
    """Add the blocks' totals in order."""
    total = totals[0]
    for part in totals[1:]:
        total = total + part
    return total


def backwards(totals):
    """Add the blocks' totals from the last to the first."""
    return in_order(totals[::-1])


def after_zero(totals):
    """Start the totals from +0 before the first block: turns a total of -0 into +0."""
    return in_order([np.zeros_like(totals[0]), *totals])


def chains(terms_w, terms_x, step, block, totals, reverse):
    """Return the sums (pixels, c_out) of terms_x (pixels, K) and terms_w (K, c_out)."""
    order = range(terms_x.shape[1])
    order = list(order)[::-1] if reverse else list(order)
    parts = []
    for start in range(0, len(order), block):
        s = np.zeros((terms_x.shape[0], terms_w.shape[1]), dtype=F32)
        for k in order[start : start + block]:
            s = step(terms_w[k], terms_x[:, k : k + 1], s)
        parts.append(s)
    return totals(parts)


def columns(x, kernel, stride, padding, dilation, shape, mode="constant"):
    """Return the terms (pixels, k_h*k_w, c_in) of every output pixel."""
    n, h_out, w_out = shape[:3]
    top, bottom, left, right = padding
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), mode=mode)
    taps = []
    for ky in range(kernel[0]):
        for kx in range(kernel[1]):
            y0, x0 = ky * dilation[0], kx * dilation[1]
            rows = padded[:, y0 : y0 + (h_out - 1) * stride[0] + 1 : stride[0]]
            taps.append(rows[:, :, x0 : x0 + (w_out - 1) * stride[1] + 1 : stride[1]])
    return np.stack(taps, axis=3).reshape(n * h_out * w_out, len(taps), x.shape[3])


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


def relu_by_comparison(acc, scale, shift, bias, residual, relu):
    """relu as `x if x > 0 else 0`: loses NaN and the sign of zero."""
    acc = right_epilogue(acc, scale, shift, bias, residual, False)
    return np.where(acc > 0, acc, F32(0)) if relu else acc


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


def build(
    step=fused, block=128, totals=in_order, reverse=False, epilogue=right_epilogue, write=store, padding_mode="constant"
):
    """Return a conv2d kernel with the given parts."""

    def conv2d(x, packed, scale, shift, bias, residual, relu, sites, stride, padding, dilation, groups, out):
        k_h, k_w, c_group, c_out = packed.shape
        h_out = (x.shape[1] + padding[0] + padding[1] - dilation[0] * (k_h - 1) - 1) // stride[0] + 1
        w_out = (x.shape[2] + padding[2] + padding[3] - dilation[1] * (k_w - 1) - 1) // stride[1] + 1
        shape = (x.shape[0], h_out, w_out)
        terms = columns(x, (k_h, k_w), stride, padding, dilation, shape, padding_mode)
        rows = np.empty((len(terms), c_out), dtype=F32)
        per_group = c_out // groups
        for g in range(groups):
            part = np.ascontiguousarray(terms[:, :, g * c_group : (g + 1) * c_group]).reshape(len(terms), -1)
            weight = packed[..., g * per_group : (g + 1) * per_group].reshape(-1, per_group)
            rows[:, g * per_group : (g + 1) * per_group] = chains(weight, part, step, block, totals, reverse)
        every = None
        if residual is not None:
            every = np.zeros_like(rows)
            where = slice(None) if sites is None else sites
            flat = residual.reshape(-1, c_out)
            every[where] = flat[sites] if sites is not None and residual.ndim == 4 else flat
        with np.errstate(all="ignore"):
            write(out, epilogue(rows, scale, shift, bias, every, relu), sites)

    return conv2d


def pack(weight, groups):
    """The packed weight is the weight."""
    return weight


WRONG_CONVS = {
    "unfused": build(step=unfused),
    "rounded twice through float64": build(step=through_float64),
    "subnormals flushed": build(step=flushed),
    "zeros skipped": build(step=skip_zero_weight),
    "order reversed": build(reverse=True),
    "blocks of 64": build(block=64),
    "blocks of 127": build(block=127),
    "blocks of 256": build(block=256),
    "one chain": build(block=1 << 30),
    "totals backwards": build(totals=backwards),
    "totals from +0": build(totals=after_zero),
    "norm unfused": build(epilogue=unfused_norm),
    "residual before norm": build(epilogue=residual_first),
    "residual after relu": build(epilogue=residual_after_relu),
    "missing bias added": build(epilogue=bias_always),
    "relu by x > 0": build(epilogue=relu_by_comparison),
    "padding replicated": build(padding_mode="edge"),
    "last pixel tile missing": build(write=store_without_last),
    "last channels missing": build(write=store_without_channels),
    "adds to out": build(write=store_accumulating),
    "writes beyond out": build(write=store_beyond),
    "scattered writes everywhere": build(write=store_all),
}
