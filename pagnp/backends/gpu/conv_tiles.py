"""The tile kernels of conv2d: what one is, and which is the fastest for a shape.

A tile kernel computes `rows` output pixels by `columns` output channels in a block of `threads`: an implicit matrix
product over the k_h*k_w*c_in/groups terms in the order of the contract, with the epilogue. All of them take the
parameters of conv2d_f32_plain. Block b of grid.x computes tile (b // n, b % n) with n = ceil((c_out/groups) / columns),
block g of grid.z the group g.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Tile:
    """One tile kernel.

    kernel   its name
    rows     output pixels of a block;  columns  output channels of a block
    threads  of a block;  shared  bytes of dynamic shared memory
    wide     it reads 16 bytes of x and of the weight at once: see `fits`
    blocks   how many a multiprocessor holds at the same time
    speed    share of the peak it reaches where a multiprocessor is full (1.0: only the relation counts)
    """

    kernel: str
    rows: int
    columns: int
    threads: int
    shared: int = 0
    wide: bool = False
    blocks: int = 1
    speed: float = 1.0


def choose(tiles: tuple[Tile, ...], rows: int, c_group: int, groups: int, multiprocessors: int) -> Tile:
    """Return the tile that takes the least time for `rows` pixels and `groups` times `c_group` channels."""
    return min(tiles, key=lambda tile: cost(tile, rows, c_group, groups, multiprocessors))


def cost(tile: Tile, rows: int, c_group: int, groups: int, multiprocessors: int) -> float:
    """Return the time of a step of the reduction, in multiply-adds of one multiprocessor at its peak."""
    blocks = -(-rows // tile.rows) * -(-c_group // tile.columns) * groups
    return -(-blocks // multiprocessors) * tile.rows * tile.columns / tile.speed
