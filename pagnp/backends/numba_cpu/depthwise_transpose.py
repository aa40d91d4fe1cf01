"""conv_transpose2d where each channel has a filter of its own and all phases have equally many taps: row by row.

That is so where the kernel is a multiple of the stride, as in a bilinear upsampling; the others go phase by phase.
"""

import functools

import numpy as np

from pagnp.backends.numba_cpu.compile import jit
from pagnp.backends.numba_cpu.grain import SIMPLE, grain
from pagnp.backends.numba_cpu.phasekernel import strip_phases
from pagnp.backends.numba_cpu.stripkernel import PIXELS
from pagnp.backends.numba_cpu.strips import address
from pagnp.backends.numba_cpu.threads import parallel
from pagnp.contract import BLOCK


@jit
def conv_transpose2d_f32_depthwise(start, stop, shape, size, steps, taps_y, taps_x, arrays, epilogue):
    """Compute the output rows [start, stop) of the n * h_out.

    shape    (h_in, w_in, c) of x;  size  (h_out, w_out);  steps  (stride_y, stride_x, k_w)
    taps_y   (stride_y, t_y, 2) int64: for each phase the input offset and the ky of its taps, ky ascending; taps_x
             likewise; t_y * t_x is at most BLOCK
    arrays   addresses of (x, a row of zeros, weights (k_h * k_w, c), out, residual or 0, scale or 0, shift or bias
             or 0)
    epilogue (mode, relu) as in the microkernel
    """
    (h_in, w_in, c), (h_out, w_out), (stride_y, stride_x, k_w) = shape, size, steps
    pixel, n_y, n_x = c * 4, taps_y.shape[1], taps_x.shape[1]
    table, rows = np.empty(n_y * n_x * 2 * PIXELS, np.int64), np.empty(PIXELS, np.int64)
    columns = PIXELS // stride_x if PIXELS % stride_x == 0 else 0  # that a strip is on from the one before, if whole
    for row in range(start, stop):
        image, oy = row // h_out, row % h_out
        gy, phase_y, ox = oy // stride_y, oy % stride_y, 0
        while ox < w_out:
            last = np.int64(-1)  # the rightmost input column, w_in if one is outside
            for p in range(PIXELS):
                one = min(ox + p, w_out - 1)  # a missing pixel repeats the last
                gx, phase_x = one // stride_x, one % stride_x
                rows[p] = (row * w_out + one) * pixel
                for y in range(n_y):
                    iy = gy + taps_y[phase_y, y, 0]
                    for x in range(n_x):
                        ix = gx + taps_x[phase_x, x, 0]
                        entry = (y * n_x + x) * 2 * PIXELS + p
                        table[entry + PIXELS] = (
                            arrays[2] + (taps_y[phase_y, y, 1] * k_w + taps_x[phase_x, x, 1]) * pixel
                        )
                        last = max(last, ix) if 0 <= ix < w_in else w_in
                        if 0 <= ix < w_in and 0 <= iy < h_in:
                            table[entry] = arrays[0] + ((image * h_in + iy) * w_in + ix) * pixel
                        else:
                            table[entry] = arrays[1]
            strips = 1
            if last < w_in and columns > 0 and is_row_inside(gy, taps_y, phase_y, h_in):
                strips += max(min((w_in - 1 - last) // columns, (w_out - ox) // PIXELS - 1), 0)
            strip_phases(
                *(address(table), columns * pixel, c, n_y * n_x, strips, address(rows)), *arrays[3:], *epilogue
            )
            ox += strips * PIXELS
    table[:1], rows[0] = 0, 0  # Numba frees an array after its last mention, and the kernel knows only the address.


@jit(cached=False)
def is_row_inside(gy, taps_y, phase_y, h_in):
    """Return whether all taps of an output row are inside the map."""
    inside = True
    for y in range(taps_y.shape[1]):
        inside &= 0 <= gy + taps_y[phase_y, y, 0] < h_in
    return inside


def upsample_depthwise(x, weight, kernel, stride, padding, dilation, epilogue, out, threads):
    """Fill `out` with the transposed convolution of x by the weight (k_h * k_w, c); see `serves`."""
    h_out, w_out, c = out.shape[1:]
    taps_y = phase_taps(kernel[0], padding[0], stride[0], dilation[0])
    taps_x = phase_taps(kernel[1], padding[2], stride[1], dilation[1])
    arrays = (x, np.zeros(c, np.float32), weight, out, epilogue.residual, epilogue.scale, epilogue.added)
    addresses = tuple(0 if array is None else array.ctypes.data for array in arrays)
    rows = x.shape[0] * h_out
    parallel(
        *(conv_transpose2d_f32_depthwise, rows, threads),
        *(x.shape[1:], (h_out, w_out), (*stride, kernel[1]), taps_y, taps_x, addresses),
        (epilogue.mode, int(epilogue.relu)),
        chunk=grain(rows, threads, SIMPLE // (taps_y.shape[1] * taps_x.shape[1]), width=w_out * c),
        keep=arrays,
    )


def serves(kernel, stride, padding, dilation):
    """Return whether the phases of such a transposed convolution have equally many taps, and not too many."""
    taps_y = phase_taps(kernel[0], padding[0], stride[0], dilation[0])
    taps_x = phase_taps(kernel[1], padding[2], stride[1], dilation[1])
    return taps_y is not None and taps_x is not None and taps_y.shape[1] * taps_x.shape[1] <= BLOCK


@functools.lru_cache(maxsize=256)
def phase_taps(kernel, pad, stride, dilation):
    """Return (stride, t, 2) int64: for each phase (input offset, kernel position), ascending; None if t differs."""
    phases = [
        [
            ((phase + pad - k * dilation) // stride, k)
            for k in range(kernel)
            if (phase + pad - k * dilation) % stride == 0
        ]
        for phase in range(stride)
    ]
    return np.array(phases, np.int64) if len({len(taps) for taps in phases}) == 1 else None
