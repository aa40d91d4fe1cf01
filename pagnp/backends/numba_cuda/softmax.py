"""softmax of the c numbers of one pixel, by one thread."""

from pagnp.backends.numba_cuda.arithmetic import ZERO, add, div, sub
from pagnp.backends.numba_cuda.compile import device_function
from pagnp.backends.numba_cuda.transcendental import exp_step


@device_function
def first_maximum(x, first, c):
    """Return the first maximum by `>` of x[first : first + c]."""
    m = x[first]
    for k in range(1, c):
        m = x[first + k] if x[first + k] > m else m
    return m


@device_function
def softmax_pixel(x, out, first, c):
    """e_k = exp(x_k - m), s = e_0 + e_1 + ... from +0, out_k = e_k / s, for the c elements from `first`.

    `out` may be x: element k is read before it is written, and what is read again is what was written here.
    """
    m = first_maximum(x, first, c)
    s = ZERO
    for k in range(c):
        e = exp_step(sub(x[first + k], m))
        out[first + k] = e
        s = add(s, e)
    for k in range(c):
        out[first + k] = div(out[first + k], s)
