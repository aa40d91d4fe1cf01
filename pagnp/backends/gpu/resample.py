"""Launches of bilinear and nearest-neighbour resizing."""

import numpy as np

from pagnp.backends.gpu.device import BLOCK
from pagnp.backends.gpu.rows import QUAD, is_wide, launch_rows
from pagnp.backends.gpu.signature import CUPY, NUMBA, signatures

ROWS = 4  # of out, one below the other, to a thread of bilinear_f32_rows
LARGE = 1 << 16  # elements of an output from which on such threads are enough to fill a GPU

# x (n, band_in, w_in, c) holds the rows from first_in of a map h_in rows high, out (n, band_out, w_out, c) those from
# first_out of one h_out high. step_y, step_x: f32(in) / f32(out) of the whole maps.
_BILINEAR = """(f32* x, f32* out, i64 size, i64 band_in, i64 w_in, i64 c, i64 band_out, i64 w_out,
                i64 first_in, i64 h_in, i64 first_out, i64 h_out, i32 align_corners)"""
_NEAREST = """(f32* x, f32* out, i64 size, i64 band_in, i64 w_in, i64 c, i64 band_out, i64 w_out,
               i64 first_in, i64 h_in, i64 first_out, f32 step_y, f32 step_x)"""

KERNELS = {
    **signatures("resample", f"bilinear_f32{_BILINEAR} nearest_f32{_NEAREST}"),
    **signatures(
        "resample", f"bilinear_f32_rows{_BILINEAR} bilinear_f32_rows_v4{_BILINEAR} nearest_f32_v4{_NEAREST}", (CUPY,)
    ),
}


def bilinear(device, x, align_corners, out, rows=None):
    """Fill `out` (n, h_out, w_out, c); rows (first_in, h_in, first_out, h_out) where x and out are bands of rows."""
    first_in, h_in, first_out, h_out = rows or (0, x.shape[1], 0, out.shape[1])
    args = *_arrays(x, out), first_in, h_in, first_out, h_out, bool(align_corners)
    n, height, width, c = out.shape
    wide = is_wide(device, c, x, out)
    if not out.size or not (wide or (out.size >= LARGE and device.name != NUMBA)):
        device.launch_elements("bilinear_f32", out.size, args)
        return
    places = width * c // (QUAD if wide else 1)
    grid = -(-n * height // ROWS) * -(-places // BLOCK)
    device.launch("bilinear_f32_rows_v4" if wide else "bilinear_f32_rows", grid, BLOCK, args)


def nearest(device, x, out, rows=None):
    """Fill `out` (n, h_out, w_out, c) with PyTorch's `nearest`; rows as in bilinear."""
    first_in, h_in, first_out, h_out = rows or (0, x.shape[1], 0, out.shape[1])
    steps = nearest_step(h_in, h_out), nearest_step(x.shape[2], out.shape[2])
    args = *_arrays(x, out), first_in, h_in, first_out, *steps
    launch_rows(device, "nearest_f32", out.size, out.shape[3], (x, out), args)


def nearest_step(length_in, length_out):
    """Return the distance of two outputs on the input's axis."""
    return np.float32(length_in) / np.float32(length_out)


def _arrays(x, out):
    """Return the arguments x .. w_out of a signature."""
    return x, out, out.size, x.shape[1], x.shape[2], out.shape[3], out.shape[1], out.shape[2]
