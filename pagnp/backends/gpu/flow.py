"""What a run does between its ops (backends/numpy_ref/flow.py says what each means), on a GPU."""

import math

import numpy as np

from pagnp.backends.gpu.gate import shared_by
from pagnp.backends.gpu.resample import nearest_step
from pagnp.backends.gpu.signature import signatures

# per: how many pixels share one element of control (gate.py). normalize_u8: pixels (h_in, w_in, c) -> out of `size`
# elements, w_out pixels a row. crop: rows of row_in elements -> h_out rows of row_out, of each of n maps of h_in rows.
# mirror: rows of w pixels of c elements. *_i32 move the bits of any type of 4 bytes;
# *_negated changes the sign of channel 0.
KERNELS = signatures(
    "flow",
    """
    picked_u8(u8* control, i32 slot, u8* out, i64 size, i64 per)
    picked_i32(i32* control, i32 slot, u8* out, i64 size, i64 per)
    unite_u8(u8* mask, u8* out, i64 size)
    logical_not_u8(u8* mask, u8* out, i64 size)
    to_float_f32(u8* mask, f32* out, i64 size)
    normalize_u8(u8* pixels, f32* scale, f32* shift, f32* out, i64 size, i64 h_in, i64 w_in, i64 w_out, i64 c)
    crop_u8(u8* x, u8* out, i64 size, i64 h_in, i64 row_in, i64 h_out, i64 row_out)
    crop_i32(i32* x, i32* out, i64 size, i64 h_in, i64 row_in, i64 h_out, i64 row_out)
    mirror_u8(u8* x, u8* out, i64 size, i64 w, i64 c)
    mirror_i32(i32* x, i32* out, i64 size, i64 w, i64 c)
    mirror_f32_negated(f32* x, f32* out, i64 size, i64 w, i64 c)
    lookup_i32(i32* table, i32* index, i32* out, i64 size)
    narrow_u8(i32* index, u8* out, i64 size)
    ponder_i32(u8* mask, i32* out, i64 h_in, i64 w_in, i64 h_out, i64 w_out, f32 step_y, f32 step_x)
    """,
)


def copy(device, x, out):
    """out = x, of equal shapes."""
    device.copy(x, out)


def zero(device, out):
    """Set `out` to +0."""
    device.zero(out)


def picked(device, control, slot, out):
    """out (n, h, w) bool = where a mask or an index `control` (n, h, w) or (n, 1, 1) picks branch `slot`."""
    kernel = "picked_i32" if control.dtype == np.int32 else "picked_u8"
    args = control, int(slot), out, out.size, shared_by(control.size, out.size)
    device.launch_elements(kernel, out.size, args)


def unite(device, mask, out):
    """Set `out` where `mask` is set, too."""
    device.launch_elements("unite_u8", out.size, (mask, out, out.size))


def logical_not(device, mask, out):
    """out = not mask."""
    device.launch_elements("logical_not_u8", out.size, (mask, out, out.size))


def to_float(device, mask, out):
    """out (n, h, w, 1) = 1 where `mask` (n, h, w) is set, else +0."""
    device.launch_elements("to_float_f32", out.size, (mask, out, out.size))


def normalize_u8(device, pixels, scale, shift, out):
    """out (1, H, W, c) = fma(f32(pixels), scale, shift) for pixels (h, w, c) uint8, +0 below and to the right."""
    h, w, c = pixels.shape
    device.launch_elements("normalize_u8", out.size, (pixels, scale, shift, out, out.size, h, w, out.shape[2], c))


def crop(device, x, out):
    """out = the upper left part of x (n, H, W, c) that has the size of `out` (n, h, w, c)."""
    rows = x.shape[1], math.prod(x.shape[2:]), out.shape[1], math.prod(out.shape[2:])
    kernel, x, out = _by_size("crop", x, out)
    device.launch_elements(kernel, out.size, (x, out, out.size, *rows))


def mirror(device, x, negate_first, out):
    """out = x (n, h, w, c), its columns from right to left; with `negate_first` channel 0 negated. Any dtype."""
    place = out.size, x.shape[2], math.prod(x.shape[3:])
    if negate_first:
        device.launch_elements("mirror_f32_negated", out.size, (x, out, *place))
        return
    kernel, x, out = _by_size("mirror", x, out)
    device.launch_elements(kernel, out.size, (x, out, *place))


def _by_size(name, x, out):
    """Return the kernel for elements of this size, and the arrays as it wants them."""
    kind, dtype = ("i32", np.int32) if out.dtype.itemsize == 4 else ("u8", np.uint8)
    return f"{name}_{kind}", x.view(dtype), out.view(dtype)


def lookup(device, table, index, out):
    """out = table[index], all int32."""
    device.launch_elements("lookup_i32", out.size, (table, index, out, out.size))


def narrow(device, index, out):
    """out uint8 = index, int32 from 0 to 255."""
    device.launch_elements("narrow_u8", out.size, (index, out, out.size))


def ponder(device, mask, height, width, out):
    """out (h, w) int32 += 1 where `mask` (h', w'), enlarged to height x width by `nearest`, is set."""
    steps = nearest_step(mask.shape[0], height), nearest_step(mask.shape[1], width)
    device.launch_elements("ponder_i32", out.size, (mask, out, *mask.shape, *out.shape, *steps))
