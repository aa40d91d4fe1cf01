"""Element by element: one thread an element, one IEEE operation or one fma each.  Numerics: EXACT.

rows: of c channels; with has_count, only the first count[0] rows are wanted.
"""

from numba import cuda

from pagnp.backends.numba_cuda.arithmetic import add, div, fma, mul, relu_step, sub, wanted_rows
from pagnp.backends.numba_cuda.compile import device_function, kernel
from pagnp.backends.numba_cuda.transcendental import exp10_step, exp_step, log_step, sigmoid_step


# x, out (rows, c)
@kernel
def relu_f32(x, out, rows, c, count, has_count):
    i = cuda.grid(1)
    if i < wanted_rows(rows, count, has_count) * c:
        out[i] = relu_step(x[i])


# The four curves are float64 routines, rounded once.
@kernel
def sigmoid_f32(x, out, rows, c, count, has_count):
    i = cuda.grid(1)
    if i < wanted_rows(rows, count, has_count) * c:
        out[i] = sigmoid_step(x[i])


@kernel
def exp_f32(x, out, rows, c, count, has_count):
    i = cuda.grid(1)
    if i < wanted_rows(rows, count, has_count) * c:
        out[i] = exp_step(x[i])


@kernel
def exp10_f32(x, out, rows, c, count, has_count):
    i = cuda.grid(1)
    if i < wanted_rows(rows, count, has_count) * c:
        out[i] = exp10_step(x[i])


@kernel
def log_f32(x, out, rows, c, count, has_count):
    i = cuda.grid(1)
    if i < wanted_rows(rows, count, has_count) * c:
        out[i] = log_step(x[i])


# x, out (rows, c)  scale, shift (c)
@kernel
def norm_f32(x, scale, shift, out, rows, c, count, has_count):
    i = cuda.grid(1)
    if i < wanted_rows(rows, count, has_count) * c:
        out[i] = fma(x[i], scale[i % c], shift[i % c])


def _binary(name, operation):
    """Return the kernel NAME_f32.  a, b, out (rows, c)."""

    @kernel(name=name)
    def binary(a, b, out, rows, c, count, has_count):
        i = cuda.grid(1)
        if i < wanted_rows(rows, count, has_count) * c:
            out[i] = operation(a[i], b[i])

    return binary


def _broadcast(name, operation):
    """Return the kernel NAME_f32_broadcast.  out (n, h, w, c), rows = n*h*w.

    The strides of a and b count elements along each axis, 0 where one element stands for the whole axis.
    """

    @kernel(name=name)
    def broadcast(a, b, out, rows, h, w, c, a_n, a_h, a_w, a_c, b_n, b_h, b_w, b_c, count, has_count):
        i = cuda.grid(1)
        if i >= wanted_rows(rows, count, has_count) * c:
            return
        pixel = i // c
        channel = i - pixel * c
        x = pixel % w
        y = pixel // w % h
        image = pixel // w // h
        out[i] = operation(
            a[image * a_n + y * a_h + x * a_w + channel * a_c], b[image * b_n + y * b_h + x * b_w + channel * b_c]
        )

    return broadcast


add_f32 = _binary("add_f32", add)
sub_f32 = _binary("sub_f32", sub)
mul_f32 = _binary("mul_f32", mul)
div_f32 = _binary("div_f32", div)

add_f32_broadcast = _broadcast("add_f32_broadcast", add)
sub_f32_broadcast = _broadcast("sub_f32_broadcast", sub)
mul_f32_broadcast = _broadcast("mul_f32_broadcast", mul)
div_f32_broadcast = _broadcast("div_f32_broadcast", div)


@device_function
def compare_step(a, b, relation):
    """Return whether the relation holds, whose number is its place in gpu/pointwise.py's RELATIONS."""
    if relation == 0:
        return a > b
    if relation == 1:
        return a >= b
    if relation == 2:
        return a < b
    if relation == 3:
        return a <= b
    if relation == 4:
        return a == b
    return a != b


def _compare(name):
    """Return the kernel `name`.  out (n, h, w) of `size` elements; strides as in *_broadcast."""

    @kernel(name=name)
    def compare(a, b, out, relation, size, h, w, a_n, a_h, a_w, b_n, b_h, b_w):
        i = cuda.grid(1)
        if i >= size:
            return
        x = i % w
        y = i // w % h
        image = i // w // h
        out[i] = compare_step(a[image * a_n + y * a_h + x * a_w], b[image * b_n + y * b_h + x * b_w], relation)

    return compare


compare_f32 = _compare("compare_f32")
compare_i32 = _compare("compare_i32")
