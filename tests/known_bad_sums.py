"""Wrong kernels of the ops that multiply and add, or add up: pooling, resampling, reductions, norm and blend."""

import numpy as np
from known_bad_any import REFERENCE, filling, replace_argument
from known_bad_rounding import F32, WRONG_STEPS, WRONG_SUMS, by_rule, chains, in_order

from pagnp.backends.numpy_ref.fma import fma_f32
from pagnp.testing.oracle_spatial import counted, source_position


def windows(x, kernel, stride, padding, dilation, shape, outside):
    """Return, tap by tap in scan order, the value that each window of the output has there."""
    corner = [(o - 1) * s + d * (k - 1) + 1 for o, s, d, k in zip(shape[1:3], stride, dilation, kernel, strict=True)]
    top, left = padding[0], padding[2]
    behind = [max(0, corner[0] - x.shape[1] - top), max(0, corner[1] - x.shape[2] - left)]
    frame = ((0, 0), (top, behind[0]), (left, behind[1]), (0, 0))
    padded = np.pad(x, frame, constant_values=outside)
    return [
        padded[:, y : y + corner[0] : stride[0], x0 : x0 + corner[1] : stride[1]][:, : shape[1], : shape[2]]
        for y in range(0, kernel[0] * dilation[0], dilation[0])
        for x0 in range(0, kernel[1] * dilation[1], dilation[1])
    ]


def sources(size_in, size_out, align_corners):
    """Return arrays i0, i1 and the float32 weight of i1."""
    places = [source_position(o, size_in, size_out, align_corners) for o in range(size_out)]
    return [np.array(part, kind) for part, kind in zip(zip(*places, strict=True), (int, int, F32), strict=True)]


def norm(step=fma_f32):
    return filling(lambda x, scale, shift: step(x, scale, shift))


def blend(step=fma_f32, reverse=False, from_zero=True):
    def mix(p, branches):
        order = range(len(branches))[::-1] if reverse else range(len(branches))
        acc = np.zeros_like(branches[0]) if from_zero else p[..., :1] * branches[0]
        for k in order if from_zero else order[1:]:
            acc = step(p[..., k : k + 1], branches[k], acc)
        return acc

    return filling(mix)


def bilinear(step=fma_f32, rows_first=False, mix=None):
    """`step` in place of fma in fma(w, b - a, a); `mix(w, a, b)` in place of all of it."""
    mix = mix or (lambda w, a, b: step(w, b - a, a))

    def kernel(x, align_corners, out):
        y0, y1, wy = sources(x.shape[1], out.shape[1], align_corners)
        x0, x1, wx = sources(x.shape[2], out.shape[2], align_corners)
        wx, wy = wx[:, None], wy[:, None, None]
        corners = [[x[:, iy][:, :, ix] for ix in (x0, x1)] for iy in (y0, y1)]
        with np.errstate(all="ignore"):
            if rows_first:
                out[...] = mix(wx, *(mix(wy, corners[0][i], corners[1][i]) for i in (0, 1)))
            else:
                out[...] = mix(wy, *(mix(wx, *pair) for pair in corners))

    return kernel


def bilinear_at_float_positions(x, align_corners, out):
    """Positions and weights from a float32 scale factor."""

    def axis(size_in, size_out):
        o = np.arange(size_out, dtype=F32)
        if align_corners:
            position = o * F32((size_in - 1) / max(size_out - 1, 1))
        else:
            position = np.maximum((o + F32(0.5)) * (F32(size_in) / F32(size_out)) - F32(0.5), F32(0))
        i0 = np.minimum(position.astype(int), size_in - 1)
        return i0, np.minimum(i0 + 1, size_in - 1), (position - i0).astype(F32)

    y0, y1, wy = axis(x.shape[1], out.shape[1])
    x0, x1, wx = axis(x.shape[2], out.shape[2])
    t, u = (fma_f32(wx[:, None], x[:, y][:, :, x1] - x[:, y][:, :, x0], x[:, y][:, :, x0]) for y in (y0, y1))
    out[...] = fma_f32(wy[:, None, None], u - t, t)


def l2_normalize(inside=False, reciprocal=False, **sums):
    def normalize(x):
        terms = np.moveaxis(x, -1, 0)
        s = chains(terms, terms, **sums)[..., None]
        length = np.sqrt(s + F32(1e-5)) if inside else np.sqrt(s) + F32(1e-5)
        return x * (F32(1) / length) if reciprocal else x / length

    return filling(normalize)


def global_mean(rows=in_order, columns=in_order, reciprocal=False, transposed=False):
    """`columns` adds a row's pixels, `rows` the rows' sums; both get a leading +0."""

    def mean(x):
        pixels = np.moveaxis(x.swapaxes(1, 2) if transposed else x, 0, 2)  # (h, w, n, c)
        zero = np.zeros(pixels.shape[2:], F32)
        total = rows([zero, *(columns([zero, *row]) for row in pixels)])
        count = F32(pixels.shape[0] * pixels.shape[1])
        return (total * (F32(1) / count) if reciprocal else total / count)[:, None, None]

    return filling(mean)


