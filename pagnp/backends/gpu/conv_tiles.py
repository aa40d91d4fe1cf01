"""The tile kernels of conv2d: what one is, and which is the fastest for a shape.

A tile kernel computes `rows` output pixels by `columns` output channels in a block of `threads`: an implicit matrix
product over the k_h*k_w*c_in/groups terms in the order of the contract, with the epilogue. All of them take the
parameters of conv2d_f32_plain. Block b of grid.x computes tile (b // n, b % n) with n = ceil((c_out/groups) / columns),
block g of grid.z the group g.
"""

import math
from dataclasses import dataclass, replace

from pagnp.contract import BLOCK

# cuda/conv2d_tile.cuh has the same numbers.
STEP, PITCH = 16, 20  # terms of a step, of which two lie in shared memory; values between two rows of x there

RESERVED = 1024  # bytes of shared memory that every block takes beside its own
START = 2500  # cycles of a launch that the sums do not need: addresses, the first loads, the epilogue
SCHEDULERS = 4  # of a multiprocessor; each takes a cycle for a multiply-add of a warp
LATENCY = 16  # with n chains in flight a scheduler takes 1 + LATENCY / n times as long as with very many
L2_VALUES = 6  # values that a multiprocessor gets from the L2 cache in a cycle


@dataclass(frozen=True)
class Tile:
    """One tile kernel.

    kernel   its name
    rows     output pixels of a block;  columns  output channels of a block
    threads  of a block;  shared  bytes of dynamic shared memory
    vector   values of x that it reads at once: c_in/groups and the address of x must be multiples of so many
    slices   chains of 128 terms that a block works on at the same time
    blocks   how many a multiprocessor holds at the same time
    speed    share of a scheduler's cycles in which it multiplies, once LATENCY is taken off
    """

    kernel: str
    rows: int
    columns: int
    threads: int
    shared: int = 0
    vector: int = 1
    slices: int = 1
    blocks: int = 1
    speed: float = 1.0


def choose(tiles: tuple[Tile, ...], rows: int, c_group: int, groups: int, terms: int, multiprocessors: int) -> Tile:
    """Return the tile that takes the least time for `rows` pixels and `groups` times `c_group` channels."""
    return min(tiles, key=lambda tile: cycles(tile, rows, c_group, groups, terms, multiprocessors))


def cycles(tile: Tile, rows: int, c_group: int, groups: int, terms: int, multiprocessors: int) -> float:
    """Return about how many cycles a convolution takes: a model with numbers of an H200.

    Its form is reasoned, its speeds are fitted (docs/GPU_KERNELS.md).
    """
    blocks = -(-rows // tile.rows) * -(-c_group // tile.columns) * groups
    chains = -(-terms // BLOCK)
    idle = -(-chains // tile.slices) * tile.slices / chains
    warps = tile.threads / 32
    work = tile.rows * tile.columns * terms * idle / warps / 32 / tile.speed  # of a warp
    rounds, rest = divmod(-(-blocks // multiprocessors), tile.blocks)
    sums = rounds * _cycles_of(tile, max(1, tile.blocks * warps / SCHEDULERS), work)
    sums += _cycles_of(tile, math.ceil(rest * warps / SCHEDULERS), work)
    loads = blocks * (tile.rows + tile.columns) * terms / (multiprocessors * L2_VALUES)
    return START + max(sums, loads) + min(sums, loads) / 8


def fitting(tiles: tuple[Tile, ...], block_bytes: int, multiprocessor_bytes: int) -> tuple[Tile, ...]:
    """Return the tiles that a GPU can launch that gives a block, and a multiprocessor, so much shared memory."""
    return tuple(
        replace(tile, blocks=min(tile.blocks, multiprocessor_bytes // (tile.shared + RESERVED)))
        for tile in tiles
        if tile.shared <= block_bytes
    )


def _cycles_of(tile: Tile, warps: float, work: float) -> float:
    """Return how long a scheduler takes for `warps` with so much `work` each."""
    in_flight = warps * tile.rows * tile.columns * tile.slices / tile.threads
    return warps * work * (1 + LATENCY / in_flight) if warps else 0.0


def _cuda(shape: tuple[int, int], thread: tuple[int, int], slices: int, vector: int, blocks: int, speed: float) -> Tile:
    """Return a kernel of cuda/conv2d_tile.cu.

    shape   rows and columns of a tile;  thread  those of a thread
    """
    rows, columns = shape
    name = f"conv2d_f32_tile{rows}x{columns}{f'x{slices}' if slices > 1 else ''}{'' if vector > 1 else '_scalar'}"
    threads = slices * rows * columns // (thread[0] * thread[1])
    shared = 4 * slices * 2 * (rows * PITCH + STEP * columns) + 16 * rows + 4 * rows * columns
    return Tile(name, rows, columns, threads, shared, vector, slices, blocks, speed)


# Speeds: so that the times of an H200 at batch 8 come out, relative to 128x64, whose share is counted in its machine
# code; 64x32x4 and 32x32x4, which small grids take, as at batch 1: on large ones they have 0.73 and 0.75.
CUDA = (
    _cuda((128, 128), (16, 8), 1, 4, 2, 0.79),
    _cuda((128, 64), (8, 8), 1, 4, 3, 0.85),
    _cuda((64, 64), (8, 8), 2, 4, 3, 0.82),
    _cuda((64, 64), (16, 8), 4, 4, 2, 0.73),
    _cuda((64, 32), (8, 8), 4, 4, 3, 0.76),
    _cuda((32, 32), (4, 8), 4, 4, 4, 0.71),
    _cuda((32, 16), (4, 4), 8, 4, 2, 0.52),
    _cuda((128, 64), (8, 8), 1, 1, 2, 0.80),
    _cuda((64, 64), (8, 8), 2, 1, 2, 0.75),
)

# The kernels of numba_cuda/conv2d_tile.py, which read x 4 bytes at a time. Speeds: shares of multiply-adds among the
# instructions. Of these only the first one's times are known.
NUMBA_CUDA = (
    Tile("conv2d_f32_tile128x128", 128, 128, 256, blocks=2, speed=0.82),
    Tile("conv2d_f32_tile64x64", 64, 64, 128, blocks=4, speed=0.73),
    Tile("conv2d_f32_tile32x32", 32, 32, 64, blocks=10, speed=0.6),
)
