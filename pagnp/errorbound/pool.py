"""Bounds of max and average pooling."""

from typing import Any

import numpy as np

from pagnp.errorbound.rounding import Args, Errors, Wide, averaged, error_of, wide


def max_pool2d(args: Args, shape: Any, errors: Errors) -> Wide:
    """The largest error in the window: a maximum moves no further than its inputs."""
    e = error_of(errors, "x")
    if not np.any(e):
        return np.zeros(shape)
    found = np.zeros(shape)
    for part in _windows(e, args, args["dilation"], shape):
        np.maximum(found, part, out=found)
    return found


def avg_pool2d(args: Args, shape: Any, errors: Errors) -> Wide:
    """As a sum of k_h*k_w terms, and a quotient."""
    e, count = error_of(errors, "x"), _count(args, shape)
    spread = sum(_windows(np.abs(wide(args["x"])), args, (1, 1), shape))
    moved = sum(_windows(e, args, (1, 1), shape)) if np.any(e) else 0.0
    taps = args["kernel"][0] * args["kernel"][1]
    return averaged(taps, spread, moved, count, taps)


def _windows(x, args, dilation, shape):
    """Yield, tap by tap, what each window has there; outside of the map 0."""
    (top, _, left, _), (k_h, k_w), stride = args["padding"], args["kernel"], args["stride"]
    h = max(top + x.shape[1], (shape[1] - 1) * stride[0] + dilation[0] * (k_h - 1) + 1)
    w = max(left + x.shape[2], (shape[2] - 1) * stride[1] + dilation[1] * (k_w - 1) + 1)
    padded = np.zeros((x.shape[0], h, w, x.shape[3]))
    padded[:, top : top + x.shape[1], left : left + x.shape[2]] = x
    for ky in range(k_h):
        rows = padded[:, ky * dilation[0] :: stride[0]][:, : shape[1]]
        for kx in range(k_w):
            yield rows[:, :, kx * dilation[1] :: stride[1]][:, :, : shape[2]]


def _count(args, shape):
    """Return the divisors (h_out, w_out, 1): the pixels of a window that count, padding among them or not."""
    sides = []
    for axis in (0, 1):
        before, after = args["padding"][2 * axis : 2 * axis + 2]
        length = args["x"].shape[1 + axis]
        start = np.arange(shape[1 + axis]) * args["stride"][axis] - before
        end = np.minimum(start + args["kernel"][axis], length + after)
        if not args["count_include_pad"]:
            start, end = np.maximum(start, 0), np.minimum(end, length)
        sides.append(end - start)
    return (sides[0][:, None] * sides[1])[:, :, None]
