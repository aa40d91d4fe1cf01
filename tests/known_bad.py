"""Kernels that are wrong on purpose, one mistake each; the conformance check must reject every one.

WRONG[op][mistake] is a kernel with the reference's signature. Convolutions are in known_bad_conv.py.
"""

import numpy as np
from known_bad_conv import F32, WRONG_CONVS, unfused

from pagnp.backends.base import get_backend
from pagnp.testing.oracle_gate import philox_words

REFERENCE = get_backend("numpy").kernels


def replace_argument(op, position, change):
    """Return the reference kernel of `op` with one argument changed first."""

    def kernel(*args):
        args = list(args)
        args[position] = change(args[position])
        REFERENCE[op](*args)

    return kernel


def filling(function):
    """Return a kernel that writes function(args without out) to `out`."""

    def kernel(*args):
        with np.errstate(all="ignore"):
            args[-1][...] = function(*args[:-1])

    return kernel


def after(op, change):
    """Return the reference kernel of `op` followed by change(out, args)."""

    def kernel(*args):
        REFERENCE[op](*args)
        with np.errstate(all="ignore"):
            change(args[-1], args)

    return kernel


def forget_last(op):
    """Return the reference kernel of `op` that leaves the last element as it was."""

    def kernel(*args):
        out = args[-1]
        before = out.reshape(-1)[-1:].copy()
        REFERENCE[op](*args)
        out.reshape(-1)[-1:] = before

    return kernel


def change_input(op):
    """Return the reference kernel of `op` that spoils its first input afterwards."""

    def spoil(out, args):
        args[0][...] = 0

    return after(op, spoil)


def flush(out, args):
    """Flush subnormal results to zero."""
    out[np.abs(out) < F32(2.0**-126)] = 0


def _softmax(x, maximum=True, reciprocal=False, reverse=False):
    m = x.max(axis=-1, keepdims=True) if maximum else F32(0)
    e = np.empty_like(x)
    REFERENCE["exp"](np.ascontiguousarray(x - m), e)
    s = np.zeros_like(x[..., :1])
    for k in range(x.shape[-1])[::-1] if reverse else range(x.shape[-1]):
        s = s + e[..., k : k + 1]
    return e * (F32(1) / s) if reciprocal else e / s


def _last_maximum(x):
    return (x.shape[-1] - 1 - np.argmax(x[..., ::-1], axis=-1)).astype(np.int32)


def _max_pool_over_zeros(x, kernel, stride, padding, dilation, out):
    top, bottom, left, right = padding
    padded = np.pad(x, ((0, 0), (top, bottom + 99), (left, right + 99), (0, 0)))
    REFERENCE["max_pool2d"](padded, kernel, stride, (0, 0, 0, 0), dilation, out)


def _l2(x, inside=False):
    s = np.zeros_like(x[..., :1])
    for k in range(x.shape[-1]):
        s = s + x[..., k : k + 1] * x[..., k : k + 1]
    return x / np.sqrt(s + F32(1e-5)) if inside else x / (np.sqrt(s) + F32(1e-5))


def _lerp(x, align_corners, out):
    """Weights from float32 positions, products and sums unfused."""
    h_in, w_in, h_out, w_out = x.shape[1], x.shape[2], out.shape[1], out.shape[2]

    def axis(size_in, size_out):
        o = np.arange(size_out, dtype=F32)
        if align_corners:
            position = o * F32((size_in - 1) / max(size_out - 1, 1))
        else:
            position = np.maximum((o + F32(0.5)) * (F32(size_in) / F32(size_out)) - F32(0.5), F32(0))
        i0 = np.minimum(position.astype(int), size_in - 1)
        return i0, np.minimum(i0 + 1, size_in - 1), (position - i0).astype(F32)

    y0, y1, wy = axis(h_in, h_out)
    x0, x1, wx = axis(w_in, w_out)
    wx, wy = wx[:, None], wy[:, None, None]
    top = x[:, y0][:, :, x0] * (1 - wx) + x[:, y0][:, :, x1] * wx
    bottom = x[:, y1][:, :, x0] * (1 - wx) + x[:, y1][:, :, x1] * wx
    out[...] = top * (1 - wy) + bottom * wy


