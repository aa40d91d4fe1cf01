"""Kernels that are wrong on purpose, one mistake each; the conformance check must reject every one.

WRONG[op][mistake] is a kernel with the reference's signature, RIGHT[op] the same scaffolds without a mistake. Here are
choices, copies and curves. Convolutions are in known_bad_conv.py, other sums in known_bad_sums.py, what can go wrong in
any kernel in known_bad_any.py, networks in known_bad_plans.py.
"""

import numpy as np
from known_bad_any import REFERENCE, WRONG_ANYWHERE, after, filling, replace_argument
from known_bad_conv import RIGHT_CONVS, WRONG_CONVS
from known_bad_rounding import F32, rounded, sum_to_odd
from known_bad_sums import RIGHT_SUMMING, WRONG_SUMMING, windows

from pagnp.backends.base import KERNELS
from pagnp.testing.oracle_gate import philox_words


def arithmetic(rule):
    """Return add, sub, mul and div that round by `rule` of known_bad_rounding."""

    def of_sum(sign):
        return filling(lambda a, b: rounded(sum_to_odd(*wide(a, sign * b)), rule))

    def of(operation):  # the quotient and product in float64 are right for both roundings
        return filling(lambda a, b: rounded(operation(*wide(a, b)), rule))

    def wide(a, b):
        return np.broadcast_arrays(a.astype(np.float64), b.astype(np.float64))

    return {"add": of_sum(1), "sub": of_sum(-1), "mul": of(np.multiply), "div": of(np.divide)}


def max_pool(wins, outside=-np.inf):
    """Return a max_pool2d that takes the next value v of a window where wins(v, best)."""

    def kernel(x, kernel, stride, padding, dilation, out):
        best = np.full(out.shape, -np.inf, F32)
        for v in windows(x, kernel, stride, padding, dilation, out.shape, outside):
            best = np.where(wins(v, best), v, best)
        out[...] = best

    return kernel


def argmax(wins):
    """Return an argmax that takes k where wins(x[k], x[best])."""

    def kernel(x):
        index = np.zeros(x.shape[:3], np.int32)
        for k in range(1, x.shape[-1]):
            best = np.take_along_axis(x, index[..., None], -1)[..., 0]
            index[wins(x[..., k], best)] = k
        return index

    return filling(kernel)


def gate_deciding(plain=np.greater, beyond=None, choose=None):
    """Return a gate with other decisions in hard mode: plain(z1, z0), beyond(z1, z0, t), choose(z, out)."""
    beyond = beyond or (lambda z1, z0, t: z1 - z0 > t)

    def kernel(z, mode, form, temperature, noise, threshold, out):
        REFERENCE["gate"](z, mode, form, temperature, noise, threshold, out)
        if mode == "hard" and out.dtype == np.int32 and choose is not None:
            choose(z, out)
        elif mode == "hard" and out.dtype == bool:
            z1, z0 = z[..., 1], z[..., 0]
            with np.errstate(all="ignore"):
                out[...] = plain(z1, z0) if threshold is None else beyond(z1, z0, threshold)

    return kernel


def gate_after_division(z, mode, form, temperature, noise, threshold, out):
    """Divide by the temperature before a hard decision: numbers that overflow or round together become ties."""
    if mode == "gumbel_hard" and form == "torch":
        with np.errstate(all="ignore"):
            y = (z + noise) / temperature
        REFERENCE["gate"](y, "hard", form, temperature, None, None, out)
    else:
        REFERENCE["gate"](z, mode, form, temperature, noise, threshold, out)


def gate_with_first_noise(z, mode, form, temperature, noise, threshold, out):
    """Give every image of a batch the first one's noise."""
    noise = noise[:1] if noise is not None and noise.ndim == 4 else noise
    REFERENCE["gate"](z, mode, form, temperature, noise, threshold, out)


def nearest_at(index):
    """Return a nearest whose source positions are index(output positions, size_in, size_out)."""

    def kernel(x, out):
        iy, ix = (index(np.arange(out.shape[i]), x.shape[i], out.shape[i]) for i in (1, 2))
        out[...] = x[:, iy][:, :, ix]

    return kernel


def spread(array, x):
    """Return a control or mask (n, h, w) or (n, 1, 1) over the pixels of x."""
    return np.broadcast_to(array, (*x.shape[:3], *array.shape[3:]))


def mix_select(control, branches):
    """Branches times zeros and ones, added up."""
    return sum((spread(control, branch) == k)[..., None].astype(F32) * branch for k, branch in enumerate(branches))


