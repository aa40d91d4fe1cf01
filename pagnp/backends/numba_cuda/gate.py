"""Gates: one thread a pixel. What they steer: one thread an element.  Numerics: EXACT.

The lists of sites are in sites.py.
"""

import numpy as np
from numba import cuda

from pagnp.backends.constants import PROBABILITY_DIVISOR_2018, PROBABILITY_OFFSET_2018
from pagnp.backends.numba_cuda.arithmetic import ZERO, add, div, fma, sub
from pagnp.backends.numba_cuda.compile import device_function, kernel
from pagnp.backends.numba_cuda.softmax import first_maximum, softmax_pixel
from pagnp.backends.numba_cuda.transcendental import exp_step, log_step

_OFFSET = np.float32(PROBABILITY_OFFSET_2018)
_DIVISOR = np.float32(PROBABILITY_DIVISOR_2018)


@device_function
def decide(z0, z1, threshold, has_threshold):
    """Return whether to compute: z1 > z0, with a threshold z1 - z0 > threshold. A tie skips, NaN skips."""
    return sub(z1, z0) > threshold if has_threshold else z1 > z0


@device_function
def softmax_sums(z, first, k_channels, form):
    """Return (m, s) of the softmax of a pixel's logits; form torch needs neither."""
    m = ZERO
    s = ZERO
    if form == 0:
        m = first_maximum(z, first, k_channels)
        for k in range(k_channels):
            s = add(s, exp_step(sub(z[first + k], m)))
    return m, s


@device_function
def noisy_logit(z, noise, m, s, form):
    """Return y of one channel: z + noise (form torch), or log((p + 1e-3) / 1.001) + noise with p its softmax."""
    if form:
        return add(z, noise)
    p = div(exp_step(sub(z, m)), s)
    return add(log_step(div(add(p, _OFFSET), _DIVISOR)), noise)


# z (pixels, 2)  ->  out (pixels)
@kernel
def gate_f32_hard(z, out, pixels, threshold, has_threshold):
    i = cuda.grid(1)
    if i < pixels:
        out[i] = decide(z[2 * i], z[2 * i + 1], threshold, has_threshold)


# z (pixels, 2)  noise (noise_pixels, 2), again for each image where they are fewer  ->  out (pixels)
@kernel
def gate_f32_gumbel_mask(z, noise, out, pixels, noise_pixels, form, threshold, has_threshold):
    i = cuda.grid(1)
    if i >= pixels:
        return
    n = 2 * (i % noise_pixels)
    m, s = softmax_sums(z, 2 * i, 2, form)
    y0 = ZERO
    y1 = ZERO
    for k in range(2):
        y0 = y1
        y1 = noisy_logit(z[2 * i + k], noise[n + k], m, s, form)
    out[i] = decide(y0, y1, threshold, has_threshold)


# z (pixels, k_channels)  noise (noise_pixels, k_channels)  ->  out (pixels): the first greatest y
@kernel
def gate_f32_gumbel_index(z, noise, out, pixels, k_channels, noise_pixels, form):
    i = cuda.grid(1)
    if i >= pixels:
        return
    first = i * k_channels
    n = i % noise_pixels * k_channels
    m, s = softmax_sums(z, first, k_channels, form)
    best = ZERO
    index = np.int64(0)
    for k in range(k_channels):
        y = noisy_logit(z[first + k], noise[n + k], m, s, form)
        if k == 0 or y > best:
            best = y
            index = k
    out[i] = index


# z (pixels, k_channels)  noise (noise_pixels, k_channels)  ->  out (pixels, k_channels): softmax(y / temperature)
@kernel
def gate_f32_gumbel_soft(z, noise, out, pixels, k_channels, noise_pixels, form, temperature):
    i = cuda.grid(1)
    if i >= pixels:
        return
    first = i * k_channels
    n = i % noise_pixels * k_channels
    m, s = softmax_sums(z, first, k_channels, form)
    for k in range(k_channels):
        out[first + k] = div(noisy_logit(z[first + k], noise[n + k], m, s, form), temperature)
    softmax_pixel(out, out, first, k_channels)


# control (pixels/per): `per` pixels share a decision.  zero, one, out (pixels, c)
@kernel
def select_f32_mask(control, zero, one, out, pixels, c, per):
    i = cuda.grid(1)
    if i < pixels * c:
        out[i] = one[i] if control[i // c // per] else zero[i]


# One branch of a choice: written where control is `slot`.  control (pixels/per)  branch, out (pixels, c)
@kernel
def select_f32_index(control, slot, branch, out, pixels, c, per):
    i = cuda.grid(1)
    if i < pixels * c and control[i // c // per] == slot:
        out[i] = branch[i]


# One step of a blend of many branches, launched for k = 0, 1, ...: out goes on where k > 0.
# p (pixels/per, k_channels)  branch, out (pixels, c)
@kernel
def blend_f32(p, branch, out, pixels, c, per, k_channels, k):
    i = cuda.grid(1)
    if i < pixels * c:
        acc = out[i] if k else ZERO
        out[i] = fma(p[i // c // per * k_channels + k], branch[i], acc)


# Both steps of a blend of two branches.  p (pixels/per, 2)  zero, one, out (pixels, c)
@kernel
def blend_f32_pair(p, zero, one, out, pixels, c, per):
    i = cuda.grid(1)
    if i < pixels * c:
        share = 2 * (i // c // per)
        out[i] = fma(p[share + 1], one[i], fma(p[share], zero[i], ZERO))


# Chosen, not multiplied: a NaN in x does not get through.  x, out (pixels, c)  mask (pixels/per)
@kernel
def masked_f32(x, mask, out, pixels, c, per):
    i = cuda.grid(1)
    if i < pixels * c:
        out[i] = x[i] if mask[i // c // per] else ZERO
