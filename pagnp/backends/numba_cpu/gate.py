"""The gate's decision in its four modes, and what acts on it: select, blend, masked, sites and rows at sites."""

import numpy as np

from pagnp.backends.constants import PROBABILITY_DIVISOR_2018, PROBABILITY_OFFSET_2018
from pagnp.backends.numba_cpu.compile import jit
from pagnp.backends.numba_cpu.grain import COSTLY, SIMPLE, grain
from pagnp.backends.numba_cpu.reduce import argmax, softmax
from pagnp.backends.numba_cpu.scalar_fma import fma32
from pagnp.backends.numba_cpu.threads import parallel
from pagnp.backends.numba_cpu.transcendental import log32

KONG2018 = "kong2018"


@jit
def hard_gate_f32(start, stop, z, with_threshold, threshold, out):
    """out[r] = z[r, 1] > z[r, 0], or z[r, 1] - z[r, 0] > threshold; z (rows, 2), out (rows,) bool. A tie skips."""
    if with_threshold:
        for r in range(start, stop):
            out[r] = z[r, 1] - z[r, 0] > threshold
    else:
        for r in range(start, stop):
            out[r] = z[r, 1] > z[r, 0]


@jit
def gumbel_logits_f32(start, stop, x, from_probability, noise, temperature, out):
    """out[i] = (log((x[i] + 1e-3) / 1.001) or x[i]) + noise, / temperature; flat, `noise` restarts at each image."""
    offset = np.float32(PROBABILITY_OFFSET_2018)
    divisor = np.float32(PROBABILITY_DIVISOR_2018)
    while start < stop:
        first = start % noise.size
        count = min(noise.size - first, stop - start)
        v = x[start : start + count]
        g = noise[first : first + count]
        y = out[start : start + count]
        if from_probability:
            for i in range(count):
                y[i] = (log32((v[i] + offset) / divisor) + g[i]) / temperature
        else:
            for i in range(count):
                y[i] = (v[i] + g[i]) / temperature
        start += count


@jit
def copy_rows_where(start, stop, control, chosen, x, rest, rest_step, out):
    """out[r] = x[r] where control[r] == chosen, else rest[r * rest_step], or kept if rest_step < 0.

    control (rows,) int32; x, out (rows, c); rest (rows, c) with step 1, (1, c) with step 0
    """
    for r in range(start, stop):
        hit = control[r] == chosen
        if hit or rest_step >= 0:
            v = x[r] if hit else rest[r * rest_step]
            y = out[r]
            for ci in range(y.size):
                y[ci] = v[ci]


@jit
def blend_f32(start, stop, p, k, branch, out):
    """out[r] = fma(p[r, k], branch[r], out[r]), +0 in place of out[r] for k = 0; p (rows, K), branch, out (rows, c)."""
    zero = np.float32(0)
    for r in range(start, stop):
        weight = p[r, k]
        v = branch[r]
        y = out[r]
        if k == 0:
            for ci in range(y.size):
                y[ci] = fma32(weight, v[ci], zero)
        else:
            for ci in range(y.size):
                y[ci] = fma32(weight, v[ci], y[ci])


@jit
def move_rows(start, stop, x, sites, scattered, out):
    """out[sites[i]] = x[i] if `scattered`, else out[i] = x[sites[i]]; x, out (rows, c) float32, sites int32."""
    for i in range(start, stop):
        site = np.int64(sites[i])
        v = x[i] if scattered else x[site]
        y = out[site] if scattered else out[i]
        for ci in range(y.size):
            y[ci] = v[ci]


def gate(z, mode, form, temperature, noise, threshold, out, threads=1):
    """Decide per pixel from the logits z (n, h, w, K): out is bool, int32 index or, in the soft modes, probabilities.

    noise  (h, w, K) for every image, or (n, h, w, K); the gumbel modes only
    """
    if mode == "hard":
        _decide(z, threshold, out, threads)
    elif mode == "soft":
        softmax(z, out, threads)
    elif mode == "gumbel_soft":
        _gumbel_logits(z, form, noise, temperature, out, threads)
        softmax(out, out, threads)
    else:
        y = np.empty_like(z)
        _gumbel_logits(z, form, noise, 1.0, y, threads)  # y / 1 is y: the decision comes before the division
        _decide(y, threshold, out, threads)


def _decide(z, threshold, out, threads):
    """Fill out with the two-way mask (bool) or the first maximum (int32)."""
    if out.dtype != np.bool_:
        argmax(z, out, threads)
        return
    rows = out.size
    limit = np.float32(0 if threshold is None else threshold)
    arguments = (z.reshape(rows, 2), int(threshold is not None), limit, out.reshape(-1))
    parallel(hard_gate_f32, rows, threads, *arguments, chunk=grain(rows, threads, SIMPLE))


