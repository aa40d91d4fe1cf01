"""The compiled driver of convolutions of few channels: whole rows of the output, as far as all taps are in the map."""

import numpy as np

from pagnp.backends.numba_cpu.compile import jit
from pagnp.backends.numba_cpu.microkernel import tile_epilogue
from pagnp.backends.numba_cpu.rowkernel import ROW_TILE, row_steps

ROW_KIND = 2  # the tile shape whose packed weights these kernels take


@jit
def conv2d_f32_rows(start, stop, shape, place, columns, tap_rows, arrays, sizes, epilogue):
    """Compute the rows [start, stop) of the n * grid_h, in each `columns` = (first, number of tiles) of its places.

    shape, place, epilogue  as in conv2d_f32_tiles, which computes the other columns; grid and out are one
    tap_rows  (t, 2) int64: y and x of the taps that are runs of `run` values in memory
    arrays    addresses of (x, zeros, packed weights, out, residual or 0, scale or 0, shift or bias or 0); there are as
              many zeros as the input pixels of a tile span
    sizes     (values a tap, c_out)
    """
    h_in, w_in, c_in = shape
    grid_h, grid_w, stride_y, stride_x, top, left = place[:6]
    run, c_out = sizes
    pixels, width, _ = ROW_TILE
    n_taps, step = tap_rows.shape[0], stride_x * c_in * 4
    table, offsets = np.empty(n_taps, np.int64), np.empty(pixels, np.int64)
    parked = np.empty(pixels * width + 16, np.float32)
    table_at, offsets_at = np.int64(table.ctypes.data), np.int64(offsets.ctypes.data)
    parked_at = (np.int64(parked.ctypes.data) + 63) // 64 * 64
    steps = n_taps * run
    for line in range(start, stop):
        image, gy = line // grid_h, line % grid_h
        for tile in range(columns[1]):
            gx = columns[0] + tile * pixels
            for tap in range(n_taps):
                iy, ix = gy * stride_y - top + tap_rows[tap, 0], gx * stride_x - left + tap_rows[tap, 1]
                address = arrays[0] + ((image * h_in + iy) * w_in + ix) * c_in * 4
                table[tap] = address if 0 <= iy < h_in else arrays[1]
            for p in range(pixels):
                offsets[p] = (line * grid_w + gx + p) * c_out * 4
            for first in range(0, c_out, width):
                filled, byte = min(width, c_out - first), first * 4
                residual = arrays[4] + byte if arrays[4] != 0 else 0
                ends = (arrays[3] + byte, residual, arrays[5] + byte, arrays[6] + byte)
                reduction = (table_at, step, run, steps, arrays[2] + first * steps * 4, parked_at)
                row_steps(*reduction, np.int64(filled == width), offsets_at, *ends, *epilogue)
                if filled < width:
                    tile_epilogue(parked_at, width, offsets_at, pixels, filled, *ends, *epilogue)
    parked[0] = np.float32(0)  # Numba frees an array after its last mention, and the tiles know only the address.
    offsets[0] = table[0]
