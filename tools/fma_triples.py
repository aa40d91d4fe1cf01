"""Operands for a float32 fma: random ones, and ones built so that a wrong rounding shows.

Every generator takes (rng, count) and returns float32 arrays a, b, c. Numbers are built as integer * 2^exponent: c is
C * 2^(e+1), so 2^e is half a unit in its last place, and a product that is an odd multiple of 2^e makes the exact sum a
midpoint of two float32 (as long as the sum keeps c's exponent).
"""

import numpy as np

BATCH = 1 << 18
LOWEST, HIGHEST = -149, 104  # exponents that 24-bit integers can have in float32

SPECIAL_BITS = (
    *(0x00000000, 0x00000001, 0x00000002, 0x00400000, 0x007FFFFF, 0x00800000, 0x00800001, 0x00FFFFFF, 0x01000000),
    *(0x33800000, 0x34000000, 0x3F000000, 0x3F7FFFFF, 0x3F800000, 0x3F800001, 0x3FFFFFFF, 0x40000000, 0x4B800000),
    *(0x5F7FFFFF, 0x5F800000, 0x7E800000, 0x7F000000, 0x7F7FFFFE, 0x7F7FFFFF, 0x7F800000),
    *(0x7F800001, 0x7FBFFFFF, 0x7FC00000, 0x7FFFFFFF),  # NaN, signalling and quiet
)


def draw(name, seed, batch, count=BATCH):
    """Return the triples a, b, c of one batch of the class `name`; equal arguments give equal triples."""
    rng = np.random.default_rng([seed, tuple(CLASSES).index(name), batch])
    with np.errstate(all="ignore"):
        return CLASSES[name](rng, count)


def _number(integer, exponent):
    """Return integer * 2^exponent as float32; exact if the integer has at most 24 bits and the exponent is in range."""
    return np.ldexp(np.asarray(integer, np.float64), exponent).astype(np.float32)


def _odd(rng, bits):
    """Return odd integers of at most `bits` (an array) bits."""
    return (rng.random(bits.size) * 2.0**bits).astype(np.int64) | 1


def _sign(rng, count):
    return rng.choice(np.array([-1, 1]), count)


def _signed(rng, a, b, c):
    """Return the triple with random signs."""
    return tuple(v * _sign(rng, v.size).astype(np.float32) for v in (a, b, c))


def _split(rng, total):
    """Return exponents (of a, of b) that add up to `total`, both within float32 for 24-bit integers."""
    low, high = np.maximum(LOWEST, total - (HIGHEST - 4)), np.minimum(HIGHEST - 4, total - LOWEST)
    first = low + (rng.random(total.size) * (high - low + 1)).astype(np.int64)
    return first, total - first


def _product(rng, u, v, exponent):
    """Return float32 a, b with a * b = u * v * 2^exponent, the exponent divided at random."""
    first, second = _split(rng, exponent)
    return _number(u, first), _number(v, second)


def _tie_factors(rng, count):
    """Return small odd integers: their product is odd and has at most 25 bits."""
    return _odd(rng, rng.integers(1, 14, count)), _odd(rng, rng.integers(1, 13, count))


def _near_tie_factors(rng, count):
    """Return (u, v, i) with u * v = odd * 2^2i - s^2, s small: a hair under an odd multiple of 2^2i.

    u = 2^i * w + s, v = 2^i * w - s. For s < 2^(i-14), a sum with c at 2^(2i+1) no longer shows the hair in float64.
    """
    i = rng.integers(15, 24, count)
    w = _odd(rng, 24 - i)
    s = np.maximum(1, (rng.random(count) * 2.0 ** rng.integers(1, i)).astype(np.int64))
    return (w << i) + s, (w << i) - s, i


def noise(rng, count):
    """Any bit patterns."""
    return tuple(rng.integers(0, 1 << 32, count, dtype=np.uint32).view(np.float32) for _ in range(3))


def all_exponents(rng, count):
    """Normals of all exponents; c mostly within 30 binary places of the product."""
    a, b = (_number(rng.integers(1 << 23, 1 << 24, count), rng.integers(LOWEST, HIGHEST + 1, count)) for _ in range(2))
    exponent = np.frexp(a.astype(np.float64) * b)[1] - 24 + rng.integers(-30, 31, count)
    c = _number(rng.integers(1 << 23, 1 << 24, count), np.clip(exponent, LOWEST, HIGHEST))
    return _signed(rng, a, b, c)


def midpoints(rng, count):
    """Sums exactly halfway between two float32, at all exponents."""
    e = rng.integers(LOWEST - 1, HIGHEST - 1, count)
    a, b = _product(rng, *_tie_factors(rng, count), e)
    return _signed(rng, a, b, _number(rng.integers(1 << 23, 1 << 24, count), e + 1))


