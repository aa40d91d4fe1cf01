"""global_mean, softmax, argmax and l2_normalize: sums in their written order, vectors across channels or pixels."""

import numpy as np

from pagnp.backends.constants import L2_EPSILON
from pagnp.backends.numba_cpu.compile import jit
from pagnp.backends.numba_cpu.expkernel import exp_floats
from pagnp.backends.numba_cpu.grain import COSTLY, SIMPLE, grain
from pagnp.backends.numba_cpu.scalar_fma import fma32
from pagnp.backends.numba_cpu.stripkernel import PIXELS, point_strip, strip_means
from pagnp.backends.numba_cpu.strips import address
from pagnp.backends.numba_cpu.threads import parallel
from pagnp.contract import BLOCK

CHANNELS = 64  # channels of one task of global_mean: four vectors of AVX-512
FEW_CHANNELS = 12  # below, softmax has pixels in its vectors
TILE = 2048  # elements that softmax takes through its three passes while they are in the first-level cache


@jit
def global_mean_f32(start, stop, shape, arrays, divisor, out):
    """Average channels for tasks [start, stop), a task being (image, group of CHANNELS); out (n, c).

    shape  (h, w, c) of x;  arrays  (address of x,)

    PIXELS rows are summed side by side: each sum is one chain, in which every addition waits for the one before.
    """
    h, w, c = shape
    groups = (c + CHANNELS - 1) // CHANNELS
    row_sums, ones = np.empty((PIXELS, CHANNELS), np.float32), np.ones(PIXELS, np.float32)
    table, origins, offsets = (
        np.empty(w * PIXELS, np.int64),
        np.empty(PIXELS, np.int64),
        np.arange(PIXELS) * CHANNELS * 4,
    )
    columns = np.arange(w) * c * 4
    for task in range(start, stop):
        image = task // groups
        first = (task - image * groups) * CHANNELS
        total = out[image, first : min(first + CHANNELS, c)]
        total[:] = np.float32(0)
        for top in range(0, h, PIXELS):
            for i in range(PIXELS):
                origins[i] = arrays[0] + ((image * h + min(top + i, h - 1)) * w * c + first) * 4
            point_strip(address(table), address(origins), address(columns), w)
            strip_means(address(table), total.size, w, address(offsets), address(row_sums), address(ones))
            for i in range(min(PIXELS, h - top)):
                for ci in range(total.size):
                    total[ci] += row_sums[i, ci]
        for ci in range(total.size):
            total[ci] /= divisor
    # Numba frees an array after its last mention, and the kernels know only the addresses.
    table[:1], origins[0], offsets[0], columns[:1], row_sums[0, 0], ones[0] = 0, 0, 0, 0, 0, 0


