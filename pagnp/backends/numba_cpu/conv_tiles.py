"""The compiled driver of the convolutions: it points tiles at pixels and calls the microkernel.

No input is copied. Each tile has a table with the address of every (tap, pixel); a tap outside the map points at a row
of zeros. So padding, stride, dilation, sites and the phases of a transposed convolution are all the same code.

A term of the reduction is (tap, ci). Tap t of the output at grid place (gy, gx) reads the input pixel
    iy = gy * stride_y - top + taps[t, 0],   ix = gx * stride_x - left + taps[t, 1]
and its result belongs to the output pixel (gy * step_y + first_y, gx * step_x + first_x).
"""

import numpy as np

from pagnp.backends.numba_cpu.compile import jit
from pagnp.backends.numba_cpu.microkernel import TILES, tile_epilogue, tile_steps

_STEPS_0, _STEPS_1, _STEPS_2 = tile_steps


@jit
def conv2d_f32_tiles(start, stop, shape, place, taps, sites, arrays, sizes, order, epilogue):
    """Compute the tiles [start, stop) of a convolution's output, every channel of them.

    shape     (h_in, w_in, c_in) of x
    place     (grid_h, grid_w, stride_y, stride_x, top, left, step_y, step_x, first_y, first_x, h_out, w_out)
    taps      (t, 2) int64, see above
    sites     (m,) int32, flat places of the grid; empty: all of them
    arrays    addresses of (x, a row of zeros, packed weights, out, residual or 0, scale or 0, shift or bias or 0)
    sizes     (number of places, values a tap, groups, c_out of a group, index into TILES, is_compact)
    order     (tiles of a superblock, steps of the reduction that it takes at once: a multiple of BLOCK)
    epilogue  (mode, relu) as in the microkernel
    """
    count, run, groups, c_group, kind, _ = sizes
    super_tiles, group_steps = order
    pixels, width, _ = TILES[kind]
    n_taps, steps, tile_floats = taps.shape[0], taps.shape[0] * run, pixels * width
    panels = (c_group + width - 1) // width
    table = np.empty(super_tiles * n_taps * pixels, np.int64)
    rows = np.empty(super_tiles * pixels, np.int64)
    parked = np.empty(super_tiles * panels * tile_floats + 16, np.float32)
    table_at, rows_at = np.int64(table.ctypes.data), np.int64(rows.ctypes.data)
    parked_at = (np.int64(parked.ctypes.data) + 63) // 64 * 64
    for first in range(start, stop, super_tiles):
        tiles = min(super_tiles, stop - first)
        _point(first, tiles, pixels, shape, place, taps, sites, arrays, sizes, table, rows)
        for group in range(groups):
            for k in range(0, steps, group_steps):
                length = min(group_steps, steps - k)
                for panel in range(panels):
                    weights = arrays[2] + ((group * panels + panel) * steps + k) * width * 4
                    for tile in range(tiles):
                        totals = parked_at + (tile * panels + panel) * tile_floats * 4
                        tap_at = table_at + (tile * n_taps + k // run) * pixels * 8
                        _steps(kind, tap_at, group * run * 4, k % run, run, length, weights, totals, np.int64(k == 0))
                        if k + length == steps:
                            here = min(pixels, count - (first + tile) * pixels)
                            filled = min(width, c_group - panel * width)
                            channel = group * c_group + panel * width
                            tile_rows = rows_at + tile * pixels * 8
                            _finish(totals, width, tile_rows, here, channel, filled, arrays, epilogue)
    parked[0] = np.float32(0)  # Numba frees an array after its last mention, and the tiles know only the address.


@jit(cached=False)
def _point(first, tiles, pixels, shape, place, taps, sites, arrays, sizes, table, rows):
    """Fill the address of each (tile, tap, pixel) and the byte offset of each (tile, pixel)'s output row."""
    h_in, w_in, c_in = shape
    grid_h, grid_w, stride_y, stride_x, top, left, step_y, step_x, first_y, first_x, h_out, w_out = place
    x, zero_row = arrays[0], arrays[1]
    count, _, groups, c_group, _, is_compact = sizes
    n_taps = taps.shape[0]
    for i in range(tiles * pixels):
        number = first * pixels + i
        base = i // pixels * n_taps * pixels + i % pixels
        if number >= count:  # the last tile's missing pixels
            for tap in range(n_taps):
                table[base + tap * pixels] = zero_row
            continue
        at = np.int64(sites[number]) if sites.size > 0 else number
        line, gx = at // grid_w, at % grid_w
        image, gy = line // grid_h, line % grid_h
        row = number
        if is_compact == 0:
            row = (image * h_out + gy * step_y + first_y) * w_out + gx * step_x + first_x
        rows[i] = row * groups * c_group * 4
        y, x_0 = gy * stride_y - top, gx * stride_x - left
        origin = x + (image * h_in * w_in) * c_in * 4
        for tap in range(n_taps):
            iy, ix = y + taps[tap, 0], x_0 + taps[tap, 1]
            inside = 0 <= iy < h_in and 0 <= ix < w_in
            table[base + tap * pixels] = origin + (iy * w_in + ix) * c_in * 4 if inside else zero_row


@jit(cached=False)
def _steps(kind, table, x_bytes, first_ci, run, steps, weights, totals, is_first):
    """Call the microkernel of the tile shape `kind`."""
    if kind == 0:
        _STEPS_0(table, x_bytes, first_ci, run, steps, weights, totals, is_first)
    elif kind == 1:
        _STEPS_1(table, x_bytes, first_ci, run, steps, weights, totals, is_first)
    else:
        _STEPS_2(table, x_bytes, first_ci, run, steps, weights, totals, is_first)


@jit(cached=False)
def _finish(totals, width, rows, row_count, channel, channels, arrays, epilogue):
    """Call the epilogue for `channels` channels from `channel` on."""
    byte = channel * 4
    residual = arrays[4] + byte if arrays[4] != 0 else 0
    out, scale, shift = arrays[3] + byte, arrays[5] + byte, arrays[6] + byte
    mode, relu = epilogue
    tile_epilogue(totals, width, rows, row_count, channels, out, residual, scale, shift, mode, relu)
