"""Where the outputs and taps of a convolution lie: integers of its geometry, remembered from call to call."""

import functools

import numpy as np

from pagnp.backends.numba_cpu.rowkernel import ROW_TILE

_GEOMETRIES = 256  # of convolutions that are remembered
_LEAST_SKIPPED = 0.015  # share of the terms outside the map from which on outputs are sorted by it


@functools.lru_cache(maxsize=_GEOMETRIES)
def conv2d_place(size, kernel, c_in, joined, stride, padding, dilation):
    """Return (place, taps, values a tap) of conv_tiles for an input of `size` (h, w).

    joined  a kernel row is one tap of k_w * c_in values: they lie in a row in memory where nothing is padded
    """
    (k_h, k_w), (top, bottom, left, right) = kernel, padding
    h_out = (size[0] + top + bottom - dilation[0] * (k_h - 1) - 1) // stride[0] + 1
    w_out = (size[1] + left + right - dilation[1] * (k_w - 1) - 1) // stride[1] + 1
    rows = range(0, k_h * dilation[0], dilation[0])
    columns = (0,) if joined else range(0, k_w * dilation[1], dilation[1])
    place = (h_out, w_out, *stride, top, left, 1, 1, 0, 0, h_out, w_out)
    return place, tap_offsets(rows, columns), c_in * (k_w if joined else 1)


def tap_offsets(rows, columns):
    """Return (t, 2) int64: every (row, column), rows outermost."""
    return np.array([(dy, dx) for dy in rows for dx in columns], np.int64).reshape(-1, 2)


@functools.lru_cache(maxsize=_GEOMETRIES)
def border_kinds(size, place, taps):
    """Return int32 arrays (grid_h,), (grid_w,): a number for each set of taps inside the map, by row and by column.

    None where hardly any tap is outside. Outputs of one kind stand together then: whole tiles have a tap outside, which
    the microkernel skips.
    """
    offsets = np.frombuffer(taps, np.int64).reshape(-1, 2)
    kinds, share = [], 1.0
    for axis in (0, 1):
        distances = sorted(set(offsets[:, axis].tolist()))
        at = np.arange(place[axis])[:, None] * place[2 + axis] - place[4 + axis] + distances
        inside = (at >= 0) & (at < size[axis])
        changes = (inside[1:] != inside[:-1]).any(axis=1)
        kinds.append(np.concatenate([[0], np.cumsum(changes)]).astype(np.int32))
        share *= inside.mean()
    return kinds if share < 1 - _LEAST_SKIPPED else None


@functools.lru_cache(maxsize=16)  # the places can be as many as a map has rows and more
def row_places(size, place, taps, run):
    """Return (columns, tap_rows) of conv2d_f32_rows, the values a tap, and the places (m,) int32 that it leaves.

    size  (n, w_in)
    """
    offsets = np.frombuffer(taps, np.int64).reshape(-1, 2)
    (n, w_in), (grid_h, grid_w, _, stride, _, left) = size, place[:6]
    first = max(0, -(-(left - offsets[:, 1].min()) // stride))
    last = min(grid_w - 1, (w_in - 1 + left - offsets[:, 1].max()) // stride)
    tiles = int(max(0, last + 1 - first) // ROW_TILE[0])
    starts = offsets[:, 1] == offsets[0, 1]
    columns, width = offsets[: starts.size // starts.sum(), 1], starts.size // starts.sum()
    is_joined = (np.diff(columns) == 1).all()  # a kernel row is one run of values
    tap_rows = offsets[starts] if is_joined else offsets
    rest = [x for x in range(grid_w) if not first <= x < first + tiles * ROW_TILE[0]]
    places = np.add.outer(np.arange(n * grid_h, dtype=np.int32) * grid_w, np.array(rest, np.int32)).ravel()
    return (int(first), tiles), np.ascontiguousarray(tap_rows), int(run * (width if is_joined else 1)), places
