"""conv2d on the CPU: weights packed for the tiles, and which kernel computes what.

`conv_plain` is the definition line by line; `conv2d` gives its bits through `conv_tiles`, or `depthwise` where groups
are narrower than a vector.
"""

import functools
from dataclasses import dataclass

import numpy as np

from pagnp.backends.numba_cpu.conv_tiles import ALL_TILES, conv2d_f32_tiles, sort_by_kind
from pagnp.backends.numba_cpu.depthwise import convolve_narrow, is_narrow
from pagnp.backends.numba_cpu.strips import one_phase
from pagnp.backends.numba_cpu.threads import parallel
from pagnp.contract import BLOCK

# Share of the peak that each tile shape reaches (Zen 4): a narrower one pays where a wider would be mostly padding.
# The last two have pixels in their lanes: work for 2 or 4 channels that takes the time of some 6 or 7.
_TILE_SPEED = (1.0, 0.95, 0.85, 0.33, 0.57)

_WEIGHTS_IN_L2 = 600_000  # bytes of packed weights up to which each tile runs through all of them: half an L2 cache
_SUPER_PIXELS, _SUPER_BLOCKS = 288, 8  # above: this many pixels run through this many blocks of the reduction at a time
_NARROW_INPUT = 16  # channels below which the taps of a kernel row are joined into one run
_LEAST_SKIPPED = 0.015  # share of the terms outside the map from which on outputs are sorted by it
_GEOMETRIES = 256  # of convolutions that are remembered
NO_SITES = np.empty(0, np.int32)


@dataclass(frozen=True)
class PackedWeight:
    """A conv's weight as the kernels read it.

    panels   (groups, ceil(c_out/width), steps, width) float32, steps = k_h*k_w*c_in; narrow: (steps, channels).
             Channels are padded with zeros to whole panels, the reduction never.
    kernel   (k_h, k_w);  c_in, c_out  channels of one group;  kind  index into ALL_TILES, or NARROW
    """

    panels: np.ndarray
    kernel: tuple
    groups: int
    c_in: int
    c_out: int
    kind: int
    skips: bool = False


NARROW = -1


@dataclass(frozen=True)
class Epilogue:
    """What follows the sum: fma(acc, scale, shift) or + bias or nothing, + residual, relu."""

    scale: np.ndarray | None
    shift: np.ndarray | None
    bias: np.ndarray | None
    residual: np.ndarray | None
    relu: bool

    @property
    def mode(self):
        """0 nothing, 1 scale and shift, 2 bias: the microkernel's numbers."""
        return 1 if self.scale is not None else 2 if self.bias is not None else 0

    @property
    def added(self):
        return self.bias if self.scale is None else self.shift


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
    """True if the taps of such weights may be skipped outside the map: see the microkernel."""
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


def conv2d(x, packed, scale, shift, bias, residual, relu, sites, stride, padding, dilation, groups, out, threads=1):
    """Convolve `x`; with `sites`, only at those output pixels, bit for bit as the dense result.

    x        (n, h_in, w_in, c_in)      float32
    packed   PackedWeight
    sites    (m,) int32, flat ((n*h_out) + oy)*w_out + ox; out is (m, c_out), or full size with only these rows written
    Numerics: EXACT; fma chains of 128 over ky, kx, ci (contract.py).
    """
    joined = groups == 1 and dilation[1] == 1 and packed.kernel[1] > 1 and packed.c_in < _NARROW_INPUT
    if joined and any(padding):
        top, bottom, left, right = padding
        x, padding = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0))), (0, 0, 0, 0)
    place, taps, run = _place(x.shape[1:3], packed.kernel, packed.c_in, joined, stride, padding, dilation)
    epilogue = Epilogue(scale, shift, bias, residual, relu)
    convolve(x, packed, run, taps, place, sites, epilogue, out, threads)


