"""exp, exp10, log and sigmoid by the float64 routines of backends/constants.py, operation by operation.

Numba fuses no product and sum by itself, so every `*` and `+` below is one rounding. The routines have no branch that
depends on the value (selects only): LLVM runs them on whole vectors.
"""

import numpy as np

from pagnp.backends.constants import (
    EXPONENT_BIAS,
    LN2_HI,
    LN2_LO,
    LOG_POLY,
    MANTISSA_BITS,
    MANTISSA_MASK,
    ONE_BITS,
    SQRT2,
)
from pagnp.backends.numba_cpu.compile import jit
from pagnp.backends.numba_cpu.expkernel import exp10_floats, exp_floats, sigmoid_floats
from pagnp.backends.numba_cpu.grain import COSTLY, grain
from pagnp.backends.numba_cpu.threads import parallel

EXP, EXP10, LOG, SIGMOID = range(4)


@jit(cached=False)
def log64(x):
    """Return log of the float64 x, which is a float32's value or positive and normal."""
    b = np.float64(x).view(np.int64)
    e = (b >> np.int64(MANTISSA_BITS)) - np.int64(EXPONENT_BIAS)  # the sign bit only spoils an e that is replaced below
    m = np.int64((b & np.int64(MANTISSA_MASK)) | np.int64(ONE_BITS)).view(np.float64)
    upper = m > SQRT2
    m = m * 0.5 if upper else m
    e = e + 1 if upper else e
    f = m - 1.0
    s = f / (f + 2.0)
    z = s * s
    q = LOG_POLY[0]
    q = q * z + LOG_POLY[1]
    q = q * z + LOG_POLY[2]
    q = q * z + LOG_POLY[3]
    q = q * z + LOG_POLY[4]
    q = q * z + LOG_POLY[5]
    q = q * z + LOG_POLY[6]
    q = q * z + LOG_POLY[7]
    q = q * z + LOG_POLY[8]
    q = q * z + LOG_POLY[9]
    exponent = np.float64(e)
    y = exponent * LN2_HI + (s * q + exponent * LN2_LO)
    y = np.nan if x < 0.0 else y
    y = -np.inf if x == 0.0 else y
    return y if x < np.inf else x  # +inf and NaN are their own logarithms


@jit(cached=False)
def log32(x):
    """Return log of the float32 x."""
    return np.float32(log64(np.float64(x)))


@jit
def transcendental_f32(start, stop, op, x, out):
    """out[i] = op(x[i]) for i in [start, stop); x, out (size,) float32."""
    if op == LOG:
        for i in range(start, stop):
            out[i] = log32(x[i])
        return
    ends = np.int64(x.ctypes.data) + start * 4, np.int64(out.ctypes.data) + start * 4, stop - start
    if op == EXP:
        exp_floats(*ends)
    elif op == EXP10:
        exp10_floats(*ends)
    else:
        sigmoid_floats(*ends)


def exp(x, out, threads=1):
    """out = exp(x), both float32 of one shape."""
    _apply(EXP, x, out, threads)


def exp10(x, out, threads=1):
    """out = 10 ** x, both float32 of one shape."""
    _apply(EXP10, x, out, threads)


def log(x, out, threads=1):
    """out = log(x), both float32 of one shape."""
    _apply(LOG, x, out, threads)


def sigmoid(x, out, threads=1):
    """out = 1 / (1 + exp(-x)), both float32 of one shape."""
    _apply(SIGMOID, x, out, threads)


def _apply(op, x, out, threads):
    chunk = grain(out.size, threads, COSTLY)
    parallel(transcendental_f32, out.size, threads, op, x.reshape(-1), out.reshape(-1), chunk=chunk)
