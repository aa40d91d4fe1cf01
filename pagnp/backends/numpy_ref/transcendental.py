"""exp64, log64 and the float32 functions made of them; steps and constants are in pagnp/backends/constants.py."""

import numpy as np

from pagnp.backends import constants as k

CHUNK = 65536  # elements handled at once: the float64 intermediates stay in cache


def exp64(x):
    """Return e^x in float64 for a float64 array; x saturates at +-200. Unfused, fixed order."""
    clamped = np.where(x > k.EXP_LOW, x, k.EXP_LOW)
    clamped = np.where(clamped < k.EXP_HIGH, clamped, k.EXP_HIGH)
    shifted = clamped * k.INV_LN2 + k.ROUND_MAGIC
    exponent = shifted.view(np.int64) - k.ROUND_MAGIC_BITS
    n = shifted - k.ROUND_MAGIC
    r = clamped - n * k.LN2_HI
    r = r - n * k.LN2_LO
    y = _horner(k.EXP_POLY, r) * ((exponent + k.EXPONENT_BIAS) << k.MANTISSA_BITS).view(np.float64)
    return np.where(np.isnan(x), x, y)


def log64(x):
    """Return the natural logarithm in float64 for a float64 array (zero, negative, Inf, NaN or normal numbers)."""
    bits = x.view(np.int64)
    exponent = (bits >> k.MANTISSA_BITS) - k.EXPONENT_BIAS
    m = ((bits & k.MANTISSA_MASK) | k.ONE_BITS).view(np.float64)
    above = m > k.SQRT2
    m = np.where(above, m * 0.5, m)
    exponent = (exponent + above).astype(np.float64)
    f = m - 1.0
    s = f / (f + 2.0)
    q = _horner(k.LOG_POLY, s * s)
    y = exponent * k.LN2_HI + (s * q + exponent * k.LN2_LO)
    y = np.where(x == 0, -np.inf, y)
    y = np.where(x < 0, np.nan, y)
    return np.where(np.isnan(x) | (x == np.inf), x, y)


def _horner(coefficients, x):
    """Evaluate a polynomial, highest coefficient first; every product and sum is rounded."""
    y = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        y = y * x + coefficient
    return y


def _map_chunks(function, x, out):
    """Fill `out` with function(float64 chunk of x), rounded once to float32."""
    flat_x, flat_out = x.reshape(-1), out.reshape(-1)
    for start in range(0, flat_x.size, CHUNK):
        chunk = slice(start, start + CHUNK)
        flat_out[chunk] = function(flat_x[chunk].astype(np.float64))


def exp(x, out):
    """out = e^x."""
    _map_chunks(exp64, x, out)


def exp10(x, out):
    """out = 10^x, as exp64(x * ln 10)."""
    _map_chunks(lambda x64: exp64(x64 * k.LN10), x, out)


def log(x, out):
    """out = ln x; log(0) = -inf, log(x < 0) = NaN."""
    _map_chunks(log64, x, out)


def sigmoid(x, out):
    """out = 1 / (1 + e^-x)."""
    _map_chunks(lambda x64: 1.0 / (1.0 + exp64(-x64)), x, out)
