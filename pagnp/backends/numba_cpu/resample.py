"""bilinear and nearest. Where a sample lies is worked out in integers here, the kernels only interpolate or copy."""

import functools

import numpy as np

from pagnp.backends.numba_cpu.compile import jit
from pagnp.backends.numba_cpu.grain import SIMPLE, grain
from pagnp.backends.numba_cpu.scalar_fma import fma32
from pagnp.backends.numba_cpu.threads import parallel


@jit(cached=False)
def interpolate_columns(x, ix, wx, out):
    """out[ox] = fma(wx, b - a, a) between the pixels ix[0, ox] and ix[1, ox] of the row x (w_in, c); out (w_out, c)."""
    for ox in range(out.shape[0]):
        a = x[ix[0, ox]]
        b = x[ix[1, ox]]
        y = out[ox]
        w = wx[ox]
        for ci in range(y.size):
            y[ci] = fma32(w, b[ci] - a[ci], a[ci])


@jit
def bilinear_f32(start, stop, x, iy, wy, ix, wx, out):
    """Fill output rows [start, stop) of the n * h_out; out (n * h_out, w_out, c), i (2, size_out), w (size_out,).

    The rows above and below are interpolated along x once and kept while they serve: the same operations on the same
    values as pixel by pixel, an eighth of the work when the map grows eightfold.
    """
    h_in = x.shape[1]
    _, w_out, c = out.shape
    h_out = wy.size
    upper = np.empty((w_out, c), np.float32)
    lower = np.empty((w_out, c), np.float32)
    upper_row = -1
    lower_row = -1
    for row in range(start, stop):
        image = row // h_out
        oy = row - image * h_out
        want_upper = image * h_in + iy[0, oy]
        want_lower = image * h_in + iy[1, oy]
        if want_upper == lower_row and want_upper != upper_row:
            upper, lower = lower, upper
            upper_row, lower_row = lower_row, upper_row
        if want_upper != upper_row:
            interpolate_columns(x[image, iy[0, oy]], ix, wx, upper)
            upper_row = want_upper
        if want_lower != lower_row:
            interpolate_columns(x[image, iy[1, oy]], ix, wx, lower)
            lower_row = want_lower
        t = upper.reshape(-1)
        u = lower.reshape(-1)
        y = out[row].reshape(-1)
        w = wy[oy]
        for i in range(y.size):
            y[i] = fma32(w, u[i] - t[i], t[i])


@jit
def nearest_f32(start, stop, x, iy, ix, out):
    """Copy output rows [start, stop) of the n * h_out; out (n * h_out, w_out, c), iy, ix (size_out,)."""
    h_out = iy.size
    for row in range(start, stop):
        image = row // h_out
        oy = row - image * h_out
        source = x[image, iy[oy]]
        y = out[row]
        if row > start and oy > 0 and iy[oy] == iy[oy - 1]:
            above = out[row - 1].reshape(-1)
            flat = y.reshape(-1)
            for i in range(flat.size):
                flat[i] = above[i]
            continue
        for ox in range(ix.size):
            pixel = source[ix[ox]]
            z = y[ox]
            for ci in range(z.size):
                z[ci] = pixel[ci]


def bilinear(x, align_corners, out, rows=None, threads=1):
    """out (n, h_out, w_out, c) = x resized; half-pixel centres, or corner on corner with `align_corners`.

    rows  (first_in, h_in, first_out, h_out) where x and out are bands of rows of larger maps
    """
    w_in = x.shape[2]
    n, height, w_out, c = out.shape
    first_in, h_in, first_out, h_out = rows or (0, x.shape[1], 0, height)
    iy, wy = bilinear_places(h_in, h_out, align_corners)
    iy = iy[:, first_out : first_out + height] - first_in
    wy = wy[first_out : first_out + height]
    ix, wx = bilinear_places(w_in, w_out, align_corners)
    chunk = grain(n * height, threads, SIMPLE, width=w_out * c)
    parallel(bilinear_f32, n * height, threads, x, iy, wy, ix, wx, out.reshape(n * height, w_out, c), chunk=chunk)


def nearest(x, out, rows=None, threads=1):
    """out (n, h_out, w_out, c) = x resized by PyTorch's rule for `nearest`; rows as in bilinear."""
    n, height, w_out, c = out.shape
    first_in, h_in, first_out, h_out = rows or (0, x.shape[1], 0, height)
    iy = nearest_places(h_in, h_out)[first_out : first_out + height] - first_in
    ix = nearest_places(x.shape[2], w_out)
    chunk = grain(n * height, threads, SIMPLE, width=w_out * c)
    parallel(nearest_f32, n * height, threads, x, iy, ix, out.reshape(n * height, w_out, c), chunk=chunk)


@functools.lru_cache(maxsize=64)
def bilinear_places(size_in, size_out, align_corners):
    """Return (the two source indices (2, size_out) int64, the weight of the second (size_out,) float32).

    The arrays are kept for the next call.
    """
    at = np.arange(size_out, dtype=np.int64)
    if align_corners:
        numerator, denominator = at * (size_in - 1), max(size_out - 1, 1)
    else:
        numerator, denominator = np.maximum((2 * at + 1) * size_in - size_out, 0), 2 * size_out
    first = numerator // denominator
    weight = ((numerator % denominator) / np.float64(denominator)).astype(np.float32)
    return np.stack((first, np.minimum(first + 1, size_in - 1))), weight


@functools.lru_cache(maxsize=64)
def nearest_places(size_in, size_out):
    """Return the source indices (size_out,) int64; the scale and the product are rounded in float32 as in PyTorch."""
    scale = np.float32(size_in) / np.float32(size_out)
    at = np.arange(size_out, dtype=np.float32) * scale
    return np.minimum(np.floor(at).astype(np.int64), size_in - 1)
