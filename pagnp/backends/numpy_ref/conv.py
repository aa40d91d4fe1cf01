"""Convolution and transposed convolution, dense or at chosen sites: the dot-product rule over ky, kx, ci.

The loop over terms is the outer one. Each step is one fma over a tile of (groups, channels of a group, pixels), small
enough for the L2 cache. Tiles never change a bit: every output element has its own chain.
"""

from dataclasses import dataclass

import numpy as np

from pagnp.backends.numpy_ref.dot import blocked_dot
from pagnp.backends.numpy_ref.fma import Chain, fma_f32, products_may_underflow

TILE_PIXELS = (512, 4096)  # at least; at most, where there are few channels
TILE_ELEMENTS = 32768  # 20 bytes an element in a Chain: about 640 KB


def pack_conv2d(weight, groups):
    """Return what `conv2d` takes as `packed`: here the weight itself."""
    return weight


def conv2d(x, packed, scale, shift, bias, residual, relu, sites, stride, padding, dilation, groups, out):
    """Fill `out` (n, h_out, w_out, c_out), or with sites (m, c_out) or only those rows of the full map.

    Numerics: fma chains of 128 over ky, kx, ci; padding multiplied in as +0; then the epilogue.
    """
    k_h, k_w, c_in_group, c_out = packed.shape
    h_out, w_out = _map_size(x, packed.shape, stride, padding, dilation)
    weight = packed.reshape(k_h, k_w, c_in_group, groups, c_out // groups)
    task = _Task(x, weight, _Epilogue(scale, shift, bias, residual, relu, groups), out, groups)

    def taps(places):
        n, oy, ox = np.unravel_index(places, (x.shape[0], h_out, w_out))
        for ky in range(k_h):
            iy = oy * stride[0] - padding[0] + ky * dilation[0]
            for kx in range(k_w):
                ix = ox * stride[1] - padding[2] + kx * dilation[1]
                yield ky, kx, *_pixel_index(n, iy, ix, x.shape)

    if sites is None:
        places = np.arange(x.shape[0] * h_out * w_out)
        _convolve(task, places, places, taps)
    else:
        rows = np.arange(len(sites)) if out.ndim == 2 else sites.astype(np.int64)
        _convolve(task, sites.astype(np.int64), rows, taps)


def conv_transpose2d(x, weight, scale, shift, bias, residual, relu, stride, padding, dilation, groups, out):
    """Fill `out` (n, h_out, w_out, c_out) with the gather form; weight (k_h, k_w, c_in, c_out/groups).

    Numerics: terms are the ky (kx) ascending with (oy + top - ky*dilation) % stride == 0, then ci; outside is +0.
    """
    k_h, k_w, c_in, c_out_group = weight.shape
    n, h_out, w_out, _ = out.shape
    grouped = weight.reshape(k_h, k_w, groups, c_in // groups, c_out_group).transpose(0, 1, 3, 2, 4)
    task = _Task(x, grouped, _Epilogue(scale, shift, bias, residual, relu, groups), out, groups)
    places = np.arange(n * h_out * w_out).reshape(n, h_out, w_out)
    for phase_y in range(min(stride[0], h_out)):
        for phase_x in range(min(stride[1], w_out)):

            def taps(chosen, phase_y=phase_y, phase_x=phase_x):
                batch, oy, ox = np.unravel_index(chosen, (n, h_out, w_out))
                for ky in _phase_taps(k_h, phase_y, padding[0], stride[0], dilation[0]):
                    iy = (oy + padding[0] - ky * dilation[0]) // stride[0]
                    for kx in _phase_taps(k_w, phase_x, padding[2], stride[1], dilation[1]):
                        ix = (ox + padding[2] - kx * dilation[1]) // stride[1]
                        yield ky, kx, *_pixel_index(batch, iy, ix, x.shape)

            chosen = places[:, phase_y :: stride[0], phase_x :: stride[1]].ravel()
            _convolve(task, chosen, chosen, taps)


def _map_size(x, weight_shape, stride, padding, dilation):
    """Return (h_out, w_out) of the full output map, which a compact `out` does not show."""
    top, bottom, left, right = padding
    h_out = (x.shape[1] + top + bottom - dilation[0] * (weight_shape[0] - 1) - 1) // stride[0] + 1
    w_out = (x.shape[2] + left + right - dilation[1] * (weight_shape[1] - 1) - 1) // stride[1] + 1
    return h_out, w_out


def _phase_taps(kernel, phase, pad, stride, dilation):
    """Return the kernel positions, ascending, that reach outputs o with o % stride == phase."""
    return [k for k in range(kernel) if (phase + pad - k * dilation) % stride == 0]


def _pixel_index(n, iy, ix, x_shape):
    """Return (flat pixel index, inside) of input pixels; outside the map the index is 0."""
    _, h_in, w_in, _ = x_shape
    inside = (iy >= 0) & (iy < h_in) & (ix >= 0) & (ix < w_in)
    return np.where(inside, (n * h_in + iy) * w_in + ix, 0), inside


@dataclass(frozen=True)
class _Epilogue:
    """What follows the sum, each step one rounding: fma(acc, scale, shift) or acc + bias; + residual; relu."""

    scale: np.ndarray | None
    shift: np.ndarray | None
    bias: np.ndarray | None
    residual: np.ndarray | None
    relu: bool
    groups: int

    def apply(self, acc, rows, part):
        """Return the float32 tile (groups, channels, pixels) after the epilogue; `part` slices groups, channels."""
        if self.scale is not None:
            acc = fma_f32(acc, self._channels(self.scale, part), self._channels(self.shift, part))
        elif self.bias is not None:
            acc = acc + self._channels(self.bias, part)
        if self.residual is not None:
            grouped = self.residual.reshape(-1, self.groups, self.residual.shape[-1] // self.groups)
            acc = acc + grouped[(rows, *part)].transpose(1, 2, 0)
        if self.relu:
            acc = np.where(acc < 0, np.float32(0), acc)
        return acc

    def _channels(self, values, part):
        return values.reshape(self.groups, -1, 1)[part]


class _Task:
    """One convolution: x as rows of pixels, weight (k_h, k_w, c_in/groups, groups, c_out/groups), epilogue, out."""

    def __init__(self, x, weight, epilogue, out, groups):
        self.x_rows = x.reshape(-1, x.shape[-1])
        self.weight = weight
        self.epilogue = epilogue
        self.out_rows = out.reshape(-1, groups, out.shape[-1] // groups)
        self.chain = Chain(TILE_ELEMENTS, products_may_underflow(x, weight))


def _convolve(task, places, rows, taps):
    """Compute the output pixels `places` (flat indices of the full map) into the rows `rows` of the task's out.

    taps(places) yields (ky, kx, index, inside): for each tap the input pixel that each place reads.
    """
    _, _, _, groups, c_out_group = task.weight.shape
    step = min(max(TILE_ELEMENTS // (groups * c_out_group), TILE_PIXELS[0]), TILE_PIXELS[1])
    for start in range(0, len(places), step):
        tile_rows = rows[start : start + step]
        tile_taps = list(taps(places[start : start + step]))
        tile_channels = max(1, TILE_ELEMENTS // len(tile_rows))
        step_co = min(c_out_group, tile_channels)
        step_g = max(1, tile_channels // c_out_group)
        for g in range(0, groups, step_g):
            for co in range(0, c_out_group, step_co):
                part = (slice(g, min(g + step_g, groups)), slice(co, min(co + step_co, c_out_group)))
                shape = (part[0].stop - g, part[1].stop - co, len(tile_rows))
                acc = blocked_dot(_terms(task, tile_taps, part), task.chain, shape)
                acc = task.epilogue.apply(acc, tile_rows, part)
                task.out_rows[(tile_rows, *part)] = acc.transpose(2, 0, 1)


def _terms(task, taps, part):
    """Yield the terms of one tile in the order ky, kx, ci: weight (groups, channels, 1) and x (groups, 1, pixels)."""
    c_in_group = task.weight.shape[2]
    channels = slice(part[0].start * c_in_group, part[0].stop * c_in_group)
    for ky, kx, index, inside in taps:
        weight = task.weight[(ky, kx, slice(None), *part)].astype(np.float64)[..., None]
        columns = _columns(task.x_rows[:, channels], index, inside).reshape(-1, c_in_group, 1, len(index))
        for ci in range(c_in_group):
            yield weight[ci], columns[:, ci]


def _columns(x_rows, index, inside):
    """Return the chosen pixels as float64 (channels, pixels)."""
    pixels = x_rows[index]
    # Padding is multiplied in as +0, not skipped: a skipped term would keep a -0 and hide a NaN or Inf weight.
    pixels[~inside] = 0
    return pixels.T.astype(np.float64, order="C")
