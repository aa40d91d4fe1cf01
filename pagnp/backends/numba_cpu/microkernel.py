"""The inner loops of the convolutions as LLVM vector code.

LLVM's vectoriser does not keep a tile of outputs in registers (it reaches a quarter of the peak), so the tile is
written out here: `pixels` rows of `width` channels, one fma an accumulator register and step:

    for a block of at most 128 steps over (ky, kx, ci):     tile[p][c] = +0
        tile[p][c] = fma(weight[step][c], x[p][step], tile[p][c])
    total[p][c] = tile[p][c] for the first block, total[p][c] + tile[p][c] afterwards

`TILES` lists the shapes for this CPU, chosen by its features alone. Which one is used never shows in the bits.
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from pagnp.backends.numba_cpu.compile import cpu_features
from pagnp.backends.numba_cpu.vectorcode import I64, VectorCode, is_aarch64
from pagnp.contract import BLOCK

LINE = 16  # steps that a cache line of an input pixel lasts
PREFETCH_STEPS = 8  # weights are asked for this many steps ahead: +5 % on an AVX-512 Xeon


def _tiles():
    """Return (pixels, width, lanes) of the three tile shapes, widest first.

    A shape needs pixels * width / lanes accumulators and a row of weights in vector registers, and an address a pixel
    in the 15 integer registers of x86: 12 pixels spill there.
    """
    features = cpu_features()
    if "avx512f" in features:
        return ((6, 64, 16), (8, 32, 16), (8, 16, 16))  # 24, 16, 8 accumulators of 32 registers
    if "avx2" in features and "fma" in features:
        return ((6, 16, 8), (6, 16, 8), (8, 8, 8))  # 12, 8 of 16
    if is_aarch64():
        return ((6, 16, 4), (6, 16, 4), (8, 8, 4))  # 24, 16 of 32
    return ((4, 8, 4), (4, 8, 4), (4, 4, 4))


TILES = _tiles()


def _tile_steps(shape):
    """Make the intrinsic that adds `steps` terms of the reduction to one tile's totals, and may finish the tile.

    (table, x_bytes, first_ci, run, steps, weights, ahead, totals, is_first, finish, rows, out, residual,
     scale, shift, mode, relu): all int64.
    table      address of the taps' pixel addresses, `pixels` int64 a tap; starts at the tap of the first step
    x_bytes    added to every pixel's address (a group's first channel)
    first_ci   position in the tap's run of the first step; `run` values a tap
    weights    address of (steps, width) float32, 64-byte aligned; totals  of (pixels, width) float32
    is_first   1: the first block is the total; 0: every block is added to it. The first step starts a block.
    finish     1: the totals of these steps become output rows at once, as `tile_epilogue` would; 0: they go to `totals`
    rows ... relu  as in `tile_epilogue`, for a tile with all its pixels and channels
    """
    name = f"pagnp_tile_steps_{shape[0]}x{shape[1]}"

    @intrinsic
    def tile_steps(
        typingctx, table, x_bytes, first_ci, run, steps, weights, ahead, totals, is_first, finish,
        rows, out, residual, scale, shift, mode, relu,
    ):  # fmt: skip
        def generate(context, builder, signature, arguments):
            function = internal_function(builder.module, name, len(arguments), lambda f: _emit_steps(f, shape))
            builder.call(function, arguments)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 17), generate

    return tile_steps


@intrinsic
def tile_epilogue(typingctx, totals, width, rows, row_count, channels, out, residual, scale, shift, mode, relu):
    """Turn one tile's totals, (pixels, width) float32 at the address `totals`, into output rows. All int64.

    rows      address of `row_count` int64: byte offsets of the tile's rows from `out` and from `residual`
    channels  how many of the panel's `width` channels there are; the others are not written
    out, residual, scale, shift  addresses of the panel's first channel, or 0 where absent
    mode      0 nothing, 1 fma(total, scale, shift), 2 total + shift (a bias)
    """

    def generate(context, builder, signature, arguments):
        function = internal_function(builder.module, "pagnp_tile_epilogue", len(arguments), _emit_epilogue)
        builder.call(function, arguments)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 11), generate


def internal_function(module, name, arity, emit):
    """Return the module's internal function `name` of `arity` int64 arguments, emitting it on first use."""
    if name in module.globals:
        return module.globals[name]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [I64] * arity), name)
    function.linkage = "internal"
    function.attributes.add("noinline")  # inlined into the driver, the register allocator spills the tile
    emit(function)
    return function


