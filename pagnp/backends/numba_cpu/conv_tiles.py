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
from pagnp.backends.numba_cpu.narrowkernel import NARROW_TILES, narrow_steps

ALL_TILES = (*TILES, *NARROW_TILES)
_FIRST_NARROW = len(TILES)
_STEPS_0, _STEPS_1, _STEPS_2 = tile_steps
_NARROW_2, _NARROW_4 = narrow_steps


@jit
def conv2d_f32_tiles(start, stop, shape, place, taps, places, rows, arrays, sizes, order, epilogue):
    """Compute the tiles [start, stop) of a convolution's output, every channel of them.

    shape     (h_in, w_in, c_in) of x
    place     (grid_h, grid_w, stride_y, stride_x, top, left, step_y, step_x, first_y, first_x, h_out, w_out)
    taps      (t, 2) int64, see above
    places    (m,) int32, the flat place of the grid that output number i is at; empty: place i
    rows      (m,) int32, the row of out (m, c_out) that output number i is; empty: by its place, out is a whole map
    arrays    addresses of (x, a row of zeros, packed weights, out, residual or 0, scale or 0, shift or bias or 0)
    sizes     (number of places, values a tap, groups, c_out of a group, index into ALL_TILES, skips: see `_point`,
              is_scattered: 1 where the places are no neighbours)
    order     (tiles of a superblock, steps of the reduction that it takes at once: a multiple of BLOCK)
    epilogue  (mode, relu) as in the microkernel
    """
    count, run, groups, c_group, kind, _, is_scattered = sizes
    super_tiles, group_steps = order
    pixels, width, _ = ALL_TILES[kind]
    n_taps, steps, tile_floats = taps.shape[0], taps.shape[0] * run, pixels * width
    panels = (c_group + width - 1) // width
    is_whole, is_narrow = steps <= group_steps, kind >= _FIRST_NARROW
    if is_narrow:
        tile_floats *= 2  # in both orders
    table = np.empty((super_tiles + 1) * n_taps * pixels, np.int64)
    offsets = np.empty((super_tiles + 1) * pixels, np.int64)
    parked = np.empty((1 if is_whole else super_tiles * panels) * tile_floats + 16, np.float32)
    table_at, offsets_at = np.int64(table.ctypes.data), np.int64(offsets.ctypes.data)
    parked_at = (np.int64(parked.ctypes.data) + 63) // 64 * 64
    for first in range(start, stop, super_tiles):
        tiles = min(super_tiles, stop - first)
        _point(first, tiles + 1, pixels, shape, place, taps, places, rows, arrays, sizes, table, offsets)
        # Small weights stay in the cache: a tile runs through all panels. Of large ones each part serves many tiles.
        outer, inner = (tiles, panels) if is_whole else (panels, tiles)
        for group in range(groups):
            for k in range(0, steps, group_steps):
                length = min(group_steps, steps - k)
                for i in range(outer):
                    for j in range(inner):
                        tile, panel = (i, j) if is_whole else (j, i)
                        here = min(pixels, count - (first + tile) * pixels)
                        filled = min(width, c_group - panel * width)
                        is_last = k + length == steps
                        finish = np.int64(is_last and (is_narrow or (here == pixels and filled == width)))
                        weights = arrays[2] + ((group * panels + panel) * steps + k) * width * 4
                        tap_at = table_at + (tile * n_taps + k // run) * pixels * 8
                        reduction = (
                            tap_at,
                            group * run * 4,
                            k % run,
                            run,
                            length,
                            weights,
                            n_taps * pixels * 8 if panel == 0 and is_whole and (n_taps == 1 or is_scattered) else 0,
                        )
                        parked_tile = 0 if is_whole else tile * panels + panel
                        totals = parked_at + parked_tile * tile_floats * 4
                        channel = (group * c_group + panel * width) * 4
                        residual = arrays[4] + channel if arrays[4] != 0 else 0
                        ends = (arrays[3] + channel, residual, arrays[5] + channel, arrays[6] + channel)
                        tile_rows = offsets_at + tile * pixels * 8
                        _steps(kind, reduction, totals, np.int64(k == 0), finish, tile_rows, ends, epilogue)
                        if is_narrow:
                            totals += pixels * width * 4
                        if is_last and (is_narrow or finish == 0):
                            tile_epilogue(totals, width, tile_rows, here, filled, *ends, *epilogue)
    parked[0] = np.float32(0)  # Numba frees an array after its last mention, and the tiles know only the address.


@jit
def sort_by_kind(kinds_y, kinds_x, sites, places, rows):
    """Fill `places` (m,) with the sites (empty: all places of n grids) sorted by kind, `rows` with their numbers.

    kinds_y (grid_h,), kinds_x (grid_w,) int32, ascending from 0; all int32. Places of one kind keep their order.
    """
    grid_h, grid_w = np.uint32(kinds_y.size), np.uint32(kinds_x.size)
    columns = kinds_x[-1] + 1
    ends = np.zeros((kinds_y[-1] + 1) * columns + 1, np.int64)
    kinds = np.empty(places.size, np.int32)
    for number in range(places.size):
        at = np.uint32(sites[number]) if sites.size > 0 else np.uint32(number)
        line = at // grid_w
        kinds[number] = kinds_y[line % grid_h] * columns + kinds_x[at - line * grid_w]
        ends[kinds[number] + 1] += 1
    for kind in range(ends.size - 1):
        ends[kind + 1] += ends[kind]
    for number in range(places.size):
        to = ends[kinds[number]]
        ends[kinds[number]] += 1
        places[to] = sites[number] if sites.size > 0 else number
        rows[to] = number


@jit(cached=False)
def _point(first, tiles, pixels, shape, place, taps, places, rows, arrays, sizes, table, offsets):
    """Fill the address of each (tile, tap, pixel) and the byte offset of each (tile, pixel)'s output row.

    skips  1: a tap at which every pixel of a tile is outside the map gets the address 0, see the microkernel
    """
    h_in, w_in, c_in = shape
    grid_h, grid_w, stride_y, stride_x, top, left, step_y, step_x, first_y, first_x, h_out, w_out = place
    count, _, groups, c_group, _, skips, _ = sizes
    n_taps, row_bytes = taps.shape[0], groups * c_group * 4
    low_y, high_y, low_x, high_x = _reach(taps)
    tap_bytes = np.empty(n_taps, np.int64)
    for tap in range(n_taps):
        tap_bytes[tap] = (taps[tap, 0] * w_in + taps[tap, 1]) * c_in * 4
    line_start, gy, image = np.int64(-1) - grid_w, np.int64(0), np.int64(0)
    for tile in range(tiles):
        all_inside = True
        for p in range(pixels):
            number, entry = (first + tile) * pixels + p, tile * n_taps * pixels + p
            if number >= count:  # the last tile's missing pixels, and the tile behind it
                for tap in range(n_taps):
                    table[entry + tap * pixels] = arrays[1]
                offsets[tile * pixels + p] = 0
                all_inside = False
                continue
            at = np.int64(places[number]) if places.size > 0 else number
            if not line_start <= at < line_start + grid_w:
                line = np.int64(np.uint32(at) // np.uint32(grid_w))  # a 64-bit division takes three times as long
                image = np.int64(np.uint32(line) // np.uint32(grid_h))
                gy, line_start = line - image * grid_h, line * grid_w
            gx = at - line_start
            row = (image * h_out + gy * step_y + first_y) * w_out + gx * step_x + first_x
            offsets[tile * pixels + p] = (np.int64(rows[number]) if rows.size > 0 else row) * row_bytes
            y, x = gy * stride_y - top, gx * stride_x - left
            origin = arrays[0] + ((image * h_in + y) * w_in + x) * c_in * 4
            if y + low_y >= 0 and y + high_y < h_in and x + low_x >= 0 and x + high_x < w_in:
                for tap in range(n_taps):
                    table[entry + tap * pixels] = origin + tap_bytes[tap]
                continue
            all_inside = False
            for tap in range(n_taps):
                inside = 0 <= y + taps[tap, 0] < h_in and 0 <= x + taps[tap, 1] < w_in
                table[entry + tap * pixels] = origin + tap_bytes[tap] if inside else arrays[1]
        if skips and not all_inside:
            _mark_skipped(table[tile * n_taps * pixels : (tile + 1) * n_taps * pixels], pixels, arrays[1])


@jit(cached=False)
def _reach(taps):
    """Return the smallest and the largest offset of the taps, in y and in x."""
    low_y, high_y, low_x, high_x = taps[0, 0], taps[0, 0], taps[0, 1], taps[0, 1]
    for tap in range(taps.shape[0]):
        low_y, high_y = min(low_y, taps[tap, 0]), max(high_y, taps[tap, 0])
        low_x, high_x = min(low_x, taps[tap, 1]), max(high_x, taps[tap, 1])
    return low_y, high_y, low_x, high_x


@jit(cached=False)
def _mark_skipped(table, pixels, zero_row):
    """Put 0 as the first address of each tap at which all of a tile's `pixels` are outside the map."""
    for tap in range(table.size // pixels):
        outside = True
        for p in range(pixels):
            outside = outside and table[tap * pixels + p] == zero_row
        if outside:
            table[tap * pixels] = 0


@jit(cached=False)
def _steps(kind, reduction, totals, is_first, finish, rows, ends, epilogue):
    """Call the microkernel of the tile shape `kind`."""
    if kind == 0:
        _STEPS_0(*reduction, totals, is_first, finish, rows, *ends, *epilogue)
    elif kind == 1:
        _STEPS_1(*reduction, totals, is_first, finish, rows, *ends, *epilogue)
    elif kind == 2:
        _STEPS_2(*reduction, totals, is_first, finish, rows, *ends, *epilogue)
    elif kind == 3:
        _NARROW_2(*reduction[:6], totals, is_first, finish)
    else:
        _NARROW_4(*reduction[:6], totals, is_first, finish)