def _gumbel_logits(z, form, noise, temperature, out, threads):
    """out = y / temperature with y = log((softmax(z) + 1e-3) / 1.001) + noise, or z + noise in PyTorch's form."""
    from_probability = form == KONG2018
    if from_probability:
        softmax(z, out, threads)
        z = out
    arguments = (z.reshape(-1), int(from_probability), noise.reshape(-1), np.float32(temperature), out.reshape(-1))
    parallel(gumbel_logits_f32, z.size, threads, *arguments, chunk=grain(z.size, threads, COSTLY))


def select(control, branches, out, threads=1):
    """out = at each pixel the branch that `control` names: mask (False 0, True 1) or index, (n, h, w) or (n, 1, 1)."""
    _copy_where(control, 1, branches[min(1, len(branches) - 1)], branches[0], 1, out, threads)
    for k in range(2, len(branches)):
        _copy_where(control, k, branches[k], branches[k], -1, out, threads)


def masked(x, mask, out, threads=1):
    """out = x where mask (n, h, w) or (n, 1, 1), else +0."""
    _copy_where(mask, 1, x, np.zeros(x.shape[-1], np.float32), 0, out, threads)


def _copy_where(control, chosen, x, rest, rest_step, out, threads):
    c = out.shape[-1]
    rows = out.size // c
    chunk = grain(rows, threads, SIMPLE, width=c)
    index = _per_pixel(control, out.shape[:3], np.int32).reshape(-1)
    arguments = (index, chosen, x.reshape(rows, c), rest.reshape(-1, c), rest_step, out.reshape(rows, c))
    parallel(copy_rows_where, rows, threads, *arguments, chunk=chunk)


def _per_pixel(values, shape, dtype):
    """Return `values` in `dtype`, spread over the map if it is (n, 1, 1); small beside the rows it steers."""
    if values.shape == shape:
        return values.astype(dtype, copy=False)
    return np.broadcast_to(values, shape).astype(dtype, order="C")


def blend(p, branches, out, threads=1):
    """out = the sum of p_k * branch_k, k ascending, as a chain of fma from +0; p (n, h, w, K) or (n, 1, 1, K)."""
    c = out.shape[-1]
    rows = out.size // c
    p = _per_pixel(p, (*out.shape[:3], len(branches)), np.float32).reshape(rows, len(branches))
    chunk = grain(rows, threads, SIMPLE, width=c)
    for k, branch in enumerate(branches):
        arguments = (p, k, branch.reshape(rows, c), out.reshape(rows, c))
        parallel(blend_f32, rows, threads, *arguments, chunk=chunk)


def mask_to_sites(mask, threads=1):
    """Return the flat indices of True in ascending order, int32 (m,)."""
    return np.flatnonzero(mask).astype(np.int32)


def gather(x, sites, out, threads=1):
    """out (m, c) = the pixels of x (n, h, w, c) at `sites`."""
    _move(x.reshape(-1, x.shape[-1]), sites, 0, out, threads)


def scatter(values, sites, out, threads=1):
    """Write `values` (m, c) to the pixels of out (n, h, w, c) at `sites`; the others stay."""
    _move(values, sites, 1, out.reshape(-1, out.shape[-1]), threads)


def _move(x, sites, scattered, out, threads):
    chunk = grain(len(sites), threads, SIMPLE, width=x.shape[1])
    parallel(move_rows, len(sites), threads, x, sites, scattered, out, chunk=chunk)


def list_sites(mask, threads=1):
    """Return what a run uses as `sites`: here `mask_to_sites`."""
    return mask_to_sites(mask, threads=threads)


def grow_mask(mask, kernel, stride, padding, dilation, out, threads=1):
    """out (n, h_in, w_in) = where a tap of a conv's output site in `mask` (n, h_out, w_out) reads.

    A window is a product of rows and columns, so the mask grows along y first, then along x.
    """
    rows = np.zeros((mask.shape[0], out.shape[1], mask.shape[2]), np.bool_)
    _grow(mask, kernel[0], stride[0], padding[0], dilation[0], rows)
    out[...] = False
    _grow(rows.swapaxes(1, 2), kernel[1], stride[1], padding[2], dilation[1], out.swapaxes(1, 2))


def _grow(mask, taps, stride, before, dilation, out):
    """Mark along axis 1 of out what the `taps` of each True of mask read: o * stride - before + tap * dilation."""
    size_out, size_in = mask.shape[1], out.shape[1]
    for tap in range(taps):
        shift = tap * dilation - before
        first = max(0, -(shift // stride))  # the first o with o * stride + shift >= 0
        last = min(size_out, (size_in - 1 - shift) // stride + 1)
        if first < last:
            out[:, first * stride + shift : (last - 1) * stride + shift + 1 : stride] |= mask[:, first:last]
