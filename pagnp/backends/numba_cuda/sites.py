"""Sites: lists of the pixels that a mask picks, and rows of channels moved by such lists.  Numerics: EXACT.

A list has room for all pixels; how many it holds is count[0], in the device's memory.
"""

import numpy as np
from numba import cuda, int32

from pagnp.backends.gpu.sites import SCAN
from pagnp.backends.numba_cuda.arithmetic import wanted_rows
from pagnp.backends.numba_cuda.compile import device_function, kernel


@device_function
def sum_before(value, sums):
    """Return (the sum of `value` over the threads of lower number, over the block); sums (threads) is shared memory.

    After a step of distance d, sums[t] is that of the last 2*d threads up to t.
    """
    t = cuda.threadIdx.x
    sums[t] = value
    cuda.syncthreads()
    distance = 1
    while distance < cuda.blockDim.x:
        other = sums[t - distance] if t >= distance else np.int32(0)
        cuda.syncthreads()  # all have read before one writes
        sums[t] += other
        cuda.syncthreads()
        distance *= 2
    total = sums[cuda.blockDim.x - 1]
    before = sums[t] - value
    cuda.syncthreads()  # the next call writes again
    return before, total


# The sites of a mask, ascending, in three launches with the same result in any order of threads and blocks.
# 1. sums[b] = how many of the blockDim.x elements of block b are set.  mask (size)  ->  sums (blocks)
@kernel
def list_sites_i32_count(mask, sums, size):
    i = cuda.grid(1)
    total = cuda.syncthreads_count(np.int32(i < size and mask[i] != 0))
    if cuda.threadIdx.x == 0:
        sums[cuda.blockIdx.x] = total


# 2. By one block: sums[b] = the sum of those before it; count[0] = the sum of all.
@kernel
def list_sites_i32_scan(sums, count, blocks):
    shared = cuda.shared.array(SCAN, int32)
    before = np.int64(0)
    for start in range(0, blocks, cuda.blockDim.x):
        i = start + cuda.threadIdx.x
        value = sums[i] if i < blocks else np.int32(0)
        within, total = sum_before(value, shared)
        if i < blocks:
            sums[i] = before + within
        before += total
    if cuda.threadIdx.x == 0:
        count[0] = before


# 3. mask (size), sums (blocks)  ->  sites (count[0])
@kernel
def list_sites_i32_write(mask, sums, sites, size):
    shared = cuda.shared.array(SCAN, int32)
    i = cuda.grid(1)
    value = np.int32(i < size and mask[i] != 0)
    before, _ = sum_before(value, shared)
    if value:
        sites[sums[cuda.blockIdx.x] + before] = i


# One thread per input pixel: is there a set output pixel, a tap of which reads it?
# mask (n, h_out, w_out)  ->  out (n, h_in, w_in) of `size` elements
# fmt: off
@kernel
def grow_mask_u8(
    mask, out, size, h_out, w_out, h_in, w_in, k_h, k_w, stride_y, stride_x, top, left, dilation_y, dilation_x,
):
    # fmt: on
    i = cuda.grid(1)
    if i >= size:
        return
    ix = i % w_in
    iy = i // w_in % h_in
    image = i // w_in // h_in
    found = False
    for ky in range(k_h):
        y = iy + top - ky * dilation_y
        for kx in range(k_w):
            x = ix + left - kx * dilation_x
            if y >= 0 and x >= 0 and y % stride_y == 0 and x % stride_x == 0:
                oy = y // stride_y
                ox = x // stride_x
                if oy < h_out and ox < w_out and mask[(image * h_out + oy) * w_out + ox]:
                    found = True
    out[i] = found


# rows `sites` of x  ->  out (m, c); with has_count, only the first count[0] rows are wanted
@kernel
def gather_f32(x, sites, out, m, c, count, has_count):
    i = cuda.grid(1)
    if i < wanted_rows(m, count, has_count) * c:
        out[i] = x[sites[i // c] * c + i % c]


# values (m, c)  ->  rows `sites` of out; the others stay
@kernel
def scatter_f32(values, sites, out, m, c, count, has_count):
    i = cuda.grid(1)
    if i < wanted_rows(m, count, has_count) * c:
        out[sites[i // c] * c + i % c] = values[i]
