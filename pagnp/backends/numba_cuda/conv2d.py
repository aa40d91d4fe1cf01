"""conv2d_f32_plain, as the definition says it: to read first."""

import numpy as np
from numba import cuda

from pagnp.backends.numba_cuda.arithmetic import ZERO, add, fma
from pagnp.backends.numba_cuda.compile import kernel
from pagnp.backends.numba_cuda.conv_steps import conv_epilogue, conv_place, conv_rows
from pagnp.contract import BLOCK


# One thread per (row, co).  Numerics: EXACT, fma chains of 128 over ky, kx, ci; padding is multiplied in as +0.
# x (n, h_in, w_in, c_in)  weight (k_h*k_w*c_in/groups, groups, width), width >= c_out/groups
# sites (rows)  ->  out, residual (rows, c_out), or (n*h_out*w_out, c_out)
# fmt: off
@kernel
def conv2d_f32_plain(
    x, weight, scale, shift, bias, residual, out, sites, count, rows, flags, h_in, w_in, c_in, h_out, w_out, c_out,
    k_h, k_w, stride_y, stride_x, top, left, dilation_y, dilation_x, groups, width,
):
    # fmt: on
    i = cuda.grid(1) // c_out
    co = cuda.grid(1) - i * c_out
    if i >= conv_rows(rows, count, flags):
        return
    image, oy, ox, row = conv_place(i, sites, flags, h_out, w_out)
    c_in_group = c_in // groups
    c_out_group = c_out // groups
    group = co // c_out_group
    column = group * width + (co - group * c_out_group)
    terms = np.int64(k_h) * k_w * c_in_group
    total = ZERO
    s = ZERO
    term = np.int64(0)
    for ky in range(k_h):
        for kx in range(k_w):
            iy = oy * stride_y - top + ky * dilation_y
            ix = ox * stride_x - left + kx * dilation_x
            inside = 0 <= iy and iy < h_in and 0 <= ix and ix < w_in
            first = ((image * h_in + iy) * w_in + ix) * c_in + group * c_in_group
            for ci in range(c_in_group):
                value = x[first + ci] if inside else ZERO
                s = fma(weight[term * groups * width + column], value, s)
                term += 1
                if term % BLOCK == 0 or term == terms:
                    total = s if term <= BLOCK else add(total, s)
                    s = ZERO
    out[row * c_out + co] = conv_epilogue(total, scale, shift, bias, residual, flags, co, row * c_out)
