"""Sums and maxima channel by channel, as LLVM vector code: depthwise and narrow grouped convolutions, pooling.

A strip is PIXELS outputs. Each has one accumulator register of channels, so that a register of weights serves them all
and no output waits for its own last term:

    for the channels, as many vectors as there are, then halves of a vector down to single channels:
        acc[p] = start;   for each tap:   acc[p] = operation(acc[p], x[p, tap])
        out[p] = finish(acc[p])

Where an output's tap lies is in a table of addresses, as in `conv_tiles`: borders, strides, dilations, sites and the
phases of a transposed convolution are all the same code. Against loops that LLVM vectorised, with the accumulators in
memory: a 3x3 depthwise of 16 channels in a fifteenth of the time, of 128 channels in a seventh (Zen 4).
"""

import functools

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from pagnp.backends.numba_cpu.microkernel import TILES, internal_function
from pagnp.backends.numba_cpu.vectorcode import I1, I32, I64, VectorCode

PIXELS = 8  # accumulators: two fma units of four cycles each are busy with them
LANES = TILES[0][2]
WIDE = PIXELS // 2  # vectors of two pixels
HALVES = tuple(LANES >> i for i in range(LANES.bit_length()))  # lengths of vectors, down to 1
GROUPS = tuple(size for size in (1, 2, 4, 8) if size <= LANES)  # input channels of a group that lie in one vector


def _strip_products(group):
    """Make the intrinsic that adds the terms of some taps to a strip's sums and may finish them. All int64.

    (table, weights, channels, taps, totals, is_first, is_last, rows, out, residual, scale, shift, mode, relu)
    table      address of the taps' pixel addresses, PIXELS int64 a tap
    weights    address of `taps` int64: the address of each tap's (group, channels) float32, an input channel a row
    channels   of x and of out, a multiple of `group`: output channel c reads the input channels of c's own group
    taps       at most BLOCK // group: one block of the dot-product rule
    totals     address of (PIXELS, channels) float32: the sum of the blocks before, unless is_first; written unless
               is_last
    rows       address of PIXELS int64: byte offsets of the outputs from `out` and `residual`; the same place twice is
               written twice with the same values
    residual, scale, shift, mode, relu  as in microkernel.tile_epilogue
    """
    name = f"pagnp_strip_products_{group}"

    @intrinsic
    def strip_products(
        typingctx, table, weights, channels, taps, totals, is_first, is_last, rows, out, residual, scale, shift, mode,
        relu,
    ):  # fmt: skip
        def generate(context, builder, signature, arguments):
            emit = functools.partial(_emit_products, group=group)
            builder.call(internal_function(builder.module, name, len(arguments), emit), arguments)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 14), generate

    return strip_products


@intrinsic
def strip_maxima(typingctx, table, channels, taps, rows, out):
    """Write the first maximum of each output's taps, NaN before all. All int64; arguments as in strip_products."""

    def generate(context, builder, signature, arguments):
        builder.call(internal_function(builder.module, "pagnp_strip_maxima", 5, _emit_maxima), arguments)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), generate


@intrinsic
def strip_means(typingctx, table, channels, taps, rows, out, divisors):
    """Write the sum of each output's taps from +0, divided by its own of the PIXELS float32 at `divisors`."""

    def generate(context, builder, signature, arguments):
        builder.call(internal_function(builder.module, "pagnp_strip_means", 6, _emit_means), arguments)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 6), generate


@intrinsic
def point_strip(typingctx, table, origins, tap_bytes, taps):
    """Fill the table of a strip whose taps are all inside the map: origins[p] + tap_bytes[tap]; all addresses int64."""

    def generate(context, builder, signature, arguments):
        builder.call(internal_function(builder.module, "pagnp_point_strip", 4, _emit_point), arguments)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), generate


def _emit_products(function, group):
    """Emit strip_products."""
    table, weights, channels, taps, totals, is_first, is_last, rows, *arrays, mode, relu = function.args
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    row_bytes = builder.mul(channels, I64(4))
    first, last, has_residual = (builder.icmp_signed("!=", value, I64(0)) for value in (is_first, is_last, arrays[1]))

    def accumulate(code, byte):
        def add_tap(xs, weight_at, sums):
            row = builder.add(code.load_int(weight_at), byte)
            for ci in range(group):
                weight = code.load(builder.add(row, builder.mul(row_bytes, I64(ci))))
                sums = [code.fma(weight, _of_group(code, x, group, ci), y) for x, y in zip(xs, sums, strict=True)]
            return sums

        return _emit_taps(code, byte, (table, taps, weights), 0.0, add_tap)

    def finish(code, byte, sums):
        at = builder.add(totals, byte)
        places = [builder.add(at, builder.mul(row_bytes, I64(p))) for p in range(PIXELS)]

        def with_earlier(sums):
            return [builder.fadd(code.load(a), y) for a, y in zip(places, sums, strict=True)]

        sums = code.when(builder.not_(first), sums, with_earlier)
        with builder.if_else(last) as (end, between):
            with end:
                emit_epilogue(code, byte, sums, rows, arrays, has_residual, mode, relu)
            with between:
                for place, value in zip(places, sums, strict=True):
                    code.store(value, place)

    # Not where totals or outputs are read and written in place: twice would be once too often.
    overlaps = builder.and_(builder.and_(first, last), builder.not_(has_residual))
    emit_channels(builder, [lanes for lanes in HALVES if lanes >= group], channels, overlaps, accumulate, finish)
    builder.ret_void()


