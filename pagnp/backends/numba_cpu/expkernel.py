"""exp, exp10 and sigmoid of whole arrays, as LLVM vector code: `transcendental.exp64` on several vectors at a time.

An exp is one chain of some forty dependent operations, and a core's scheduler does not look far enough ahead to run
several at once. So a few vectors go through each operation side by side: two thirds of the time of a loop that LLVM
vectorised (Zen 4). Every product and every sum is rounded by itself: nothing here may be fused.
"""

import functools

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from pagnp.backends.constants import (
    EXP_HIGH,
    EXP_LOW,
    EXP_POLY,
    EXPONENT_BIAS,
    INV_LN2,
    LN2_HI,
    LN2_LO,
    LN10,
    MANTISSA_BITS,
    ROUND_MAGIC,
    ROUND_MAGIC_BITS,
)
from pagnp.backends.numba_cpu.microkernel import TILES, internal_function
from pagnp.backends.numba_cpu.vectorcode import F32, F64, I64, VectorCode

_LANES = TILES[0][2] // 2  # float64 of a vector
_SIDE_BY_SIDE = 6 if _LANES == 8 else 4  # vectors: as many as there are registers for
_SIZES = (_SIDE_BY_SIDE * _LANES, _LANES, 1)


def _floats(name, operation):
    """Make the intrinsic (x, out, count): out[i] = operation(x[i]) for `count` float32 at these addresses, or in place.

    operation(code, x) emits it for a vector of float64.
    """

    @intrinsic
    def floats(typingctx, x, out, count):
        def generate(context, builder, signature, arguments):
            emit = functools.partial(_emit, operation=operation)
            builder.call(internal_function(builder.module, name, 3, emit), arguments)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 3), generate

    return floats


def _emit(function, operation):
    """Emit the loops over the elements: several vectors at a time, single vectors, single elements."""
    x, out, count = function.args
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    done = I64(0)
    for lanes in _SIZES:
        code = VectorCode(builder, lanes)
        with code.repeat(builder.sdiv(builder.sub(count, done), I64(lanes)), done) as loop:
            left, first = loop.values
            byte = builder.mul(first, I64(4))
            wide = builder.fpext(code.load(builder.add(x, byte)), code.of(F64))
            value = builder.fptrunc(operation(code, wide), code.of(F32))
            code.store(value, builder.add(out, byte))
            loop.again(builder.sub(left, I64(1)), builder.add(first, I64(lanes)))
        done = loop.after[1]
    builder.ret_void()


def _exp64(code, x):
    """Emit transcendental.exp64, line by line; but NaN passes the clamps and makes every step NaN, with no test."""
    builder = code.builder
    low, high, magic = (code.constant(value, F64) for value in (EXP_LOW, EXP_HIGH, ROUND_MAGIC))
    xc = builder.select(builder.fcmp_ordered("<", x, low), low, x)
    xc = builder.select(builder.fcmp_ordered(">", xc, high), high, xc)
    t = builder.fadd(builder.fmul(xc, code.constant(INV_LN2, F64)), magic)
    k = builder.sub(builder.bitcast(t, code.of(I64)), code.constant(ROUND_MAGIC_BITS, I64))
    n = builder.fsub(t, magic)
    r = builder.fsub(xc, builder.fmul(n, code.constant(LN2_HI, F64)))
    r = builder.fsub(r, builder.fmul(n, code.constant(LN2_LO, F64)))
    p = code.constant(EXP_POLY[0], F64)
    for coefficient in EXP_POLY[1:]:
        p = builder.fadd(builder.fmul(p, r), code.constant(coefficient, F64))
    exponent = builder.add(k, code.constant(EXPONENT_BIAS, I64))
    power = builder.bitcast(builder.shl(exponent, code.constant(MANTISSA_BITS, I64)), code.of(F64))
    return builder.fmul(p, power)


def _exp10(code, x):
    return _exp64(code, code.builder.fmul(x, code.constant(LN10, F64)))


def _sigmoid(code, x):
    builder, one = code.builder, code.constant(1.0, F64)
    return builder.fdiv(one, builder.fadd(one, _exp64(code, builder.fneg(x))))


exp_floats = _floats("pagnp_exp_floats", _exp64)
exp10_floats = _floats("pagnp_exp10_floats", _exp10)
sigmoid_floats = _floats("pagnp_sigmoid_floats", _sigmoid)
