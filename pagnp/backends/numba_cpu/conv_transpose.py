"""conv_transpose2d in its gather form: each phase of the output is a convolution of its own.

All outputs of a phase (oy % stride, ox % stride) read the same taps of the kernel, at input pixels that move by one:
conv_tiles computes that as it is, with the phase's weights and the outputs spread `stride` apart. Where groups are
narrower than a vector there are few terms, and all phases are computed in one walk: over the output where they have
equally many taps (`depthwise_transpose`), else over the input (`depthwise`).
"""

import functools

import numpy as np

from pagnp.backends.numba_cpu.conv import NO_SITES, Epilogue, convolve
from pagnp.backends.numba_cpu.conv_places import tap_offsets
from pagnp.backends.numba_cpu.conv_weights import pack_matrix
from pagnp.backends.numba_cpu.depthwise import convolve_narrow, is_narrow
from pagnp.backends.numba_cpu.depthwise_transpose import serves, upsample_depthwise
from pagnp.backends.numba_cpu.strips import phase

_NOWHERE = 1 << 40  # as an offset: outside any map


def conv_transpose2d(
    x, weight, scale, shift, bias, residual, relu, stride, padding, dilation, groups, out, threads=1
):  # fmt: skip
    """Fill `out` (n, h_out, w_out, c_out) with the transposed convolution of `x`; padding is the crop.

    weight   (k_h, k_w, c_in, c_out/groups)
    Numerics: EXACT; the dot-product rule over the taps of the output's phase, ky, kx, ci ascending.
    """
    k_h, k_w, c_in, c_group = weight.shape
    grouped = weight.reshape(k_h, k_w, groups, c_in // groups, c_group)
    grouped = grouped.transpose(0, 1, 3, 2, 4).reshape(k_h, k_w, c_in // groups, groups * c_group)
    h_out, w_out = out.shape[1:3]
    epilogue = Epilogue(scale, shift, bias, residual, relu)
    if is_narrow(c_in // groups, c_group):
        rows, group = np.ascontiguousarray(grouped).reshape(-1, groups * c_group), c_group
        if group == 1 and serves((k_h, k_w), stride, padding, dilation):
            upsample_depthwise(x, rows, (k_h, k_w), stride, padding, dilation, epilogue, out, threads)
            return
        phases, taps = _all_phases((k_h, k_w), (h_out, w_out), (padding[0], padding[2]), stride, dilation, group)
        place = (-(-h_out // stride[0]), -(-w_out // stride[1]), 1, 1, 0, 0, *stride, h_out, w_out)
        convolve_narrow(x, rows, group, phases, taps, place, NO_SITES, 0, epilogue, out, threads)
        return
    for phase_y in range(min(stride[0], h_out)):
        rows, offsets_y = _phase_taps(k_h, phase_y, padding[0], stride[0], dilation[0])
        grid_h = -(-(h_out - phase_y) // stride[0])
        for phase_x in range(min(stride[1], w_out)):
            columns, offsets_x = _phase_taps(k_w, phase_x, padding[2], stride[1], dilation[1])
            grid_w = -(-(w_out - phase_x) // stride[1])
            matrix, taps = grouped[np.ix_(rows, columns)], tap_offsets(offsets_y, offsets_x)
            if not len(taps):
                # No tap reaches this phase, its sum is +0: one tap of weight 0 outside the map says so.
                matrix, taps = np.zeros_like(grouped[:1, :1]), tap_offsets((-_NOWHERE,), (-_NOWHERE,))
            kernel = matrix.shape[:2]
            packed = pack_matrix(matrix.reshape(-1, groups * c_group), kernel, groups, c_in // groups)
            place = (grid_h, grid_w, 1, 1, 0, 0, *stride, phase_y, phase_x, h_out, w_out)
            convolve(x, packed, packed.c_in, taps, place, None, epilogue, out, threads)


def _phase_taps(kernel, phase, pad, stride, dilation):
    """Return the kernel positions, ascending, that reach the outputs of `phase`, and the input offset of each."""
    positions = [k for k in range(kernel) if (phase + pad - k * dilation) % stride == 0]
    return positions, [(phase + pad - k * dilation) // stride for k in positions]


@functools.lru_cache(maxsize=64)
def _all_phases(kernel, size, pads, stride, dilation, group):
    """Return (phases, taps) of strips.one_phase, the phases row by row; `size` of the output, `group` as there."""
    phases, taps = [], []
    for phase_y in range(min(stride[0], size[0])):
        rows, offsets_y = _phase_taps(kernel[0], phase_y, pads[0], stride[0], dilation[0])
        for phase_x in range(min(stride[1], size[1])):
            columns, offsets_x = _phase_taps(kernel[1], phase_x, pads[1], stride[1], dilation[1])
            offsets = [(dy, dx) for dy in offsets_y for dx in offsets_x]
            phases.append(phase(phase_y, phase_x, len(taps), offsets))
            numbers = [(ky * kernel[1] + kx) * group for ky in rows for kx in columns]
            taps += [(*offset, number) for offset, number in zip(offsets, numbers, strict=True)]
    return np.array(phases, np.int64), np.array(taps, np.int64).reshape(-1, 3)
