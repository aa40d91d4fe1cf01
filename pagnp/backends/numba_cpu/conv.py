"""conv2d on the CPU: which kernel computes what.

`conv_plain` is the definition line by line; `conv2d` gives its bits through `conv_tiles`, `conv_rows` where there are
few output channels, or `depthwise` where groups are narrower than a vector.
"""

from dataclasses import dataclass

import numpy as np

from pagnp.backends.numba_cpu.conv_places import border_kinds, conv2d_place, row_places
from pagnp.backends.numba_cpu.conv_point import sort_by_kind
from pagnp.backends.numba_cpu.conv_rows import ROW_KIND, conv2d_f32_rows
from pagnp.backends.numba_cpu.conv_tiles import ALL_TILES, conv2d_f32_tiles
from pagnp.backends.numba_cpu.conv_weights import NARROW, pack_conv2d
from pagnp.backends.numba_cpu.depthwise import convolve_narrow
from pagnp.backends.numba_cpu.rowkernel import ROW_TILE
from pagnp.backends.numba_cpu.strips import one_phase
from pagnp.backends.numba_cpu.threads import parallel
from pagnp.contract import BLOCK

__all__ = ["Epilogue", "conv2d", "convolve", "pack_conv2d"]

_WEIGHTS_IN_L2 = 600_000  # bytes of packed weights up to which each tile runs through all of them: half an L2 cache
_SUPER_PIXELS, _SUPER_BLOCKS = 288, 8  # above: this many pixels run through this many blocks of the reduction at a time
_LEAST_CHUNK = 2_000_000  # multiply-adds of a chunk: some 40 us, about what it takes until a worker joins
_NARROW_INPUT = 16  # channels below which the taps of a kernel row are joined into one run
NO_SITES = np.empty(0, np.int32)


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
    place, taps, run = conv2d_place(x.shape[1:3], packed.kernel, packed.c_in, joined, stride, padding, dilation)
    epilogue = Epilogue(scale, shift, bias, residual, relu)
    convolve(x, packed, run, taps, place, sites, epilogue, out, threads)


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
    if sites.size == 0 and packed.kind == ROW_KIND and packed.groups == 1 and place[6:10] == (1, 1, 0, 0):
        sites = _rows(x, packed, run, taps, place, epilogue, out, threads)
        count = count if sites is NO_SITES else sites.size
    if count == 0:
        return
    places = rows = sites
    kinds = border_kinds(x.shape[1:3], place, taps.tobytes()) if packed.skips and len(taps) > 1 else None
    if kinds is not None:
        places, rows = np.empty((2, count), np.int32)
        sort_by_kind(*kinds, sites, places, rows)
    elif is_compact:
        rows = np.arange(count, dtype=np.int32)
    rows = rows if is_compact else NO_SITES
    zero_row = np.zeros(max(x.shape[3], run), np.float32)  # a tap of joined columns is longer than a pixel
    arrays = (x, zero_row, packed.panels, out, epilogue.residual, epilogue.scale, epilogue.added)
    addresses = tuple(0 if array is None else array.ctypes.data for array in arrays)
    sizes = (count, run, packed.groups, packed.c_out, packed.kind, int(packed.skips), int(sites.size > 0))
    pixels = ALL_TILES[packed.kind][0]
    tiles = -(-count // pixels)
    order = _order(packed, pixels, tiles, threads)
    worth = -(-_LEAST_CHUNK // (pixels * packed.groups * packed.panels[0].size))
    chunk = max(tiles // (threads * 32), worth)
    flags = (epilogue.mode, int(epilogue.relu))
    parallel(
        *(conv2d_f32_tiles, tiles, threads),
        *(x.shape[1:], place, taps, places, rows, addresses, sizes, order, flags),
        chunk=chunk if threads > 1 else tiles,
        unit=order[0],
        keep=arrays,
    )


def _rows(x, packed, run, taps, place, epilogue, out, threads):
    """Compute what conv2d_f32_rows can of a dense convolution; return the other places: none, or NO_SITES for all."""
    n, h_in, w_in, c_in = x.shape
    columns, tap_rows, per_tap, sites = row_places((n, w_in), place, taps.tobytes(), run)
    if columns[1] == 0:
        return NO_SITES
    zeros = np.zeros(ROW_TILE[0] * place[3] * c_in + per_tap, np.float32)
    arrays = (x, zeros, packed.panels, out, epilogue.residual, epilogue.scale, epilogue.added)
    addresses = tuple(0 if array is None else array.ctypes.data for array in arrays)
    sizes, flags = (per_tap, packed.c_out), (epilogue.mode, int(epilogue.relu))
    rows = n * place[0]
    parallel(
        *(conv2d_f32_rows, rows, threads),
        *((h_in, w_in, c_in), place, columns, tap_rows, addresses, sizes, flags),
        chunk=max(rows // (threads * 32), -(-_LEAST_CHUNK // (place[1] * packed.panels.size))),
        unit=1,
        keep=arrays,
    )
    return sites


def _order(packed, pixels, tiles, threads):
    """Return (tiles of a superblock, steps at once) that keep the weights in use in the L2 cache."""
    _, panels, steps, width = packed.panels.shape
    if 4 * panels * steps * width <= _WEIGHTS_IN_L2:
        return 8, -(-steps // BLOCK) * BLOCK
    superblocks = -(-tiles * pixels // _SUPER_PIXELS)
    return -(-tiles // (-(-superblocks // threads) * threads)), _SUPER_BLOCKS * BLOCK