def near_midpoints(rng, count):
    """Sums a hair beside a midpoint: the hair in the product (first half), or c itself (second half)."""
    half = count // 2
    e = rng.integers(-100, HIGHEST - 1, half)
    u, v, i = _near_tie_factors(rng, half)
    a, b = _product(rng, u, v, e - 2 * i)
    c = _number(rng.integers(1 << 23, 1 << 24, half), e + 1)
    rest = count - half
    e = rng.integers(-60, HIGHEST - 26, rest)
    u, v = _odd(rng, np.full(rest, 13)) | 1 << 12, _odd(rng, np.full(rest, 12)) | 1 << 11  # 24 or 25 bits together
    a2, b2 = _product(rng, u, v, e)
    c2 = _number(rng.integers(1, 1 << 24, rest), e - rng.integers(24, 90, rest))
    return _signed(rng, *(np.concatenate(pair) for pair in ((a, a2), (b, b2), (c, c2))))


def subnormal_results(rng, count):
    """Sums below or around 2^-126: any, on midpoints of the subnormals, a hair beside them, and far below 2^-149."""
    quarter = [count // 4, count // 4, count // 4, count - 3 * (count // 4)]
    any_a, any_b = (rng.integers(1 << 23, 1 << 24, quarter[0]) for _ in range(2))
    parts = [_product(rng, any_a, any_b, rng.integers(-222, -170, quarter[0]))]
    parts.append(_product(rng, *_tie_factors(rng, quarter[1]), np.full(quarter[1], LOWEST - 1)))
    u, v, i = _near_tie_factors(rng, quarter[2])
    parts.append(_product(rng, u, v, LOWEST - 1 - 2 * i))
    tiny = (rng.integers(1, 1 << 24, quarter[3]) for _ in range(2))
    parts.append(_product(rng, *tiny, rng.integers(2 * LOWEST, LOWEST - 40, quarter[3])))
    a, b = (np.concatenate(side) for side in zip(*parts, strict=True))
    c = _number((rng.random(count) * 2.0 ** rng.integers(0, 25, count)).astype(np.int64), LOWEST)
    return _signed(rng, a, b, c)


def cancellation(rng, count):
    """c is minus the rounded product, or a few units beside it: what remains is the product's own rounding error."""
    a, b = _product(
        rng, *(rng.integers(1 << 23, 1 << 24, count) for _ in range(2)), rng.integers(-196, HIGHEST - 24, count)
    )
    a, b = a * _sign(rng, count).astype(np.float32), b * _sign(rng, count).astype(np.float32)
    c = -(a.astype(np.float64) * b).astype(np.float32)
    nudged = (c.view(np.int32) + rng.integers(-2, 3, count, dtype=np.int32)).view(np.float32)
    return a, b, np.where(c == 0, c, nudged)


def overflow_edge(rng, count):
    """Sums around 2^128 - 2^103, where Inf begins: on midpoints, a hair beside them, and of parts beyond the range."""
    third = [count // 3, count // 3, count - 2 * (count // 3)]
    top = (1 << 24) - rng.integers(1, 65, third[0] + third[1])
    e = np.full(third[0], HIGHEST - 1)
    bits = rng.integers(1, 5, third[0])
    pairs = [_product(rng, _odd(rng, bits), _odd(rng, bits), e)]
    u, v, i = _near_tie_factors(rng, third[1])
    pairs.append(_product(rng, u, v, HIGHEST - 1 - 2 * i))
    c = _number(top, np.full(top.size, HIGHEST))
    signs = _sign(rng, c.size).astype(np.float32)  # product and c mostly of one sign
    wide = (rng.integers(1 << 23, 1 << 24, third[2]) for _ in range(2))
    pairs.append(_product(rng, *wide, np.full(third[2], 82)))  # products from 2^128 to 2^130
    a, b = (np.concatenate(side) for side in zip(*pairs, strict=True))
    large = np.finfo(np.float32).max - a[c.size :].astype(np.float64) * b[c.size :]
    nudged = large.astype(np.float32).view(np.int32) + rng.integers(-2, 3, third[2], dtype=np.int32)
    a[: c.size] *= signs * np.where(rng.random(c.size) < 0.1, -1, 1).astype(np.float32)
    return a, b, np.concatenate([c * signs, nudged.view(np.float32)])


def specials(rng, count):
    """Zeros, Inf and NaN of both signs, the ends of the subnormals and of the range, 1 and its neighbours."""
    values = np.array(SPECIAL_BITS, np.uint32)
    values = np.concatenate([values, values | 0x80000000])
    return tuple(values[rng.integers(0, values.size, count)].view(np.float32) for _ in range(3))


CLASSES = {
    generator.__name__: generator
    for generator in (
        *(noise, all_exponents, midpoints, near_midpoints),
        *(subnormal_results, cancellation, overflow_edge, specials),
    )
}
