"""Bilinear and nearest-neighbour resizing; source positions come from integers, never from float scale factors."""

import numpy as np

from pagnp.backends.numpy_ref.fma import fma_f32

CHUNK = 65536  # output elements of one step


def bilinear(x, align_corners, out, rows=None):
    """Fill `out` (n, h_out, w_out, c): columns first, t = fma(wx, b-a, a), u = fma(wx, d-c, c); y = fma(wy, u-t, t).

    rows  (first_in, h_in, first_out, h_out) where x and out are bands of rows of larger maps
    """
    n, height, w_out, c = out.shape
    first_in, h_in, first_out, h_out = rows or (0, x.shape[1], 0, height)
    y0, y1, wy = (part[first_out : first_out + height] for part in positions(h_in, h_out, align_corners))
    y0, y1 = y0 - first_in, y1 - first_in
    x0, x1, wx = positions(x.shape[2], w_out, align_corners)
    wx, wy = wx[:, None], wy[:, None, None]
    step = max(1, CHUNK // (w_out * c))
    for batch in range(n):
        for start in range(0, height, step):
            part = slice(start, min(start + step, height))
            upper, lower = x[batch, y0[part]], x[batch, y1[part]]
            t = _between(wx, upper[:, x0], upper[:, x1])
            u = _between(wx, lower[:, x0], lower[:, x1])
            out[batch, part] = _between(wy[part], t, u)


def _between(weight, a, b):
    """Return fma(weight, b - a, a): exactly a where a == b, so that a constant map stays constant."""
    return fma_f32(weight, b - a, a)


def positions(length_in, length_out, align_corners):
    """Return (i0, i1, w): the two source indices of each output index and the float32 weight of i1."""
    o = np.arange(length_out, dtype=np.int64)
    if align_corners:
        numerator, denominator = o * (length_in - 1), max(length_out - 1, 1)
    else:
        numerator, denominator = np.maximum((2 * o + 1) * length_in - length_out, 0), 2 * length_out
    i0 = numerator // denominator
    i1 = np.minimum(i0 + 1, length_in - 1)
    return i0, i1, (numerator % denominator / denominator).astype(np.float32)


def nearest(x, out, rows=None):
    """Fill `out` (n, h_out, w_out, c) with PyTorch's `nearest`: floor(o * (in/out)) in float32; rows as in bilinear."""
    height = out.shape[1]
    first_in, h_in, first_out, h_out = rows or (0, x.shape[1], 0, height)
    iy = nearest_index(h_in, h_out)[first_out : first_out + height] - first_in
    ix = nearest_index(x.shape[2], out.shape[2])
    for batch in range(x.shape[0]):
        out[batch] = x[batch, iy[:, None], ix]


def nearest_index(length_in, length_out):
    step = np.float32(length_in) / np.float32(length_out)
    index = np.floor(np.arange(length_out).astype(np.float32) * step).astype(np.int64)
    return np.minimum(index, length_in - 1)
