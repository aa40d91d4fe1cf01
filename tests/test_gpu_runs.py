"""Whole networks on a GPU backend whose kernels, the CUDA sources, run on the CPU: layers, results, sessions."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import load_backend
from cuda_shim.device import CudaArray, ShimArray, shim_backend
from cuda_shim.recording import RecordingDevice
from random_graphs import random_graph

import pagnp
from pagnp import gpuarrays, notices, receipt, replay
from pagnp.backends.base import Backend, get_backend
from pagnp.backends.gpu import table
from pagnp.bandrun import execute_bands
from pagnp.bands import plan_bands
from pagnp.canonical import canonical
from pagnp.contract import compare
from pagnp.errors import BackendError, DtypeError, ImageError, MemoryLimitError
from pagnp.lower import lower
from pagnp.parameters import prepare
from pagnp.runner import execute
from pagnp.sessions import SESSIONS_KEPT
from pagnp.testing import sample
from pagnp.testing.interpret import interpret

EXAMPLES = Path(__file__).parent.parent / "examples"
WEIGHTS = EXAMPLES / "models/rooms-seg.h5"
GRAPHS = 12  # random ones; a GPU takes hundreds
SIDE = 48  # pixels of the shipped picture: the CPU does in seconds what a GPU does in microseconds


@pytest.fixture
def folder(shim_folder):
    return shim_folder


@pytest.fixture
def backend(folder):
    device = RecordingDevice(folder)
    return Backend("cupy", table(device), arrays=device)


@pytest.fixture(scope="module")
def picture():
    from pagnp.image import load_image

    return np.ascontiguousarray(load_image(EXAMPLES / "images/room.png").pixels[60 : 60 + SIDE, 90 : 90 + SIDE])


@pytest.fixture(scope="module")
def graph():
    return pagnp.load(WEIGHTS).graph


def same_results(got, want):
    assert got.digests == want.digests
    assert got.macs == want.macs and got.thresholds == want.thresholds and got.kept == want.kept
    for name, rates in want.rates.items():
        np.testing.assert_array_equal(got.rates[name], rates)
    np.testing.assert_array_equal(got.ponder, want.ponder)


@pytest.mark.parametrize("order", ("ascending", "descending", "shuffled"))
def test_every_layer_of_the_sample(folder, order):
    assert sample.differing(shim_backend(folder, order=order, seed=3, deferred=order == "shuffled")) == []


@pytest.mark.parametrize("options", ({}, {"dense": True}, {"budget": 0.4}, {"flip": True}, {"tile": 16}), ids=str)
def test_the_shipped_model(backend, graph, picture, options):
    want = pagnp.Model(graph)(picture, **options)
    same_results(pagnp.Model(graph, backend)(picture, **options), want)


@pytest.mark.parametrize("budget", (None, 0.5))
def test_receipts_hold_both_ways(backend, graph, picture, budget):
    """What the CPU wrote, the GPU repeats layer by layer, and the other way round."""
    options = receipt.OPTIONS | {"budget": budget}
    given = {} if budget is None else {"budget": budget}
    host, there = pagnp.Model(graph), pagnp.Model(graph, backend)
    for writer, reader in ((host, there), (there, host)):
        written = receipt.image_entry(canonical(graph), "room.png", writer(picture, trace="digests", **given), options)
        _, rows = replay.replay(reader, picture, written)
        assert len(rows) > 40 and replay.first_difference(rows) is None


def test_runs_are_recorded_and_repeated(backend, graph, picture):
    device, model = backend.arrays, pagnp.Model(graph, backend)
    turned = np.ascontiguousarray(picture[::-1])
    wants = [pagnp.Model(graph)(image) for image in (picture, turned)]
    for run, image in enumerate((picture, turned, picture, turned)):
        same_results(model(image), wants[run % 2])
        assert device.replays == run
    assert wants[0].digest != wants[1].digest
    same_results(model(picture, threshold=0.5), pagnp.Model(graph)(picture, threshold=0.5))
    assert device.replays == 3  # another threshold is another recording


def test_progress_ends_at_one_also_where_nothing_is_launched_step_by_step(backend, graph):
    model, image = pagnp.Model(graph, backend), np.zeros((16, 16, 3), np.uint8)
    for _ in range(3):
        seen = []
        model(image, progress=seen.append)
        assert seen[-1] == 1
    assert backend.arrays.replays == 2


def test_a_recording_that_is_disturbed_costs_no_result(backend, graph, picture, monkeypatch):
    device, model, heard = backend.arrays, pagnp.Model(graph, backend), []
    want = pagnp.Model(graph)(picture).digest

    def disturbed(launches):
        raise BackendError("backend 'cupy': record a run: cudaErrorStreamCaptureInvalidated")

    with notices.heard_by(heard.append), monkeypatch.context() as patched:
        patched.setattr(device, "record", disturbed)
        assert [model(picture).digest for _ in range(2)] == [want, want]
    assert len(heard) == 1 and heard[0].endswith("Invalidated; the run is launched step by step")
    assert model(picture).digest == want and device.replays == 1  # the next run records again


def test_a_network_neither_waits_nor_takes_memory(backend, graph):
    device, model = backend.arrays, pagnp.Model(graph, backend)
    x = device.to_device(np.random.default_rng(1).standard_normal((2, SIDE, SIDE, 3), np.float32))
    model.run(x)
    waits, allocations = device.waits, device.allocations
    for _ in range(3):
        model.run(x)
    assert (device.waits, device.allocations, device.replays) == (waits, allocations, 3)


def test_pixels_are_counted_in_one_wait(backend, graph):
    model, x = pagnp.Model(graph, backend), np.random.default_rng(1).standard_normal((1, SIDE, SIDE, 3), np.float32)
    run = model.run(x)
    waits = backend.arrays.waits
    counts = run.counts
    assert backend.arrays.waits == waits + 1
    assert counts == pagnp.Model(graph).run(x).counts and len(set(counts.values())) > 3


def test_a_run_keeps_its_arrays_while_it_lives(backend, graph):
    model, shape = pagnp.Model(graph, backend), (1, 16, 16, 3)
    one, two = (np.random.default_rng(seed).standard_normal(shape, np.float32) for seed in (1, 2))
    name = next(iter(graph.outputs.values()))
    first = model.run(one)
    before = backend.arrays.to_host(first.value(name))
    second = model.run(two)
    assert not compare(backend.arrays.to_host(first.value(name)), before)
    assert compare(backend.arrays.to_host(second.value(name)), before)


def test_few_sessions_are_kept(backend, graph):
    model = pagnp.Model(graph, backend)
    for side in range(8, 8 * (SESSIONS_KEPT + 3), 8):
        model.forward(np.zeros((1, side, 8, 3), np.float32))
    assert len(model._executor._free) == SESSIONS_KEPT


@pytest.mark.parametrize("seed", range(GRAPHS))
def test_random_graphs(folder, seed):
    graph, h, w = random_graph(seed)
    x = np.random.default_rng(seed).standard_normal((2, h, w, graph.channels)).astype(np.float32)
    want, k = interpret(graph, x, "numba"), shim_backend(folder)
    parameters, device = prepare(graph, k), k.arrays
    for dense in (False, True):
        plan, seen = lower(graph, h, w, n=2, dense=dense), {}
        run = execute(plan, k, parameters, device.to_device(x), None, seen.__setitem__)
        for name in graph.outputs.values():
            seen[name] = device.to_host(run.value(name))
        for name, array in seen.items():
            assert not (found := compare(array, want[name])), f"seed {seed}, dense {dense}: {name}: {found}"
        host = execute(plan, get_backend("numba"), prepare(graph, get_backend("numba")), x)
        assert run.counts == host.counts
    plan = lower(graph, h, w)
    first = device.to_device(x[:1])
    source = lambda a, b: first.reshape(first.shape[1:])[a:b].reshape(1, b - a, *first.shape[2:])  # noqa: E731
    run = execute_bands(plan, plan_bands(graph, plan, 3), k, parameters, source)
    for name in graph.outputs.values():
        found = compare(device.to_host(run.value(name)), want[name][:1])
        assert not found, f"seed {seed}, in bands: {name}: {found}"


def test_arrays_of_a_gpu_stay_there(backend, graph, picture, monkeypatch):
    device, model = backend.arrays, pagnp.Model(graph, backend)
    want = pagnp.Model(graph)(picture)
    result = model(CudaArray(device.to_device(picture)))
    arrays = [result.ponder, *result.outputs.values(), *result.logits.values(), *result.masks.values()]
    assert all(isinstance(array, ShimArray) for array in arrays)
    on_host = result.mapped(device.to_host)
    same_results(on_host, want)
    x = np.random.default_rng(1).standard_normal((1, SIDE, SIDE, 3), np.float32)
    there = model.forward(CudaArray(device.to_device(x)))
    for name, array in pagnp.Model(graph).forward(x).items():
        assert not compare(device.to_host(there[name]), array)


def test_an_array_of_a_gpu_needs_a_gpu_backend(backend, graph, picture):
    image = CudaArray(backend.arrays.to_device(picture))
    with pytest.raises(DtypeError, match="backend 'numba': got a cuda_shim.CudaArray; .*take backend 'cupy'"):
        pagnp.Model(graph, "numba")(image)
    with pytest.raises(ImageError, match=r"float32 \(2, 2\), need uint8 \(h, w, 3\)"):
        pagnp.Model(graph, backend)(CudaArray(backend.arrays.to_device(np.zeros((2, 2), np.float32))))


def test_a_run_of_a_host_backend_refuses_an_array_of_a_gpu(backend, graph):
    x = CudaArray(backend.arrays.to_device(np.zeros((1, 16, 16, 3), np.float32)))
    with pytest.raises(DtypeError, match="x is a cuda_shim.CudaArray, which backend 'numpy' cannot take"):
        pagnp.Model(graph, "numpy").run(x)


def test_a_model_follows_the_array(backend, graph, picture, monkeypatch):
    real = get_backend
    monkeypatch.setattr(
        "pagnp.backends.choice.get_backend",
        lambda name, threads=None: backend if name == "cupy" else real(name, threads),
    )
    model = pagnp.Model(graph)
    result = model(CudaArray(backend.arrays.to_device(picture)))
    assert isinstance(result.ponder, ShimArray)
    assert gpuarrays.on_gpu(CudaArray(result.ponder)) and isinstance(model(picture).ponder, np.ndarray)


def test_too_little_memory_names_the_tile(folder, graph, picture):
    load_backend("numba")
    device = RecordingDevice(folder, memory=12 << 20)
    model = pagnp.Model(graph, Backend("cupy", table(device), arrays=device))
    big = np.zeros((512, 512, 3), np.uint8)
    with pytest.raises(MemoryLimitError, match=r"needs \d+ MiB of the GPU's memory.* tile"):
        model.forward(np.zeros((1, 512, 512, 3), np.float32))
    with pytest.raises(MemoryLimitError, match="even in bands"):
        model(big)


def test_memory_that_is_only_kept_makes_room(folder, graph):
    """Before a run goes in bands, or is refused, the arrays kept for other sizes are given up."""
    device = RecordingDevice(folder)
    model = pagnp.Model(graph, Backend("cupy", table(device), arrays=device))
    model(np.zeros((16, 16, 3), np.uint8))
    device.free_bytes = lambda: 1 << 10 if model._executor._free else 1 << 40
    assert model(np.zeros((24, 16, 3), np.uint8)).tile is None
    assert len(model._executor._free) == 1


def test_card_digest_is_of_the_whole_picture():
    """The digest that gpucheck asks a GPU for is the one on the model's card."""
    assert len(json.loads((EXAMPLES / "models/rooms-seg.json").read_text())["image_digest"]) == 64