@jit
def softmax_f32(start, stop, x, out):
    """out[r] = softmax of x[r] for rows [start, stop); x, out (rows, c)."""
    c = x.shape[1]
    tile = max(TILE // c, 1)
    turned, largest, total = np.empty(tile * c, np.float32), np.empty(tile, np.float32), np.empty(tile, np.float32)
    for first in range(start, stop, tile):
        last = min(first + tile, stop)
        if c < FEW_CHANNELS:
            softmax_across_pixels(x[first:last], turned, largest, total, out[first:last])
            continue
        for r in range(first, last):
            z, y = x[r], out[r]
            m = z[0]
            for k in range(1, c):
                m = z[k] if z[k] > m else m
            for k in range(c):
                y[k] = z[k] - m
        y_at = np.int64(out.ctypes.data) + first * c * 4
        exp_floats(y_at, y_at, (last - first) * c)
        for r in range(first, last):
            y = out[r]
            s = np.float32(0)
            for k in range(c):
                s += y[k]
            for k in range(c):
                y[k] /= s


@jit(cached=False)
def softmax_across_pixels(x, turned, largest, total, out):
    """The same with the channels of all pixels turned into rows, so that vectors are full of pixels.

    turned, largest, total  room for x.size, and twice for the number of pixels
    """
    n, c = x.shape
    z, x_flat, out_flat, largest, total = turned[: n * c], x.reshape(-1), out.reshape(-1), largest[:n], total[:n]
    turn(x_flat, n, c, z)
    for r in range(n):  # not a slice assigned: Numba's check of the sizes takes seconds to compile
        largest[r] = z[r]
    for k in range(1, c):
        row = z[k * n : (k + 1) * n]
        for r in range(n):
            largest[r] = row[r] if row[r] > largest[r] else largest[r]
    for k in range(c):
        row = z[k * n : (k + 1) * n]
        for r in range(n):
            row[r] -= largest[r]
    z_at = np.int64(turned.ctypes.data)
    exp_floats(z_at, z_at, n * c)
    total[:] = np.float32(0)
    for k in range(c):
        row = z[k * n : (k + 1) * n]
        for r in range(n):
            total[r] += row[r]
    for k in range(c):
        row = z[k * n : (k + 1) * n]
        for r in range(n):
            row[r] /= total[r]
    turn(z, c, n, out_flat)


@jit(cached=False)
def turn(x, n, c, out):
    """out (c, n) = the transpose of x (n, c), both flat. Pairs, those of two-way gates, become shuffles of vectors."""
    if c == 2:
        for r in range(n):
            out[r] = x[2 * r]
            out[n + r] = x[2 * r + 1]
    elif n == 2:
        for r in range(c):
            out[2 * r] = x[r]
            out[2 * r + 1] = x[c + r]
    elif n > c:
        for k in range(c):
            for r in range(n):
                out[k * n + r] = x[r * c + k]
    else:
        for r in range(n):
            for k in range(c):
                out[k * n + r] = x[r * c + k]


@jit
def argmax_f32(start, stop, x, out):
    """out[r] = the first k with no larger x[r, k], by z[k] > z[best]; x (rows, c), out (rows,) int32."""
    for r in range(start, stop):
        z = x[r]
        best = np.int32(0)
        largest = z[0]
        for k in range(1, z.size):
            if z[k] > largest:
                largest = z[k]
                best = np.int32(k)
        out[r] = best


@jit
def l2_normalize_f32(start, stop, x, out):
    """out[r] = x[r] / (sqrt(sum of squares) + epsilon), the sum in fma chains of BLOCK; x, out (rows, c).

    Four rows at a time: each sum is one chain, in which every fma waits for the one before.
    """
    if x.shape[1] < FEW_CHANNELS:
        tile = TILE // x.shape[1]
        turned, total = np.empty(tile * x.shape[1], np.float32), np.empty(tile, np.float32)
        for first in range(start, stop, tile):
            l2_across_pixels(x[first : min(first + tile, stop)], turned, total, out[first : min(first + tile, stop)])
        return
    for first in range(start, stop, 4):
        rows = (first, min(first + 1, stop - 1), min(first + 2, stop - 1), min(first + 3, stop - 1))
        totals = sums_of_squares(x[rows[0]], x[rows[1]], x[rows[2]], x[rows[3]])
        for i in range(4):
            length = np.sqrt(totals[i]) + np.float32(L2_EPSILON)
            v, y = x[rows[i]], out[rows[i]]
            for ci in range(v.size):
                y[ci] = v[ci] / length


@jit(cached=False)
def l2_across_pixels(x, turned, total, out):
    """The same for fewer channels than BLOCK, turned as in softmax_across_pixels."""
    n, c = x.shape
    z, total = turned[: n * c], total[:n]
    turn(x.reshape(-1), n, c, z)
    total[:] = np.float32(0)
    for k in range(c):
        row = z[k * n : (k + 1) * n]
        for r in range(n):
            total[r] = fma32(row[r], row[r], total[r])
    for r in range(n):
        total[r] = np.sqrt(total[r]) + np.float32(L2_EPSILON)
    for k in range(c):
        row = z[k * n : (k + 1) * n]
        for r in range(n):
            row[r] /= total[r]
    turn(z, c, n, out.reshape(-1))


@jit(cached=False)
def sums_of_squares(a, b, c, d):
    """Return the sum of squares of each of four rows of one size."""
    zero = np.float32(0)
    total_a, total_b, total_c, total_d = zero, zero, zero, zero
    for block in range(0, a.size, BLOCK):
        sum_a, sum_b, sum_c, sum_d = zero, zero, zero, zero
        for ci in range(block, min(block + BLOCK, a.size)):
            sum_a = fma32(a[ci], a[ci], sum_a)
            sum_b = fma32(b[ci], b[ci], sum_b)
            sum_c = fma32(c[ci], c[ci], sum_c)
            sum_d = fma32(d[ci], d[ci], sum_d)
        if block == 0:
            total_a, total_b, total_c, total_d = sum_a, sum_b, sum_c, sum_d
        else:
            total_a, total_b, total_c, total_d = total_a + sum_a, total_b + sum_b, total_c + sum_c, total_d + sum_d
    return total_a, total_b, total_c, total_d


def global_mean(x, out, count=None, threads=1):
    """out (n, 1, 1, c) = each row's sum, then the sum of the row sums, by `count` (None: the map's pixels)."""
    n, h, w, c = x.shape
    tasks = n * -(-c // CHANNELS)
    chunk = grain(tasks, threads, SIMPLE, width=h * w * min(c, CHANNELS))
    arguments = (x.shape[1:], (x.ctypes.data,), np.float32(count or h * w), out.reshape(n, c))
    parallel(global_mean_f32, tasks, threads, *arguments, chunk=chunk, keep=(x,))


def softmax(x, out, threads=1):
    """out = softmax over channels."""
    _by_rows(softmax_f32, x, out.reshape(-1, x.shape[-1]), threads, COSTLY)


def argmax(x, out, threads=1):
    """out (n, h, w) int32 = the first channel with the largest value."""
    _by_rows(argmax_f32, x, out.reshape(-1), threads, SIMPLE)


def l2_normalize(x, out, threads=1):
    """out = x / (sqrt(sum over channels of x * x) + 1e-5)."""
    _by_rows(l2_normalize_f32, x, out.reshape(-1, x.shape[-1]), threads, COSTLY)


def _by_rows(kernel, x, out, threads, smallest):
    """Run `kernel` over the pixels of x as rows of channels."""
    c = x.shape[-1]
    rows = x.size // c
    parallel(kernel, rows, threads, x.reshape(rows, c), out, chunk=grain(rows, threads, smallest, width=c))
