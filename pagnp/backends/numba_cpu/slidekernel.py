"""Depthwise sums of whole rows, as LLVM vector code: the strips of `stripkernel` where the pixels are neighbours.

Where a strip's pixels are neighbours, and so are a kernel row's taps, pixel p + 1 reads at a tap what pixel p reads at
the next one. So the inputs stay in registers and move on by one place from tap to tap: each is loaded once a kernel
row, in place of once a tap. With the accumulators they fill 16 registers, of 32 (AVX-512, aarch64). On Zen 4 a 3x3
takes 0.8 of the time of `stripkernel`, a 7x7 0.7; with 16 channels, where a call for a whole row counts, half.
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from pagnp.backends.numba_cpu.compile import cpu_features, cpu_triple
from pagnp.backends.numba_cpu.microkernel import internal_function
from pagnp.backends.numba_cpu.stripkernel import HALVES, PIXELS, emit_channels, emit_epilogue
from pagnp.backends.numba_cpu.vectorcode import I64, VectorCode

SLIDES = "avx512f" in cpu_features() or cpu_triple().startswith(("aarch64", "arm64"))  # enough registers


@intrinsic
def strip_slide(
    typingctx, table, step, weights, channels, taps, columns, strips, rows, out, residual, scale, shift, mode, relu,
):  # fmt: skip
    """Compute `strips` strips of a depthwise convolution, one after the other in a row. All int64.

    table    address of the first strip's addresses: for each row of taps the input of its first tap for pixel 0
    step     bytes from a pixel to the next one, in x and in out, and from a tap's input to that of the next tap
    taps     at most BLOCK;  columns  taps of a row
    rows     address of the first strip's PIXELS byte offsets; those of the next strip are PIXELS * step further on
    weights, channels, out, residual, scale, shift, mode, relu  as in strip_products
    """

    def generate(context, builder, signature, arguments):
        builder.call(internal_function(builder.module, "pagnp_strip_slide", 14, _emit), arguments)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 14), generate


def _emit(function):
    """Emit strip_slide: strip by strip, in each the channels."""
    table, step, weights, channels, taps, columns, strips, rows, out, residual, scale, shift, mode, relu = function.args
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    has_residual = builder.icmp_signed("!=", residual, I64(0))
    further = builder.mul(step, I64(PIXELS))
    with VectorCode(builder, 1).repeat(strips, I64(0)) as strip:
        left, moved = strip.values
        arrays = (builder.add(out, moved), builder.add(residual, moved), scale, shift)

        def accumulate(code, byte):
            return _emit_rows(code, (byte, builder.add(byte, moved)), (table, weights, taps, columns), step)

        def finish(code, byte, sums):
            emit_epilogue(code, byte, sums, rows, arrays, has_residual, mode, relu)

        emit_channels(builder, HALVES, channels, builder.not_(has_residual), accumulate, finish)
        strip.again(builder.sub(left, I64(1)), builder.add(moved, further))
    builder.ret_void()


def _emit_rows(code, bytes_, taps, step):
    """Emit the loops over the rows of taps and over the taps of a row; return the sums."""
    (weight_byte, x_byte), (table, weights, count, columns) = bytes_, taps
    builder = code.builder
    with code.repeat(count, table, weights, *[code.constant(0.0)] * PIXELS) as row:
        left, entry, weight_at, *sums = row.values
        at = builder.add(code.load_int(entry), x_byte)
        window = []
        for _ in range(PIXELS - 1):
            window.append(code.load(at))
            at = builder.add(at, step)
        with code.repeat(columns, at, weight_at, *window, *sums) as tap:
            columns_left, at, weight_at, *values = tap.values
            window, sums = [*values[: PIXELS - 1], code.load(at)], values[PIXELS - 1 :]
            weight = code.load(builder.add(code.load_int(weight_at), weight_byte))
            sums = [code.fma(weight, x, y) for x, y in zip(window, sums, strict=True)]
            at, weight_at = builder.add(at, step), builder.add(weight_at, I64(8))
            tap.again(builder.sub(columns_left, I64(1)), at, weight_at, *window[1:], *sums)
        row.again(builder.sub(left, columns), builder.add(entry, I64(8)), tap.after[2], *tap.after[2 + PIXELS :])
    return row.after[3:]
