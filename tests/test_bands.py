"""A run in bands: the bits, the counts and the traces of a whole run, in less memory."""

import tracemalloc

import numpy as np
import pytest
from measured_call import check_memory, needs_proc
from random_graphs import random_graph

import pagnp
from pagnp import memory, nn
from pagnp.backends.base import get_backend
from pagnp.bandrun import execute_bands
from pagnp.bands import TILES, plan_bands
from pagnp.contract import compare, digest
from pagnp.errors import MemoryLimitError, UsageError
from pagnp.graph import INPUT
from pagnp.lower import lower
from pagnp.parameters import prepare
from pagnp.rowmaps import Frame, Resize, Spread, Windows
from pagnp.runner import execute
from pagnp.testing.interpret import interpret

GRAPHS = 60  # test_random_graphs.py takes more of them
HEADS = {
    "labels": {"task": "segmentation", "classes": 5},
    "normals": {"task": "normals", "upsample": {"op": "nearest"}},
    "depth": {"task": "depth", "upsample": {"op": "bilinear_deconv", "factor": 8}},
}


class Seen:
    """What `watch` was shown, put together again; rows must come once each and in order."""

    def __init__(self):
        self.arrays, self.rows = {}, {}

    def __call__(self, name, rows, first, height):
        assert first == self.rows.get(name, 0), f"{name}: rows {first}, wanted {self.rows.get(name, 0)}"
        self.arrays.setdefault(name, np.empty((1, height, *rows.shape[2:]), rows.dtype))
        self.arrays[name][:, first : first + rows.shape[1]] = rows
        self.rows[name] = first + rows.shape[1]


def check_in_bands(seed, graph, x, backend, dense, tile, want):
    k = get_backend(backend, 1)
    parameters = prepare(graph, k)
    plan, seen, shares = lower(graph, *x.shape[1:3], dense=dense), Seen(), []
    bands = plan_bands(graph, plan, tile)
    how = f"seed {seed}, {backend}, dense {dense}, tile {tile}"
    run = execute_bands(plan, bands, k, parameters, lambda a, b: x[:, a:b], None, seen, shares.append)
    assert set(seen.arrays) == set(plan.layers) - set(plan.private), how
    outputs = {name: run.value(name) for name in graph.outputs.values()}
    for name, array in (*seen.arrays.items(), *outputs.items()):
        found = compare(array, want[name])
        assert not found, f"{how}: {name}: {found}"
    whole = execute(plan, k, parameters, x)
    assert run.counts.keys() >= whole.counts.keys()
    for name, count in whole.counts.items():
        assert run.counts[name] == count, f"{how}: {name}"
    assert shares == sorted(shares) and shares[-1] == 1
    assert all(not task.free or task.unit.name not in task.free for task in bands.tasks)


@pytest.mark.parametrize("first", range(0, GRAPHS, 30))
def test_random_graphs_in_bands(first):
    for seed in range(first, min(first + 30, GRAPHS)):
        graph, h, w = random_graph(seed)
        x = np.random.default_rng(seed).standard_normal((1, h, w, graph.channels)).astype(np.float32)
        want = interpret(graph, x, "numba")
        for tile in (1, 2, 3, 5):
            check_in_bands(seed, graph, x, "numba", tile == 3, tile, want)
        check_in_bands(seed, graph, x, "numpy", False, 1 + seed % 4, want)


