"""Output sizes against what they mean: windows laid out one by one, every axis with numbers of its own."""

from itertools import product

import pytest

from pagnp.errors import ShapeError
from pagnp.shapes import conv2d_size, conv_transpose2d_size, pool2d_size

AXES = [  # size, kernel, stride, before, after, dilation
    axis
    for axis in product((1, 2, 3, 4, 7), (1, 2, 3), (1, 2, 3), (0, 1, 2), (0, 1), (1, 2))
    if axis[0] + axis[3] + axis[4] > axis[5] * (axis[1] - 1)
]


def windows(size, kernel, stride, before, after, dilation, ceil_mode=False):
    """Return the starts of the windows on the padded axis.

    With `ceil_mode` a last one may hang over the end; but a last one that starts behind the map is left out (PyTorch).
    """
    length, span = before + size + after, dilation * (kernel - 1) + 1
    starts = [start for start in range(0, length, stride) if start + span <= length]
    if ceil_mode and starts[-1] + span < length:
        starts.append(starts[-1] + stride)
    return starts[:-1] if ceil_mode and starts[-1] >= before + size else starts


def holds_pixels(starts, size, kernel, before, dilation):
    """Tell whether every window has a tap inside the map."""
    return all(any(before <= start + k * dilation < before + size for k in range(kernel)) for start in starts)


def both(axis, other):
    """Return size, kernel, stride, padding, dilation of a map whose rows are `axis` and whose columns are `other`."""
    size, kernel, stride, before, after, dilation = zip(axis, other, strict=True)
    return size, kernel, stride, (before[0], after[0], before[1], after[1]), dilation


OTHER = (5, 2, 2, 1, 0, 1)  # the axis beside the one that is tried: 3 windows


@pytest.mark.parametrize("turned", (False, True))
def test_conv_sizes(turned):
    for axis in AXES:
        size, kernel, stride, padding, dilation = both(*((OTHER, axis) if turned else (axis, OTHER)))
        want = (len(windows(*axis)), 3)
        assert conv2d_size(*size, kernel, stride, padding, dilation) == (want[::-1] if turned else want), axis


@pytest.mark.parametrize("turned", (False, True))
@pytest.mark.parametrize("ceil_mode", (False, True))
def test_pool_sizes(turned, ceil_mode):
    for axis in AXES:
        size, kernel, stride, padding, dilation = both(*((OTHER, axis) if turned else (axis, OTHER)))
        starts = windows(*axis, ceil_mode)
        arguments = ("max_pool2d", *size, kernel, stride, padding, dilation, ceil_mode)
        if holds_pixels(starts, axis[0], axis[1], axis[3], axis[5]):
            want = (len(starts), 3)
            assert pool2d_size(*arguments) == (want[::-1] if turned else want), axis
        else:
            with pytest.raises(ShapeError, match="lies in the padding"):
                pool2d_size(*arguments)


@pytest.mark.parametrize("turned", (False, True))
def test_transposed_sizes(turned):
    """The map that a conv with the same attributes brings back to the size it came from."""
    for axis in AXES:
        size, kernel, stride, padding, dilation = both(*((OTHER, axis) if turned else (axis, OTHER)))
        small = conv2d_size(*size, kernel, stride, padding, dilation)
        lost = [
            (n + padding[2 * i] + padding[2 * i + 1] - dilation[i] * (kernel[i] - 1) - 1) % stride[i]
            for i, n in enumerate(size)
        ]
        assert conv_transpose2d_size(*small, kernel, stride, padding, tuple(lost), dilation) == size, axis
