"""Bilinear and nearest-neighbour resizing: one thread an output.  Numerics: EXACT.

x (n, band_in, w_in, c) holds the rows from first_in of a map h_in rows high,
out (n, band_out, w_out, c), of `size` elements, those from first_out of one h_out rows high.
"""

import numpy as np
from numba import cuda

from pagnp.backends.numba_cuda.arithmetic import div64, fma, mul, sub
from pagnp.backends.numba_cuda.compile import device_function, kernel


@device_function
def position(o, length_in, length_out, align_corners):
    """Return (i0, i1, w): the two source indices of an output index, and the weight of i1; from integers."""
    if align_corners:
        numerator = o * (length_in - 1)
        denominator = max(length_out - 1, 1)
    else:
        numerator = max((2 * o + 1) * length_in - length_out, 0)
        denominator = 2 * length_out
    i0 = numerator // denominator
    i1 = min(i0 + 1, length_in - 1)
    rest = numerator - i0 * denominator
    return i0, i1, np.float32(div64(np.float64(rest), np.float64(denominator)))


@device_function
def between(weight, a, b):
    """Return fma(weight, b - a, a): exactly a where a == b, so that a constant map stays constant."""
    return fma(weight, sub(b, a), a)


@device_function
def nearest_index(o, step, length_in):
    """Return the source index by PyTorch's rule: floor(o * step) in float32; step = f32(in) / f32(out)."""
    return min(np.int64(mul(np.float32(o), step)), length_in - 1)  # the product is never negative


@kernel
def bilinear_f32(x, out, size, band_in, w_in, c, band_out, w_out, first_in, h_in, first_out, h_out, align_corners):
    i = cuda.grid(1)
    if i >= size:
        return
    channel = i % c
    ox = i // c % w_out
    row = i // c // w_out % band_out
    image = i // c // w_out // band_out
    y0, y1, wy = position(first_out + row, h_in, h_out, align_corners)
    x0, x1, wx = position(ox, w_in, w_out, align_corners)
    upper = (image * band_in + y0 - first_in) * w_in * c + channel
    lower = (image * band_in + y1 - first_in) * w_in * c + channel
    t = between(wx, x[upper + x0 * c], x[upper + x1 * c])
    u = between(wx, x[lower + x0 * c], x[lower + x1 * c])
    out[i] = between(wy, t, u)


@kernel
def nearest_f32(x, out, size, band_in, w_in, c, band_out, w_out, first_in, h_in, first_out, step_y, step_x):
    i = cuda.grid(1)
    if i >= size:
        return
    channel = i % c
    ox = i // c % w_out
    row = i // c // w_out % band_out
    image = i // c // w_out // band_out
    iy = nearest_index(first_out + row, step_y, h_in) - first_in
    ix = nearest_index(ox, step_x, w_in)
    out[i] = x[((image * band_in + iy) * w_in + ix) * c + channel]
