"""The tile kernels of conv2d on a GPU, as far as numbers tell: banks of shared memory, sizes, which one is taken."""

import re

import pytest
from cuda_shim.build import SOURCES

from pagnp.backends.gpu.conv_tiles import CUDA, PITCH, STEP, Tile, choose, cycles, fitting

BANKS, WORD = 32, 4  # of shared memory; floats of a 16-byte access
H200 = 132  # multiprocessors
SHARED_OF_BLOCK, SHARED_OF_MULTIPROCESSOR = 227 << 10, 228 << 10  # of an H200
WIDE = tuple(tile for tile in CUDA if tile.vector == 4)


def row_of(lane, down):
    """The first row of a thread in its warp's part of a tile, as in conv2d_tile; a warp is `down` threads high."""
    return lane // 2 % 8 if down == 8 else lane % 2 + lane // 16 * 2


def column_of(lane, down):
    """The first column, likewise."""
    return 4 * row_of(lane, 12 - down)


def wavefronts(addresses):
    """Return how often shared memory is accessed by 16 lanes that load 16 bytes each: words of a bank take turns."""
    words = [{a // WORD for a in addresses if a // WORD % (BANKS // WORD) == bank} for bank in range(BANKS // WORD)]
    return max(map(len, words))


@pytest.mark.parametrize("down", (4, 8))
@pytest.mark.parametrize("columns", sorted({tile.columns for tile in CUDA}))
def test_loads_of_half_a_warp_meet_no_bank_twice(columns, down):
    for half in (range(16), range(16, 32)):
        for k in range(0, STEP, 4):
            for i in range(16):
                assert wavefronts([(row_of(lane, down) + down * i) * PITCH + k for lane in half]) == 1
        for k in range(STEP):
            assert wavefronts([k * columns + column_of(lane, down) for lane in half]) == 1


@pytest.mark.parametrize("down", (4, 8))
def test_lanes_cover_their_part_of_a_tile(down):
    columns = range(0, 4 * 32 // down, 4)
    places = {(row_of(lane, down), column_of(lane, down)) for lane in range(32)}
    assert places == {(row, column) for row in range(down) for column in columns}
    for of in (row_of, column_of):  # half a warp is one access only if such neighbours load the same words
        assert any(all(of(lane, down) == of(lane ^ flip, down) for lane in range(32)) for flip in (1, 2))


@pytest.mark.parametrize("tile", CUDA, ids=lambda tile: tile.kernel)
def test_as_many_blocks_fit_as_it_says(tile):
    assert fitting((tile,), SHARED_OF_BLOCK, SHARED_OF_MULTIPROCESSOR) == (tile,)
    assert tile.threads * tile.blocks <= 2048 and tile.threads <= 1024
    source = (SOURCES / "conv2d_tile.cu").read_text(encoding="utf-8")
    name, blocks, rows, columns, pixels, channels, down, slices, vector = re.search(
        rf"\(({tile.kernel}), " + ", ".join([r"(\d+)"] * 8) + r"\)", source
    ).groups()
    numbers = [int(number) for number in (blocks, rows, columns, slices, vector)]
    assert numbers == [tile.blocks, tile.rows, tile.columns, tile.slices, tile.vector], name
    assert down in ("4", "8") and tile.threads % 128 == 0
    assert int(slices) * tile.rows // int(pixels) * tile.columns // int(channels) == tile.threads


def test_a_gpu_with_less_shared_memory_gets_the_smaller_tiles():
    few = fitting(CUDA, 99 << 10, 100 << 10)
    assert 0 < len(few) < len(CUDA) and all(tile.shared <= 99 << 10 and tile.blocks >= 1 for tile in few)
    assert fitting(CUDA, 1 << 10, 64 << 10) == ()


@pytest.mark.parametrize(
    ("rows", "c_group", "terms", "kernel"),
    (
        (4800 * 16, 512, 4608, "128x128"),  # a batch: the tile with the most multiply-adds for an instruction
        (4800, 512, 4608, "64x64x4"),
        (4800, 256, 2304, "64x32x4"),
        (4800, 2, 2048, "32x16x8"),  # a gate
        (1200, 256, 2304, "32x32x4"),  # a quarter of the pixels
    ),
)
def test_choice(rows, c_group, terms, kernel):
    assert choose(WIDE, rows, c_group, 1, terms, H200).kernel == f"conv2d_f32_tile{kernel}"


def test_slices_do_not_pay_where_there_is_one_chain():
    assert choose(WIDE, 19200, 64, 1, 64, H200).slices == 1


def test_cycles_grow_with_the_work():
    tile = Tile("any", 64, 64, 64, blocks=6)
    sizes = [cycles(tile, rows, 64, 1, 128, 4) for rows in (1, 64 * 4, 64 * 5, 64 * 24, 64 * 25)]
    assert sizes == sorted(sizes) and sizes[-1] > sizes[0]
    assert cycles(tile, 640, 64, 3, 128, 4) > cycles(tile, 640, 64, 1, 128, 4)