def _emit_steps(function, shape):
    """Emit tile_steps: blocks of 128 steps, in each the runs of the taps, in each the single steps."""
    pixels, width, lanes = shape
    table, x_bytes, first_ci, run, steps, weights, ahead, totals, is_first, finish, rows, *arrays, mode, relu = (
        function.args
    )
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    code = VectorCode(builder, lanes)
    zeros = [code.constant(0.0)] * (pixels * width // lanes)
    with code.repeat(steps, table, first_ci, weights, is_first) as block:
        left, *position, is_first = block.values
        in_block = code.smaller(left, I64(BLOCK))
        finishes = builder.and_(builder.icmp_signed("==", left, in_block), builder.icmp_signed("!=", finish, I64(0)))
        with code.repeat(in_block, *position, *zeros) as tap:
            left_in_block, *position = tap.values
            count = code.smaller(builder.sub(run, position[1]), left_in_block)
            after, tile = _emit_run(code, position, count, run, x_bytes, ahead, (rows, arrays[0], finishes), shape)
            tap.again(builder.sub(left_in_block, count), *after, *tile)
        _, *position = tap.after[:4]
        tile = tap.after[4:]
        with builder.if_else(finishes) as (last, between):
            with last:
                emit_finish(code, tile, totals, is_first, rows, arrays, mode, relu, shape)
            with between:
                emit_park(code, tile, totals, is_first)
        block.again(builder.sub(left, in_block), *position, I64(0))
    builder.ret_void()


def _emit_run(code, position, count, run, x_bytes, ahead, out_rows, shape):
    """Emit `count` steps within one tap; return the position after it (table, ci, weights) and the accumulators."""
    builder = code.builder
    pixels, width, _ = shape
    table, ci, weights, *tile = position
    first_row = code.load_int(table)
    skipped = builder.icmp_signed("==", first_row, I64(0))
    # All its terms are weight * +0: adding +0 once gives the same bits for the weights of conv_weights._skips.
    tile = code.when(skipped, tile, lambda tile: [builder.fadd(y, code.constant(0.0)) for y in tile])
    offset = builder.add(x_bytes, builder.mul(ci, I64(4)))
    x_rows = [builder.add(code.load_int(table, 8 * p), offset) for p in range(pixels)]
    prefetches = builder.or_(builder.icmp_signed("!=", ahead, I64(0)), out_rows[2])
    with code.repeat(builder.select(skipped, I64(0), count), weights, I64(0), *tile) as line:
        left, address, x_byte, *tile = line.values
        _emit_prefetch(code, ahead, table, builder.add(offset, x_byte), address, out_rows, shape)
        splits = builder.and_(prefetches, builder.icmp_signed(">=", left, I64(2 * LINE)))
        in_line = builder.select(splits, I64(LINE), left)
        with code.repeat(in_line, address, x_byte, *tile) as step:
            left_in_line, address, x_byte, *tile = step.values
            step.again(
                builder.sub(left_in_line, I64(1)),
                builder.add(address, I64(4 * width)),
                builder.add(x_byte, I64(4)),
                *_emit_step(code, tile, x_rows, x_byte, address, shape),
            )
        line.again(builder.sub(left, in_line), *step.after[1:])
    tile = line.after[3:]
    ci = builder.add(ci, count)
    wraps = builder.icmp_signed("==", ci, run)
    ci = builder.select(wraps, I64(0), ci)
    table = builder.select(wraps, builder.add(table, I64(8 * pixels)), table)
    return (table, ci, builder.add(weights, builder.mul(count, I64(4 * width)))), tile


def _emit_prefetch(code, ahead, table, offset, weights, out_rows, shape):
    """Ask for what the next tile will need: its lines of the pixels' input, and its output rows."""
    builder = code.builder
    pixels, width, _ = shape
    rows, out, finishes = out_rows
    with builder.if_then(builder.icmp_signed("!=", ahead, I64(0))):
        next_table = builder.add(table, ahead)
        for p in range(pixels):
            code.prefetch(builder.add(code.load_int(next_table, 8 * p), offset), 0)
    with builder.if_then(finishes):
        # Weights are 4 * width bytes a step: their address counts the steps, and LINE steps are a line of each row.
        part = builder.and_(builder.lshr(weights, I64(width.bit_length() - 1)), I64(4 * width - 1))
        for p in range(pixels):
            at = builder.add(builder.add(out, part), code.load_int(rows, 8 * (pixels + p)))
            code.prefetch(at, 0, write=True)


def _emit_step(code, tile, x_rows, x_byte, weights, shape):
    """Emit one term of the reduction for every output of the tile; return the new accumulators."""
    _, width, lanes = shape
    for byte in range(0, 4 * width, 64):
        code.prefetch(weights, 4 * width * PREFETCH_STEPS + byte)
    row = [code.load(weights, 4 * lanes * v, align=4 * lanes) for v in range(width // lanes)]
    after = []
    for p, x_row in enumerate(x_rows):
        x = code.broadcast(code.load_float(code.builder.add(x_row, x_byte)))
        after += [code.fma(weight, x, tile[p * len(row) + v]) for v, weight in enumerate(row)]
    return after


def emit_finish(code, tile, totals, is_first, rows, arrays, mode, relu, shape):
    """Emit the sum of the blocks, norm or bias, residual, relu and store for a whole tile, from its last block on."""
    pixels, width, lanes = shape
    builder, vectors = code.builder, width // lanes
    out, residual, scale, shift = arrays
    places = [4 * lanes * v for v in range(vectors)] * pixels
    bytes_ = [code.load_int(rows, 8 * p) for p in range(pixels)]

    def earlier(tile):
        return [builder.fadd(code.load(totals, 4 * lanes * i), y) for i, y in enumerate(tile)]

    def norm(tile):
        return [code.fma(y, code.load(scale, i), code.load(shift, i)) for y, i in zip(tile, places, strict=True)]

    def bias(tile):
        return [builder.fadd(y, code.load(shift, i)) for y, i in zip(tile, places, strict=True)]

    def add(tile):
        at = [builder.add(residual, byte) for byte in bytes_ for _ in range(vectors)]
        return [builder.fadd(y, code.load(a, i)) for y, a, i in zip(tile, at, places, strict=True)]

    tile = code.when(builder.icmp_signed("==", is_first, I64(0)), tile, earlier)
    tile = code.when(builder.icmp_signed("==", mode, I64(1)), tile, norm)
    tile = code.when(builder.icmp_signed("==", mode, I64(2)), tile, bias)
    tile = code.when(builder.icmp_signed("!=", residual, I64(0)), tile, add)
    tile = code.when(builder.icmp_signed("!=", relu, I64(0)), tile, lambda tile: [code.relu(y) for y in tile])
    for p, byte in enumerate(bytes_):
        for v in range(vectors):
            code.store(tile[p * vectors + v], builder.add(out, byte), 4 * lanes * v)


def emit_park(code, tile, totals, is_first):
    """Emit the end of a block: store the tile as the totals, or add it to them."""
    builder = code.builder
    with builder.if_else(builder.icmp_signed("!=", is_first, I64(0))) as (first, later):
        with first:
            for i, value in enumerate(tile):
                code.store(value, totals, 4 * code.lanes * i)
        with later:
            for i, value in enumerate(tile):
                code.store(builder.fadd(code.load(totals, 4 * code.lanes * i), value), totals, 4 * code.lanes * i)


def _emit_epilogue(function):
    """Emit tile_epilogue: row by row, in groups of four vectors, then vectors, then single channels."""
    totals, width, rows, row_count, channels, *arrays, mode, relu = function.args
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    lanes = TILES[0][2]
    with VectorCode(builder, 1).repeat(row_count, rows, totals) as row:
        left, place, line = row.values
        byte = VectorCode(builder, 1).load_int(place)
        out, residual, scale, shift = arrays
        done = I64(0)
        for lane_count, vectors in ((lanes, 4), (lanes, 1), (1, 1)):
            code = VectorCode(builder, lane_count)
            size = lane_count * vectors
            with code.repeat(builder.sdiv(builder.sub(channels, done), I64(size)), done) as group:
                groups_left, channel = group.values
                at = builder.mul(channel, I64(4))
                addresses = [
                    builder.add(a, at)
                    for a in (line, builder.add(out, byte), builder.add(residual, byte), scale, shift)
                ]
                _emit_outputs(code, vectors, addresses, builder.icmp_signed("!=", residual, I64(0)), mode, relu)
                group.again(builder.sub(groups_left, I64(1)), builder.add(channel, I64(size)))
            done = group.after[1]
        row.again(builder.sub(left, I64(1)), builder.add(place, I64(8)), builder.add(line, builder.mul(width, I64(4))))
    builder.ret_void()


def _emit_outputs(code, vectors, addresses, has_residual, mode, relu):
    """Emit norm or bias, residual, relu and store for a few vectors of one row."""
    builder = code.builder
    line, target, source, scale, shift = addresses
    places = [4 * code.lanes * v for v in range(vectors)]

    def norm(values):
        return [code.fma(y, code.load(scale, i), code.load(shift, i)) for y, i in zip(values, places, strict=True)]

    def add(address):
        return lambda values: [builder.fadd(y, code.load(address, i)) for y, i in zip(values, places, strict=True)]

    y = [code.load(line, i) for i in places]
    y = code.when(builder.icmp_signed("==", mode, I64(1)), y, norm)
    y = code.when(builder.icmp_signed("==", mode, I64(2)), y, add(shift))
    y = code.when(has_residual, y, add(source))
    y = code.when(builder.icmp_signed("!=", relu, I64(0)), y, lambda values: [code.relu(y) for y in values])
    for value, i in zip(y, places, strict=True):
        code.store(value, target, i)


tile_steps = tuple(_tile_steps(shape) for shape in TILES)