def _nearest_by_integers(x, out):
    rows = np.arange(out.shape[1]) * x.shape[1] // out.shape[1]
    columns = np.arange(out.shape[2]) * x.shape[2] // out.shape[2]
    out[...] = x[:, rows][:, :, columns]


def _spread(array, x):
    return np.broadcast_to(array, (*x.shape[:3], *array.shape[3:]))


def _mix_select(control, branches):
    acc = np.zeros_like(branches[0])
    for k, branch in enumerate(branches):
        acc = acc + (_spread(control, branch) == k)[..., None].astype(F32) * branch
    return acc


def _unfused_blend(p, branches):
    acc = np.zeros_like(branches[0])
    for k, branch in enumerate(branches):
        acc = unfused(p[..., k : k + 1], branch, acc)
    return acc


def _gate_tie_computes(z, mode, form, temperature, noise, threshold, out):
    REFERENCE["gate"](z, mode, form, temperature, noise, threshold, out)
    if mode == "hard" and out.dtype == bool:
        out[...] = ~(z[..., 1] <= z[..., 0]) | (z[..., 1] == z[..., 0])


def _gate_nan_computes(z, mode, form, temperature, noise, threshold, out):
    REFERENCE["gate"](z, mode, form, temperature, noise, threshold, out)
    if mode == "hard" and out.dtype == bool:
        with np.errstate(invalid="ignore"):
            out[...] = ~(z[..., 1] - z[..., 0] <= (threshold or F32(0)))


def _few_rounds(counter, key):
    out = np.empty_like(counter)
    for row, words in enumerate(counter):
        out[row] = philox_words([int(word) for word in words], [int(key[1]), int(key[0])])
    return out


def _swapped_noise(seed, gate_index, form, y0, x0, out):
    turned = np.empty((out.shape[1], out.shape[0], out.shape[2]), dtype=F32)
    REFERENCE["gumbel_noise"](seed, gate_index, form, x0, y0, turned)
    out[...] = turned.transpose(1, 0, 2)


def _noise_of_tile(seed, gate_index, form, y0, x0, out):
    REFERENCE["gumbel_noise"](seed, gate_index, form, 0, 0, out)


def _zeroing_scatter(values, sites, out):
    out[...] = 0
    REFERENCE["scatter"](values, sites, out)


def _column_mean(x):
    total = np.zeros((x.shape[0], 1, 1, x.shape[3]), dtype=F32)
    for ix in range(x.shape[2]):
        for iy in range(x.shape[1]):
            total[:, 0, 0] = total[:, 0, 0] + x[:, iy, ix]
    return total / F32(x.shape[1] * x.shape[2])


def _by_bits(a, b, op):
    a, b = np.broadcast_arrays(a, b)
    same = np.ascontiguousarray(a).view(np.uint32) == np.ascontiguousarray(b).view(np.uint32)
    return {"eq": same, "ne": ~same, "gt": a > b, "ge": (a > b) | same, "lt": a < b, "le": (a < b) | same}[op]