def _emit_maxima(function):
    """Emit strip_maxima: v replaces the best where v > best, or where v is NaN."""
    table, channels, taps, rows, out = function.args
    builder = ir.IRBuilder(function.append_basic_block("entry"))

    def larger(best, v):
        best = builder.select(builder.fcmp_ordered(">", v, best), v, best)
        return builder.select(builder.fcmp_unordered("uno", v, v), v, best)

    _emit_folds(builder, (table, taps), channels, (float("-inf"), larger), lambda code, p, best: best, rows, out)


def _emit_means(function):
    """Emit strip_means."""
    table, channels, taps, rows, out, divisors = function.args
    builder = ir.IRBuilder(function.append_basic_block("entry"))

    def mean(code, p, total):
        at = builder.add(divisors, builder.mul(p, I64(4)))
        return builder.fdiv(total, code.broadcast(code.load_float(at)))

    _emit_folds(builder, (table, taps), channels, (0.0, builder.fadd), mean, rows, out)


def _emit_folds(builder, taps, channels, fold, finish, rows, out):
    """Emit out[p] = finish(code, p, the fold = (start, operation) of the taps = (table, count) of pixel p)."""
    start, operation = fold
    with VectorCode(builder, LANES).repeat(I64(PIXELS), I64(0)) as pair:
        _emit_pair(VectorCode(builder, LANES), pair, taps, channels, fold, finish, rows, out)

    def accumulate(code, byte):
        return _emit_taps(code, byte, (*taps, I64(0)), start, lambda xs, _, values: [*map(operation, values, xs)])

    def store(code, byte, values):
        emit_store(code, byte, [finish(code, I64(p), value) for p, value in enumerate(values)], rows, out)

    whole = builder.mul(builder.sdiv(channels, I64(WIDE * LANES)), I64(WIDE * LANES))
    emit_channels(builder, HALVES, channels, I1(1), accumulate, store, whole)
    builder.ret_void()


def _emit_pair(code, pair, taps, channels, fold, finish, rows, out):
    """Emit the loop over WIDE vectors of channels at a time, for two pixels of a strip.

    As many accumulators as a vector of every pixel has, but the inputs are read as they lie in memory: maps that come
    from there take half the time.
    """
    builder, (table, count), (start, operation) = code.builder, taps, fold
    left, first = pair.values
    place = builder.mul(first, I64(8))
    size = 4 * WIDE * LANES
    with code.repeat(builder.sdiv(channels, I64(WIDE * LANES)), I64(0)) as vectors:
        vectors_left, byte = vectors.values
        with code.repeat(count, builder.add(table, place), *[code.constant(start)] * (2 * WIDE)) as tap:
            taps_left, entry, *values = tap.values
            for i in range(2):
                at = builder.add(code.load_int(entry, 8 * i), byte)
                for v in range(WIDE):
                    values[i * WIDE + v] = operation(values[i * WIDE + v], code.load(at, 4 * LANES * v))
            tap.again(builder.sub(taps_left, I64(1)), builder.add(entry, I64(8 * PIXELS)), *values)
        for i in range(2):
            at = builder.add(builder.add(out, byte), code.load_int(builder.add(rows, place), 8 * i))
            for v in range(WIDE):
                value = finish(code, builder.add(first, I64(i)), tap.after[2 + i * WIDE + v])
                code.store(value, at, 4 * LANES * v)
        vectors.again(builder.sub(vectors_left, I64(1)), builder.add(byte, I64(size)))
    pair.again(builder.sub(left, I64(2)), builder.add(first, I64(2)))


