"""Oracle of pooling, resampling and layout: one output element at a time, from the written rules.

Every function takes the place `index` of the element and the `shape` of the output, then the kernel's arguments.
"""

import math
from fractions import Fraction

from pagnp.testing.oracle_conv import pixel
from pagnp.testing.oracle_scalar import INF, add, div, f32, fma, mul, round_to_f32, sub


def window(index, kernel, stride, padding, dilation=(1, 1)):
    """Return the input positions (iy, ix) under the window of the output at `index`, in scan order."""
    _, oy, ox, _ = index
    return [
        (oy * stride[0] - padding[0] + ky * dilation[0], ox * stride[1] - padding[2] + kx * dilation[1])
        for ky in range(kernel[0])
        for kx in range(kernel[1])
    ]


def max_pool2d(index, shape, x, kernel, stride, padding, dilation):
    """v > best or v NaN replaces, in scan order; padding never wins."""
    best = -INF
    for iy, ix in window(index, kernel, stride, padding, dilation):
        if 0 <= iy < x.shape[1] and 0 <= ix < x.shape[2]:
            v = float(x[index[0], iy, ix, index[3]])
            if v > best or math.isnan(v):
                best = v
    return best


def counted(start, kernel, size, before, after, include_pad):
    """Return how many positions of a window count along one axis.

    PyTorch's rule: with count_include_pad the padding counts, but not what ceil mode adds behind it.
    """
    low, high = (-before, size + after) if include_pad else (0, size)
    return sum(1 for position in range(start, start + kernel) if low <= position < high)


def avg_pool2d(index, shape, x, kernel, stride, padding, count_include_pad):
    """acc = +0; acc + x in scan order, padding adds +0; acc / f32(count)."""
    n, oy, ox, c = index
    acc = 0.0
    for iy, ix in window(index, kernel, stride, padding):
        acc = add(acc, pixel(x, n, iy, ix, c))
    top, bottom, left, right = padding
    rows = counted(oy * stride[0] - top, kernel[0], x.shape[1], top, bottom, count_include_pad)
    columns = counted(ox * stride[1] - left, kernel[1], x.shape[2], left, right, count_include_pad)
    return div(acc, f32(rows * columns))


def source_position(o, size_in, size_out, align_corners):
    """Return (i0, i1, w): the two source positions and the weight of the second."""
    if align_corners:
        numerator, denominator = (o * (size_in - 1), size_out - 1) if size_out > 1 else (0, 1)
    else:
        numerator, denominator = max((2 * o + 1) * size_in - size_out, 0), 2 * size_out
    i0, rest = divmod(numerator, denominator)
    return i0, min(i0 + 1, size_in - 1), round_to_f32(Fraction(rest, denominator))


def bilinear(index, shape, x, align_corners):
    """t = fma(wx, b-a, a), u = fma(wx, d-c, c), y = fma(wy, u-t, t)."""
    n, oy, ox, channel = index
    y0, y1, wy = source_position(oy, x.shape[1], shape[1], align_corners)
    x0, x1, wx = source_position(ox, x.shape[2], shape[2], align_corners)
    a, b = float(x[n, y0, x0, channel]), float(x[n, y0, x1, channel])
    c, d = float(x[n, y1, x0, channel]), float(x[n, y1, x1, channel])
    t = fma(wx, sub(b, a), a)
    u = fma(wx, sub(d, c), c)
    return fma(wy, sub(u, t), t)


def nearest_position(o, size_in, size_out):
    """Return min(int(floor(f32(o) * (f32(size_in)/f32(size_out)))), size_in - 1), PyTorch's float32 rule."""
    return min(math.floor(mul(f32(o), div(f32(size_in), f32(size_out)))), size_in - 1)


def nearest(index, shape, x):
    """The value at the nearest source position."""
    n, oy, ox, c = index
    return float(x[n, nearest_position(oy, x.shape[1], shape[1]), nearest_position(ox, x.shape[2], shape[2]), c])


def concat(index, shape, xs):
    """The inputs' channels one after the other."""
    n, y, x, c = index
    for part in xs:
        if c < part.shape[3]:
            return float(part[n, y, x, c])
        c -= part.shape[3]
    raise IndexError(f"channel {index[3]} is behind the last input")


def pad(index, shape, x, padding):
    """+0 around the map."""
    n, y, column, c = index
    return pixel(x, n, y - padding[0], column - padding[2], c)


def slice_channels(index, shape, x, start, stop):
    """Channels start..stop of x."""
    return float(x[(*index[:3], start + index[3])])
