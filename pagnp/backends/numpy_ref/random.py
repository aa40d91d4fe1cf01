"""Counter-based random numbers: Philox4x32-10 (Salmon et al. 2011) and Gumbel noise made from it."""

import numpy as np

from pagnp.backends import constants as k
from pagnp.backends.numpy_ref.transcendental import log64

_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


def philox4x32(counter, key, out):
    """Fill `out` (m, 4) uint32 with the ten-round block of each `counter` (m, 4); key is (2,) uint32."""
    c0, c1, c2, c3 = (counter[:, i].astype(np.uint64) for i in range(4))
    k0, k1 = int(key[0]), int(key[1])
    for _ in range(k.PHILOX_ROUNDS):
        product_0 = c0 * np.uint64(k.PHILOX_MULTIPLIER_0)
        product_1 = c2 * np.uint64(k.PHILOX_MULTIPLIER_1)
        c0, c1, c2, c3 = (
            (product_1 >> _HALF) ^ c1 ^ np.uint64(k0),
            product_1 & _LOW,
            (product_0 >> _HALF) ^ c3 ^ np.uint64(k1),
            product_0 & _LOW,
        )
        k0 = (k0 + k.PHILOX_WEYL_0) & 0xFFFFFFFF
        k1 = (k1 + k.PHILOX_WEYL_1) & 0xFFFFFFFF
    for i, word in enumerate((c0, c1, c2, c3)):
        out[:, i] = word


def gumbel_noise(seed, gate_index, form, y0, x0, out):
    """Fill `out` (h, w, K): pixel (y0 + oy, x0 + ox), channel k takes word k & 3 of counter (ox, oy, k >> 2, gate)."""
    h, w, channels = out.shape
    key = np.array([seed & 0xFFFFFFFF, seed >> 32], np.uint32)
    counter = np.empty((h, w, 4), np.uint32)
    counter[..., 0] = np.arange(x0, x0 + w)
    counter[..., 1] = np.arange(y0, y0 + h)[:, None]
    counter[..., 3] = gate_index
    words = np.empty((h * w, 4), np.uint32)
    for block in range(0, channels, 4):
        counter[..., 2] = block >> 2
        philox4x32(counter.reshape(-1, 4), key, words)
        used = min(4, channels - block)
        u = _uniform(words.reshape(h, w, 4)[..., :used], form)
        out[..., block : block + used] = -log64(-log64(u))


def _uniform(words, form):
    """Return float64 numbers inside (0, 1) from uint32 words, by the rule of each form."""
    if form == "torch":
        return ((words >> np.uint32(9)) * np.uint32(2) + np.uint32(1)).astype(np.float64) * k.TWO_POW_MINUS_24
    rand = (words >> np.uint32(8)).astype(np.float64) * k.TWO_POW_MINUS_24
    return (rand + k.NOISE_OFFSET_2018) / k.NOISE_DIVISOR_2018
