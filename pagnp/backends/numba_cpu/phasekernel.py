"""Depthwise transposed convolutions, as LLVM vector code: strips of neighbouring outputs, each of a phase of its own.

`stripkernel` has one register of weights for all pixels of a strip. Here each pixel of a strip has its own weights,
from the first-level cache: outputs are written one after the other, as they lie in memory, and all phases of a row in
one call. Where stride 8 makes 64 phases of four taps each, that counts: an upsampling of 60x80x19 by 8 takes half the
time that it takes phase by phase (Zen 4).
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from pagnp.backends.numba_cpu.microkernel import internal_function
from pagnp.backends.numba_cpu.stripkernel import HALVES, PIXELS, emit_channels, emit_epilogue
from pagnp.backends.numba_cpu.vectorcode import I64, VectorCode


@intrinsic
def strip_phases(typingctx, table, step, channels, taps, strips, rows, out, residual, scale, shift, mode, relu):
    """Compute `strips` strips of neighbouring outputs, one after the other in a row. All int64.

    table    address of the first strip's addresses: for each tap PIXELS int64 of inputs, then PIXELS of weights
    step     bytes that the inputs move on from a strip to the next one; the weights stay
    taps     at most BLOCK
    rows     address of PIXELS int64: byte offsets of the first strip's outputs; the next strip's are PIXELS * channels
             further on
    channels, out, residual, scale, shift, mode, relu  as in strip_products
    """

    def generate(context, builder, signature, arguments):
        builder.call(internal_function(builder.module, "pagnp_strip_phases", 12, _emit), arguments)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 12), generate


def _emit(function):
    """Emit strip_phases: strip by strip, in each the channels."""
    table, step, channels, taps, strips, rows, out, residual, scale, shift, mode, relu = function.args
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    has_residual = builder.icmp_signed("!=", residual, I64(0))
    further = builder.mul(channels, I64(4 * PIXELS))
    with VectorCode(builder, 1).repeat(strips, I64(0), out, residual) as strip:
        left, moved, out_at, residual_at = strip.values

        def accumulate(code, byte):
            return _emit_taps(code, byte, builder.add(byte, moved), table, taps)

        def finish(code, byte, sums):
            emit_epilogue(code, byte, sums, rows, (out_at, residual_at, scale, shift), has_residual, mode, relu)

        emit_channels(builder, HALVES, channels, builder.not_(has_residual), accumulate, finish)
        ends = builder.add(out_at, further), builder.add(residual_at, further)
        strip.again(builder.sub(left, I64(1)), builder.add(moved, step), *ends)
    builder.ret_void()


def _emit_taps(code, weight_byte, x_byte, table, taps):
    """Emit the loop over the taps; return the sums."""
    builder = code.builder
    with code.repeat(taps, table, *[code.constant(0.0)] * PIXELS) as tap:
        left, entry, *sums = tap.values
        for p in range(PIXELS):
            x = code.load(builder.add(code.load_int(entry, 8 * p), x_byte))
            weight = code.load(builder.add(code.load_int(entry, 8 * (PIXELS + p)), weight_byte))
            sums[p] = code.fma(weight, x, sums[p])
        tap.again(builder.sub(left, I64(1)), builder.add(entry, I64(16 * PIXELS)), *sums)
    return tap.after[2:]
