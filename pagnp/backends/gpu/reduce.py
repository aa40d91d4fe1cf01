"""Launches of the reductions over channels or over the map."""

import numpy as np

from pagnp.backends.gpu.rows import rows_of, wanted
from pagnp.backends.gpu.signature import CUPY, NUMBA, signatures

WARP = 32  # threads that run together, and channels from which on they take a row together

_ROWS = "(f32* x, f32* out, i64 rows, i64 c, i32* count, i32 has_count)"
_ARGMAX = "(f32* x, i32* out, i64 rows, i64 c)"

# rows of c channels, of which with a count only the first *count are wanted; row_sum: rows of w pixels of c channels.
# *_warp have a warp a row, the others a thread.
KERNELS = {
    **signatures(
        "reduce",
        f"""
        global_mean_f32_rows(f32* x, f32* row_sum, i64 rows, i64 w, i64 c)
        global_mean_f32(f32* row_sum, f32* out, i64 n, i64 h, i64 c, f32 count)
        softmax_f32{_ROWS} argmax_f32{_ARGMAX} l2_normalize_f32{_ROWS}
        """,
    ),
    **signatures("reduce", f"softmax_f32_warp{_ROWS} argmax_f32_warp{_ARGMAX} l2_normalize_f32_warp{_ROWS}", (CUPY,)),
}


def global_mean(device, x, out, count=None):
    """Fill `out` (n, 1, 1, c): each row from +0 over ox, then the row sums from +0 over oy, / f32(count or h*w)."""
    n, h, w, c = x.shape
    row_sum = device.empty((n, h, c))
    device.launch_elements("global_mean_f32_rows", n * h * c, (x, row_sum, n * h, w, c))
    device.launch_elements("global_mean_f32", n * c, (row_sum, out, n, h, c, np.float32(count or h * w)))


def softmax(device, x, out):
    """out_k = e_k / s with e_k = exp(x_k - m), m the first maximum by `>`, s = e_0 + e_1 + ... from +0."""
    rows, c = rows_of(x)
    _by_rows(device, "softmax_f32", rows, c, (x, out, rows, c, *wanted(device)))


def argmax(device, x, out):
    """out = the first k with the greatest x[k]: x[k] > x[best], from best = 0."""
    rows, c = rows_of(x)
    _by_rows(device, "argmax_f32", rows, c, (x, out, rows, c))


def l2_normalize(device, x, out):
    """out = x / (sqrt(s) + 1e-5), s the sum of squares over channels by the dot-product rule."""
    rows, c = rows_of(x)
    _by_rows(device, "l2_normalize_f32", rows, c, (x, out, rows, c, *wanted(device)))


def _by_rows(device, kernel, rows, c, args):
    """Launch `kernel` with a thread a row; or, of many channels, `<kernel>_warp`."""
    warp = c >= WARP and device.name != NUMBA
    device.launch_elements(f"{kernel}_warp" if warp else kernel, rows * WARP if warp else rows, args)
