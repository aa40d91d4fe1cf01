"""add, sub, mul, div, compare with broadcasting, relu, and norm.

A broadcast pair is walked as rows of `width` outputs over which each side either moves on (step 1) or stays (step 0).
"""

import functools

import numpy as np

from pagnp.backends.numba_cpu.compile import jit
from pagnp.backends.numba_cpu.grain import SIMPLE, grain
from pagnp.backends.numba_cpu.rowarith import add_rows, div_rows, mul_rows, sub_rows
from pagnp.backends.numba_cpu.scalar_fma import fma32
from pagnp.backends.numba_cpu.strips import address
from pagnp.backends.numba_cpu.threads import parallel

ADD, SUB, MUL, DIV = range(4)
COMPARISONS = {"gt": 0, "ge": 1, "lt": 2, "le": 3, "eq": 4, "ne": 5}


@jit(cached=False)
def row_offset(row, sizes, strides):
    """Return where `row` of the outer axes `sizes` (3) starts in an operand with the element strides `strides` (3)."""
    i2 = row % sizes[2]
    rest = row // sizes[2]
    i1 = rest % sizes[1]
    i0 = rest // sizes[1]
    return i0 * strides[0] + i1 * strides[1] + i2 * strides[2]


@jit(cached=False)
def operand(x, start, count, step):
    """Return what `count` outputs read of the flat operand `x` from `start` on: `count` values (step 1), or one."""
    return x[start : start + count] if step == 1 else x[start : start + 1]


@jit(cached=False)
def comparison(op, x, y):
    """Return the truth of x op y, for `op` a value of COMPARISONS."""
    if op == 0:
        return x > y
    if op == 1:
        return x >= y
    if op == 2:
        return x < y
    if op == 3:
        return x <= y
    if op == 4:
        return x == y
    return x != y


