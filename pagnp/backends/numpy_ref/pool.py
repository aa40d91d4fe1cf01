"""Max and average pooling: a window is read in scan order, ky then kx."""

import numpy as np


def max_pool2d(x, kernel, stride, padding, dilation, out):
    """Fill `out` (n, h_out, w_out, c) with the maximum of each window; a NaN in it wins."""
    # -inf as padding never wins: `v > best` is false for it and best starts there.
    padded = _padded(x, kernel, stride, padding, dilation, out.shape, np.float32(-np.inf))
    best = np.full(out.shape, -np.inf, np.float32)
    for v in _windows(padded, kernel, stride, dilation, out.shape):
        best = np.where((v > best) | np.isnan(v), v, best)
    np.copyto(out, best)


def avg_pool2d(x, kernel, stride, padding, count_include_pad, out):
    """Fill `out` (n, h_out, w_out, c) with sum / f32(count); sums from +0 in scan order, padding adds +0."""
    padded = _padded(x, kernel, stride, padding, (1, 1), out.shape, np.float32(0))
    acc = np.zeros(out.shape, np.float32)
    for v in _windows(padded, kernel, stride, (1, 1), out.shape):
        acc = acc + v
    rows = _counts(out.shape[1], x.shape[1], kernel[0], stride[0], padding[0], padding[1], count_include_pad)
    columns = _counts(out.shape[2], x.shape[2], kernel[1], stride[1], padding[2], padding[3], count_include_pad)
    count = rows[:, None] * columns[None, :]
    np.divide(acc, count.astype(np.float32)[:, :, None], out=out)


def _padded(x, kernel, stride, padding, dilation, out_shape, fill):
    """Return x inside `fill`, large enough for the last window (ceil mode may reach past the padding)."""
    n, h_in, w_in, c = x.shape
    top, bottom, left, right = padding
    h = max(top + h_in + bottom, (out_shape[1] - 1) * stride[0] + dilation[0] * (kernel[0] - 1) + 1)
    w = max(left + w_in + right, (out_shape[2] - 1) * stride[1] + dilation[1] * (kernel[1] - 1) + 1)
    padded = np.full((n, h, w, c), fill, np.float32)
    padded[:, top : top + h_in, left : left + w_in] = x
    return padded


def _windows(padded, kernel, stride, dilation, out_shape):
    """Yield, tap by tap in scan order, the value that each window has at that tap."""
    _, h_out, w_out, _ = out_shape
    for ky in range(kernel[0]):
        rows = padded[:, ky * dilation[0] :: stride[0]][:, :h_out]
        for kx in range(kernel[1]):
            yield rows[:, :, kx * dilation[1] :: stride[1]][:, :, :w_out]


def _counts(length_out, length_in, kernel, stride, before, after, count_include_pad):
    """Return the divisor's factor along one axis: PyTorch's rule, a window ends at input + padding at the latest."""
    start = np.arange(length_out) * stride - before
    end = np.minimum(start + kernel, length_in + after)
    if not count_include_pad:
        start, end = np.maximum(start, 0), np.minimum(end, length_in)
    return end - start
