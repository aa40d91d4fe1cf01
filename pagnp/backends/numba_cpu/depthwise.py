"""Convolution where each channel has its own filter: vectors across the channels of a pixel, no tiles."""

import numpy as np

from pagnp.backends.numba_cpu.compile import jit
from pagnp.backends.numba_cpu.scalar_fma import fma32
from pagnp.contract import BLOCK


@jit
def conv2d_f32_depthwise(start, stop, x, weight, taps, place, sites, is_compact, affine, residual, flags, out):
    """Compute the output places [start, stop) of a depthwise convolution, every channel of them.

    x         (n, h_in, w_in, c);  weight (t, c), a row a tap;  taps (t, 2) and place as in conv_tiles
    sites     (m,) int32, or empty: all places;  is_compact  1: place number i is row i of out
    affine    (2, c): scale and shift, or anything and the bias;  residual, out  (rows, c)
    flags     (mode, has_residual, relu), mode as in the microkernel
    """
    _, h_in, w_in, c = x.shape
    grid_h, grid_w, stride_y, stride_x, top, left, step_y, step_x, first_y, first_x, h_out, w_out = place
    mode, has_residual, relu = flags
    total, s, zeros = np.empty(c, np.float32), np.empty(c, np.float32), np.zeros(c, np.float32)
    for number in range(start, stop):
        at = np.int64(sites[number]) if sites.size > 0 else number
        line, gx = at // grid_w, at % grid_w
        image, gy = line // grid_h, line % grid_h
        for first in range(0, taps.shape[0], BLOCK):
            s[:] = np.float32(0)
            for tap in range(first, min(first + BLOCK, taps.shape[0])):
                iy, ix = gy * stride_y - top + taps[tap, 0], gx * stride_x - left + taps[tap, 1]
                inside = 0 <= iy < h_in and 0 <= ix < w_in
                # Padding is multiplied in, not skipped: skipping would hide a NaN weight.
                _add_products(weight[tap], x[image, iy, ix] if inside else zeros, s)
            if first == 0:
                total[:] = s
            else:
                _add(total, s)
        row = number
        if is_compact == 0:
            row = (image * h_out + gy * step_y + first_y) * w_out + gx * step_x + first_x
        _finish(total, affine, mode, relu, residual[row if has_residual else 0], has_residual)
        out[row] = total


@jit(cached=False)
def _add_products(weight, x, s):
    for c in range(s.size):
        s[c] = fma32(weight[c], x[c], s[c])


@jit(cached=False)
def _add(total, s):
    for c in range(s.size):
        total[c] = total[c] + s[c]


@jit(cached=False)
def _finish(total, affine, mode, relu, residual, has_residual):
    if mode == 1:
        for c in range(total.size):
            total[c] = fma32(total[c], affine[0, c], affine[1, c])
    if mode == 2:
        _add(total, affine[1])
    if has_residual:
        _add(total, residual)
    if relu:
        for c in range(total.size):
            total[c] = np.float32(0) if total[c] < np.float32(0) else total[c]