@jit
def arithmetic_f32(start, stop, op, a, a_layout, b, b_layout, sizes, width, out):
    """out[i] = a op b for i in [start, stop), all three flat; layouts are (strides of the outer axes, step 0 or 1)."""
    a_first, b_first, out_first = address(a), address(b), address(out)
    row = start // width
    column = start - row * width
    while start < stop:
        a_at = a_first + (row_offset(row, sizes, a_layout[0]) + column * a_layout[1]) * 4
        b_at = b_first + (row_offset(row, sizes, b_layout[0]) + column * b_layout[1]) * 4
        # Whole rows up to the next carry into the outer axes; what is cut off at either end is a row of its own.
        count = min(sizes[2] - row % sizes[2], (stop - start) // width) if column == 0 else 0
        length = width if count > 0 else min(width - column, stop - start)
        count = max(count, 1)
        x, y = (a_at, a_layout[1], a_layout[0][2] * 4), (b_at, b_layout[1], b_layout[0][2] * 4)
        if op == ADD:
            add_rows(*x, *y, out_first + start * 4, count, length)
        elif op == SUB:
            sub_rows(*x, *y, out_first + start * 4, count, length)
        elif op == MUL:
            mul_rows(*x, *y, out_first + start * 4, count, length)
        else:
            div_rows(*x, *y, out_first + start * 4, count, length)
        start += count * length
        row += count
        column = 0


@jit
def compare_f32(start, stop, op, a, a_layout, b, b_layout, sizes, width, out):
    """The walk of `arithmetic_f32` with `comparison`, out bool: inner loops over slices, which become vectors."""
    row = start // width
    column = start - row * width
    while start < stop:
        a_at = row_offset(row, sizes, a_layout[0])
        b_at = row_offset(row, sizes, b_layout[0])
        for _ in range(sizes[2] - row % sizes[2]):  # rows up to the next carry into the outer axes
            count = min(width - column, stop - start)
            x = operand(a, a_at + column * a_layout[1], count, a_layout[1])
            y = operand(b, b_at + column * b_layout[1], count, b_layout[1])
            z = out[start : start + count]
            if a_layout[1] == 0:
                x0 = x[0]
                for i in range(count):
                    z[i] = comparison(op, x0, y[i])
            elif b_layout[1] == 0:
                y0 = y[0]
                for i in range(count):
                    z[i] = comparison(op, x[i], y0)
            else:
                for i in range(count):
                    z[i] = comparison(op, x[i], y[i])
            start += count
            column = 0
            row += 1
            a_at += a_layout[0][2]
            b_at += b_layout[0][2]
            if start >= stop:
                break


@jit
def relu_f32(start, stop, x, out):
    """out[i] = +0 if x[i] < 0 else x[i]: NaN stays NaN, -0 stays -0."""
    x = x[start:stop]
    out = out[start:stop]
    zero = np.float32(0)
    for i in range(out.size):
        out[i] = zero if x[i] < zero else x[i]


@jit
def norm_f32(start, stop, x, scale, shift, out):
    """out[r] = fma(x[r], scale, shift) for rows r in [start, stop); x, out (rows, c), scale, shift (c,)."""
    for r in range(start, stop):
        row = x[r]
        y = out[r]
        for ci in range(scale.size):
            y[ci] = fma32(row[ci], scale[ci], shift[ci])


def add(a, b, out, threads=1):
    """out = a + b, broadcast as in NumPy."""
    _arithmetic(ADD, a, b, out, threads)


def sub(a, b, out, threads=1):
    """out = a - b, broadcast as in NumPy."""
    _arithmetic(SUB, a, b, out, threads)


def mul(a, b, out, threads=1):
    """out = a * b, broadcast as in NumPy."""
    _arithmetic(MUL, a, b, out, threads)


def div(a, b, out, threads=1):
    """out = a / b, broadcast as in NumPy; x/0 is an infinity or NaN as in IEEE."""
    _arithmetic(DIV, a, b, out, threads)


def compare(a, b, op, out, threads=1):
    """out = a op b as bool, broadcast as in NumPy; `op` is gt, ge, lt, le, eq or ne."""
    sizes, width, (a_layout, b_layout) = broadcast_walk(a.shape, b.shape)
    arguments = (a.reshape(-1), a_layout, b.reshape(-1), b_layout, sizes, width, out.reshape(-1))
    parallel(compare_f32, out.size, threads, COMPARISONS[op], *arguments, chunk=grain(out.size, threads, SIMPLE))


def relu(x, out, threads=1):
    """out = +0 where x < 0, else x."""
    parallel(relu_f32, out.size, threads, x.reshape(-1), out.reshape(-1), chunk=grain(out.size, threads, SIMPLE))


def norm(x, scale, shift, out, threads=1):
    """out = fma(x, scale, shift), scale and shift (c,) per channel."""
    c = scale.size
    rows = out.size // c
    chunk = grain(rows, threads, SIMPLE, width=c)
    parallel(norm_f32, rows, threads, x.reshape(rows, c), scale, shift, out.reshape(rows, c), chunk=chunk)


def _arithmetic(op, a, b, out, threads):
    """Run arithmetic_f32 over the broadcast pair, cut at any element."""
    sizes, width, (a_layout, b_layout) = broadcast_walk(a.shape, b.shape)
    chunk = grain(out.size, threads, SIMPLE)
    arguments = (op, a.reshape(-1), a_layout, b.reshape(-1), b_layout, sizes, width, out.reshape(-1))
    parallel(arithmetic_f32, out.size, threads, *arguments, chunk=chunk)


@functools.lru_cache(maxsize=256)
def broadcast_walk(a_shape, b_shape):
    """Plan the walk over two contiguous arrays that broadcast against each other (at most 4 axes).

    returns (sizes of 3 outer axes, width of a row, layouts of a and b = (3 element strides, step within a row))
    """
    ndim = max(len(a_shape), len(b_shape), 1)
    a_shape = (1,) * (ndim - len(a_shape)) + tuple(a_shape)
    b_shape = (1,) * (ndim - len(b_shape)) + tuple(b_shape)
    axes = []  # (size, does a move, does b move), outermost first; neighbours that behave alike are one axis
    for a_size, b_size in zip(a_shape, b_shape, strict=True):
        size = a_size if b_size == 1 else b_size
        moves = (a_size == size, b_size == size)
        if size == 1:
            continue
        if axes and axes[-1][1] == moves:
            size *= axes.pop()[0]
        axes.append((size, moves))
    axes = [(1, (True, True))] * (4 - len(axes)) + axes
    sizes, moves = [size for size, _ in axes], [move for _, move in axes]
    layouts = tuple(_layout(sizes, [move[side] for move in moves]) for side in (0, 1))
    return tuple(sizes[:3]), sizes[3], layouts


def _layout(sizes, moves):
    """Return (strides of the outer 3 axes, step of the last) of a contiguous operand that has only the moving axes."""
    strides, stride = [0] * 4, 1
    for axis in (3, 2, 1, 0):
        if moves[axis]:
            strides[axis] = stride
            stride *= sizes[axis]
    return tuple(strides[:3]), strides[3]