@functools.lru_cache(maxsize=_GEOMETRIES)
def _place(size, kernel, c_in, joined, stride, padding, dilation):
    """Return (place, taps, values a tap) of conv_tiles for an input of `size` (h, w).

    joined  a kernel row is one tap of k_w * c_in values: they lie in a row in memory where nothing is padded
    """
    (k_h, k_w), (top, bottom, left, right) = kernel, padding
    h_out = (size[0] + top + bottom - dilation[0] * (k_h - 1) - 1) // stride[0] + 1
    w_out = (size[1] + left + right - dilation[1] * (k_w - 1) - 1) // stride[1] + 1
    rows = range(0, k_h * dilation[0], dilation[0])
    columns = (0,) if joined else range(0, k_w * dilation[1], dilation[1])
    place = (h_out, w_out, *stride, top, left, 1, 1, 0, 0, h_out, w_out)
    return place, tap_offsets(rows, columns), c_in * (k_w if joined else 1)


def tap_offsets(rows, columns):
    """Return (t, 2) int64: every (row, column), rows outermost."""
    return np.array([(dy, dx) for dy in rows for dx in columns], np.int64).reshape(-1, 2)


def convolve(x, packed, run, taps, place, sites, epilogue, out, threads):
    """Compute the outputs at the grid's places (conv_tiles tells what `place` and `taps` are), `run` values a tap."""
    count = x.shape[0] * place[0] * place[1] if sites is None else sites.size
    is_compact = sites is not None and out.ndim == 2
    # Numba compiles anew for a read-only array; a copy of some integers is cheaper.
    sites = NO_SITES if sites is None else sites if sites.flags.writeable else sites.copy()
    if count == 0:
        return
    if packed.kind == NARROW:
        phases, taps = one_phase(taps.tobytes(), packed.c_in)
        grid = (*place[:8], *place[10:])
        convolve_narrow(
            x, packed.panels, packed.c_in, phases, taps, grid, sites, int(is_compact), epilogue, out, threads
        )
        return
    places = rows = sites
    kinds = _border_kinds(x.shape[1:3], place, taps.tobytes()) if packed.skips and len(taps) > 1 else None
    if kinds is not None:
        places, rows = np.empty((2, count), np.int32)
        sort_by_kind(*kinds, sites, places, rows)
    elif is_compact:
        rows = np.arange(count, dtype=np.int32)
    rows = rows if is_compact else NO_SITES
    zero_row = np.zeros(x.shape[3], np.float32)
    arrays = (x, zero_row, packed.panels, out, epilogue.residual, epilogue.scale, epilogue.added)
    addresses = tuple(0 if array is None else array.ctypes.data for array in arrays)
    sizes = (count, run, packed.groups, packed.c_out, packed.kind, int(packed.skips), int(sites.size > 0))
    pixels = ALL_TILES[packed.kind][0]
    tiles = -(-count // pixels)
    order = _order(packed, pixels, tiles, threads)
    chunk = max(1, tiles // (threads * 8) // order[0]) * order[0]
    flags = (epilogue.mode, int(epilogue.relu))
    parallel(
        *(conv2d_f32_tiles, tiles, threads),
        *(x.shape[1:], place, taps, places, rows, addresses, sizes, order, flags),
        chunk=chunk,
        keep=arrays,
    )


@functools.lru_cache(maxsize=_GEOMETRIES)
def _border_kinds(size, place, taps):
    """Return int32 arrays (grid_h,), (grid_w,): a number for each set of taps inside the map, by row and by column.

    None where hardly any tap is outside. Outputs of one kind stand together then: whole tiles have a tap outside, which
    the microkernel skips.
    """
    offsets = np.frombuffer(taps, np.int64).reshape(-1, 2)
    kinds, share = [], 1.0
    for axis in (0, 1):
        at = np.arange(place[axis])[:, None] * place[2 + axis] - place[4 + axis] + np.unique(offsets[:, axis])
        inside = (at >= 0) & (at < size[axis])
        changes = (inside[1:] != inside[:-1]).any(axis=1)
        kinds.append(np.concatenate([[0], np.cumsum(changes)]).astype(np.int32))
        share *= inside.mean()
    return kinds if share < 1 - _LEAST_SKIPPED else None


def _order(packed, pixels, tiles, threads):
    """Return (tiles of a superblock, steps at once) that keep the weights in use in the L2 cache."""
    _, panels, steps, width = packed.panels.shape
    if 4 * panels * steps * width <= _WEIGHTS_IN_L2:
        return 8, -(-steps // BLOCK) * BLOCK
    superblocks = -(-tiles * pixels // _SUPER_PIXELS)
    return -(-tiles // (-(-superblocks // threads) * threads)), _SUPER_BLOCKS * BLOCK
