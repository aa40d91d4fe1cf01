"""Reductions over channels or over the map, each sum by one thread in the written order.  Numerics: EXACT."""

import numpy as np
from numba import cuda

from pagnp.backends.constants import L2_EPSILON
from pagnp.backends.numba_cuda.arithmetic import ZERO, add, div, fma, sqrt, wanted_rows
from pagnp.backends.numba_cuda.compile import kernel
from pagnp.backends.numba_cuda.softmax import softmax_pixel
from pagnp.contract import BLOCK

_EPSILON = np.float32(L2_EPSILON)


# One thread per (row, channel).  x (rows, w, c)  ->  row_sum (rows, c)
@kernel
def global_mean_f32_rows(x, row_sum, rows, w, c):
    i = cuda.grid(1)
    if i >= rows * c:
        return
    first = i // c * w * c + i % c
    s = ZERO
    for ox in range(w):
        s = add(s, x[first + ox * c])
    row_sum[i] = s


# One thread per (image, channel).  row_sum (n, h, c)  ->  out (n, c)
@kernel
def global_mean_f32(row_sum, out, n, h, c, count):
    i = cuda.grid(1)
    if i >= n * c:
        return
    first = i // c * h * c + i % c
    total = ZERO
    for oy in range(h):
        total = add(total, row_sum[first + oy * c])
    out[i] = div(total, count)


# One thread a row.  x, out (rows, c); with has_count, only the first count[0] rows are wanted
@kernel
def softmax_f32(x, out, rows, c, count, has_count):
    i = cuda.grid(1)
    if i < wanted_rows(rows, count, has_count):
        softmax_pixel(x, out, i * c, c)


# One thread a row.  x (rows, c)  ->  out (rows)
@kernel
def argmax_f32(x, out, rows, c):
    i = cuda.grid(1)
    if i >= rows:
        return
    best = x[i * c]
    index = np.int64(0)
    for k in range(1, c):
        if x[i * c + k] > best:
            best = x[i * c + k]
            index = k
    out[i] = index


# One thread a row; the sum of squares by the dot-product rule: chains of 128 terms, their sums added in order.
# x, out (rows, c); with has_count, only the first count[0] rows are wanted
@kernel
def l2_normalize_f32(x, out, rows, c, count, has_count):
    i = cuda.grid(1)
    if i >= wanted_rows(rows, count, has_count):
        return
    first = i * c
    total = ZERO
    for start in range(0, c, BLOCK):
        s = ZERO
        for k in range(start, min(start + BLOCK, c)):
            s = fma(x[first + k], x[first + k], s)
        total = add(total, s) if start else s
    r = add(sqrt(total), _EPSILON)
    for k in range(c):
        out[first + k] = div(x[first + k], r)
