"""philox4x32 and gumbel_noise: counter-based, so that a pixel's noise depends on its place alone."""

import numpy as np

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
from pagnp.backends.numba_cpu.compile import jit
from pagnp.backends.numba_cpu.grain import COSTLY, grain
from pagnp.backends.numba_cpu.threads import parallel
from pagnp.backends.numba_cpu.transcendental import log64

KONG2018, TORCH = range(2)
_WORD = np.uint64(0xFFFFFFFF)
_HALF_WORD = np.uint64(32)


@jit(cached=False)
def philox_words(c0, c1, c2, c3, key0, key1):
    """Return the four words of one counter; arguments and results are uint64 below 2^32."""
    for _ in range(PHILOX_ROUNDS):
        product0 = np.uint64(PHILOX_MULTIPLIER_0) * c0
        product1 = np.uint64(PHILOX_MULTIPLIER_1) * c2
        c0 = (product1 >> _HALF_WORD) ^ c1 ^ key0
        c1 = product1 & _WORD
        c2 = (product0 >> _HALF_WORD) ^ c3 ^ key1
        c3 = product0 & _WORD
        key0 = (key0 + np.uint64(PHILOX_WEYL_0)) & _WORD
        key1 = (key1 + np.uint64(PHILOX_WEYL_1)) & _WORD
    return c0, c1, c2, c3


@jit(cached=False)
def fill_gumbel(words, form, out):
    """out[i] = -log(-log(u)) of the random word (uint32) i, u by `form`; in float64, rounded once.

    One flat loop for each form: LLVM runs the logarithms on whole vectors.
    """
    if form == KONG2018:
        for i in range(out.size):
            rand = np.float64(words[i] >> np.uint32(8)) * TWO_POW_MINUS_24
            out[i] = np.float32(-log64(-log64((rand + NOISE_OFFSET_2018) / NOISE_DIVISOR_2018)))
    else:
        for i in range(out.size):
            odd = (words[i] >> np.uint32(9)) * np.uint32(2) + np.uint32(1)
            out[i] = np.float32(-log64(-log64(np.float64(odd) * TWO_POW_MINUS_24)))


@jit
def philox4x32_u32(start, stop, counter, key, out):
    """out[i] = the words of counter[i] for i in [start, stop); counter, out (m, 4), key (2,), all uint32."""
    for i in range(start, stop):
        c = counter[i]
        y = out[i]
        words = philox_words(
            np.uint64(c[0]), np.uint64(c[1]), np.uint64(c[2]), np.uint64(c[3]), np.uint64(key[0]), np.uint64(key[1])
        )
        y[0] = words[0]
        y[1] = words[1]
        y[2] = words[2]
        y[3] = words[3]


@jit
def gumbel_noise_f32(start, stop, key, gate_index, form, y0, x0, out):
    """Fill rows [start, stop) of out (h, w, K): counter (ox, oy, k >> 2, gate_index), word k & 3."""
    _, w, channels = out.shape
    key0 = np.uint64(key[0])
    key1 = np.uint64(key[1])
    words = np.empty((w, channels), np.uint32)
    for row in range(start, stop):
        oy = np.uint64(y0 + row) & _WORD
        for column in range(w):
            ox = np.uint64(x0 + column) & _WORD
            for first in range(0, channels, 4):
                four = philox_words(ox, oy, np.uint64(first >> 2), np.uint64(gate_index), key0, key1)
                for k in range(first, min(first + 4, channels)):
                    words[column, k] = four[k - first]
        fill_gumbel(words.reshape(-1), form, out[row].reshape(-1))


def philox4x32(counter, key, out, threads=1):
    """out (m, 4) uint32 = Philox4x32-10 of each counter (m, 4) under `key` (2,)."""
    m = len(counter)
    parallel(philox4x32_u32, m, threads, counter, key, out, chunk=grain(m, threads, COSTLY, width=4))


def gumbel_noise(seed, gate_index, form, y0, x0, out, threads=1):
    """out (h, w, K) = Gumbel noise of a gate, for pixels whose coordinates on the whole map start at (y0, x0)."""
    h, w, channels = out.shape
    key = np.array([seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF], np.uint32)
    chunk = grain(h, threads, COSTLY, width=w * channels)
    parallel(
        gumbel_noise_f32,
        h,
        threads,
        key,
        gate_index,
        KONG2018 if form == "kong2018" else TORCH,
        y0,
        x0,
        out,
        chunk=chunk,
    )
