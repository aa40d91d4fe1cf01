"""conv_transpose2d_f32_plain, as the definition says it."""

import numpy as np
from numba import cuda

from pagnp.backends.numba_cuda.arithmetic import ZERO, add, fma
from pagnp.backends.numba_cuda.compile import kernel
from pagnp.backends.numba_cuda.conv_steps import conv_epilogue
from pagnp.contract import BLOCK


# One thread per (row, co), the gather form.
# Numerics: EXACT, fma chains of 128 over the taps of the output's phase, then ci; inputs outside the map are +0.
# x (n, h_in, w_in, c_in)  weight (k_h, k_w, c_in, c_out/groups)  ->  out (n*h_out*w_out = rows, c_out)
# fmt: off
@kernel
def conv_transpose2d_f32_plain(
    x, weight, scale, shift, bias, residual, out, rows, flags, h_in, w_in, c_in, h_out, w_out, c_out, k_h, k_w,
    stride_y, stride_x, top, left, dilation_y, dilation_x, groups,
):
    # fmt: on
    i = cuda.grid(1)
    row = i // c_out
    co = i - row * c_out
    if row >= rows:
        return
    ox = row % w_out
    oy = row // w_out % h_out
    image = row // w_out // h_out
    c_in_group = c_in // groups
    c_out_group = c_out // groups
    group = co // c_out_group
    total = ZERO
    s = ZERO
    term = np.int64(0)
    for ky in range(k_h):
        y = oy + top - ky * dilation_y  # stride_y * iy
        if y % stride_y != 0:
            continue
        iy = y // stride_y
        for kx in range(k_w):
            column = ox + left - kx * dilation_x
            if column % stride_x != 0:
                continue
            ix = column // stride_x
            inside = 0 <= iy and iy < h_in and 0 <= ix and ix < w_in
            first = ((image * h_in + iy) * w_in + ix) * c_in + group * c_in_group
            tap = (ky * k_w + kx) * c_in + group * c_in_group
            for ci in range(c_in_group):
                value = x[first + ci] if inside else ZERO
                s = fma(weight[(tap + ci) * c_out_group + (co - group * c_out_group)], value, s)
                term += 1
                if term % BLOCK == 0:
                    total = s if term == BLOCK else add(total, s)
                    s = ZERO
    if term % BLOCK != 0:
        total = s if term < BLOCK else add(total, s)
    out[i] = conv_epilogue(total, scale, shift, bias, residual, flags, co, row * c_out)
