"""Point the strips of `stripkernel` at pixels: where each output of a strip reads and writes.

A grid of places is walked PIXELS at a time. At each place there are outputs of one or more phases, each with taps of
its own (a convolution has one phase, a transposed convolution one for each output pixel that falls to an input pixel).
Tap t of the place (gy, gx) reads the input pixel
    iy = gy * stride_y - top + taps[t, 0],   ix = gx * stride_x - left + taps[t, 1]
and the output of a phase is (gy * step_y + first_y, gx * step_x + first_x), if the map has that pixel.
"""

import functools

import numpy as np

from pagnp.backends.numba_cpu.compile import jit
from pagnp.backends.numba_cpu.stripkernel import PIXELS

# Fields of a strip, PIXELS int64 each: y and x of the input pixel that the taps are counted from, the address of that
# pixel, oy and ox of the output of phase (0, 0), the byte offset of its row in the output.
FIELDS = 6
Y, X, ORIGIN, OY, OX, ROW = range(FIELDS)
_FAR = 1 << 40


@functools.lru_cache(maxsize=256)
def one_phase(taps, group):
    """Return (phases, taps) of a convolution whose (t, 2) int64 tap offsets have the bytes `taps`.

    phases  (1, 9) int64: first_y, first_x, first tap, number of taps, least and largest offset in y, and in x, how many
            taps make a row of neighbours (see _columns)
    taps    (t, 3) int64: y, x, row of the weights: `group` of them a tap
    """
    offsets = np.frombuffer(taps, np.int64).reshape(-1, 2)
    rows = np.arange(0, len(offsets) * group, group)
    return np.array([phase(0, 0, 0, offsets)], np.int64), np.column_stack((offsets, rows))


def phase(first_y, first_x, first_tap, offsets):
    """Return the row of `phases` for the taps with these (y, x) offsets."""
    reach = [bound for axis in zip(*offsets, strict=True) for bound in (min(axis), max(axis))] or [0] * 4
    return (first_y, first_x, first_tap, len(offsets), *reach, _columns([*map(tuple, offsets)]))


def _columns(offsets):
    """Return how many taps make a row of neighbours; 0 if the rows differ."""
    size = next((i for i, (y, _) in enumerate(offsets) if y != offsets[0][0]), len(offsets))
    wanted = [(y, x + i) for y, x in offsets[::size] for i in range(size)] if size else None
    return size if wanted == offsets else 0


@jit(cached=False)
def locate(number, count, sites, is_compact, x_at, shape, place, strip):
    """Fill `strip` (FIELDS, PIXELS) for the places from `number` on, of `count`; missing ones repeat the last.

    sites       (m,) int32, the flat place of the grid that each place is at; empty: all of the grid
    is_compact  1: place number i is row i of the output
    x_at        address of x;  shape  (h_in, w_in, c) of it
    place       (grid_h, grid_w, stride_y, stride_x, top, left, step_y, step_x, h_out, w_out)
    returns     (least y, largest y, least x, largest x, largest oy, largest ox, whether they are neighbours in a row)
    """
    h_in, w_in, c = shape
    grid_h, grid_w, stride_y, stride_x, top, left, step_y, step_x, h_out, w_out = place
    if sites.size == 0:
        image, gy, gx = _divided(number, grid_h, grid_w)
        if gx + PIXELS <= grid_w:  # the usual case: neighbours in a row
            y, x, oy, ox = gy * stride_y - top, gx * stride_x - left, gy * step_y, gx * step_x
            origin, row = x_at + ((image * h_in + y) * w_in + x) * c * 4, ((image * h_out + oy) * w_out + ox) * c * 4
            for p in range(PIXELS):
                strip[Y, p], strip[X, p], strip[OY, p], strip[OX, p] = y, x + p * stride_x, oy, ox + p * step_x
                strip[ORIGIN, p], strip[ROW, p] = origin + p * stride_x * c * 4, row + p * step_x * c * 4
            last = PIXELS - 1
            return y, y, x, x + last * stride_x, oy, ox + last * step_x, True
    low_y, high_y, low_x, high_x, high_oy, high_ox = _FAR, -_FAR, _FAR, -_FAR, -_FAR, -_FAR
    for p in range(PIXELS):
        one = min(number + p, count - 1)
        image, gy, gx = _divided(np.int64(sites[one]) if sites.size > 0 else one, grid_h, grid_w)
        y, x, oy, ox = gy * stride_y - top, gx * stride_x - left, gy * step_y, gx * step_x
        low_y, high_y, low_x, high_x = min(low_y, y), max(high_y, y), min(low_x, x), max(high_x, x)
        high_oy, high_ox = max(high_oy, oy), max(high_ox, ox)
        strip[Y, p], strip[X, p], strip[OY, p], strip[OX, p] = y, x, oy, ox
        strip[ORIGIN, p] = x_at + ((image * h_in + y) * w_in + x) * c * 4
        strip[ROW, p] = (one if is_compact else (image * h_out + oy) * w_out + ox) * c * 4
    return low_y, high_y, low_x, high_x, high_oy, high_ox, False


