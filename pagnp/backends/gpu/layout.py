"""Launches of the kernels that move values without arithmetic."""

from pagnp.backends.gpu.rows import launch_rows, rows_of, wanted
from pagnp.backends.gpu.signature import CUPY, signatures

# concat: the c channels of x become channels start .. start+c-1 of the c_out of out. slice_channels: the other way
# round. With a count only the first *count rows are wanted.
_CONCAT = "(f32* x, f32* out, i64 rows, i64 c, i64 start, i64 c_out, i32* count, i32 has_count)"
_PAD = "(f32* x, f32* out, i64 size, i64 h_in, i64 w_in, i64 c, i64 h_out, i64 w_out, i64 top, i64 left)"
_SLICE = "(f32* x, f32* out, i64 rows, i64 c_in, i64 start, i64 c, i32* count, i32 has_count)"

KERNELS = {
    **signatures("layout", f"concat_f32{_CONCAT} pad_f32{_PAD} slice_channels_f32{_SLICE}"),
    **signatures("layout", f"concat_f32_v4{_CONCAT} pad_f32_v4{_PAD} slice_channels_f32_v4{_SLICE}", (CUPY,)),
}


def concat(device, xs, out):
    """Fill `out` with the channels of all `xs`, in order: one launch for each."""
    start, c_out = 0, out.shape[-1]
    for x in xs:
        rows, c = rows_of(x)
        args = x, out, rows, c, start, c_out, *wanted(device)
        launch_rows(device, "concat_f32", rows * c, _together(c, start, c_out), (x, out), args)
        start += c


def pad(device, x, padding, out):
    """Fill `out` with x inside a frame of +0; padding is (top, bottom, left, right)."""
    c = out.shape[3]
    args = x, out, out.size, x.shape[1], x.shape[2], c, out.shape[1], out.shape[2], padding[0], padding[2]
    launch_rows(device, "pad_f32", out.size, c, (x, out), args)


def slice_channels(device, x, start, stop, out):
    """Fill `out` with the channels start .. stop-1 of x."""
    rows, c_in = rows_of(x)
    c = stop - start
    args = x, out, rows, c_in, start, c, *wanted(device)
    launch_rows(device, "slice_channels_f32", rows * c, _together(c, start, c_in), (x, out), args)


def _together(*numbers):
    """Return a number that 4 divides where it divides all of `numbers`."""
    return 0 if all(number % 4 == 0 for number in numbers) else 1
