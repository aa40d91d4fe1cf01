"""The inner loop of convolutions with very few output channels, as LLVM vector code: gates, depth, boundaries.

A vector of output channels would be mostly empty, so the lanes are pixels here. Their inputs lie apart in memory: a
vector of channels is loaded of each pixel, and shuffles turn this square into vectors of pixels, one a channel. (Loads
of four channels at a time would be fewer shuffles, but 16 pixels that lie 4096 bytes apart share one set of the cache.)
The chain of an output is the same as in `microkernel`: ky, kx, ci ascending, cut at 128.

Against the 16-channel tile of `microkernel`: gates of 256 to 2048 channels in 0.4 to 0.5 of the time (Zen 4).
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from pagnp.backends.numba_cpu.microkernel import LINE, TILES, internal_function
from pagnp.backends.numba_cpu.vectorcode import I32, I64, VectorCode, is_aarch64
from pagnp.contract import BLOCK

_AHEAD = 512  # bytes: the lines of a pixel that are asked for into the L2 cache; into L1 they would evict each other
LANES = TILES[0][2]
_ROUND = 8 if is_aarch64() else LINE  # channels of a round: the weights of 16 spill on a Cortex-A76, LLVM loads ahead
NARROW_TILES = tuple((LANES, width, LANES) for width in (2, 4))


def _narrow_steps(shape):
    """Make the intrinsic that adds `steps` terms of the reduction to one tile's totals. All int64.

    (table, x_bytes, first_ci, run, steps, weights, totals, is_first, is_last), as in microkernel.tile_steps, but
    weights   address of (steps, width) float32
    totals    address of (width, pixels) float32; with is_last also of the (pixels, width) behind them, which are filled
    """
    name = f"pagnp_narrow_steps_{shape[0]}x{shape[1]}"

    @intrinsic
    def narrow_steps(typingctx, table, x_bytes, first_ci, run, steps, weights, totals, is_first, is_last):  # fmt: skip
        def generate(context, builder, signature, arguments):
            function = internal_function(builder.module, name, len(arguments), lambda f: _emit(f, shape))
            builder.call(function, arguments)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 9), generate

    return narrow_steps


def _emit(function, shape):
    """Emit narrow_steps: blocks of 128 steps, in each the runs of the taps."""
    pixels, width, lanes = shape
    table, x_bytes, first_ci, run, steps, weights, totals, is_first, is_last = function.args
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    code = VectorCode(builder, lanes)
    zeros = [code.constant(0.0)] * width
    with code.repeat(steps, table, first_ci, weights, is_first) as block:
        left, *position, is_first = block.values
        in_block = code.smaller(left, I64(BLOCK))
        with code.repeat(in_block, *position, *zeros) as tap:
            left_in_block, *position = tap.values
            count = code.smaller(builder.sub(run, position[1]), left_in_block)
            after, tile = _emit_run(code, position, count, run, x_bytes, shape)
            tap.again(builder.sub(left_in_block, count), *after, *tile)
        position, tile = tap.after[1:4], tap.after[4:]
        _emit_park(code, tile, totals, is_first)
        block.again(builder.sub(left, in_block), *position, I64(0))
    with builder.if_then(builder.icmp_signed("!=", is_last, I64(0))):
        _emit_interleave(builder, totals, shape)
    builder.ret_void()


def _emit_run(code, position, count, run, x_bytes, shape):
    """Emit `count` steps within one tap; return the position after it (table, ci, weights) and the accumulators."""
    builder = code.builder
    pixels, width, lanes = shape
    table, ci, weights, *tile = position
    skipped = builder.icmp_signed("==", code.load_int(table), I64(0))  # see microkernel: one +0 stands for its terms
    tile = code.when(skipped, tile, lambda tile: [builder.fadd(y, code.constant(0.0)) for y in tile])
    done = builder.select(skipped, count, I64(0))
    for channels in (_ROUND, 1):
        with code.repeat(builder.sdiv(builder.sub(count, done), I64(channels)), done, *tile) as steps:
            rounds, done, *tile = steps.values
            x_byte = builder.add(x_bytes, builder.mul(builder.add(ci, done), I64(4)))
            row = builder.add(weights, builder.mul(done, I64(4 * width)))
            size = min(channels, lanes)
            for first in range(0, channels, size):
                tile = _emit_channels(code, tile, table, x_byte, row, range(first, first + size), width)
            steps.again(builder.sub(rounds, I64(1)), builder.add(done, I64(channels)), *tile)
        done, *tile = steps.after[1:]
    ci = builder.add(ci, count)
    wraps = builder.icmp_signed("==", ci, run)
    ci = builder.select(wraps, I64(0), ci)
    table = builder.select(wraps, builder.add(table, I64(8 * pixels)), table)
    return (table, ci, builder.add(weights, builder.mul(count, I64(4 * width)))), tile


def _emit_channels(code, tile, table, x_byte, weights, channels, width):
    """Emit the terms of `channels`, one after the other, for every pixel and output channel."""
    addresses = [code.builder.add(code.load_int(table, 8 * p), x_byte) for p in range(code.lanes)]
    if len(channels) == code.lanes:
        for address in addresses:
            code.prefetch(address, 4 * channels[0] + _AHEAD, level=2)
        turned = _turn(code, [code.load(address, 4 * channels[0]) for address in addresses])
    else:
        turned = [_collect(code, addresses)]
    for step, x in zip(channels, turned, strict=True):
        for co in range(width):
            weight = code.broadcast(code.load_float(weights, 4 * (step * width + co)))
            tile[co] = code.fma(weight, x, tile[co])
    return tile


def _collect(code, addresses):
    """Return a vector of the floats at `addresses`."""
    vector = ir.Constant(code.vector, ir.Undefined)
    for lane, address in enumerate(addresses):
        vector = code.builder.insert_element(vector, code.load_float(address), I32(lane))
    return vector


def _turn(code, rows):
    """Return the columns of a square of `lanes` vectors, in shuffles that are one instruction each on x86.

    First squares of 4 x 4 inside the lanes of 128 bits, then these lanes.
    """
    fours = [_turn_four(code, rows[first : first + 4]) for first in range(0, code.lanes, 4)]
    columns = [_turn_lanes(code, [four[c] for four in fours]) for c in range(4)]
    return [columns[i % 4][i // 4] for i in range(code.lanes)]


def _turn_four(code, rows):
    """Return, in each lane of 128 bits, the four columns of four rows."""
    low_ab, high_ab = _merge(code, rows[0], rows[1], 1)
    low_cd, high_cd = _merge(code, rows[2], rows[3], 1)
    return [*_merge(code, low_ab, low_cd, 2), *_merge(code, high_ab, high_cd, 2)]


def _merge(code, a, b, size):
    """Return the first and the second half of each four lanes, taken in turn from a and b, `size` floats at a time."""
    results = []
    for half in (0, 2):
        places = [half + i for i in range(0, 2, size)]
        four = [p + side * code.lanes + i for p in places for side in (0, 1) for i in range(size)]
        results.append(_shuffle(code.builder, a, b, [q + i for q in range(0, code.lanes, 4) for i in four]))
    return results


def _turn_lanes(code, rows):
    """Return the columns of a square whose elements are lanes of 128 bits."""
    if len(rows) == 1:
        return rows
    even, odd = [0, 2], [1, 3]  # of the eight lanes of a pair of 512 bits
    if len(rows) == 2:
        return [_shuffle_lanes(code, *rows, (i, i + 2)) for i in (0, 1)]
    ab = [_shuffle_lanes(code, rows[0], rows[1], [*half, *(i + 4 for i in half)]) for half in (even, odd)]
    cd = [_shuffle_lanes(code, rows[2], rows[3], [*half, *(i + 4 for i in half)]) for half in (even, odd)]
    # ab[0] is a0 a2 b0 b2: the columns 0 and 2 of the rows a and b
    return [_shuffle_lanes(code, ab[i % 2], cd[i % 2], [j + i // 2 for j in (0, 2, 4, 6)]) for i in range(4)]


def _shuffle_lanes(code, a, b, lanes):
    return _shuffle(code.builder, a, b, [4 * lane + i for lane in lanes for i in range(4)])


def _shuffle(builder, a, b, lanes):
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, len(lanes)), lanes))


def _emit_park(code, tile, totals, is_first):
    """Emit the end of a block: store the tile as the totals, or add it to them."""
    builder = code.builder
    for i, value in enumerate(tile):
        byte = 4 * code.lanes * i
        later = builder.fadd(code.load(totals, byte), value)
        code.store(builder.select(builder.icmp_signed("!=", is_first, I64(0)), value, later), totals, byte)


def _emit_interleave(builder, totals, shape):
    """Emit the copy of (width, pixels) totals to (pixels, width) behind them, for the epilogue."""
    pixels, width, _ = shape
    scalar = VectorCode(builder, 1)
    for p in range(pixels):
        for co in range(width):
            value = scalar.load(totals, 4 * (co * pixels + p))
            scalar.store(value, totals, 4 * (pixels * width + p * width + co))


narrow_steps = tuple(_narrow_steps(shape) for shape in NARROW_TILES)
