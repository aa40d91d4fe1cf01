"""Counter-based random numbers: Philox4x32-10 and the Gumbel noise made from it.  Numerics: EXACT.

uint64 holds the words, which are below 2^32: so a product of two is whole.
"""

import numpy as np
from numba import cuda

from pagnp.backends.constants import (
    NOISE_DIVISOR_2018,
    NOISE_OFFSET_2018,
    PHILOX_MULTIPLIER_0,
    PHILOX_MULTIPLIER_1,
    PHILOX_ROUNDS,
    PHILOX_WEYL_0,
    PHILOX_WEYL_1,
    TWO_POW_MINUS_24,
)
from pagnp.backends.numba_cuda.arithmetic import add64, div64, mul64
from pagnp.backends.numba_cuda.compile import device_function, kernel
from pagnp.backends.numba_cuda.transcendental import log64

_WORD = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_MULTIPLIER_0, _MULTIPLIER_1 = np.uint64(PHILOX_MULTIPLIER_0), np.uint64(PHILOX_MULTIPLIER_1)
_WEYL_0, _WEYL_1 = np.uint64(PHILOX_WEYL_0), np.uint64(PHILOX_WEYL_1)


@device_function
def philox_words(c0, c1, c2, c3, k0, k1):
    """Return the four words of one counter."""
    for _ in range(PHILOX_ROUNDS):
        product_0 = _MULTIPLIER_0 * c0
        product_1 = _MULTIPLIER_1 * c2
        c0 = (product_1 >> _HALF) ^ c1 ^ k0
        c1 = product_1 & _WORD
        c2 = (product_0 >> _HALF) ^ c3 ^ k1
        c3 = product_0 & _WORD
        k0 = (k0 + _WEYL_0) & _WORD
        k1 = (k1 + _WEYL_1) & _WORD
    return c0, c1, c2, c3


@device_function
def gumbel_step(word, form):
    """Return the Gumbel noise of one word; form 0 is kong2018, 1 is torch."""
    if form:
        odd = (word >> np.uint64(9)) * np.uint64(2) + np.uint64(1)
        u = mul64(np.float64(odd), TWO_POW_MINUS_24)
    else:
        rand = mul64(np.float64(word >> np.uint64(8)), TWO_POW_MINUS_24)
        u = div64(add64(rand, NOISE_OFFSET_2018), NOISE_DIVISOR_2018)
    return np.float32(-log64(-log64(u)))


# One thread for the up to four channels that take the words of one counter.  out (h, w, k_channels)
# Pixel (y0 + oy, x0 + ox), channel k takes word k & 3 of counter (ox, oy, k >> 2, gate_index).
@kernel
def gumbel_noise_f32(out, h, w, k_channels, seed_low, seed_high, gate_index, y0, x0, form):
    groups = (k_channels + 3) // 4
    pixel = cuda.grid(1) // groups
    group = cuda.grid(1) - pixel * groups
    if pixel >= h * w:
        return
    ox = np.uint64(x0 + pixel % w) & _WORD
    oy = np.uint64(y0 + pixel // w) & _WORD
    words = philox_words(ox, oy, np.uint64(group), np.uint64(gate_index), np.uint64(seed_low), np.uint64(seed_high))
    for k in range(min(k_channels - 4 * group, 4)):
        out[pixel * k_channels + 4 * group + k] = gumbel_step(words[k], form)


# One thread a block.  counter (m, 4)  key (2)  ->  out (m, 4)
@kernel
def philox4x32_u32(counter, key, out, m):
    i = cuda.grid(1)
    if i >= m:
        return
    c = 4 * i
    words = philox_words(
        np.uint64(counter[c]),
        np.uint64(counter[c + 1]),
        np.uint64(counter[c + 2]),
        np.uint64(counter[c + 3]),
        np.uint64(key[0]),
        np.uint64(key[1]),
    )
    for k in range(4):
        out[c + k] = words[k]
