"""Exact float32 fma in pure NumPy: fma(a, b, c) = a * b + c with one rounding.

The product of two float32 is exact in float64. Adding c rounds once there, and rounding the sum to float32 again is
right except in two places: the float64 sum is exactly halfway between two float32 (then the bits that the first
rounding dropped decide), or the result is subnormal in float32 (it keeps fewer than 24 bits, so halfway points are
elsewhere). Only these elements are repaired: TwoSum gives the dropped part, rounding to odd keeps a trace of it in
the last bit of the float64, and the conversion to float32 then rounds as if from the exact value (Boldo and Melquiond
2008).
"""

import math

import numpy as np

from pagnp.errors import ContractError

SMALLEST_NORMAL = 2.0**-126
_TIE_SHIFT = 35  # leaves the 29 bits of a float64 that float32 has not; halfway is their top bit alone
_TIE = np.iinfo(np.int64).min
_TINY, _HALF = np.full(1, SMALLEST_NORMAL, np.float32), np.full(1, 0.5, np.float32)


def fma_f32(a, b, c):
    """Return a * b + c in float32 with one rounding, for float32 arrays that broadcast together.

    Numerics: EXACT for every input: ties, subnormals, overflow, signed zeros, Inf; NaN as one class.
    """
    with np.errstate(all="ignore"):  # overflow and NaN are results here
        a, b, c = (np.asarray(v, np.float32).astype(np.float64) for v in (a, b, c))
        product = np.atleast_1d(a * b)
        total = np.add(product, c)
        doubtful = (total.view(np.int64) << _TIE_SHIFT) == _TIE
        doubtful |= (np.abs(total) < SMALLEST_NORMAL) & (total != 0)
        if doubtful.any():
            total[doubtful] = _sum_to_odd(_pick(product, doubtful), _pick(c, doubtful))
        return total.astype(np.float32).reshape(np.broadcast_shapes(a.shape, b.shape, c.shape))


def _pick(array, chosen):
    """Return the elements of `array`, broadcast to the shape of the bool array `chosen`, where it is True."""
    return np.broadcast_to(array, chosen.shape)[chosen]


def _sum_to_odd(a, b):
    """Return a + b in float64, rounded to odd: an inexact sum gets an odd last bit."""
    total = a + b
    b_part = total - a
    error = (a - (total - b_part)) + (b - b_part)  # TwoSum (Knuth): total + error = a + b exactly
    bits = total.view(np.int64).copy()
    away_from_zero = (error > 0) == (total > 0)
    step = np.where(away_from_zero, 1, -1)
    bits += np.where((error != 0) & (bits & 1 == 0), step, 0)
    return bits.view(np.float64)


class Chain:
    """An array `value` (float32) to which `step` applies value = fma(a, b, value), in buffers allocated once.

    capacity       number of elements that the buffers hold
    may_underflow  whether a step can have an inexact subnormal result (`products_may_underflow`)
    """

    def __init__(self, capacity, may_underflow):
        self._sum_buffer = np.empty(capacity, np.float64)
        self._low_buffer = np.empty(capacity, np.int64)
        self._value_buffer = np.empty(capacity, np.float32)
        self._may_underflow = may_underflow

    def restart(self, shape):
        """Set `value` to +0 in the given shape."""
        size = math.prod(shape)
        self._sum = self._sum_buffer[:size].reshape(shape)
        self._low = self._low_buffer[:size].reshape(shape)
        self._bits = self._sum.view(np.int64)
        self.value = self._value_buffer[:size].reshape(shape)
        self.value.fill(0)

    def step(self, a, b):
        """Set value = fma(a, b, value); a and b are float64 arrays that hold float32 values and broadcast to value."""
        np.multiply(a, b, out=self._sum)
        np.add(self._sum, self.value, out=self._sum)
        np.left_shift(self._bits, _TIE_SHIFT, out=self._low)
        if self._low.min() == _TIE:
            self._repair(a, b, self._low == _TIE)
        if self._may_underflow:
            self._repair(a, b, (np.abs(self._sum) < SMALLEST_NORMAL) & (self._sum != 0))
        np.copyto(self.value, self._sum, casting="same_kind")

    def _repair(self, a, b, doubtful):
        if doubtful.any():
            product = _pick(a, doubtful) * _pick(b, doubtful)
            self._sum[doubtful] = _sum_to_odd(product, self.value[doubtful].astype(np.float64))


def products_may_underflow(a, b):
    """Return whether a chain of products of elements of `a` and `b` can have an inexact subnormal sum.

    It cannot if all products are multiples of 2^-149, as every float32 is: a subnormal sum of such numbers is exact.
    """
    return _lowest_bit(a) + _lowest_bit(b) < -149


def _lowest_bit(array):
    """Return e such that every finite element of the float32 `array` is a multiple of 2^e; 0 if all are zero."""
    magnitude = np.ascontiguousarray(array).view(np.uint32) & 0x7FFFFFFF
    smallest = np.min(magnitude - np.uint32(1))  # a zero wraps to the largest number
    if smallest == 0xFFFFFFFF:
        return 0
    value = (smallest + np.uint32(1)).view(np.float32)
    return max(math.frexp(value)[1] - 24, -149)


def require_subnormals():
    """Raise ContractError if this thread flushes subnormals (a library built with -ffast-math can switch that on)."""
    halved = _TINY * _HALF
    # Two steps: the product shows a flushed result, the sum a subnormal input taken for zero.
    if halved.view(np.uint32)[0] != 0x00400000 or (halved + halved).view(np.uint32)[0] != 0x00800000:
        raise ContractError(
            "numpy: this thread flushes subnormals to zero (a library built with -ffast-math set it); "
            "load that library later or run pagnp in a process of its own"
        )