def row_maps():
    """(a RowMap, its output rows, function output row -> the input rows that it reads) for many sizes."""
    for size, kernel, stride, before, dilation in np.ndindex(9, 4, 3, 4, 3):
        size, kernel, stride, dilation = size + 1, kernel + 1, stride + 1, dilation + 1
        taps = [k * dilation for k in range(kernel)]

        def window(o, taps=taps, stride=stride, before=before):
            return [o * stride - before + tap for tap in taps]

        def phase(o, taps=taps, stride=stride, before=before):
            return [(o + before - tap) // stride for tap in taps if (o + before - tap) % stride == 0]

        yield Windows(size, kernel, stride, before, dilation), size, 6, window
        yield Spread(size, kernel, stride, before, dilation), size, 3 * size, phase
        yield Frame(size, before), size, size + 5, lambda o, before=before: [o - before]


def test_row_maps_give_every_row_that_is_read_and_never_go_back():
    for rows, size, height, reads in row_maps():
        for a in range(height):
            for b in (a + 1, min(a + 3, height)):
                lo, hi = rows.needs(a, b)
                wanted = {i for o in range(a, b) for i in reads(o) if 0 <= i < size}
                assert 0 <= lo <= hi <= size and wanted <= set(range(lo, hi)), (rows, a, b)
            assert rows.needs(a, a + 1)[0] <= rows.needs(a + 1, a + 2)[0], (rows, a)
            assert rows.needs(a, a + 1)[1] <= rows.needs(a + 1, a + 2)[1], (rows, a)


def test_resize_reads_a_few_rows():
    for op in ("bilinear", "nearest"):
        rows = Resize(op, 10, 80)
        assert rows.needs(0, 80) == (0, 10)
        assert all(rows.needs(a, a + 1)[1] - rows.needs(a, a + 1)[0] <= 2 for a in range(80))


@pytest.fixture(scope="module")
def model():
    return pagnp.Model(nn.pag_resnet(depth=26, width=0.125, gated="all", heads=HEADS, gate_bias=0.0, seed=3))


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(1).integers(0, 256, (101, 83, 3), np.uint8)


CALLS = {
    "plain": {},
    "dense": {"dense": True},
    "flip": {"flip": True},
    "budget": {"budget": 0.4},
    "dense-budget": {"budget": 0.4, "dense": True},
    "threshold": {"threshold": 0.25},
    "gumbel": {"gate_mode": "gumbel_hard", "seed": 7},
    "soft": {"gate_mode": "soft"},
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("tile", (1, 16, 40, 1000))
def test_a_result_in_bands_is_the_whole_result(model, image, call, tile):
    want, got = model(image, trace=True, **call), model(image, trace=True, tile=tile, **call)
    assert got.digest == want.digest and got.digests == want.digests
    assert list(got.layers) == list(want.layers) and got.layer_digests == want.layer_digests
    assert all(not compare(got.layers[name], want.layers[name]) for name in want.layers)
    assert got.layer_digests == {name: digest(array) for name, array in want.layers.items()}
    assert (got.macs, got.thresholds, got.pixels) == (want.macs, want.thresholds, want.pixels)
    assert not compare(got.ponder, want.ponder)
    assert (got.tile, want.tile) == (tile, None)


def test_a_budget_is_the_same_on_every_backend_and_tile(model, image, backend_name):
    want = model(image, budget=0.3)
    assert 0 < len(set(want.thresholds.values())) and want.digest != model(image).digest
    other = pagnp.Model(model.graph, backend_name, threads=1)
    for tile in (None, 24):
        got = other(image, budget=0.3, tile=tile)
        assert (got.digest, got.thresholds, got.macs) == (want.digest, want.thresholds, want.macs)


def test_given_noise_in_bands(image):
    model = pagnp.Model(nn.pag_resnet(depth=26, width=0.125, gated="all", heads=HEADS, gate_mode="gumbel_hard", seed=3))
    masks = model(image).masks
    rng = np.random.default_rng(0)
    noise = {name: rng.gumbel(size=(*mask.shape, 2)).astype(np.float32) for name, mask in masks.items()}
    want = model(image, noise=noise)
    assert want.digest != model(image).digest
    assert model(image, noise=noise, tile=24).digest == want.digest


def test_digests_alone(model, image):
    want = model(image, trace=True)
    for tile in (None, 16):
        got = model(image, trace="digests", tile=tile)
        assert not got.layers and got.layer_digests == want.layer_digests


def test_progress_rises_to_the_end(model, image):
    for call in ({}, {"tile": 16}, {"flip": True}, {"budget": 0.3, "tile": 32}):
        shares = []
        model(image, progress=shares.append, **call)
        assert shares == sorted(shares) and 0 < shares[0] and shares[-1] <= 1, call
    assert shares[-1] > 0.5


@pytest.mark.parametrize("tile", (0, -1, 1.5, "8", True))
def test_a_tile_that_is_no_number_of_rows(model, image, tile):
    with pytest.raises(UsageError, match="tile is a number of rows"):
        model(image, tile=tile)


def test_bands_where_the_whole_does_not_fit(model, monkeypatch):
    image = np.random.default_rng(2).integers(0, 256, (1500, 64, 3), np.uint8)
    whole, low = model.plan((1500, 64)).bytes, min(model.plan((1500, 64), tile=rows).bytes for rows in TILES[1:])
    assert low < 0.75 * whole
    want = model(image)
    assert want.tile is None
    monkeypatch.setattr(memory, "LITTLE", 0)
    monkeypatch.setattr(memory, "available", lambda: whole + 1)  # fits, but nothing would be left
    found = model(image)
    assert found.tile is not None and found.digest == want.digest
    monkeypatch.setattr(memory, "available", lambda: low)
    found = model(image)
    assert found.tile is not None and model.plan((1500, 64), tile=found.tile).bytes == low
    assert found.digest == want.digest
    monkeypatch.setattr(memory, "available", lambda: low - 1)
    with pytest.raises(MemoryLimitError, match=rf"bands of {found.tile} rows.*MiB are free.*use a smaller image"):
        model(image)
    with pytest.raises(MemoryLimitError, match="even in bands of 200 rows"):
        model(image, tile=200)


def test_the_whole_where_bands_take_more(model, monkeypatch):
    """No two maps of a run in bands share a place, so high bands take more than the whole."""
    monkeypatch.setattr(pagnp.model, "TILES", (256,))
    image = np.zeros((300, 64, 3), np.uint8)
    whole, bands = model.plan((300, 64)).bytes, model.plan((300, 64), tile=256).bytes
    assert whole < bands
    monkeypatch.setattr(memory, "LITTLE", 0)
    monkeypatch.setattr(memory, "available", lambda: whole)
    assert model(image).tile is None
    monkeypatch.setattr(memory, "available", lambda: whole - 1)
    with pytest.raises(MemoryLimitError, match="needs [0-9]+ MiB, .* MiB are free"):
        model(image)


@needs_proc
def test_bands_take_what_the_planner_said():
    planned, whole = check_memory(1801, 507, tile=32)
    assert planned < 0.6 * whole


def test_a_global_mean_is_exact_in_bands():
    """A block that scales its channels by the mean over the map: what the sum waits for is kept, no more."""
    graph = pagnp.graph.Graph(3)
    graph.weights["w"] = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)
    attrs = {"stride": (1, 1), "padding": (1,) * 4, "dilation": (1, 1), "groups": 1}
    graph.add("conv2d", INPUT, "conv", {"weight": "w"}, **attrs)
    graph.add("global_mean", "conv", "mean")
    graph.add("sigmoid", "mean", "scale")
    graph.add("mul", ("conv", "scale"), "out")
    graph.outputs = {"out": "out"}
    x = np.random.default_rng(1).standard_normal((1, 37, 11, 3)).astype(np.float32)
    want = interpret(graph, x)
    for tile in (1, 4, 36, 37, 100):
        check_in_bands("mean", graph, x, "numba", False, tile, want)
    bands = plan_bands(graph, lower(graph, 37, 11), 4)
    assert bands.room["conv"] == 37 and bands.room[INPUT] < 12


def squeeze_and_excitation(blocks=3, c=12):
    """Blocks that scale their channels by a mean over the map, one behind the other, and a head."""
    graph, rng = pagnp.graph.Graph(3), np.random.default_rng(5)
    graph.preprocess = {"kind": "caffe", "mean": [0, 0, 0], "pad_multiple": 4}

    def conv(x, name, c_out, kernel, stride=1):
        c_in = graph.infer()[x].c
        graph.weights[name] = (rng.standard_normal((c_out, c_in, kernel, kernel)) / 9).astype(np.float32)
        place = {"stride": (stride, stride), "padding": (kernel // 2,) * 4, "dilation": (1, 1), "groups": 1}
        return graph.add("conv2d", x, name, {"weight": name}, **place)

    x = conv(INPUT, "stem", c, 3, 2)
    for i in range(blocks):
        inside = graph.add("relu", conv(x, f"conv{i}", c, 3), f"relu{i}")
        scale = graph.add("sigmoid", conv(graph.add("global_mean", inside, f"mean{i}"), f"fc{i}", c, 1), f"scale{i}")
        x = graph.add("add", (graph.add("mul", (inside, scale), f"mul{i}"), x), f"add{i}")
    graph.outputs = {"out": conv(x, "out", 4, 1)}
    upsample = {"op": "bilinear", "align_corners": False}
    task = {"name": "labels", "task": "segmentation", "decode": "argmax"}
    graph.heads = [{**task, "output": "out", "upsample": upsample}]
    return graph


def test_several_means_in_a_row_take_what_the_planner_said():
    """What numpy allocates, to the byte: the barriers of the means keep maps, and the plan counts them."""
    model = pagnp.Model(squeeze_and_excitation(), threads=1)
    image = np.random.default_rng(1).integers(0, 256, (403, 301, 3), np.uint8)
    want = model(image).digest
    for tile in (1, 32, 128):
        tracemalloc.start()
        result = model(image, tile=tile)
        taken = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert result.digest == want
        planned = model.plan((403, 301), tile=tile).bytes
        assert 0.6 * planned < taken <= planned + (1 << 20), (tile, planned, taken)
