"""exp64, log64 and the float32 functions made of them, as device functions: steps of pagnp/backends/constants.py."""

import numpy as np

from pagnp.backends.constants import (
    EXP_HIGH,
    EXP_LOW,
    EXP_POLY,
    EXPONENT_BIAS,
    INV_LN2,
    LN2_HI,
    LN2_LO,
    LN10,
    LOG_POLY,
    MANTISSA_BITS,
    MANTISSA_MASK,
    ONE_BITS,
    ROUND_MAGIC,
    ROUND_MAGIC_BITS,
    SQRT2,
)
from pagnp.backends.numba_cuda.arithmetic import add64, bits64, div64, float64_of, horner_step, mul64
from pagnp.backends.numba_cuda.compile import device_function

_BITS = np.int64(MANTISSA_BITS)
_BIAS = np.int64(EXPONENT_BIAS)


@device_function
def exp64(x):
    """Return e^x in float64; x saturates at +-200."""
    clamped = x if x > EXP_LOW else EXP_LOW  # NaN becomes EXP_LOW, and is put back at the end
    clamped = clamped if clamped < EXP_HIGH else EXP_HIGH
    shifted = add64(mul64(clamped, INV_LN2), ROUND_MAGIC)
    exponent = bits64(shifted) - np.int64(ROUND_MAGIC_BITS)
    n = add64(shifted, -ROUND_MAGIC)
    r = add64(clamped, mul64(n, -LN2_HI))
    r = add64(r, mul64(n, -LN2_LO))
    p = horner_step(EXP_POLY[0], r, EXP_POLY[1])
    p = horner_step(p, r, EXP_POLY[2])
    p = horner_step(p, r, EXP_POLY[3])
    p = horner_step(p, r, EXP_POLY[4])
    p = horner_step(p, r, EXP_POLY[5])
    p = horner_step(p, r, EXP_POLY[6])
    p = horner_step(p, r, EXP_POLY[7])
    p = horner_step(p, r, EXP_POLY[8])
    p = horner_step(p, r, EXP_POLY[9])
    p = horner_step(p, r, EXP_POLY[10])
    p = horner_step(p, r, EXP_POLY[11])
    p = horner_step(p, r, EXP_POLY[12])
    y = mul64(p, float64_of((exponent + _BIAS) << _BITS))
    return x if x != x else y


@device_function
def log64(x):
    """Return the natural logarithm of a float64 that is zero, negative, infinite, NaN or normal."""
    bits = bits64(x)
    exponent = (bits >> _BITS) - _BIAS  # the sign bit only spoils an exponent that is replaced below
    m = float64_of((bits & np.int64(MANTISSA_MASK)) | np.int64(ONE_BITS))
    upper = m > SQRT2
    m = mul64(m, 0.5) if upper else m
    exponent = exponent + np.int64(1) if upper else exponent
    f = add64(m, -1.0)
    s = div64(f, add64(f, 2.0))
    z = mul64(s, s)
    q = horner_step(LOG_POLY[0], z, LOG_POLY[1])
    q = horner_step(q, z, LOG_POLY[2])
    q = horner_step(q, z, LOG_POLY[3])
    q = horner_step(q, z, LOG_POLY[4])
    q = horner_step(q, z, LOG_POLY[5])
    q = horner_step(q, z, LOG_POLY[6])
    q = horner_step(q, z, LOG_POLY[7])
    q = horner_step(q, z, LOG_POLY[8])
    q = horner_step(q, z, LOG_POLY[9])
    e = np.float64(exponent)
    y = add64(mul64(e, LN2_HI), add64(mul64(s, q), mul64(e, LN2_LO)))
    y = np.nan if x < 0.0 else y
    y = -np.inf if x == 0.0 else y
    return y if x < np.inf else x  # +inf and NaN are their own logarithms


@device_function
def exp_step(x):
    """Return e^x of the float32 x."""
    return np.float32(exp64(np.float64(x)))


@device_function
def exp10_step(x):
    """Return 10^x of the float32 x."""
    return np.float32(exp64(mul64(np.float64(x), LN10)))


@device_function
def log_step(x):
    """Return ln x of the float32 x."""
    return np.float32(log64(np.float64(x)))


@device_function
def sigmoid_step(x):
    """Return 1 / (1 + e^-x) of the float32 x."""
    return np.float32(div64(1.0, add64(1.0, exp64(-np.float64(x)))))
