"""Reductions over channels or over the map, in a written order."""

import numpy as np

from pagnp.backends import constants
from pagnp.backends.numpy_ref import transcendental
from pagnp.backends.numpy_ref.dot import blocked_dot
from pagnp.backends.numpy_ref.fma import Chain, products_may_underflow

CHUNK = 16384  # pixels handled at once


def global_mean(x, out, count=None):
    """Fill `out` (n, 1, 1, c): each row from +0 over ox, then the row sums from +0 over oy, / f32(count or h*w)."""
    n, h, w, c = x.shape
    row_sum = np.zeros((n, h, c), np.float32)
    for ox in range(w):
        row_sum = row_sum + x[:, :, ox]
    total = np.zeros((n, c), np.float32)
    for oy in range(h):
        total = total + row_sum[:, oy]
    np.divide(total, np.float32(count or h * w), out=out[:, 0, 0])


def softmax(x, out):
    """out_k = e_k / s with e_k = exp(x_k - m), m the first maximum by `>`, s = e_0 + e_1 + ... from +0."""
    m = x[..., 0]
    for k in range(1, x.shape[-1]):
        m = np.where(x[..., k] > m, x[..., k], m)
    e = np.empty_like(x)
    transcendental.exp(x - m[..., None], e)
    s = np.zeros(m.shape, np.float32)
    for k in range(x.shape[-1]):
        s = s + e[..., k]
    np.divide(e, s[..., None], out=out)


def argmax(x, out):
    """out = the first k with the greatest x[k]: x[k] > x[best], from best = 0."""
    best = x[..., 0]
    index = np.zeros(best.shape, np.int32)
    for k in range(1, x.shape[-1]):
        greater = x[..., k] > best
        best = np.where(greater, x[..., k], best)
        index[greater] = k
    np.copyto(out, index)


def l2_normalize(x, out):
    """out = x / (sqrt(s) + 1e-5), s the sum of squares over channels by the dot-product rule."""
    rows, out_rows = x.reshape(-1, x.shape[-1]), out.reshape(-1, x.shape[-1])
    chain = Chain(min(CHUNK, len(rows)), products_may_underflow(x, x))
    for start in range(0, len(rows), CHUNK):
        pixels = rows[start : start + CHUNK]
        columns = pixels.T.astype(np.float64, order="C")
        s = blocked_dot(((column, column) for column in columns), chain, (len(pixels),))
        r = np.sqrt(s) + np.float32(constants.L2_EPSILON)
        np.divide(pixels, r[:, None], out=out_rows[start : start + CHUNK])
