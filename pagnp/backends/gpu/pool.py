"""Launches of max and average pooling."""

from pagnp.backends.gpu.rows import launch_rows
from pagnp.backends.gpu.signature import CUPY, signatures

_MAX = """(f32* x, f32* out, i64 size, i64 h_in, i64 w_in, i64 c, i64 h_out, i64 w_out,
           i64 k_h, i64 k_w, i64 stride_y, i64 stride_x, i64 top, i64 left, i64 dilation_y, i64 dilation_x)"""
_AVG = """(f32* x, f32* out, i64 size, i64 h_in, i64 w_in, i64 c, i64 h_out, i64 w_out,
           i64 k_h, i64 k_w, i64 stride_y, i64 stride_x, i64 top, i64 bottom, i64 left, i64 right,
           i32 count_include_pad)"""

# x (n, h_in, w_in, c), out (n, h_out, w_out, c) of `size` elements
KERNELS = {
    **signatures("pool", f"max_pool2d_f32{_MAX} avg_pool2d_f32{_AVG}"),
    **signatures("pool", f"max_pool2d_f32_v4{_MAX} avg_pool2d_f32_v4{_AVG}", (CUPY,)),
}


def max_pool2d(device, x, kernel, stride, padding, dilation, out):
    """Fill `out` (n, h_out, w_out, c) with the maximum of each window; a NaN in it wins."""
    window = *kernel, *stride, padding[0], padding[2], *dilation
    _pool(device, "max_pool2d_f32", x, out, window)


def avg_pool2d(device, x, kernel, stride, padding, count_include_pad, out):
    """Fill `out` (n, h_out, w_out, c) with sum / f32(count)."""
    window = *kernel, *stride, *padding, bool(count_include_pad)
    _pool(device, "avg_pool2d_f32", x, out, window)


def _pool(device, kernel, x, out, window):
    c = out.shape[3]
    place = out.size, x.shape[1], x.shape[2], c, out.shape[1], out.shape[2]
    launch_rows(device, kernel, out.size, c, (x, out), (x, out, *place, *window))