@jit(cached=False)
def _divided(at, grid_h, grid_w):
    """Return (image, gy, gx) of a flat place. 64-bit divisions would take three times as long."""
    line = np.int64(np.uint32(at) // np.uint32(grid_w))
    image = np.int64(np.uint32(line) // np.uint32(grid_h))
    return image, line - image * grid_h, at - line * grid_w


@jit(cached=False)
def are_inside(bounds, phases, one, shape):
    """Return whether all taps of phase number `one` are inside the map at the places with the bounds of `locate`."""
    inside_y = bounds[0] + phases[one, 4] >= 0 and bounds[1] + phases[one, 5] < shape[0]
    return inside_y and bounds[2] + phases[one, 6] >= 0 and bounds[3] + phases[one, 7] < shape[1]


@jit(cached=False)
def keep_those_with(first_y, first_x, place, both):
    """Fill both[1] with the places of both[0] whose output at (oy + first_y, ox + first_x) the map has.

    A place without is replaced by one with. Returns False if no place has one.
    """
    h_out, w_out = place[8], place[9]
    last = -1
    for p in range(PIXELS):
        if both[0, OY, p] + first_y < h_out and both[0, OX, p] + first_x < w_out:
            last = p
    for p in range(PIXELS if last >= 0 else 0):
        has = both[0, OY, p] + first_y < h_out and both[0, OX, p] + first_x < w_out
        for field in range(FIELDS):
            both[1, field, p] = both[0, field, p if has else last]
    return last >= 0


@jit(cached=False)
def point(strip, taps, first, count, tap_bytes, shape, outside, table):
    """Fill `table` with the address of each (tap, pixel) of the `count` taps from `first` on, tested one by one.

    taps  (t, 3) int64, see `one_phase`;  tap_bytes  (t,) int64, each tap's offset in x
    outside  the address for those off the map
    """
    h_in, w_in, _ = shape
    for tap in range(count):
        dy, dx, offset = taps[first + tap, 0], taps[first + tap, 1], tap_bytes[first + tap]
        for p in range(PIXELS):
            inside = 0 <= strip[Y, p] + dy < h_in and 0 <= strip[X, p] + dx < w_in
            table[tap * PIXELS + p] = strip[ORIGIN, p] + offset if inside else outside


@jit(cached=False)
def tap_distances(taps, shape, tap_bytes):
    """Fill `tap_bytes` (t,) int64 with each tap's offset in x, of `shape` (h_in, w_in, c), in bytes."""
    for tap in range(len(taps)):
        tap_bytes[tap] = (taps[tap, 0] * shape[1] + taps[tap, 1]) * shape[2] * 4


@jit(cached=False)
def address(array):
    """Return the address of an array as int64: Numba makes a float64 of uint64 and int64."""
    return np.int64(array.ctypes.data)
