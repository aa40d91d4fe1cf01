"""Output sizes of the spatial ops: one place for `ops` and `graph`."""

from typing import TypeAlias

import numpy as np

from pagnp.errors import ShapeError
from pagnp.types import Size

_Two: TypeAlias = tuple[int, int]
_Four: TypeAlias = tuple[int, int, int, int]


def conv_size(op: str, size: int, kernel: int, stride: int, pad: int, dilation: int) -> int:
    """Return the output length of a convolution along one axis; `pad` is the sum of both sides."""
    span = dilation * (kernel - 1) + 1
    out = (size + pad - span) // stride + 1
    if size + pad < span or out < 1:
        raise ShapeError(f"{op}: the kernel spans {span} pixels, the padded input has {size + pad}; use a larger image")
    return out


def conv2d_size(
    h_in: int, w_in: int, kernel: _Two, stride: _Two, padding: _Four, dilation: _Two, op: str = "conv2d"
) -> Size:
    """Return (h_out, w_out) of a conv; padding is (top, bottom, left, right)."""
    top, bottom, left, right = padding
    return (
        conv_size(op, h_in, kernel[0], stride[0], top + bottom, dilation[0]),
        conv_size(op, w_in, kernel[1], stride[1], left + right, dilation[1]),
    )


def conv_transpose2d_size(
    h_in: int,
    w_in: int,
    kernel: _Two,
    stride: _Two,
    padding: _Four,
    output_padding: _Two,
    dilation: _Two,
    op: str = "conv_transpose2d",
) -> Size:
    """Return (h_out, w_out) of a transposed conv; padding is the crop (top, bottom, left, right)."""
    top, bottom, left, right = padding
    h_out = (h_in - 1) * stride[0] + dilation[0] * (kernel[0] - 1) + 1 - top - bottom + output_padding[0]
    w_out = (w_in - 1) * stride[1] + dilation[1] * (kernel[1] - 1) + 1 - left - right + output_padding[1]
    if h_out < 1 or w_out < 1:
        raise ShapeError(f"{op}: the crop {tuple(padding)} leaves nothing of the output")
    return h_out, w_out


def pool_size(
    op: str, size: int, kernel: int, stride: int, before: int, after: int, dilation: int, ceil_mode: bool
) -> int:
    """Return the output length of a pooling along one axis (PyTorch's rule for `ceil_mode`)."""
    span = dilation * (kernel - 1) + 1
    if size + before + after < span:
        raise ShapeError(f"{op}: the window spans {span} pixels, the padded input has {size + before + after}")
    room = size + before + after - span
    out = (room + (stride - 1 if ceil_mode else 0)) // stride + 1
    if ceil_mode and (out - 1) * stride >= size + before:
        out -= 1  # the last window must start inside the input or the padding before it
    return out


def pool2d_size(
    op: str, h_in: int, w_in: int, kernel: _Two, stride: _Two, padding: _Four, dilation: _Two, ceil_mode: bool
) -> Size:
    """Return (h_out, w_out) of a pooling; padding is (top, bottom, left, right).

    Raises: ShapeError if a window would hold no real pixel.
    """
    sizes = []
    for axis, size in enumerate((h_in, w_in)):
        before, after = padding[2 * axis : 2 * axis + 2]
        out = pool_size(op, size, kernel[axis], stride[axis], before, after, dilation[axis], ceil_mode)
        start = np.arange(out) * stride[axis] - before
        tap = np.maximum(0, -(start // dilation[axis]))  # the first tap of each window that is not before the map
        empty = (tap >= kernel[axis]) | (start + tap * dilation[axis] >= size)
        if empty.any():
            window = f"window {int(np.argmax(empty))} of axis {'hw'[axis]}"
            raise ShapeError(f"{op}: {window} lies in the padding {tuple(padding)} alone; use less padding")
        sizes.append(out)
    return sizes[0], sizes[1]
