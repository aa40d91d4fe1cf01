"""Launches of bilinear and nearest-neighbour resizing."""

import numpy as np

from pagnp.backends.gpu.rows import launch_rows
from pagnp.backends.gpu.signature import CUPY, signatures

# x (n, band_in, w_in, c) holds the rows from first_in of a map h_in rows high, out (n, band_out, w_out, c) those from
# first_out of one h_out high. step_y, step_x: f32(in) / f32(out) of the whole maps.
_BILINEAR = """(f32* x, f32* out, i64 size, i64 band_in, i64 w_in, i64 c, i64 band_out, i64 w_out,
                i64 first_in, i64 h_in, i64 first_out, i64 h_out, i32 align_corners)"""
_NEAREST = """(f32* x, f32* out, i64 size, i64 band_in, i64 w_in, i64 c, i64 band_out, i64 w_out,
               i64 first_in, i64 h_in, i64 first_out, f32 step_y, f32 step_x)"""

KERNELS = {
    **signatures("resample", f"bilinear_f32{_BILINEAR} nearest_f32{_NEAREST}"),
    **signatures("resample", f"bilinear_f32_v4{_BILINEAR} nearest_f32_v4{_NEAREST}", (CUPY,)),
}


def bilinear(device, x, align_corners, out, rows=None):
    """Fill `out` (n, h_out, w_out, c); rows (first_in, h_in, first_out, h_out) where x and out are bands of rows."""
    first_in, h_in, first_out, h_out = rows or (0, x.shape[1], 0, out.shape[1])
    place = first_in, h_in, first_out, h_out, bool(align_corners)
    _resize(device, "bilinear_f32", x, out, place)


def nearest(device, x, out, rows=None):
    """Fill `out` (n, h_out, w_out, c) with PyTorch's `nearest`; rows as in bilinear."""
    first_in, h_in, first_out, h_out = rows or (0, x.shape[1], 0, out.shape[1])
    steps = nearest_step(h_in, h_out), nearest_step(x.shape[2], out.shape[2])
    _resize(device, "nearest_f32", x, out, (first_in, h_in, first_out, *steps))


def nearest_step(length_in, length_out):
    """Return the distance of two outputs on the input's axis."""
    return np.float32(length_in) / np.float32(length_out)


def _resize(device, kernel, x, out, place):
    c = out.shape[3]
    sizes = out.size, x.shape[1], x.shape[2], c, out.shape[1], out.shape[2]
    launch_rows(device, kernel, out.size, c, (x, out), (x, out, *sizes, *place))