def zeroing_scatter(values, sites, out):
    out[...] = 0
    REFERENCE["scatter"](values, sites, out)


def by_bits(a, b, op):
    """Compare bit patterns where values are equal: tells -0 from +0."""
    a, b = np.broadcast_arrays(a, b)
    same = np.ascontiguousarray(a).view(np.uint32) == np.ascontiguousarray(b).view(np.uint32)
    return {"eq": same, "ne": ~same, "gt": a > b, "ge": (a > b) | same, "lt": a < b, "le": (a < b) | same}[op]


def unordered(a, b, op):
    """Ask for the opposite and turn the answer round: true for NaN."""
    opposite = {"gt": np.less_equal, "ge": np.less, "lt": np.greater_equal, "le": np.greater}
    if op in ("eq", "ne"):
        return ~((a > b) | (a < b)) if op == "eq" else (a > b) | (a < b)
    return ~opposite[op](a, b)


def philox_with_swapped_key(counter, key):
    words = [philox_words([int(word) for word in row], [int(key[1]), int(key[0])]) for row in counter]
    return np.array(words, np.uint32)


def noise(change):
    """Return a gumbel_noise with its arguments (seed, gate_index, form, y0, x0) changed first."""

    def kernel(*args):
        REFERENCE["gumbel_noise"](*change(*args[:-1]), args[-1])

    return kernel


def swapped_noise(seed, gate_index, form, y0, x0, out):
    turned = np.empty((out.shape[1], out.shape[0], out.shape[2]), dtype=F32)
    REFERENCE["gumbel_noise"](seed, gate_index, form, x0, y0, turned)
    out[...] = turned.transpose(1, 0, 2)


def noise_without_block(seed, gate_index, form, y0, x0, out):
    """Every four channels from the same counter."""
    REFERENCE["gumbel_noise"](seed, gate_index, form, y0, x0, out)
    for k in range(4, out.shape[2]):
        out[..., k] = out[..., k - 4]


def turned(padding):
    """Return the sides with bottom and top, right and left exchanged."""
    return padding[1], padding[0], padding[3], padding[2]


