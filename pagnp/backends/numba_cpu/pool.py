"""max_pool2d and avg_pool2d: a window's pixels are folded into the output row in scan order, channels side by side."""

import numpy as np

from pagnp.backends.numba_cpu.compile import jit
from pagnp.backends.numba_cpu.grain import SIMPLE, grain
from pagnp.backends.numba_cpu.threads import parallel


@jit(cached=False)
def taps_inside(first, dilation, count, size):
    """Return (k_begin, k_end): the taps k of `count` whose place first + k * dilation lies in [0, size)."""
    begin = 0 if first >= 0 else (-first + dilation - 1) // dilation
    end = 0 if first >= size else min(count, (size - 1 - first) // dilation + 1)
    return begin, end


@jit
def max_pool2d_f32(start, stop, x, kernel, stride, corner, dilation, out):
    """Pool output rows [start, stop) of the n * h_out; x (n, h_in, w_in, c), out (n, h_out, w_out, c), pairs (y, x)."""
    _, h_in, w_in, c = x.shape
    _, h_out, w_out, _ = out.shape
    for row in range(start, stop):
        image = row // h_out
        y = (row - image * h_out) * stride[0] - corner[0]
        ky_begin, ky_end = taps_inside(y, dilation[0], kernel[0], h_in)
        for ox in range(w_out):
            best = out[image, row - image * h_out, ox]
            best[:] = np.float32(-np.inf)
            xx = ox * stride[1] - corner[1]
            kx_begin, kx_end = taps_inside(xx, dilation[1], kernel[1], w_in)
            for ky in range(ky_begin, ky_end):
                for kx in range(kx_begin, kx_end):
                    v = x[image, y + ky * dilation[0], xx + kx * dilation[1]]
                    for ci in range(c):
                        best[ci] = v[ci] if v[ci] > best[ci] or v[ci] != v[ci] else best[ci]


@jit
def avg_pool2d_f32(start, stop, x, kernel, stride, padding, count_include_pad, out):
    """Pool output rows [start, stop) of the n * h_out; padding (top, bottom, left, right).

    Padding would add +0 to sums that start at +0 and so never are -0: leaving it out changes no bit.
    """
    _, h_in, w_in, c = x.shape
    _, h_out, w_out, _ = out.shape
    top, bottom, left, right = padding
    for row in range(start, stop):
        image = row // h_out
        y = (row - image * h_out) * stride[0] - top
        y_end = min(y + kernel[0], h_in + bottom)  # ceil mode: the window ends with the padding
        for ox in range(w_out):
            acc = out[image, row - image * h_out, ox]
            acc[:] = np.float32(0)
            xx = ox * stride[1] - left
            x_end = min(xx + kernel[1], w_in + right)
            iy_begin, iy_end, ix_begin, ix_end = max(y, 0), min(y_end, h_in), max(xx, 0), min(x_end, w_in)
            for iy in range(iy_begin, iy_end):
                for ix in range(ix_begin, ix_end):
                    v = x[image, iy, ix]
                    for ci in range(c):
                        acc[ci] += v[ci]
            count = (iy_end - iy_begin) * (ix_end - ix_begin)
            if count_include_pad:
                count = (y_end - y) * (x_end - xx)
            divisor = np.float32(count)
            for ci in range(c):
                acc[ci] /= divisor


def max_pool2d(x, kernel, stride, padding, dilation, out, threads=1):
    """out = the first maximum of each window in scan order, NaN before all; padding never wins."""
    corner = (padding[0], padding[2])
    parallel(max_pool2d_f32, *_rows(out, threads), x, kernel, stride, corner, dilation, out, chunk=_chunk(out, threads))


def avg_pool2d(x, kernel, stride, padding, count_include_pad, out, threads=1):
    """out = the mean of each window; the divisor counts padding if `count_include_pad`, by PyTorch's rule."""
    include = int(count_include_pad)
    parallel(avg_pool2d_f32, *_rows(out, threads), x, kernel, stride, padding, include, out, chunk=_chunk(out, threads))


def _rows(out, threads):
    return out.shape[0] * out.shape[1], threads


def _chunk(out, threads):
    """Return the output rows of a chunk; a window costs about as much as eight simple operations."""
    return grain(out.shape[0] * out.shape[1], threads, SIMPLE // 8, width=out.shape[2] * out.shape[3])
