"""Deterministic test values: portable bits from a literal seed, shaped into what breaks kernels.

The generator is PCG64's raw stream, which NumPy guarantees to stay the same; all else is exact or one IEEE operation,
so every version and machine sees the same values.
"""

import numpy as np

FILLS = ("normal", "relu", "integers", "signed_zeros", "subnormal", "cancelling", "near_ties", "huge", "inf_nan")
SHARP = ("ties", "hairs", "tiny", "specials")  # small rows of these see what chance may hide from the ones above


def raw(seed, role, count):
    """Return `count` uint64 words of the stream (seed, role)."""
    return np.random.PCG64(np.random.SeedSequence([seed, role])).random_raw(count)


def whole(seed, role, shape, high):
    """Return integers 0..high-1 as int64."""
    words = raw(seed, role, int(np.prod(shape, dtype=np.int64)))
    return ((words >> np.uint64(11)) % np.uint64(high)).astype(np.int64).reshape(shape)


def pick(seed, role, shape, values):
    """Return float32 values drawn from a short list."""
    return np.array(values, dtype=np.float32)[whole(seed, role, shape, len(values))]


def normal(seed, role, shape):
    """Return bell-shaped float32 values: the sum of four uniform ones, variance 1."""
    parts = [whole(seed, role * 4 + part + 1000, shape, 1 << 24) for part in range(4)]
    centred = sum(parts) - (1 << 25)
    return (centred * (1.7320508 / (1 << 24))).astype(np.float32)


def _relu(seed, role, shape):
    return np.maximum(normal(seed, role, shape), np.float32(0))


def _integers(seed, role, shape):
    return (whole(seed, role, shape, 9) - 4).astype(np.float32)


def _signed_zeros(seed, role, shape):
    return pick(seed, role, shape, (0.0, -0.0, -0.0, 0.0, -0.0, 1.0, -1.0))


def _subnormal(seed, role, shape):
    """Half of the values are subnormal, half near one: sums of products stay subnormal."""
    tiny = (whole(seed, role, shape, 1 << 23) * 2.0**-149).astype(np.float32)
    near_one = normal(seed, role + 50, shape)
    signs = pick(seed, role + 60, shape, (1, -1))
    return np.where(whole(seed, role + 70, shape, 2) == 0, tiny * signs, near_one).astype(np.float32)


def _cancelling(seed, role, shape):
    """Neighbouring channels are opposite up to a few ULP, over a wide range of magnitudes."""
    base = normal(seed, role, shape) * pick(seed, role + 50, shape, [2.0**e for e in range(-12, 13, 4)])
    axis = -1 if len(shape) < 2 or role == 0 else -2  # x: its channels; a weight: c_in
    pairs = np.moveaxis(base, axis, 0)
    odd = pairs[1::2]
    nudge = 1.0 + whole(seed, role + 80, odd.shape, 8) * 2.0**-22
    odd[...] = (-pairs[: 2 * len(odd) : 2] * nudge).astype(np.float32)
    return base


def _near_ties(seed, role, shape):
    """Products fall on, or a hair beside, the midpoints of the running sum (one part of x, another of the weight).

    1 + 2^-23 makes sums odd; 2^-24 * (1 + 2^-23) * (1 - 2^-23) = 2^-24 - 2^-70 lies so close to a midpoint that
    rounding through float64 goes the wrong way.
    """
    unit = 2.0**-23
    if role == 0:
        return pick(seed, role, shape, (1.0, 1.0 - unit, 1.0 + unit, 1.0 - unit / 2, -1.0 + unit, 1.0 - unit))
    return pick(seed, role, shape, (1.0, 1.0 + unit, unit / 2 * (1 + unit), unit / 2, -unit / 2 * (1 + unit), unit))


def _huge(seed, role, shape):
    return normal(seed, role, shape) * pick(seed, role + 50, shape, [2.0**e for e in (0, 40, 62, 64, 90, 125)])


def _inf_nan(seed, role, shape):
    base = normal(seed, role, shape)
    special = pick(seed, role + 50, shape, (np.inf, -np.inf, np.nan, 0.0, -0.0))
    return np.where(whole(seed, role + 60, shape, 12) == 0, special, base).astype(np.float32)


def _wide(seed, role, shape):
    """Values from -110 to 110, where exp and sigmoid go from 0 through subnormals to overflow."""
    return ((whole(seed, role, shape, 1 << 24) - (1 << 23)) * (110.0 / (1 << 23))).astype(np.float32)


def _bits(seed, role, shape):
    """Any bit pattern: all magnitudes, infinities, quiet and signalling NaN."""
    return whole(seed, role, shape, 1 << 32).astype(np.uint32).view(np.float32)


