"""`fma32`: a float32 fused multiply-add for jitted code, one rounding on every CPU.

With FMA hardware it is one instruction (llvm.fma), which LLVM vectorises. Without, llvm.fma would call libm, element by
element and slowly; there the product is taken in float64, where it is exact, and the sum is rounded to odd before the
one rounding to float32. Both give the bits of the reference.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from pagnp.backends.numba_cpu.compile import jit
from pagnp.backends.numba_cpu.vectorcode import has_fma_unit


@intrinsic
def fma32_hardware(typing_context, a, b, c):
    """Return a * b + c with one rounding, by the CPU's own instruction (or libm's fmaf where it has none)."""
    float32 = ir.FloatType()

    def codegen(context, builder, signature, args):
        signature_ir = ir.FunctionType(float32, [float32] * 3)
        return builder.call(builder.module.declare_intrinsic("llvm.fma", (float32,), signature_ir), args)

    return types.float32(types.float32, types.float32, types.float32), codegen


@jit(cached=False)
def fma32_round_to_odd(a, b, c):
    """Return a * b + c with one rounding, from float64 operations alone."""
    product = np.float64(a) * np.float64(b)
    addend = np.float64(c)
    total = product + addend
    from_addend = total - product
    error = (product - (total - from_addend)) + (addend - from_addend)  # TwoSum (Knuth): total + error is exact
    bits = np.float64(total).view(np.int64)
    # An inexact total with an even last bit steps to its odd neighbour on the error's side: odd can be no midpoint of
    # float32. For inf and NaN the error is NaN, and neither comparison holds.
    if bits & 1 == 0:
        if error > 0.0:
            bits += 1 if total > 0.0 else -1
        elif error < 0.0:
            bits += -1 if total > 0.0 else 1
    return np.float32(np.int64(bits).view(np.float64))


fma32 = fma32_hardware if has_fma_unit() else fma32_round_to_odd
