"""Pixel-wise gates: decisions, choosing and blending branches, masks and sites."""

import numpy as np

from pagnp.backends import constants
from pagnp.backends.numpy_ref import transcendental
from pagnp.backends.numpy_ref.fma import fma_f32
from pagnp.backends.numpy_ref.reduce import argmax, softmax


def gate(z, mode, form, temperature, noise, threshold, out):
    """Decide per pixel from the logits z (n, h, w, K).

    mode hard          out bool: z1 > z0 (with a threshold t: z1 - z0 > t), or int32: the first maximum
    mode soft          out float32 (n, h, w, K): softmax(z)
    mode gumbel_hard   as hard, from y: log((softmax(z) + 1e-3)/1.001) + noise (kong2018) or z + noise (torch)
    mode gumbel_soft   softmax(y / temperature)
    """
    y = z if mode in ("hard", "soft") else _noisy(z, form, noise)
    if mode == "soft":
        softmax(y, out)
    elif mode == "gumbel_soft":
        softmax(y / np.float32(temperature), out)
    elif out.dtype == np.int32:
        argmax(y, out)
    elif threshold is None:
        np.greater(y[..., 1], y[..., 0], out=out)
    else:
        np.greater(y[..., 1] - y[..., 0], np.float32(threshold), out=out)


def _noisy(z, form, noise):
    """Return the logits y of a Gumbel unit, before the temperature."""
    if form == "torch":
        return z + noise
    p = np.empty_like(z)
    softmax(z, p)
    p = (p + np.float32(constants.PROBABILITY_OFFSET_2018)) / np.float32(constants.PROBABILITY_DIVISOR_2018)
    log_p = np.empty_like(z)
    transcendental.log(p, log_p)
    return log_p + noise


def select(control, branches, out):
    """out = branches[control] per pixel; a mask takes [0] where False, [1] where True; (n, 1, 1) broadcasts."""
    for number, branch in enumerate(branches):
        np.copyto(out, branch, where=(control == number)[..., None])


def blend(p, branches, out):
    """out = sum over k of p_k * branch_k: acc = fma(p_k, branch_k, acc) from +0, k ascending."""
    for batch in range(out.shape[0]):
        acc = np.zeros(out.shape[1:], np.float32)
        for k, branch in enumerate(branches):
            acc = fma_f32(p[batch, ..., k : k + 1], branch[batch], acc)
        out[batch] = acc


def masked(x, mask, out):
    """out = x where mask, else +0: chosen, not multiplied, so that a NaN in x does not leak."""
    np.copyto(out, np.where(mask[..., None], x, np.float32(0)))


def mask_to_sites(mask):
    """Return int32 (m,): the flat indices of True, ascending."""
    return np.flatnonzero(mask).astype(np.int32)


def list_sites(mask):
    """Return what a run uses as `sites`: here `mask_to_sites`; on a GPU a list whose length stays there."""
    return mask_to_sites(mask)


def grow_mask(mask, kernel, stride, padding, dilation, out):
    """Fill `out` (n, h_in, w_in): True where a tap of an output site in `mask` (n, h_out, w_out) reads."""
    out.fill(False)
    oy, ox = np.arange(mask.shape[1]), np.arange(mask.shape[2])
    for ky in range(kernel[0]):
        iy = oy * stride[0] - padding[0] + ky * dilation[0]
        inside_y = (iy >= 0) & (iy < out.shape[1])
        for kx in range(kernel[1]):
            ix = ox * stride[1] - padding[2] + kx * dilation[1]
            inside_x = (ix >= 0) & (ix < out.shape[2])
            rows, columns = iy[inside_y][:, None], ix[inside_x]
            out[:, rows, columns] |= mask[:, inside_y][:, :, inside_x]


def gather(x, sites, out):
    """Fill `out` (m, c) with the pixels of x at `sites`."""
    np.copyto(out, x.reshape(-1, x.shape[-1])[sites])


def scatter(values, sites, out):
    """Write the rows of `values` (m, c) to the pixels of `out` at `sites`; the others stay."""
    out.reshape(-1, out.shape[-1])[sites] = values
