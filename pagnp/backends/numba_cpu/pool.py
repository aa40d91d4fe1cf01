"""max_pool2d and avg_pool2d: `strips` points at the pixels of the windows, `stripkernel` folds them in scan order."""

import functools

import numpy as np

from pagnp.backends.numba_cpu.compile import jit
from pagnp.backends.numba_cpu.grain import SIMPLE, grain
from pagnp.backends.numba_cpu.stripkernel import PIXELS, point_strip, strip_maxima, strip_means
from pagnp.backends.numba_cpu.strips import (
    FIELDS,
    ORIGIN,
    OX,
    OY,
    ROW,
    address,
    are_inside,
    locate,
    one_phase,
    point,
    tap_distances,
)
from pagnp.backends.numba_cpu.threads import parallel

MEAN, MEAN_INSIDE, MAXIMUM = range(3)
_NO_SITES = np.empty(0, np.int32)


@jit
def pool2d_f32(start, stop, kind, shape, place, phases, taps, window, arrays, count):
    """Pool the strips [start, stop) of the `count` outputs, every channel of them.

    kind    MEAN, MEAN_INSIDE (padding is not counted) or MAXIMUM
    shape   (h_in, w_in, c) of x;  place, phases, taps  as in strips.locate and strips.one_phase
    window  (k_h, k_w, bottom, right) of a mean;  arrays  addresses of (x, a row for what is outside, out)

    A mean's padding adds +0 to sums that start at +0 and so never are -0; a maximum's is -inf and never wins.
    """
    c = shape[2]
    tap_bytes, table = np.empty(len(taps), np.int64), np.empty(len(taps) * PIXELS, np.int64)
    strip, divisors = np.empty((FIELDS, PIXELS), np.int64), np.empty(PIXELS, np.float32)
    tap_distances(taps, shape, tap_bytes)
    table_at, strip_at, divisors_at = address(table), address(strip), address(divisors)
    for number in range(start, stop):
        bounds = locate(number * PIXELS, count, _NO_SITES, 0, arrays[0], shape, place, strip)
        if are_inside(bounds, phases, 0, shape):
            point_strip(table_at, strip_at + ORIGIN * PIXELS * 8, address(tap_bytes), len(taps))
        else:
            point(strip, taps, 0, len(taps), tap_bytes, shape, arrays[1], table)
        rows_at = strip_at + ROW * PIXELS * 8
        if kind == MAXIMUM:
            strip_maxima(table_at, c, len(taps), rows_at, arrays[2])
        else:
            for p in range(PIXELS):
                divisors[p] = window_size(strip[OY, p], strip[OX, p], kind == MEAN_INSIDE, shape, place, window)
            strip_means(table_at, c, len(taps), rows_at, arrays[2], divisors_at)
    # Numba frees an array after its last mention, and the kernels know only the addresses.
    table[:1], strip[0, 0], divisors[0], tap_bytes[:1] = 0, 0, np.float32(0), 0


@jit(cached=False)
def window_size(oy, ox, only_inside, shape, place, window):
    """Return how many pixels of an output's window count, by PyTorch's rule: it ends with the padding."""
    y, x = oy * place[2] - place[4], ox * place[3] - place[5]
    y_end, x_end = min(y + window[0], shape[0] + window[2]), min(x + window[1], shape[1] + window[3])
    if only_inside:
        return (min(y_end, shape[0]) - max(y, 0)) * (min(x_end, shape[1]) - max(x, 0))
    return (y_end - y) * (x_end - x)


def max_pool2d(x, kernel, stride, padding, dilation, out, threads=1):
    """out = the first maximum of each window in scan order, NaN before all; padding never wins."""
    _pool(MAXIMUM, -np.inf, x, kernel, stride, padding, dilation, out, threads)


def avg_pool2d(x, kernel, stride, padding, count_include_pad, out, threads=1):
    """out = the mean of each window; the divisor counts padding if `count_include_pad`, by PyTorch's rule."""
    kind = MEAN if count_include_pad else MEAN_INSIDE
    _pool(kind, 0, x, kernel, stride, padding, (1, 1), out, threads)


def _pool(kind, outside, x, kernel, stride, padding, dilation, out, threads):
    """Pool with `outside` in place of what the windows read outside the map."""
    n, h_out, w_out, c = out.shape
    phases, taps = _taps(kernel, dilation)
    arrays = (x, np.full(c, outside, np.float32), out)
    place = (h_out, w_out, *stride, padding[0], padding[2], 1, 1, h_out, w_out)
    window = (*kernel, padding[1], padding[3])
    count = n * h_out * w_out
    strips = -(-count // PIXELS)
    parallel(
        *(pool2d_f32, strips, threads),
        *(kind, x.shape[1:], place, phases, taps, window, tuple(a.ctypes.data for a in arrays), count),
        chunk=grain(strips, threads, SIMPLE, width=PIXELS * c * len(taps)),
        keep=arrays,
    )


@functools.lru_cache(maxsize=64)
def _taps(kernel, dilation):
    """Return (phases, taps) of strips.one_phase for a window."""
    offsets = [(ky * dilation[0], kx * dilation[1]) for ky in range(kernel[0]) for kx in range(kernel[1])]
    return one_phase(np.array(offsets, np.int64).tobytes(), 1)
