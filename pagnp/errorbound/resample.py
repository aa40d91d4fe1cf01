"""Bounds of bilinear and nearest resizing."""

from typing import Any

import numpy as np

from pagnp.errorbound.rounding import TINY, Args, Errors, Wide, error_of, gamma, wide


def bilinear(args: Args, shape: Any, errors: Errors) -> Wide:
    """The shift of each position times the steepest step around it, and eight roundings of the largest neighbour.

    PyTorch finds positions in float32, we in integers; interpolation itself moves no further than its inputs.
    """
    x, e = wide(args["x"]), error_of(errors, "x")
    at_y, off_y = _positions(x.shape[1], shape[1], args["align_corners"])
    at_x, off_x = _positions(x.shape[2], shape[2], args["align_corners"])
    shifted_y = _steepest(x, e, 1, at_y) * off_y[:, None, None]
    shifted_x = _steepest(x, e, 2, at_x) * off_x[:, None]
    shifted = _largest(shifted_y, 2, at_x) + _largest(shifted_x, 1, at_y)
    moved = _largest(_largest(e, 2, at_x), 1, at_y) if np.any(e) else 0.0
    size = _largest(_largest(np.abs(x), 2, at_x), 1, at_y) + moved
    return shifted + moved + 2 * gamma(8) * size + 8 * TINY


def nearest(args: Args, shape: Any, errors: Errors) -> Wide:
    """The error of the pixel that is taken; which one that is follows the same float32 rule on both sides."""
    e = error_of(errors, "x")
    if not np.any(e):
        return np.zeros(shape)
    rows, columns = (_nearest(args["x"].shape[axis], shape[axis]) for axis in (1, 2))
    return np.take(np.take(e, rows, axis=1), columns, axis=2)


def _nearest(size_in, size_out):
    step = np.float32(size_in) / np.float32(size_out)
    return np.minimum(np.floor(np.arange(size_out).astype(np.float32) * step).astype(int), size_in - 1)


def _positions(size_in, size_out, align_corners):
    """Return the exact source positions and how far PyTorch's float32 index arithmetic may be off."""
    o = np.arange(size_out, dtype=np.float64)
    if align_corners:
        exact = o * (size_in - 1) / max(size_out - 1, 1)
    else:
        exact = np.maximum((o + 0.5) * size_in / size_out - 0.5, 0)
    return exact, gamma(4) * (exact + 1)  # scale, (o + .5), product, - .5: four roundings, and our weight's one


def _near(x, axis, at):
    """Return x at the four pixels around each position `at` along an axis, the outer ones repeated."""
    low = np.clip(np.floor(at).astype(int) - 1, 0, x.shape[axis] - 1)
    return [np.take(x, np.clip(low + k, 0, x.shape[axis] - 1), axis=axis) for k in range(4)]


def _largest(x, axis, at):
    return np.max(_near(x, axis, at), axis=0)


def _steepest(x, e, axis, at):
    """Return the largest step between neighbours around each position; each of them may be off by `e`."""
    near = _near(x, axis, at)
    step = np.max([np.abs(near[k + 1] - near[k]) for k in range(3)], axis=0)
    return step + 2 * _largest(e, axis, at) if np.any(e) else step