def _ties(seed, role, shape):
    """Sums and products that are midpoints of two float32, 1 + unit/2 and (1 + unit) * 1.5, and their negatives."""
    unit = 2.0**-23
    if role == 0:
        return pick(seed, role, shape, (1.0, -1.0, 1 + unit, -1 - unit, 1.5, -1.5, 1 + 3 * unit, 0.5))
    return pick(seed, role, shape, (unit / 2, -unit / 2, 1.5, -1.5, 1 + unit, 1.0, 3 * unit / 2, 0.5))


def _hairs(seed, role, shape):
    """Sums 2^-70 below a midpoint: 1 + unit and unit/2 * (1 + unit) * (1 - unit)."""
    unit = 2.0**-23
    if role == 0:
        return pick(seed, role, shape, (1 + unit, 1.0, 1 - unit))
    return pick(seed, role, shape, (1.0, 1 + unit, 1 - unit, unit / 2 * (1 + unit)))


def _squares(seed, role, shape):
    """Squares that are half an ULP of the sum so far."""
    return pick(seed, role, shape, (1.0, -1.0, 2.0**-12, -(2.0**-12), 2.0**-11, 2.0**-11))


def _tiny(seed, role, shape):
    """A few times the smallest float32, of either sign; the second operand around one half: results are ties or -0."""
    if role == 0:
        return pick(seed, role, shape, [sign * n * 2.0**-149 for n in (0, 1, 2, 3, 5) for sign in (1, -1)])
    return pick(seed, role, shape, (0.5, -0.5, 2.0, -2.0, 1.0, -1.0, 2.0**-149, -(2.0**-149)))


def _specials(seed, role, shape):
    """All that is not an ordinary number, as often as ordinary ones: even a small array holds each kind."""
    odd = (np.nan, np.inf, -np.inf, -0.0, 0.0, 2.0**-149, -(2.0**-127), 3e38)
    return pick(seed, role, shape, (*odd, 1.0, -1.5, 2.25, 0.3, -7.0))


_EDGES = (
    *(88.72283, 88.722839, 88.72284, -87.33654, -103.27893, -103.97207, -103.97208, -104.0, 104.0, 16.6, -16.6),
    *(
        38.53184,
        38.531845,
        -37.92978,
        -44.85,
        -45.155,
        1e-45,
        -1e-45,
        1e-38,
        3.4e38,
        -3.4e38,
        1e-8,
        -1e-8,
        5.9604645e-08,
    ),
    *(0.0, -0.0, 1.0, -1.0, 0.99999994, 1.0000001, 0.5, 2.0, 2.7182817, 0.70710677, 0.70710678, 1.4142135, 0.6931472),
    *(np.inf, -np.inf, np.nan),
)


def _edges(seed, role, shape):
    """Where exp, exp10, sigmoid and log change their behaviour, in order and repeated."""
    count = int(np.prod(shape, dtype=np.int64))
    return np.resize(np.array(_EDGES, dtype=np.float32), count).reshape(shape)


_BY_NAME = {
    "normal": normal,
    "relu": _relu,
    "integers": _integers,
    "signed_zeros": _signed_zeros,
    "subnormal": _subnormal,
    "cancelling": _cancelling,
    "near_ties": _near_ties,
    "huge": _huge,
    "inf_nan": _inf_nan,
    "wide": _wide,
    "bits": _bits,
    "ties": _ties,
    "hairs": _hairs,
    "squares": _squares,
    "tiny": _tiny,
    "specials": _specials,
    "edges": _edges,
}


def fill(name, seed, role, shape):
    """Return float32 values of the kind `name`.

    role   which operand this is: 0 the input x, 1 a weight or second operand, others anything else; a stream of its own
    """
    with np.errstate(over="ignore", invalid="ignore"):
        return np.ascontiguousarray(_BY_NAME[name](seed, role, tuple(shape)), dtype=np.float32)


def mask(kind, seed, shape):
    """Return a bool mask (n, h, w): none, one, all, random (about 40 %) or blobby (discs)."""
    n, h, w = shape
    if kind == "none":
        return np.zeros(shape, dtype=bool)
    if kind == "all":
        return np.ones(shape, dtype=bool)
    if kind == "one":
        out = np.zeros(shape, dtype=bool)
        out.reshape(-1)[whole(seed, 90, (), n * h * w)] = True
        return out
    if kind == "random":
        return whole(seed, 91, shape, 10) < 4
    ys, xs = np.mgrid[0:h, 0:w]
    out = np.zeros(shape, dtype=bool)
    for disc in range(3):
        cy, cx = whole(seed, 92 + disc, (n, 1, 1), h), whole(seed, 95 + disc, (n, 1, 1), w)
        out |= (ys - cy) ** 2 + (xs - cx) ** 2 <= max(1, (h * w) // 16)
    return out


def sites(kind, seed, shape):
    """Return the ascending flat positions (int32) of `mask(kind, seed, shape)`."""
    return np.flatnonzero(mask(kind, seed, shape)).astype(np.int32)
