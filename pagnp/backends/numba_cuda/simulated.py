"""What arithmetic.py takes from libdevice, for Numba's simulator: the same names, the same bits, in Python."""

import math
import struct

import numpy as np


def fmaf_rn(a, b, c):
    """Return a * b + c with one rounding: the float64 sum is rounded to odd before it becomes a float32."""
    product, addend = float(a) * float(b), float(c)  # the product is exact
    total = product + addend
    from_addend = total - product
    error = (product - (total - from_addend)) + (addend - from_addend)  # TwoSum (Knuth): total + error is exact
    # An inexact total with an even last bit steps to its odd neighbour on the error's side: odd can be no midpoint of
    # float32. For inf and NaN the error is NaN, and neither comparison holds.
    if (error > 0.0 or error < 0.0) and not struct.unpack("<q", struct.pack("<d", total))[0] & 1:
        total = math.nextafter(total, math.copysign(math.inf, error))
    return np.float32(total)


def fadd_rn(a, b):
    """Return a + b, float32."""
    return np.float32(a) + np.float32(b)


def fsub_rn(a, b):
    """Return a - b, float32."""
    return np.float32(a) - np.float32(b)


def fmul_rn(a, b):
    """Return a * b, float32."""
    return np.float32(a) * np.float32(b)


def fdiv_rn(a, b):
    """Return a / b, float32."""
    return np.float32(a) / np.float32(b)


def fsqrt_rn(a):
    """Return the root of a, float32."""
    return np.sqrt(np.float32(a))


def dadd_rn(a, b):
    """Return a + b, float64."""
    return np.float64(a) + np.float64(b)


def dmul_rn(a, b):
    """Return a * b, float64."""
    return np.float64(a) * np.float64(b)


def ddiv_rn(a, b):
    """Return a / b, float64."""
    return np.float64(a) / np.float64(b)


def double_as_longlong(x):
    """Return the pattern of a float64 as int64."""
    return np.float64(x).view(np.int64)


def longlong_as_double(bits):
    """Return the float64 of a pattern."""
    return np.int64(bits).view(np.float64)
