"""Sums, differences, products and quotients of two arrays walked row by row, and copies, as LLVM vector code.

Short rows are the point: three channels, or sixteen, times one factor a pixel. A row costs a few cycles here, against
some sixty for Numba's slices of arrays.
"""

import functools

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from pagnp.backends.numba_cpu.microkernel import TILES, internal_function
from pagnp.backends.numba_cpu.vectorcode import I64, VectorCode

_LANES = TILES[0][2]
_SIZES = (_LANES, _LANES // 4, 1) if _LANES > 4 else (_LANES, 1)
_FORMS = ((1, 1), (0, 1), (1, 0))  # what moves within a row: x and y


def _rows(name, operation):
    """Make the intrinsic (x, x_step, x_next, y, y_step, y_next, out, rows, width): out = x operation y. All int64.

    x, y, out       addresses of the first row's first float32; out's rows follow one another
    x_step, y_step  1: a row has `width` values; 0: one, for all of them. Not 0 for both
    x_next, y_next  bytes from row to row
    """

    @intrinsic
    def rows(typingctx, x, x_step, x_next, y, y_step, y_next, out, rows, width):
        def generate(context, builder, signature, arguments):
            emit = functools.partial(_emit, operation=operation)
            builder.call(internal_function(builder.module, f"pagnp_rows_{name}", 9, emit), arguments)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 9), generate

    return rows


@intrinsic
def copy_rows(typingctx, x, x_next, out, out_next, rows, width):
    """Copy `rows` rows of `width` float32 from the address x to out, x_next and out_next bytes apart. All int64."""

    def generate(context, builder, signature, arguments):
        builder.call(internal_function(builder.module, "pagnp_copy_rows", 6, _emit_copy), arguments)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 6), generate


def _emit(function, operation):
    """Emit a loop over the rows for each of _FORMS."""
    x, x_step, x_next, y, y_step, y_next, out, rows, width = function.args
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    scalar = VectorCode(builder, 1)
    for moves in _FORMS:
        steps = [builder.icmp_signed("==", step, I64(move)) for step, move in zip((x_step, y_step), moves, strict=True)]
        with builder.if_then(builder.and_(*steps)), scalar.repeat(rows, x, y, out) as row:
            left, x_at, y_at, out_at = row.values
            _emit_row(builder, getattr(builder, operation), (x_at, y_at), moves, out_at, width)
            row.again(
                builder.sub(left, I64(1)),
                builder.add(x_at, x_next),
                builder.add(y_at, y_next),
                builder.add(out_at, builder.mul(width, I64(4))),
            )
    builder.ret_void()


def _emit_copy(function):
    """Emit copy_rows."""
    x, x_next, out, out_next, rows, width = function.args
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    with VectorCode(builder, 1).repeat(rows, x, out) as row:
        left, x_at, out_at = row.values
        _emit_row(builder, lambda value: value, (x_at,), (1,), out_at, width)
        row.again(builder.sub(left, I64(1)), builder.add(x_at, x_next), builder.add(out_at, out_next))
    builder.ret_void()


def _emit_row(builder, operation, operands, moves, out, width):
    """Emit the loops over the elements of one row: whole vectors, quarters of one, single elements."""
    singles = [VectorCode(builder, 1).load_float(at) for at in operands]
    done = I64(0)
    for lanes in _SIZES:
        code = VectorCode(builder, lanes)
        with code.repeat(builder.sdiv(builder.sub(width, done), I64(lanes)), done) as loop:
            left, first = loop.values
            byte = builder.mul(first, I64(4))
            values = [
                code.load(builder.add(at, byte)) if move else code.broadcast(single)
                for at, move, single in zip(operands, moves, singles, strict=True)
            ]
            code.store(operation(*values), builder.add(out, byte))
            loop.again(builder.sub(left, I64(1)), builder.add(first, I64(lanes)))
        done = loop.after[1]


add_rows, sub_rows, mul_rows, div_rows = (_rows(name, f"f{name}") for name in ("add", "sub", "mul", "div"))
