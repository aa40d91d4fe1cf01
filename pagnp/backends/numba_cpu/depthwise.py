"""Convolutions whose groups are narrower than a vector, depthwise ones first: vectors across the channels of a pixel.

The weights stay as they are, (tap, input channel of the group, output channel): a vector of output channels reads the
input channels at the same place, shuffled within the groups. `strips` says which pixels, `stripkernel` computes them.
"""

import numpy as np

from pagnp.backends.numba_cpu.compile import jit
from pagnp.backends.numba_cpu.slidekernel import SLIDES, strip_slide
from pagnp.backends.numba_cpu.stripkernel import GROUPS, PIXELS, point_strip, strip_products
from pagnp.backends.numba_cpu.strips import (
    FIELDS,
    ORIGIN,
    ROW,
    address,
    are_inside,
    keep_those_with,
    locate,
    point,
    tap_distances,
)
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
    (_, w_in, c), h_out, w_out, (count, group, is_compact) = shape, place[8], place[9], sizes
    may_slide = SLIDES and group == len(phases) == place[3] == 1 and len(taps) <= BLOCK
    tap_bytes, weights = np.empty(len(taps), np.int64), np.empty(len(taps), np.int64)
    tap_distances(taps, shape, tap_bytes)
    for tap in range(len(taps)):
        weights[tap] = arrays[2] + taps[tap, 2] * c * 4
    table, totals = np.empty(len(taps) * PIXELS, np.int64), np.empty(c * PIXELS, np.float32)
    both = np.empty((2, FIELDS, PIXELS), np.int64)  # the strip, and what is left of it where the map lacks outputs
    table_at, totals_at, bytes_at, weights_at = address(table), address(totals), address(tap_bytes), address(weights)
    number = start
    while number < stop:
        bounds = locate(number * PIXELS, count, sites, is_compact, arrays[0], shape, place, both[0])
        strips = 1
        for one in range(len(phases)):
            first_y, first_x, first_tap, n_taps = phases[one, 0], phases[one, 1], phases[one, 2], phases[one, 3]
            is_part = bounds[4] + first_y >= h_out or bounds[5] + first_x >= w_out
            if is_part and not keep_those_with(first_y, first_x, place, both):
                continue
            strip_at = address(both) + (FIELDS * PIXELS * 8 if is_part else 0)
            first = (first_y * w_out + first_x) * c * 4
            ends = (arrays[3] + first, arrays[4] + first if arrays[4] != 0 else 0, arrays[5], arrays[6])
            weights_of_phase, columns = weights_at + first_tap * 8, phases[one, 8]
            is_inside = are_inside(bounds, phases, one, shape)
            rows_at = strip_at + ROW * PIXELS * 8
            if may_slide and columns > 0 and is_inside and bounds[6]:
                strips += min(w_in - 1 - phases[one, 7] - bounds[3], w_out - 1 - bounds[5]) // PIXELS
                strips = min(strips, stop - number)
                for line in range(n_taps // columns):
                    table[line] = both[0, ORIGIN, 0] + tap_bytes[line * columns]
                strip_slide(table_at, c * 4, weights_at, c, n_taps, columns, strips, rows_at, *ends, *epilogue)
                continue
            if is_inside:
                point_strip(table_at, strip_at + ORIGIN * PIXELS * 8, bytes_at + first_tap * 8, n_taps)
            else:
                point(both[int(is_part)], taps, first_tap, n_taps, tap_bytes, shape, arrays[1], table)
            _sum(group, table_at, weights_of_phase, c, n_taps, totals_at, rows_at, ends, epilogue)
        number += strips
    # Numba frees an array after its last mention, and the kernels know only the addresses.
    table[:1], totals[:1], tap_bytes[:1], weights[:1], both[0, 0, 0] = 0, 0, 0, 0, 0


@jit(cached=False)
def _sum(group, table, weights, c, n_taps, totals, rows, ends, epilogue):
    """Call strip_products for each block of a strip's sums."""
    block = BLOCK // group  # taps
    for k in range(0, max(n_taps, 1), block):
        terms = (table + k * PIXELS * 8, weights + k * 8, c, min(block, n_taps - k))
        sums = (totals, np.int64(k == 0), np.int64(k + block >= n_taps), rows)
        if group == 1:
            _PRODUCTS_1(*terms, *sums, *ends, *epilogue)
        elif group == 2:
            _PRODUCTS_2(*terms, *sums, *ends, *epilogue)
        elif group == 4:
            _PRODUCTS_4(*terms, *sums, *ends, *epilogue)
        else:
            _PRODUCTS_8(*terms, *sums, *ends, *epilogue)


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
