"""The compiled driver of the convolutions: it points tiles at pixels and calls the microkernel.

No input is copied. Each tile has a table with the address of every (tap, pixel); a tap outside the map points at a row
of zeros. So padding, stride, dilation, sites and the phases of a transposed convolution are all the same code.

A term of the reduction is (tap, ci). Tap t of the output at grid place (gy, gx) reads the input pixel
    iy = gy * stride_y - top + taps[t, 0],   ix = gx * stride_x - left + taps[t, 1]
and its result belongs to the output pixel (gy * step_y + first_y, gx * step_x + first_x).
"""

import numpy as np

from pagnp.backends.numba_cpu.compile import jit
from pagnp.backends.numba_cpu.conv_point import point_tiles
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
    sizes     (number of places, values a tap, groups, c_out of a group, index into ALL_TILES, skips: see `point_tiles`,
              is_scattered: 1 where the places are no neighbours)
    order     (tiles of a superblock, steps of the reduction that it takes at once: a multiple of BLOCK)
    epilogue  (mode, relu) as in the microkernel
    """
    _, run, groups, c_group, kind, _, _ = sizes
    super_tiles, group_steps = order
    pixels, width, _ = ALL_TILES[kind]
    n_taps, steps, tile_floats = taps.shape[0], taps.shape[0] * run, 2 * pixels * width
    panels = (c_group + width - 1) // width
    is_whole = steps <= group_steps
    table = np.empty((super_tiles + 1) * n_taps * pixels, np.int64)
    offsets = np.empty((super_tiles + 1) * pixels, np.int64)
    parked = np.empty((1 if is_whole else super_tiles * panels) * tile_floats + 16, np.float32)
    table_at, offsets_at = np.int64(table.ctypes.data), np.int64(offsets.ctypes.data)
    parked_at = (np.int64(parked.ctypes.data) + 63) // 64 * 64
    for first in range(start, stop, super_tiles):
        tiles = min(super_tiles, stop - first)
        point_tiles(first, tiles + 1, pixels, shape, place, taps, places, rows, arrays, sizes, table, offsets)
        where = (table_at, offsets_at, parked_at)
        for group in range(groups):
            for k in range(0, steps, group_steps):
                part = (group, k, min(group_steps, steps - k), steps)
                if is_whole:  # small weights stay in the cache: a tile runs through all panels
                    for tile in range(tiles):
                        for panel in range(panels):
                            _tile(tile, panel, 0, part, where, n_taps, arrays, sizes, epilogue, first)
                else:  # of large ones each part serves many tiles
                    for panel in range(panels):
                        for tile in range(tiles):
                            parked_tile = tile * panels + panel
                            _tile(tile, panel, parked_tile, part, where, n_taps, arrays, sizes, epilogue, first)
    parked[0] = np.float32(0)  # Numba frees an array after its last mention, and the tiles know only the address.


@jit(cached=False)
def _tile(tile, panel, parked_tile, part, where, n_taps, arrays, sizes, epilogue, first):
    """Add a part of the reduction to one tile of one panel of channels; after the last part, write its outputs.

    parked_tile  the place of its totals;  first  the number of tile 0 in the whole convolution
    part         (group, first step, steps, all steps of the reduction)
    where        addresses of the table, of the offsets of output rows, and of the totals
    """
    count, run, groups, c_group, kind, _, is_scattered = sizes
    group, k, length, steps = part
    pixels, width, _ = ALL_TILES[kind]
    panels, is_narrow = (c_group + width - 1) // width, kind >= _FIRST_NARROW
    here, filled = min(pixels, count - (first + tile) * pixels), min(width, c_group - panel * width)
    is_last, is_full = k + length == steps, here == pixels and filled == width
    finish = np.int64(is_last and (is_full or is_narrow))
    taps_at = where[0] + (tile * n_taps + k // run) * pixels * 8
    weights = arrays[2] + ((group * panels + panel) * steps + k) * width * 4
    # Neighbours' inputs at several taps are in the cache already, and so are those of a superblock.
    wanted = panel == 0 and length == steps and (n_taps == 1 or is_scattered != 0)
    ahead = n_taps * pixels * 8 if wanted else 0
    totals = where[2] + parked_tile * 2 * pixels * width * 4
    channel = (group * c_group + panel * width) * 4
    residual = arrays[4] + channel if arrays[4] != 0 else 0
    ends = (arrays[3] + channel, residual, arrays[5] + channel, arrays[6] + channel)
    rows = where[1] + tile * pixels * 8
    reduction = (taps_at, group * run * 4, k % run, run, length, weights, ahead, totals, np.int64(k == 0), finish)
    _steps(kind, reduction, rows, ends, epilogue)
    if is_last and (is_narrow or not is_full):
        tile_epilogue(totals + is_narrow * pixels * width * 4, width, rows, here, filled, *ends, *epilogue)


@jit(cached=False)
def _steps(kind, reduction, rows, ends, epilogue):
    """Call the microkernel of the tile shape `kind`."""
    if kind == 0:
        _STEPS_0(*reduction, rows, *ends, *epilogue)
    elif kind == 1:
        _STEPS_1(*reduction, rows, *ends, *epilogue)
    elif kind == 2:
        _STEPS_2(*reduction, rows, *ends, *epilogue)
    elif kind == 3:
        _NARROW_2(*reduction[:6], *reduction[7:])
    else:
        _NARROW_4(*reduction[:6], *reduction[7:])
