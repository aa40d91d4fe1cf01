"""The inner loop of convolutions of few channels as LLVM vector code: a tile is a run of pixels in one row of the map.

Where a vector or two hold all output channels, the tile of `microkernel` is so short that its loops over taps and its
table of addresses take half of the time. Neighbours in a row need no table: their inputs lie a constant step apart. So
the tile can be three times as long, and the taps of a kernel row one run. The chain of an output is the same.

Against `microkernel`: 3x3 of 16 channels in 0.75 of the time, 1x1 in half (Zen 4).
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from pagnp.backends.numba_cpu.microkernel import TILES, emit_finish, emit_park, internal_function
from pagnp.backends.numba_cpu.vectorcode import I64, VectorCode, is_aarch64
from pagnp.contract import BLOCK

_, _WIDTH, _LANES = TILES[2]
# As many pixels as accumulators fit: 24 of 32 registers with AVX-512, 12 of 16 elsewhere. Of the 32 on aarch64, 24
# are too many in LLVM's order of instructions for a Neoverse N1: it moves the whole tile from register to register.
ROW_TILE = (24 if _LANES == 16 else 11 if is_aarch64() else 12, _WIDTH, _LANES)


@intrinsic
def row_steps(
    typingctx, table, step, run, steps, weights, totals, finish, rows, out, residual, scale, shift, mode, relu
):  # fmt: skip
    """Add all `steps` terms of the reduction to one tile of neighbours in a row. All int64.

    table      address of the taps' addresses, one int64 a tap: of the first pixel's input; `run` values a tap
    step       bytes from one pixel's input to the next one's
    weights    address of (steps, width) float32, 64-byte aligned; totals  of (pixels, width) float32
    finish     1: the totals become output rows, as in microkernel.tile_steps; 0: they are left in `totals`
    """

    def generate(context, builder, signature, arguments):
        builder.call(internal_function(builder.module, "pagnp_row_steps", len(arguments), _emit), arguments)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 14), generate


def _emit(function):
    """Emit row_steps: blocks of 128 steps, in each the runs of the taps."""
    table, step, run, steps, weights, totals, finish, rows, *arrays, mode, relu = function.args
    pixels, width, lanes = ROW_TILE
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    code = VectorCode(builder, lanes)
    zeros = [code.constant(0.0)] * (pixels * width // lanes)
    with code.repeat(steps, table, I64(0), weights, I64(1)) as block:
        left, *position, is_first = block.values
        in_block = code.smaller(left, I64(BLOCK))
        with code.repeat(in_block, *position, *zeros) as tap:
            left_in_block, *position = tap.values
            count = code.smaller(builder.sub(run, position[1]), left_in_block)
            after, tile = _emit_run(code, position, count, run, step)
            tap.again(builder.sub(left_in_block, count), *after, *tile)
        position, tile = tap.after[1:4], tap.after[4:]
        is_last = builder.icmp_signed("==", left, in_block)
        finishes = builder.and_(is_last, builder.icmp_signed("!=", finish, I64(0)))
        with builder.if_else(finishes) as (last, between):
            with last:
                emit_finish(code, tile, totals, is_first, rows, arrays, mode, relu, ROW_TILE)
            with between:
                emit_park(code, tile, totals, is_first)
        block.again(builder.sub(left, in_block), *position, I64(0))
    builder.ret_void()


def _emit_run(code, position, count, run, step):
    """Emit `count` steps within one tap; return the position after it (table, ci, weights) and the accumulators."""
    builder = code.builder
    table, ci, weights, *tile = position
    x = builder.add(code.load_int(table), builder.mul(ci, I64(4)))
    with code.repeat(count, weights, x, *tile) as loop:
        left, address, x, *tile = loop.values
        loop.again(
            builder.sub(left, I64(1)),
            builder.add(address, I64(4 * ROW_TILE[1])),
            builder.add(x, I64(4)),
            *_emit_step(code, tile, x, step, address),
        )
    ci = builder.add(ci, count)
    wraps = builder.icmp_signed("==", ci, run)
    ci = builder.select(wraps, I64(0), ci)
    return (builder.select(wraps, builder.add(table, I64(8)), table), ci, loop.after[1]), loop.after[3:]


def _emit_step(code, tile, x, step, weights):
    """Emit one term of the reduction for every output of the tile; return the new accumulators."""
    pixels, width, lanes = ROW_TILE
    row = [code.load(weights, 4 * lanes * v, align=4 * lanes) for v in range(width // lanes)]
    after = []
    for p in range(pixels):
        value = code.broadcast(code.load_float(x))
        after += [code.fma(weight, value, tile[p * len(row) + v]) for v, weight in enumerate(row)]
        x = code.builder.add(x, step)
    return after
