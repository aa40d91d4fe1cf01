"""Which pixels a tile computes: addresses of its inputs, places of its outputs. Part of `conv_tiles`."""

import numpy as np

from pagnp.backends.numba_cpu.compile import jit


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
def point_tiles(first, tiles, pixels, shape, place, taps, places, rows, arrays, sizes, table, offsets):
    """Fill the address of each (tile, tap, pixel) and the byte offset of each (tile, pixel)'s output row.

    Where skipping is allowed, a tap at which every pixel of a tile is outside the map gets the address 0.
    """
    h_in, w_in, c_in = shape
    grid_h, grid_w, stride_y, stride_x, top, left, step_y, step_x, first_y, first_x, h_out, w_out = place
    count, _, groups, c_group, _, skips, _ = sizes
    n_taps, row_bytes = taps.shape[0], groups * c_group * 4
    tap_bytes, reach = _tap_bytes(taps, w_in * c_in * 4, c_in * 4), _reach(taps)
    line_start, gy, image = np.int64(-1) - grid_w, np.int64(0), np.int64(0)
    for tile in range(tiles):
        tile_table, all_inside = table[tile * n_taps * pixels : (tile + 1) * n_taps * pixels], True
        for p in range(pixels):
            number = (first + tile) * pixels + p
            if number >= count:  # the last tile's missing pixels, and the tile behind it
                tile_table[p::pixels] = arrays[1]
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
            if y + reach[0] >= 0 and y + reach[1] < h_in and x + reach[2] >= 0 and x + reach[3] < w_in:
                for tap in range(n_taps):
                    tile_table[tap * pixels + p] = origin + tap_bytes[tap]
                continue
            all_inside = False
            for tap in range(n_taps):
                inside = 0 <= y + taps[tap, 0] < h_in and 0 <= x + taps[tap, 1] < w_in
                tile_table[tap * pixels + p] = origin + tap_bytes[tap] if inside else arrays[1]
        if skips and not all_inside:
            _mark_skipped(tile_table, pixels, arrays[1])


@jit(cached=False)
def _tap_bytes(taps, row_bytes, pixel_bytes):
    """Return the distance in bytes of each tap's input from the first one's."""
    distances = np.empty(taps.shape[0], np.int64)
    for tap in range(taps.shape[0]):
        distances[tap] = taps[tap, 0] * row_bytes + taps[tap, 1] * pixel_bytes
    return distances


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
