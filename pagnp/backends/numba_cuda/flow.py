"""What a run does between its ops (pagnp/backends/hostflow.py): one thread an element of `out`, which has `size`.

Numerics: EXACT. Masks hold 0 and 1.
"""

import numpy as np
from numba import cuda

from pagnp.backends.numba_cuda.arithmetic import ZERO, fma
from pagnp.backends.numba_cuda.compile import device_function, kernel
from pagnp.backends.numba_cuda.resample import nearest_index

_ONE = np.float32(1)


# Where a control, of which `per` neighbours share an element, picks branch `slot`.  control (size/per)  ->  out (size)
@kernel
def picked_u8(control, slot, out, size, per):
    i = cuda.grid(1)
    if i < size:
        out[i] = (control[i // per] != 0) == (slot != 0)


@kernel
def picked_i32(control, slot, out, size, per):
    i = cuda.grid(1)
    if i < size:
        out[i] = control[i // per] == slot


@kernel
def unite_u8(mask, out, size):
    i = cuda.grid(1)
    if i < size and mask[i]:
        out[i] = 1


@kernel
def logical_not_u8(mask, out, size):
    i = cuda.grid(1)
    if i < size:
        out[i] = mask[i] == 0


@kernel
def to_float_f32(mask, out, size):
    i = cuda.grid(1)
    if i < size:
        out[i] = _ONE if mask[i] else ZERO


# pixels (h_in, w_in, c)  scale, shift (c)  ->  out (size/w_out/c, w_out, c), +0 below the pixels and to their right
@kernel
def normalize_u8(pixels, scale, shift, out, size, h_in, w_in, w_out, c):
    i = cuda.grid(1)
    if i >= size:
        return
    channel = i % c
    ox = i // c % w_out
    oy = i // c // w_out
    value = ZERO
    if oy < h_in and ox < w_in:
        value = fma(np.float32(pixels[(oy * w_in + ox) * c + channel]), scale[channel], shift[channel])
    out[i] = value


def _crop(name):
    """Return the kernel `name`.  x (n, h_in, row_in)  ->  out (n, h_out, row_out): the upper left part."""

    @kernel(name=name)
    def crop(x, out, size, h_in, row_in, h_out, row_out):
        i = cuda.grid(1)
        if i < size:
            oy = i // row_out % h_out
            image = i // row_out // h_out
            out[i] = x[(image * h_in + oy) * row_in + i % row_out]

    return crop


crop_u8 = _crop("crop_u8")
crop_i32 = _crop("crop_i32")


@device_function
def mirrored(i, w, c):
    """Return the place in x of element i of its mirror image: rows of w pixels of c elements."""
    return i + (w - 1 - 2 * (i // c % w)) * c


def _mirror(name):
    """Return the kernel `name`.  x, out (size)."""

    @kernel(name=name)
    def mirror(x, out, size, w, c):
        i = cuda.grid(1)
        if i < size:
            out[i] = x[mirrored(i, w, c)]

    return mirror


mirror_u8 = _mirror("mirror_u8")
mirror_i32 = _mirror("mirror_i32")


# The same, channel 0 with its sign changed.
@kernel
def mirror_f32_negated(x, out, size, w, c):
    i = cuda.grid(1)
    if i < size:
        v = x[mirrored(i, w, c)]
        out[i] = v if i % c else -v


@kernel
def lookup_i32(table, index, out, size):
    i = cuda.grid(1)
    if i < size:
        out[i] = table[index[i]]


@kernel
def narrow_u8(index, out, size):
    i = cuda.grid(1)
    if i < size:
        out[i] = index[i]


# out (h_out, w_out) += 1 where mask (h_in, w_in), enlarged by the rule of `nearest`, is set; steps as in resample.py
@kernel
def ponder_i32(mask, out, h_in, w_in, h_out, w_out, step_y, step_x):
    i = cuda.grid(1)
    if i >= h_out * w_out:
        return
    iy = nearest_index(i // w_out, step_y, h_in)
    ix = nearest_index(i % w_out, step_x, w_in)
    if mask[iy * w_in + ix]:
        out[i] += 1
