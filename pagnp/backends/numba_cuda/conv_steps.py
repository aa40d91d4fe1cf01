"""What the convolution kernels share: which pixel a row of the output is, and the epilogue."""

import numpy as np

from pagnp.backends.gpu.conv import BIAS, COUNTED, RELU, RESIDUAL, SCALE, SCATTERED, SITES
from pagnp.backends.numba_cuda.arithmetic import add, fma, relu_step
from pagnp.backends.numba_cuda.compile import device_function


@device_function
def conv_rows(rows, count, flags):
    """Return how many output pixels are wanted."""
    return np.int64(count[0]) if flags & COUNTED else rows


@device_function
def conv_place(i, sites, flags, h_out, w_out):
    """Return (image, oy, ox, row): the i-th output pixel, and its row in out and residual."""
    site = np.int64(sites[i]) if flags & SITES else i
    image = site // (h_out * w_out)
    inside = site - image * h_out * w_out
    oy = inside // w_out
    ox = inside - oy * w_out
    row = i if flags & SITES and not flags & SCATTERED else site
    return image, oy, ox, row


@device_function
def conv_epilogue(acc, scale, shift, bias, residual, flags, co, row_offset):
    """Return what becomes of the sum: norm or bias, then the residual, then relu."""
    if flags & SCALE:
        acc = fma(acc, scale[co], shift[co])
    elif flags & BIAS:
        acc = add(acc, bias[co])
    if flags & RESIDUAL:
        acc = add(acc, residual[row_offset + co])
    return relu_step(acc) if flags & RELU else acc
