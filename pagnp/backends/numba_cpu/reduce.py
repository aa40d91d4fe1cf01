"""global_mean, softmax, argmax and l2_normalize: sums in their written order, vectors across channels or pixels."""

import numpy as np

from pagnp.backends.constants import L2_EPSILON
from pagnp.backends.numba_cpu.compile import jit
from pagnp.backends.numba_cpu.grain import COSTLY, SIMPLE, grain
from pagnp.backends.numba_cpu.scalar_fma import fma32
from pagnp.backends.numba_cpu.threads import parallel
from pagnp.backends.numba_cpu.transcendental import exp32
from pagnp.contract import BLOCK

CHANNELS = 64  # channels of one task of global_mean: four vectors of AVX-512
TILE = 2048  # elements that softmax takes through its three passes while they are in the first-level cache


@jit
def global_mean_f32(start, stop, x, divisor, out):
    """Average channels for tasks [start, stop), a task being (image, group of CHANNELS); x (n, h, w, c), out (n, c)."""
    _, h, w, c = x.shape
    groups = (c + CHANNELS - 1) // CHANNELS
    row_sum = np.empty(CHANNELS, np.float32)
    for task in range(start, stop):
        image = task // groups
        first = (task - image * groups) * CHANNELS
        total = out[image, first : min(first + CHANNELS, c)]
        total[:] = np.float32(0)
        for iy in range(h):
            row_sum[:] = np.float32(0)
            for ix in range(w):
                v = x[image, iy, ix, first : first + total.size]
                for ci in range(total.size):
                    row_sum[ci] += v[ci]
            for ci in range(total.size):
                total[ci] += row_sum[ci]
        for ci in range(total.size):
            total[ci] /= divisor


@jit
def softmax_f32(start, stop, x, out):
    """out[r] = softmax of x[r] for rows [start, stop); x, out (rows, c)."""
    c = x.shape[1]
    tile = max(TILE // c, 1)
    for first in range(start, stop, tile):
        last = min(first + tile, stop)
        for r in range(first, last):
            z = x[r]
            y = out[r]
            largest = z[0]
            for k in range(1, c):
                largest = z[k] if z[k] > largest else largest
            for k in range(c):
                y[k] = z[k] - largest
        flat = out[first:last].reshape(-1)  # exp runs on whole vectors whatever the number of channels
        for i in range(flat.size):
            flat[i] = exp32(flat[i])
        for r in range(first, last):
            y = out[r]
            s = np.float32(0)
            for k in range(c):
                s += y[k]
            for k in range(c):
                y[k] /= s


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
    """out[r] = x[r] / (sqrt(sum of squares) + epsilon), the sum in fma chains of BLOCK; x, out (rows, c)."""
    c = x.shape[1]
    for r in range(start, stop):
        v = x[r]
        y = out[r]
        total = np.float32(0)
        for block in range(0, c, BLOCK):
            s = np.float32(0)
            for ci in range(block, min(block + BLOCK, c)):
                s = fma32(v[ci], v[ci], s)
            total = s if block == 0 else total + s
        length = np.sqrt(total) + np.float32(L2_EPSILON)
        for ci in range(c):
            y[ci] = v[ci] / length


def global_mean(x, out, count=None, threads=1):
    """out (n, 1, 1, c) = each row's sum, then the sum of the row sums, by `count` (None: the map's pixels)."""
    n, h, w, c = x.shape
    tasks = n * -(-c // CHANNELS)
    chunk = grain(tasks, threads, SIMPLE, width=h * w * min(c, CHANNELS))
    parallel(global_mean_f32, tasks, threads, x, np.float32(count or h * w), out.reshape(n, c), chunk=chunk)


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
