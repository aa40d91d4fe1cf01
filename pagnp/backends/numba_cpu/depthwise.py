"""Convolutions whose groups are narrower than a vector, depthwise ones first: vectors across the channels of a pixel.

The weights stay as they are, (tap, input channel of the group, output channel): a vector of output channels reads the
input channels at the same place, shuffled within the groups. `strips` says which pixels, `stripkernel` computes them.
"""

import numpy as np

from pagnp.backends.numba_cpu.compile import jit
from pagnp.backends.numba_cpu.stripkernel import GROUPS, PIXELS, SLIDES, point_strip, strip_products, strip_slide
from pagnp.backends.numba_cpu.strips import FIELDS, ORIGIN, ROW, keep_those_with, locate, point
from pagnp.backends.numba_cpu.threads import parallel
from pagnp.contract import BLOCK

_PRODUCTS_1, _PRODUCTS_2, _PRODUCTS_4, _PRODUCTS_8 = (*strip_products, *[strip_products[0]] * 3)[:4]
_CHUNK = 1 << 17  # products of a chunk at least: some 20 microseconds


def is_narrow(c_in, c_out):
    """Return whether groups of `c_in` input and `c_out` output channels are computed here."""
    return c_in == c_out and c_in in GROUPS


@jit
def conv2d_f32_depthwise(start, stop, shape, place, phases, taps, sites, arrays, sizes, epilogue):
    """Compute the strips [start, stop) of the places of a convolution, all phases and channels of each.

    shape     (h_in, w_in, c) of x;  place, sites, phases, taps  as in strips.locate and strips.one_phase
    arrays    addresses of (x, a row of zeros, weights (rows, c), out, residual or 0, scale or 0, shift or bias or 0)
    sizes     (number of places, channels of a group, is_compact)
    epilogue  (mode, relu) as in the microkernel
    """
    c, h_out, w_out, (count, group, is_compact) = shape[2], place[8], place[9], sizes
    block = BLOCK // group  # taps
    tap_bytes, weights = np.empty(len(taps), np.int64), np.empty(len(taps), np.int64)
    for tap in range(len(taps)):
        tap_bytes[tap] = (taps[tap, 0] * shape[1] + taps[tap, 1]) * c * 4
        weights[tap] = arrays[2] + taps[tap, 2] * c * 4
    table = np.empty(len(taps) * PIXELS, np.int64)
    totals = np.empty(c * PIXELS if len(taps) > block else 0, np.float32)
    whole, part = np.empty((FIELDS, PIXELS), np.int64), np.empty((FIELDS, PIXELS), np.int64)
    table_at, bytes_at, weights_at = address(table), address(tap_bytes), address(weights)
    totals_at, whole_at, part_at = address(totals), address(whole), address(part)
    back = np.empty(PIXELS, np.int64)
    back_at = address(back)
    slides = SLIDES and group == 1 and place[3] == 1
    for number in range(start, stop):
        y0, y1, x0, x1, oy, ox, are_neighbours = locate(
            number * PIXELS, count, sites, is_compact, arrays[0], shape, place, whole
        )
        for one in range(len(phases)):
            first_y, first_x, first_tap, n_taps = phases[one, 0], phases[one, 1], phases[one, 2], phases[one, 3]
            at = whole_at
            if oy + first_y >= h_out or ox + first_x >= w_out:
                if not keep_those_with(first_y, first_x, place, whole, part):
                    continue
                at = part_at
            first = (first_y * w_out + first_x) * c * 4
            residual = arrays[4] + first if arrays[4] != 0 else 0
            rows_at = at + ROW * PIXELS * 8
            ends = (arrays[3] + first, residual, arrays[5], arrays[6])
            is_inside = y0 + phases[one, 4] >= 0 and y1 + phases[one, 5] < shape[0]
            is_inside &= x0 + phases[one, 6] >= 0 and x1 + phases[one, 7] < shape[1]
            columns = phases[one, 8]
            if slides and is_inside and are_neighbours and at == whole_at and columns != 0 and n_taps <= block:
                # To the left the pixels are taken in turn from the last one on.
                step, origin = c * 4, whole[ORIGIN, 0]
                if columns < 0:
                    step, origin = -step, whole[ORIGIN, PIXELS - 1]
                    for p in range(PIXELS):
                        back[p] = whole[ROW, PIXELS - 1 - p]
                    rows_at = back_at
                for row in range(n_taps // abs(columns)):
                    table[row] = origin + tap_bytes[first_tap + row * abs(columns)]
                weights_of_phase = weights_at + first_tap * 8
                strip_slide(table_at, step, weights_of_phase, c, n_taps, abs(columns), 0, 1, 1, rows_at, *ends, *epilogue)
                continue
            if is_inside:
                point_strip(table_at, at + ORIGIN * PIXELS * 8, bytes_at + first_tap * 8, n_taps)
            elif at == whole_at:
                point(whole, taps, first_tap, n_taps, tap_bytes, shape, arrays[1], table)
            else:
                point(part, taps, first_tap, n_taps, tap_bytes, shape, arrays[1], table)
            for k in range(0, max(n_taps, 1), block):
                terms = (table_at + k * PIXELS * 8, 0, weights_at + (first_tap + k) * 8, c, min(block, n_taps - k), 0)
                flags = (np.int64(k == 0), np.int64(k + block >= n_taps))
                if group == 1:
                    _PRODUCTS_1(*terms, totals_at, *flags, rows_at, *ends, *epilogue)
                elif group == 2:
                    _PRODUCTS_2(*terms, totals_at, *flags, rows_at, *ends, *epilogue)
                elif group == 4:
                    _PRODUCTS_4(*terms, totals_at, *flags, rows_at, *ends, *epilogue)
                else:
                    _PRODUCTS_8(*terms, totals_at, *flags, rows_at, *ends, *epilogue)
    # Numba frees an array after its last mention, and the kernels know only the addresses.
    table[:1], weights[:1], tap_bytes[:1], totals[:1], whole[0, 0], part[0, 0], back[0] = 0, 0, 0, 0, 0, 0, 0


@jit(cached=False)
def address(array):
    return np.int64(array.ctypes.data)


def convolve_narrow(x, weight, group, phases, taps, place, sites, is_compact, epilogue, out, threads):
    """Compute the places of a convolution whose groups have `group` channels.

    weight     (rows, c) float32, `group` rows a tap;  phases, taps, place, sites as in strips
    epilogue   conv.Epilogue;  out  (n, h_out, w_out, c), or (m, c) with is_compact
    """
    count = x.shape[0] * place[0] * place[1] if sites.size == 0 else sites.size
    c = x.shape[3]
    arrays = (x, np.zeros(c, np.float32), weight, out, epilogue.residual, epilogue.scale, epilogue.added)
    addresses = tuple(0 if array is None else array.ctypes.data for array in arrays)
    strips = -(-count // PIXELS)
    chunk = max(1, _CHUNK // (PIXELS * len(weight) * c), strips // (threads * 8))
    parallel(
        *(conv2d_f32_depthwise, strips, threads),
        *(x.shape[1:], place, phases, taps, sites, addresses, (count, group, is_compact)),
        (epilogue.mode, int(epilogue.relu)),
        chunk=chunk,
        keep=arrays,
    )