WRONG = {
    "conv2d": WRONG_CONVS,
    "conv_transpose2d": {
        "no residual": replace_argument("conv_transpose2d", 5, lambda residual: None),
        "no relu": replace_argument("conv_transpose2d", 6, lambda relu: False),
        "crop swapped": replace_argument("conv_transpose2d", 8, lambda p: (p[1], p[0], p[3], p[2])),
        "-0 lost": after("conv_transpose2d", lambda out, args: np.add(out, F32(0), out=out)),
        "subnormals flushed": after("conv_transpose2d", flush),
        "last missing": forget_last("conv_transpose2d"),
    },
    "max_pool2d": {
        "padding of zeros wins": _max_pool_over_zeros,
        "NaN ignored": after("max_pool2d", lambda out, args: np.copyto(out, F32(0), where=np.isnan(out))),
        "last missing": forget_last("max_pool2d"),
    },
    "avg_pool2d": {
        "padding counted the other way": replace_argument("avg_pool2d", 4, lambda include: not include),
        "always the whole window": replace_argument("avg_pool2d", 4, lambda _: True),
        "input spoilt": change_input("avg_pool2d"),
    },
    "bilinear": {"unfused": _lerp, "corners the other way": replace_argument("bilinear", 1, lambda align: not align)},
    "nearest": {"integer positions": _nearest_by_integers, "last missing": forget_last("nearest")},
    "add": {"in float64, truncated": filling(lambda a, b: np.nextafter(a + b, F32(0)))},
    "sub": {"swapped": filling(lambda a, b: b - a), "flushed": after("sub", flush)},
    "mul": {
        "flushed": after("mul", flush),
        "zero wins": filling(lambda a, b: np.where((a == 0) | (b == 0), F32(0), a * b)),
    },
    "div": {"by reciprocal": filling(lambda a, b: a * (F32(1) / b))},
    "relu": {
        "by maximum": filling(lambda x: np.fmax(x, F32(0))),
        "-0 lost": filling(lambda x: np.where(x > 0, x, np.where(np.isnan(x), x, F32(0)))),
    },
    "sigmoid": {"in float32": filling(lambda x: F32(1) / (F32(1) + np.exp(-x)))},
    "exp": {
        "flushed": after("exp", flush),
        "off by an ULP": after("exp", lambda out, _: np.nextafter(out, F32(9), out=out)),
    },
    "exp10": {"product in float32": filling(lambda x: np.exp((x * F32(np.log(10))).astype(np.float64)))},
    "log": {"of the magnitude": filling(lambda x: np.log(np.abs(x.astype(np.float64))))},
    "norm": {"unfused": filling(lambda x, scale, shift: x * scale + shift)},
    "compare": {"by bits": filling(_by_bits)},
    "global_mean": {
        "NumPy's pairwise sum": filling(lambda x: x.mean(axis=(1, 2), keepdims=True)),
        "columns first": filling(_column_mean),
    },
    "softmax": {
        "no maximum": filling(lambda x: _softmax(x, maximum=False)),
        "reciprocal": filling(lambda x: _softmax(x, reciprocal=True)),
        "sum backwards": filling(lambda x: _softmax(x, reverse=True)),
    },
    "argmax": {"last maximum": filling(_last_maximum), "NaN wins": filling(lambda x: np.argmax(x, axis=-1))},
    "l2_normalize": {"unfused": filling(_l2), "eps inside": filling(lambda x: _l2(x, inside=True))},
    "concat": {
        "reversed": filling(lambda xs: np.concatenate(xs[::-1], axis=3)),
        "-0 lost": filling(lambda xs: np.concatenate(xs, axis=3) + F32(0)),
    },
    "pad": {
        "sides swapped": replace_argument("pad", 1, lambda p: (p[1], p[0], p[3], p[2])),
        "edge": forget_last("pad"),
    },
    "slice_channels": {"from 0": filling(lambda x, start, stop: x[..., : stop - start])},
    "gate": {
        "a tie computes": _gate_tie_computes,
        "NaN computes": _gate_nan_computes,
        "the other form": replace_argument("gate", 2, lambda form: "torch" if form == "kong2018" else "kong2018"),
        "no temperature": replace_argument("gate", 3, lambda temperature: F32(1)),
        "no threshold": replace_argument("gate", 5, lambda threshold: None),
    },
    "select": {"as a sum of products": filling(_mix_select)},
    "blend": {"unfused": filling(_unfused_blend)},
    "masked": {"as a product": filling(lambda x, mask: x * _spread(mask, x)[..., None])},
    "mask_to_sites": {
        "int64": lambda mask: np.flatnonzero(mask),
        "backwards": lambda mask: np.flatnonzero(mask)[::-1].astype(np.int32),
    },
    "grow_mask": {
        "no dilation": replace_argument("grow_mask", 4, lambda dilation: (1, 1)),
        "adds to out": filling(lambda *args: True),
    },
    "gather": {"first rows": filling(lambda x, sites: x.reshape(-1, x.shape[3])[: len(sites)])},
    "scatter": {"the rest zeroed": _zeroing_scatter},
    "gumbel_noise": {"x and y swapped": _swapped_noise, "coordinates of the tile": _noise_of_tile},
    "philox4x32": {"key swapped": filling(_few_rounds)},
}