RULES = {"ties away from zero": "away", "ties upwards": "up", "truncated": "zero"}
WRONG_ARITHMETIC = {
    op: {name: arithmetic(rule)[op] for name, rule in RULES.items()} for op in ("add", "sub", "mul", "div")
}
WRONG_HERE = {
    "conv_transpose2d": {
        "no residual": replace_argument("conv_transpose2d", 5, lambda residual: None),
        "no relu": replace_argument("conv_transpose2d", 6, lambda relu: False),
        "crop swapped": replace_argument("conv_transpose2d", 8, turned),
    },
    "max_pool2d": {
        "padding of zeros wins": max_pool(lambda v, best: (v > best) | np.isnan(v), outside=0.0),
        "the later zero wins": max_pool(lambda v, best: (v >= best) | np.isnan(v)),
        "NaN loses": max_pool(lambda v, best: v > best),
        "NaN only from the first": max_pool(lambda v, best: ~(v <= best)),
    },
    "nearest": {
        "integer positions": nearest_at(lambda o, size_in, size_out: o * size_in // size_out),
        "centres": nearest_at(lambda o, size_in, size_out: (2 * o + 1) * size_in // (2 * size_out)),
    },
    "sub": {"swapped": filling(lambda a, b: b - a)},
    "mul": {"zero wins": filling(lambda a, b: np.where((a == 0) | (b == 0), F32(0), a * b))},
    "div": {"by reciprocal": filling(lambda a, b: a * (F32(1) / b))},
    "relu": {
        "by maximum": filling(lambda x: np.fmax(x, F32(0))),
        "keeps x > 0": filling(lambda x: np.where(x > 0, x, F32(0))),
        "keeps x >= 0": filling(lambda x: np.where(x >= 0, x, F32(0))),
        "loses -0": filling(lambda x: np.where(x <= 0, F32(0), x)),
    },
    "sigmoid": {"in float32": filling(lambda x: F32(1) / (F32(1) + np.exp(-x)))},
    "exp": {
        "in float32": filling(np.exp),
        "off by an ULP": after("exp", lambda out, _: np.nextafter(out, F32(9), out=out)),
    },
    "exp10": {"product in float32": filling(lambda x: np.exp((x * F32(np.log(10))).astype(np.float64)))},
    "log": {
        "in float32": filling(np.log),
        "of the magnitude": filling(lambda x: np.log(np.abs(x.astype(np.float64)))),
    },
    "compare": {"by bits": filling(by_bits), "true for NaN": filling(unordered)},
    "argmax": {
        "last maximum": argmax(lambda v, best: v >= best),
        "NaN wins": argmax(lambda v, best: ~(v <= best) & ~np.isnan(best)),
        "a first NaN loses": argmax(lambda v, best: (v > best) | (np.isnan(best) & ~np.isnan(v))),
    },
    "concat": {"reversed": filling(lambda xs: np.concatenate(xs[::-1], axis=3))},
    "pad": {"sides swapped": replace_argument("pad", 1, turned)},
    "slice_channels": {"from 0": filling(lambda x, start, stop: x[..., : stop - start])},
    "gate": {
        "a tie computes": gate_deciding(np.greater_equal),
        "NaN computes": gate_deciding(lambda z1, z0: ~(z1 <= z0)),
        "a tie with the threshold computes": gate_deciding(beyond=lambda z1, z0, t: z1 - z0 >= t),
        "NaN passes the threshold": gate_deciding(beyond=lambda z1, z0, t: ~(z1 - z0 <= t)),
        "the difference in float64": gate_deciding(beyond=lambda z1, z0, t: z1.astype(np.float64) - z0 > t),
        "z1 against z0 + t": gate_deciding(beyond=lambda z1, z0, t: z1 > z0 + t),
        "the last maximum": gate_deciding(choose=argmax(lambda v, best: v >= best)),
        "the other form": replace_argument("gate", 2, lambda form: "torch" if form == "kong2018" else "kong2018"),
        "no temperature": replace_argument("gate", 3, lambda temperature: F32(1)),
        "decides after the temperature": gate_after_division,
        "the first image's noise": gate_with_first_noise,
        "no threshold": replace_argument("gate", 5, lambda threshold: None),
    },
    "select": {
        "as a sum of products": filling(mix_select),
        "the other way round": filling(
            lambda control, branches: np.choose(spread(control, branches[0])[..., None], branches[::-1])
        ),
    },
    "masked": {
        "as a product": filling(lambda x, mask: x * spread(mask, x)[..., None]),
        "-0 where skipped": filling(lambda x, mask: np.where(mask[..., None], x, F32(-0.0))),
    },
    "mask_to_sites": {
        "int64": lambda mask: np.flatnonzero(mask),
        "backwards": lambda mask: np.flatnonzero(mask)[::-1].astype(np.int32),
        "last missing": lambda mask: np.flatnonzero(mask)[:-1].astype(np.int32),
    },
    "grow_mask": {
        "no stride": replace_argument("grow_mask", 2, lambda stride: (1, 1)),
        "padding swapped": replace_argument("grow_mask", 3, turned),
        "no dilation": replace_argument("grow_mask", 4, lambda dilation: (1, 1)),
        "not grown": replace_argument("grow_mask", 1, lambda kernel: (1, 1)),
        "everything": filling(lambda *args: True),
    },
    "gather": {"first rows": filling(lambda x, sites: x.reshape(-1, x.shape[3])[: len(sites)])},
    "scatter": {
        "the rest zeroed": zeroing_scatter,
        "NaN lost": replace_argument("scatter", 0, lambda values: np.where(np.isnan(values), F32(0), values)),
    },
    "gumbel_noise": {
        "x and y swapped": swapped_noise,
        "coordinates of the tile": noise(lambda seed, gate, form, y0, x0: (seed, gate, form, 0, 0)),
        "seed halves swapped": noise(lambda seed, *rest: (seed >> 32 | (seed & 0xFFFFFFFF) << 32, *rest)),
        "one stream for all gates": noise(lambda seed, gate, *rest: (seed, 0, *rest)),
        "every four channels alike": noise_without_block,
    },
    "philox4x32": {"key swapped": filling(philox_with_swapped_key)},
}
PARTS = (WRONG_CONVS, WRONG_SUMMING, WRONG_ARITHMETIC, WRONG_HERE, WRONG_ANYWHERE)
WRONG = {op: {name: kernel for part in PARTS for name, kernel in part.get(op, {}).items()} for op in KERNELS}
RIGHT = {
    **RIGHT_CONVS,
    **RIGHT_SUMMING,
    **{op: (kernel,) for op, kernel in arithmetic("even").items()},
    "max_pool2d": (max_pool(lambda v, best: (v > best) | np.isnan(v)),),
    "argmax": (argmax(lambda v, best: v > best),),
    "gate": (gate_deciding(choose=argmax(lambda v, best: v > best)),),
}