def emit_channels(builder, sizes, channels, overlaps, accumulate, finish, first=None):
    """Emit the loops over the channels from `first` on, `sizes` at a time.

    overlaps  where it holds, what is left behind whole vectors is one more vector that ends with the last channel: some
              outputs are computed twice
    accumulate(code, byte) returns the strip's values at the channels from `byte` on, finish(code, byte, values) writes
    them.
    """
    done = first or I64(0)
    for lanes in sizes:
        code = VectorCode(builder, lanes)
        fits = builder.and_(overlaps, builder.icmp_signed(">=", channels, I64(lanes)))
        left = builder.add(builder.sub(channels, done), builder.select(fits, I64(lanes - 1), I64(0)))
        with code.repeat(builder.sdiv(left, I64(lanes)), done) as vectors:
            left, channel = vectors.values
            last = builder.select(fits, builder.sub(channels, I64(lanes)), channel)
            byte = builder.mul(code.smaller(channel, last), I64(4))
            finish(code, byte, accumulate(code, byte))
            vectors.again(builder.sub(left, I64(1)), builder.add(channel, I64(lanes)))
        done = code.smaller(vectors.after[1], channels)


def _emit_taps(code, byte, taps, start, operation):
    """Emit the loop over taps = (table, count, weights); return the accumulators.

    operation(values of the pixels, address of the tap's entry in weights, accumulators) returns the new accumulators.
    """
    table, count, weights = taps
    builder = code.builder
    with code.repeat(count, table, weights, *[code.constant(start)] * PIXELS) as tap:
        left, entry, weight_at, *values = tap.values
        xs = [code.load(builder.add(code.load_int(entry, 8 * p), byte)) for p in range(PIXELS)]
        values = operation(xs, weight_at, values)
        entry, weight_at = builder.add(entry, I64(8 * PIXELS)), builder.add(weight_at, I64(8))
        tap.again(builder.sub(left, I64(1)), entry, weight_at, *values)
    return tap.after[3:]


def _of_group(code, x, group, ci):
    """Return, in each lane, the input channel `ci` of that lane's group."""
    if group == 1:
        return x
    lanes = [lane - lane % group + ci for lane in range(code.lanes)]
    return code.builder.shuffle_vector(x, x, ir.Constant(ir.VectorType(I32, code.lanes), lanes))


def emit_epilogue(code, byte, sums, rows, arrays, has_residual, mode, relu):
    """Emit norm or bias, residual, relu and store of the strip's sums at the channels from `byte` on."""
    builder = code.builder
    out, residual, scale, shift = arrays

    def norm(sums):
        by, plus = code.load(builder.add(scale, byte)), code.load(builder.add(shift, byte))
        return [code.fma(y, by, plus) for y in sums]

    def bias(sums):
        plus = code.load(builder.add(shift, byte))
        return [builder.fadd(y, plus) for y in sums]

    def add(sums):
        # All are read before any is written: a place that is there twice, in place, is right both times.
        at = [builder.add(builder.add(residual, byte), code.load_int(rows, 8 * p)) for p in range(PIXELS)]
        return [builder.fadd(y, code.load(a)) for y, a in zip(sums, at, strict=True)]

    sums = code.when(builder.icmp_signed("==", mode, I64(1)), sums, norm)
    sums = code.when(builder.icmp_signed("==", mode, I64(2)), sums, bias)
    sums = code.when(has_residual, sums, add)
    sums = code.when(builder.icmp_signed("!=", relu, I64(0)), sums, lambda sums: [code.relu(y) for y in sums])
    emit_store(code, byte, sums, rows, out)


def emit_store(code, byte, values, rows, out):
    """Emit the stores of a strip's values at the channels from `byte` on."""
    at = code.builder.add(out, byte)
    for p, value in enumerate(values):
        code.store(value, code.builder.add(at, code.load_int(rows, 8 * p)))


def _emit_point(function):
    """Emit point_strip: a tap's addresses are one vector of int64."""
    table, origins, tap_bytes, taps = function.args
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    code, kind = VectorCode(builder, 1), ir.VectorType(I64, PIXELS)
    first = builder.load(builder.inttoptr(origins, kind.as_pointer()), align=8)
    with code.repeat(taps, table, tap_bytes) as tap:
        left, entry, offset = tap.values
        single = builder.insert_element(ir.Constant(kind, ir.Undefined), code.load_int(offset), I32(0))
        spread = builder.shuffle_vector(single, single, ir.Constant(ir.VectorType(I32, PIXELS), [0] * PIXELS))
        builder.store(builder.add(first, spread), builder.inttoptr(entry, kind.as_pointer()), align=8)
        tap.again(builder.sub(left, I64(1)), builder.add(entry, I64(8 * PIXELS)), builder.add(offset, I64(8)))
    builder.ret_void()


strip_products = tuple(_strip_products(group) for group in GROUPS)
