"""Moving values without arithmetic: one thread an element.  Numerics: EXACT, every bit is kept.

rows: of channels; with has_count, only the first count[0] rows are wanted.
"""

from numba import cuda

from pagnp.backends.numba_cuda.arithmetic import ZERO, wanted_rows
from pagnp.backends.numba_cuda.compile import kernel


# One of concat's inputs.  x (rows, c)  ->  channels start .. start+c-1 of out (rows, c_out)
@kernel
def concat_f32(x, out, rows, c, start, c_out, count, has_count):
    i = cuda.grid(1)
    if i < wanted_rows(rows, count, has_count) * c:
        out[i // c * c_out + start + i % c] = x[i]


# channels start .. start+c-1 of x (rows, c_in)  ->  out (rows, c)
@kernel
def slice_channels_f32(x, out, rows, c_in, start, c, count, has_count):
    i = cuda.grid(1)
    if i < wanted_rows(rows, count, has_count) * c:
        out[i] = x[i // c * c_in + start + i % c]


# x (n, h_in, w_in, c)  ->  out (n, h_out, w_out, c) of `size` elements: x from (top, left), +0 around it
@kernel
def pad_f32(x, out, size, h_in, w_in, c, h_out, w_out, top, left):
    i = cuda.grid(1)
    if i >= size:
        return
    ix = i // c % w_out - left
    iy = i // c // w_out % h_out - top
    image = i // c // w_out // h_out
    inside = 0 <= iy and iy < h_in and 0 <= ix and ix < w_in
    out[i] = x[((image * h_in + iy) * w_in + ix) * c + i % c] if inside else ZERO
