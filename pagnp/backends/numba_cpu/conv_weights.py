"""Weights of convolutions in the order in which the kernels read them."""

from dataclasses import dataclass

import numpy as np

from pagnp.backends.numba_cpu.conv_tiles import ALL_TILES
from pagnp.backends.numba_cpu.depthwise import is_narrow
from pagnp.contract import BLOCK

# Share of the peak that each tile shape reaches (Zen 4): a narrower one pays where a wider would be mostly padding.
# The last two have pixels in their lanes: work for 2 or 4 channels that takes the time of some 6 or 7.
_TILE_SPEED = (1.0, 0.95, 0.85, 0.33, 0.57)

NARROW = -1  # a value of PackedWeight.kind: groups narrower than a vector


@dataclass(frozen=True)
class PackedWeight:
    """A conv's weight as the kernels read it.

    panels   (groups, ceil(c_out/width), steps, width) float32, steps = k_h*k_w*c_in; narrow: (steps, channels).
             Channels are padded with zeros to whole panels, the reduction never.
    kernel   (k_h, k_w);  c_in, c_out  channels of one group;  kind  index into ALL_TILES, or NARROW
    skips    True if taps outside the map may be skipped: see `_skips`
    """

    panels: np.ndarray
    kernel: tuple
    groups: int
    c_in: int
    c_out: int
    kind: int
    skips: bool = False

    @property
    def shape(self):
        """(k_h, k_w, c_in/groups, c_out) of the weight."""
        return (*self.kernel, self.c_in, self.groups * self.c_out)

    def unpacked(self):
        """Return the weight again, float32 (k_h, k_w, c_in/groups, c_out)."""
        if self.kind == NARROW:
            return self.panels.reshape(self.shape)
        steps = self.panels.shape[2]
        matrix = self.panels.transpose(2, 0, 1, 3).reshape(steps, self.groups, -1)[:, :, : self.c_out]
        return matrix.reshape(self.shape)


def pack_conv2d(weight, groups, threads=1):
    """Return the (k_h, k_w, c_in/groups, c_out) float32 `weight` as `conv2d` takes it."""
    k_h, k_w, c_in, c_out = weight.shape
    return pack_matrix(weight.reshape(-1, c_out), (k_h, k_w), groups, c_in)


def pack_matrix(matrix, kernel, groups, c_in):
    """Return the PackedWeight of a (k_h*k_w*c_in, c_out) weight matrix; `c_in` of one group."""
    steps, c_out = matrix.shape
    c_group = c_out // groups
    if groups > 1 and is_narrow(c_in, c_group):
        return PackedWeight(np.array(matrix, order="C"), kernel, groups, c_in, c_group, NARROW)
    costs = [-(-c_group // width) * width / speed for (_, width, _), speed in zip(ALL_TILES, _TILE_SPEED, strict=True)]
    kind = costs.index(min(costs))
    width = ALL_TILES[kind][1]
    panels = _aligned_zeros((groups, -(-c_group // width), steps, width))
    for group, panel in np.ndindex(panels.shape[:2]):
        first = group * c_group + panel * width
        columns = matrix[:, first : min(first + width, (group + 1) * c_group)]
        panels[group, panel, :, : columns.shape[1]] = columns
    return PackedWeight(panels, kernel, groups, c_in, c_group, kind, _skips(matrix, kernel, c_in))


def _skips(matrix, kernel, c_in):
    """True if a tap may be skipped where a tile's pixels are all outside the map, and +0 added once in its place.

    The terms are weight * +0. They change a sum in one case: the first whose weight has no minus sign turns -0 into +0.
    So each run of steps within a tap and a block must have such a weight, in every channel, and all must be finite.
    """
    if kernel == (1, 1) or not np.isfinite(matrix).all():
        return False
    steps = len(matrix)
    starts = sorted({*range(0, steps, c_in), *range(0, steps, BLOCK)})
    return bool(np.logical_or.reduceat(~np.signbit(matrix), starts).all())


def _aligned_zeros(shape):
    """Return float32 zeros that start on a cache line (64 bytes)."""
    size = int(np.prod(shape))
    room = np.zeros(size + 16, np.float32)
    skip = -room.ctypes.data // 4 % 16
    return room[skip : skip + size].reshape(shape)
