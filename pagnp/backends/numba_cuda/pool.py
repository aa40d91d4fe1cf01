"""Max and average pooling: one thread an output, which reads its window in scan order.  Numerics: EXACT.

x (n, h_in, w_in, c)  ->  out (n, h_out, w_out, c) of `size` elements
"""

import numpy as np
from numba import cuda

from pagnp.backends.numba_cuda.arithmetic import ZERO, add, div
from pagnp.backends.numba_cuda.compile import device_function, kernel

_LOWEST = np.float32(-np.inf)


@device_function
def window_count(start, k, length_in, after, count_include_pad):
    """Return the divisor's factor along one axis, PyTorch's: a window ends at input + padding at the latest."""
    end = min(start + k, length_in + after)
    if not count_include_pad:
        start = max(start, 0)
        end = min(end, length_in)
    return end - start


# fmt: off
@kernel
def max_pool2d_f32(
    x, out, size, h_in, w_in, c, h_out, w_out, k_h, k_w, stride_y, stride_x, top, left, dilation_y, dilation_x,
):
    # fmt: on
    i = cuda.grid(1)
    if i >= size:
        return
    channel = i % c
    ox = i // c % w_out
    oy = i // c // w_out % h_out
    image = i // c // w_out // h_out
    best = _LOWEST
    for ky in range(k_h):
        iy = oy * stride_y - top + ky * dilation_y
        for kx in range(k_w):
            ix = ox * stride_x - left + kx * dilation_x
            if 0 <= iy and iy < h_in and 0 <= ix and ix < w_in:
                v = x[((image * h_in + iy) * w_in + ix) * c + channel]
                if v > best or v != v:  # a NaN replaces what is there, and is replaced by the next NaN only
                    best = v
    out[i] = best


# Padding would add +0 to a sum that starts at +0 and so never is -0: it is left out.
# fmt: off
@kernel
def avg_pool2d_f32(
    x, out, size, h_in, w_in, c, h_out, w_out, k_h, k_w, stride_y, stride_x, top, bottom, left, right,
    count_include_pad,
):
    # fmt: on
    i = cuda.grid(1)
    if i >= size:
        return
    channel = i % c
    ox = i // c % w_out
    oy = i // c // w_out % h_out
    image = i // c // w_out // h_out
    y0 = oy * stride_y - top
    x0 = ox * stride_x - left
    acc = ZERO
    for iy in range(max(y0, 0), min(y0 + k_h, h_in)):
        for ix in range(max(x0, 0), min(x0 + k_w, w_in)):
            acc = add(acc, x[((image * h_in + iy) * w_in + ix) * c + channel])
    rows = window_count(y0, k_h, h_in, bottom, count_include_pad)
    columns = window_count(x0, k_w, w_in, right, count_include_pad)
    out[i] = div(acc, np.float32(rows * columns))