def avg_pool2d(total=in_order, reciprocal=False, columns_first=False):
    """`total` adds a window's values, which come with a leading +0."""

    def kernel(x, kernel, stride, padding, count_include_pad, out):
        values = windows(x, kernel, stride, padding, (1, 1), out.shape, F32(0))
        if columns_first:
            values = [values[ky * kernel[1] + kx] for kx in range(kernel[1]) for ky in range(kernel[0])]
        rows, columns = (
            np.array([counted(o * s - before, k, size_in, before, after, count_include_pad) for o in range(size_out)])
            for size_out, size_in, k, s, before, after in zip(
                out.shape[1:3], x.shape[1:3], kernel, stride, padding[::2], padding[1::2], strict=True
            )
        )
        count = (rows[:, None] * columns).astype(F32)[..., None]
        with np.errstate(all="ignore"):
            acc = total([np.zeros_like(out), *values])
            out[...] = acc * (F32(1) / count) if reciprocal else acc / count

    return kernel


def softmax(maximum=True, reciprocal=False, total=in_order):
    def kernel(x):
        m = x.max(axis=-1, keepdims=True) if maximum else F32(0)
        e = np.empty_like(x)
        REFERENCE["exp"](np.ascontiguousarray(x - m), e)
        s = total([np.zeros_like(e[..., 0]), *np.moveaxis(e, -1, 0)])[..., None]
        return e * (F32(1) / s) if reciprocal else e / s

    return filling(kernel)


def reversed_after_zero(parts):
    """Add the numbers behind the leading +0 from the last to the first."""
    return in_order([parts[0], *parts[:0:-1]])


def in_float64(parts):
    """Add in float64, round once."""
    return sum(part.astype(np.float64) for part in parts).astype(F32)


def without_zero(parts):
    """Start from the first number instead of +0."""
    return in_order(parts[1:])


def in_pairs_after_zero(parts):
    """Add as a tree, as NumPy and GPUs do."""
    parts = parts[1:]
    while len(parts) > 1:
        parts = [in_order(parts[i : i + 2]) for i in range(0, len(parts), 2)]
    return parts[0]


ORDERS = {"reversed": reversed_after_zero, "in float64": in_float64, "in pairs": in_pairs_after_zero}
WRONG_SUMMING = {
    "norm": {name: norm(step) for name, step in WRONG_STEPS.items()},
    "blend": {
        **{name: blend(step) for name, step in WRONG_STEPS.items()},
        "order reversed": blend(reverse=True),
        "not from +0": blend(from_zero=False),
    },
    "bilinear": {
        **{name: bilinear(step) for name, step in WRONG_STEPS.items()},
        "rows first": bilinear(rows_first=True),
        "a (1 - w) + b w": bilinear(mix=lambda w, a, b: a * (1 - w) + b * w),
        "positions in float32": bilinear_at_float_positions,
        "corners the other way": replace_argument("bilinear", 1, lambda align: not align),
    },
    "l2_normalize": {
        # No square of a float32 lies within a double rounding of a midpoint: all 2^23 significands were tried.
        **{name: l2_normalize(**s) for name, s in WRONG_SUMS.items() if name != "rounded twice through float64"},
        "eps inside": l2_normalize(inside=True),
        "by reciprocal": l2_normalize(reciprocal=True),
    },
    "global_mean": {
        **{f"rows added {name}": global_mean(rows=order) for name, order in ORDERS.items()},
        **{f"columns added {name}": global_mean(columns=order) for name, order in ORDERS.items()},
        "NumPy's pairwise sum": filling(lambda x: x.mean(axis=(1, 2), keepdims=True)),
        "columns first": global_mean(transposed=True),
        "not from +0": global_mean(without_zero, without_zero),
        "by reciprocal": global_mean(reciprocal=True),
    },
    "avg_pool2d": {
        **{f"added {name}": avg_pool2d(order) for name, order in ORDERS.items()},
        "columns first": avg_pool2d(columns_first=True),
        "not from +0": avg_pool2d(without_zero),
        "by reciprocal": avg_pool2d(reciprocal=True),
        "padding counted the other way": replace_argument("avg_pool2d", 4, lambda include: not include),
        "always the whole window": replace_argument("avg_pool2d", 4, lambda _: True),
    },
    "softmax": {
        **{f"added {name}": softmax(total=order) for name, order in ORDERS.items()},
        "no maximum": softmax(maximum=False),
        "by reciprocal": softmax(reciprocal=True),
    },
}
RIGHT_SUMMING = {
    "norm": (norm(), norm(by_rule("even"))),
    "blend": (blend(), blend(by_rule("even"))),
    "bilinear": (bilinear(), bilinear(by_rule("even"))),
    "l2_normalize": (l2_normalize(), l2_normalize(step=by_rule("even"))),
    "global_mean": (global_mean(),),
    "avg_pool2d": (avg_pool2d(),),
    "softmax": (softmax(),),
}
