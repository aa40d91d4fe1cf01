"""The scalar operations of the contract, one rounding each, under names that kernels use in place of `+ * /`.

On a GPU they are libdevice's `_rn` functions: Numba and NVVM join a written `a * b + c` into one fma, and nothing
switches that off; these they leave alone. In the simulator, which has no libdevice and whose own fma rounds twice, they
are the functions of simulated.py.

A number without a type is float64 on a GPU: kernels write np.float32(0).
"""

import importlib

import numpy as np

from pagnp.backends.numba_cuda.compile import SIMULATED, device_function

_rounded = importlib.import_module("pagnp.backends.numba_cuda.simulated" if SIMULATED else "numba.cuda.libdevice")

fma = _rounded.fmaf_rn  # (a, b, c): a * b + c
add = _rounded.fadd_rn
sub = _rounded.fsub_rn
mul = _rounded.fmul_rn
div = _rounded.fdiv_rn
sqrt = _rounded.fsqrt_rn

add64 = _rounded.dadd_rn
mul64 = _rounded.dmul_rn
div64 = _rounded.ddiv_rn

bits64 = _rounded.double_as_longlong  # the pattern of a float64 as int64
float64_of = _rounded.longlong_as_double

# cuda.shared.array(..., alignment=WIDE): four float32 are read at once; the simulator knows no alignment.
WIDE = None if SIMULATED else 16

ZERO = np.float32(0)


@device_function
def relu_step(x):
    """Return +0 if x < 0, else x: no maximum, NaN must stay NaN and -0 must stay -0."""
    return ZERO if x < ZERO else x


@device_function
def horner_step(p, x, c):
    """Return p * x + c in float64, the product rounded before the sum."""
    return add64(mul64(p, x), c)


@device_function
def wanted_rows(rows, count, has_count):
    """Return how many rows are wanted: count[0] of at most `rows`, or all of them."""
    return np.int64(count[0]) if has_count else rows
