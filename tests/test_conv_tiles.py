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


# Milliseconds of the kernels of WIDE on an H200 at batch 8, maps of 60x80 (docs/GPU_RESULTS.md); c_in, c_out, k.
MEASURED = {
    (512, 512, 3): (4.884, 4.642, 4.718, 5.182, 5.386, 5.515, 8.364),
    (256, 256, 3): (1.262, 1.253, 1.239, 1.473, 1.490, 1.513, 2.324),
    (512, 2048, 1): (2.161, 2.088, 2.194, 2.481, 2.601, 2.653, 4.882),
    (1024, 2048, 1): (4.169, 4.044, 4.248, 4.726, 4.909, 5.064, 8.259),
    (2048, 512, 1): (2.250, 2.089, 2.124, 2.354, 2.428, 2.480, 3.872),
    (256, 1024, 1): (0.624, 0.567, 0.593, 1.141, 1.012, 0.869, 2.083),
    (1024, 256, 1): (0.698, 0.568, 0.561, 0.652, 0.633, 0.639, 1.045),
    (128, 128, 3): (0.428, 0.325, 0.367, 0.409, 0.435, 0.433, 0.680),
    (512, 1024, 1): (1.125, 1.060, 1.103, 1.256, 1.302, 1.327, 2.445),
    (1024, 512, 1): (1.150, 1.062, 1.084, 1.236, 1.242, 1.271, 2.076),
}


@pytest.mark.parametrize("layer", MEASURED, ids=lambda layer: "{}-{}, k {}".format(*layer))
def test_the_choice_is_nearly_the_fastest_of_those_that_were_measured(layer):
    c_in, c_out, k = layer
    times = dict(zip([tile.kernel for tile in WIDE], MEASURED[layer], strict=True))
    chosen = choose(WIDE, 8 * 60 * 80, c_out, 1, k * k * c_in, H200)
    assert times[chosen.kernel] <= 1.02 * min(times.values())


@pytest.mark.parametrize("layer", MEASURED, ids=lambda layer: "{}-{}, k {}".format(*layer))
def test_the_model_has_the_ratios_of_the_measured_times(layer):
    """Of the tiles that have chains for their slices and come near the fastest; a last lone block takes longer."""
    c_in, c_out, k = layer
    found = [cycles(tile, 8 * 60 * 80, c_out, 1, k * k * c_in, H200) for tile in WIDE]
    for tile, guess, taken in zip(WIDE, found, MEASURED[layer], strict=True):
        if k * k * c_in >= 2 * 128 * tile.slices and taken < 1.2 * min(MEASURED[layer]):
            off = guess / taken / (found[1] / MEASURED[layer][1])
            assert 0.83 < off < 1.1, tile.kernel


@pytest.mark.parametrize(
    ("rows", "c_group", "terms", "kernel"),
    (
        (4800 * 16, 512, 4608, "128x64"),  # a batch: there is work enough for every tile
        (4800, 512, 4608, "64x64x2"),
        (4800, 256, 1024, "64x32x4"),
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
