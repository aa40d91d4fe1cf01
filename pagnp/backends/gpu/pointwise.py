"""Launches of the element-by-element kernels."""

from pagnp.backends.gpu.signature import signatures

# rows: how many rows of c channels; where count is not null, only the first *count of them are wanted (compact rows,
# of which the host does not know the number: device.row_count).
KERNELS = signatures(
    "pointwise",
    """
    relu_f32(f32* x, f32* out, i64 rows, i64 c, i32* count, i32 has_count)
    """,
)


def relu(device, x, out):
    """out = +0 if x < 0 else x."""
    rows, c = _rows(out)
    device.launch_elements("relu_f32", rows * c, (x, out, rows, c, device.row_count, device.row_count is not None))


def _rows(array):
    """Return (rows, channels) of an array of any shape."""
    c = array.shape[-1] if array.ndim else 1
    return array.size // c, c
