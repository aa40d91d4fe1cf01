"""The GPU benchmark on the shim and on made-up numbers: what is timed and how, peers, targets, tables. No seconds."""

# ruff: noqa: F811 - fixtures are imported, and arguments have their names

import dataclasses
import functools
import json
import sys
from types import SimpleNamespace
from unittest.mock import MagicMock

import gpucheck_on_shim as on_shim
import numpy as np
import pytest
from gpucheck_job import backend, folder, job  # noqa: F401

import pagnp
from pagnp.bench import gpu_convs, gpu_layers, gpu_timing
from pagnp.bench.gpu_faults import Watch
from pagnp.bench.peers import Peer
from pagnp.bench.timing import Times
from pagnp.errors import BackendError
from pagnp.gpucheck import (
    report,
    report_speed,
    speed_convs,
    speed_network,
    targets,
)
from pagnp.gpucheck.record import no_problems


class FakeEvents:
    """Marks on a clock that moves as the runs say."""

    def __init__(self):
        self.now = 0.0

    def record(self):
        return self.now

    def elapsed(self, first, last):
        return last - first


def test_events_are_the_clock():
    events = FakeEvents()

    def run(seconds):
        def call():
            events.now += seconds

        return call

    times = gpu_timing.measure({"a": run(0.25), "b": run(0.5)}, events, rounds=3, least=0.0)
    assert times == {"a": Times((0.25,) * 3), "b": Times((0.5,) * 3)}
    assert gpu_timing.shared(times["b"], 2) == times["a"]
    assert gpu_timing.step_seconds(events, [0.0, 1.0, 4.0]) == [1.0, 3.0]


def test_launches_become_one_graph(backend):
    device, done = backend.arrays, []
    x = device.to_device(np.ones((1, 1, 1, 4), np.float32))
    run = gpu_timing.repeated(device, lambda: (device.copy(x, x), done.append(1)), 5)
    assert len(done) == 6 and device.replays == 0  # once to compile, five recorded
    run()
    assert len(done) == 6 and device.replays == 1


def test_the_layers_are_resnet50s():
    layers = gpu_layers.layers_of(gpu_layers.resnet50())
    assert sum(layer.count for layer in layers) == 53
    names = {layer.name: layer for layer in layers}
    assert names["3x3 512-512 60x80 d4"].count == 3 and names["7x7 3-64 480x640 s2"].size == (240, 320)
    assert names["3x3 256-256 60x80 d2"].macs == 60 * 80 * 9 * 256 * 256


def convs_on(backend, **more):
    machine = on_shim.Machine(backend.arrays)
    return gpu_convs.Convs(backend, on_shim.HostEvents(), machine, machine, rounds=2, least=0.0, **more)


SMALL = gpu_layers.Layer(6, 8, 8, 32, 3, 1, 2, 2)


def test_a_row_of_a_convolution(backend, monkeypatch):
    monkeypatch.setattr(gpu_convs, "MOST_LAUNCHES", 2)
    fails = functools.partial(__import__, "no_such_library")
    peers = {"quick": lambda layer, x, launches: Peer("quick", lambda: None, "does nothing"), "none": lambda *_: None}
    row = gpu_convs.row(convs_on(backend, peers=peers | {"fails": fails}), SMALL, 2)
    assert row["layer"] == "3x3 8-32 6x8 d2" and row["macs"] == 2 * SMALL.macs and row["wrong"] == []
    assert row["chosen"] in row["tiles"] and set(row["tiles"]) <= {tile.kernel for tile in backend.arrays.conv_tiles}
    assert list(row["peers"]) == ["quick"] and list(row["skipped"]) == ["fails"]
    assert row["peers"]["quick"]["ratio"]["of_medians"] > 1
    json.dumps(row)


def test_a_tile_with_other_bits_is_found(backend):
    right, prepared = backend.kernels["conv2d"], gpu_layers.Prepared(SMALL, 2, backend)

    def conv2d(*args):
        right(*args)
        if backend.arrays.conv_tiles:
            args[-1].view(np.ndarray)[-1, 0, 0, 0] = 7

    watch = Watch(backend.arrays)
    tile = gpu_convs.usable_tiles(prepared, watch)[0]
    backend.kernels["conv2d"] = conv2d
    found = gpu_convs.wrong_images(prepared, [tile], watch)
    assert len(found) == 1 and "last image of 2" in found[0] and tile.kernel in found[0]


def test_speed_of_convolutions_and_of_a_network(job, backend, monkeypatch):
    monkeypatch.setattr(speed_network, "ROUNDS", 1)
    monkeypatch.setattr(speed_network, "LEAST", 0.0)
    monkeypatch.setattr(speed_network, "BATCHES", (1,))
    monkeypatch.setattr(speed_network, "KEEPS", (0.5,))
    monkeypatch.setattr(speed_network, "LATENCY_RUNS", 4)
    monkeypatch.setattr(gpu_convs, "MOST_LAUNCHES", 1)
    monkeypatch.setattr(speed_convs, "BATCHES", (2,))
    heads = {"labels": {"task": "segmentation", "classes": 5}}
    graph = pagnp.nn.pag_resnet(depth=26, width=0.0625, gated=["layer1.0", "layer4.1"], heads=heads, gate_bias=0.0)
    machine = (on_shim.Machine(backend.arrays),) * 2
    speed_network.run_network(job, graph, (16, 24), machine, on_shim.HostEvents())
    speed_convs.measure(job, convs_on(backend), {}, [SMALL])
    assert no_problems(vars(job.record)), job.record.checks
    section = job.record.values["network"][0]
    ways = ["dense", "keep 0.5 random", "keep 0.5 blobs"]
    assert [(row["name"], row["mode"]) for row in section["rows"]] == [(w, m) for w in ways for m in ("eager", "graph")]
    assert section["rows"][2]["kept"] == pytest.approx(0.5, abs=0.05) and section["rows"][2]["macs_share"] < 1
    profile = section["profiles"]["keep 0.5 random"]
    assert "lists of sites" in profile["kinds"] and profile["sum"] == pytest.approx(
        sum(s["seconds"] for s in profile["steps"])
    )
    assert job.record.checks["bits of pag_resnet50, batch 1, dense"] == {"count": 1, "failed": 0, "first": []}
    stage = on_shim.staged_json("speed-network", job)
    text = report.markdown({"environment": on_shim.ABOUT, "stages": [stage], "targets": []})
    assert "## PAG-ResNet-50, 16x24, batch 1" in text and "| 3x3 8-32 6x8 d2 |" in text
    assert "Where the time goes, dense, batch 1" in text and "A whole call on an image of 16x24" in text


def seconds(median):
    return {"median": median, "least": median, "most": median, "rounds": [median]}


def conv_row(name, batch, share, ours=1.0, **peers):
    theirs = {key.replace("_", "-"): {"seconds": seconds(value)} for key, value in peers.items()}
    return {"layer": name, "batch": batch, "share_of_peak": share, "seconds": seconds(ours), "peers": theirs}


def network_rows(batch, rows, peers):
    """rows: (name, milliseconds, share of the MACs)."""
    dense = rows[0][1]
    return {
        **{"batch": batch, "size": [480, 640]},
        "rows": [
            {
                **{"name": name, "mode": "graph", "seconds": seconds(taken), "macs_share": share},
                "ratios": {p: {"of_medians": taken / t} for p, t in (peers | {"dense": dense}).items()},
            }
            for name, taken, share in rows
        ],
    }


def verdicts(values):
    return {target.name: (target.verdict, target.measured) for target in targets.targets(values)}


def test_targets_that_are_reached_and_missed():
    convs = [
        conv_row("3x3 256-256 60x80 d2", 8, 0.80, torch=0.95, numba_cuda=2.0),
        conv_row("3x3 256-256 60x80 d2", 32, 0.76),
        conv_row("3x3 256-256 60x80 d2", 1, 0.10),
        conv_row("3x3 512-512 60x80 d4", 8, 0.70, torch=0.5, cudnn_direct=0.85, numba_cuda=4.0),
    ]
    kernels = {"3x3 256-256 60x80 d2": ["implicit_gemm"], "3x3 512-512 60x80 d4": ["Winograd_fwd"]}
    eight = network_rows(8, [("dense", 40.0, 1.0), ("keep 0.5 random", 30.0, 0.76)], {"torch eager": 41.0})
    compiled = network_rows(8, [("dense", 40.0, 1.0)], {"torch.compile": 39.0})
    single = network_rows(1, [("dense", 6.0, 1.0)], {"torch CUDA graph": 7.0})
    found = verdicts({"convs": convs, "cudnn kernels": kernels, "network": [eight, compiled, single]})
    assert found["conv 3x3 256-256, batch 8 and more"] == ("reached", 0.76)
    assert found["conv 3x3 512-512, batch 8 and more"] == ("missed", 0.70)
    assert found["conv layers, batch 8, speed / cuDNN's best direct algorithm"] == ("missed", 0.85)
    assert found["batch 8, dense / torch's fastest"] == ("missed", 40 / 39)
    assert found["batch 8, keep 0.5 random / torch's fastest"] == ("reached", pytest.approx(30 / 39))
    ideal = "batch 8, keep 0.5 random / own dense / its share of the MACs"
    assert found[ideal] == ("reached", pytest.approx(0.75 / 0.76))
    assert found["batch 8, keep 0.5 blobs / torch's fastest"] == ("not measured", None)
    assert found["batch 1, dense / torch with CUDA graphs"] == ("reached", pytest.approx(6 / 7))
    assert found["numba-cuda's conv speed / cupy's"] == ("missed", 0.375)


def test_torchs_fastest_may_be_its_cuda_graph():
    eight = network_rows(8, [("dense", 40.0, 1.0)], {"torch eager": 41.0, "torch CUDA graph": 39.0})
    assert verdicts({"network": [eight]})["batch 8, dense / torch's fastest"] == ("missed", 40 / 39)


def test_a_larger_batch_alone_reaches_nothing():
    found = verdicts({"convs": [conv_row("3x3 512-512 60x80 d4", 32, 0.9)]})
    assert found["conv 3x3 512-512, batch 8 and more"] == ("not measured", None)


def test_a_quick_try_reaches_no_target_of_networks():
    section = network_rows(8, [("dense", 40.0, 1.0)], {"torch eager": 41.0}) | {"size": [96, 128]}
    assert {verdict for verdict, _ in verdicts({"network": [section]}).values()} == {"not measured"}


def test_names_of_kernels_are_short():
    long = "void cudnn::engines_precompiled::nhwcToNchwKernel<float, (cudnnKernelDataType_t)0>(cudnn::x<float>, float*)"
    assert report_speed.short(long) == "nhwcToNchwKernel"
    assert report_speed.short("sm80_xmma_fprop_5x_cudnn") == "sm80_xmma_fprop_5x_cudnn"


def test_another_backend_that_fails_takes_no_row_away(job, backend, monkeypatch):
    monkeypatch.setattr(gpu_convs, "MOST_LAUNCHES", 1)
    monkeypatch.setattr(speed_convs, "FULL", 1)
    monkeypatch.setattr(speed_convs, "BATCHES", (1,))

    def fails(*args):
        raise BackendError("backend 'numba-cuda': refused")

    other = dataclasses.replace(backend, kernels=backend.kernels | {"conv2d": fails})
    speed_convs.measure(job, convs_on(backend), {"numba-cuda": other}, [SMALL])
    assert job.record.values["convs"][0]["layer"] == SMALL.name
    found = job.record.checks.pop("launches of numba-cuda")
    assert found["failed"] == 1 and found["first"][0].startswith(f"numba-cuda, {SMALL.name}, batch 1: BackendError")
    assert no_problems(vars(job.record)), "the backend that is measured is not to blame"


def test_cudnns_choice_counts_only_where_its_kernels_are_known():
    row = conv_row("a", 8, 0.5, torch=0.9)
    assert targets.direct_seconds(row, []) is None
    assert targets.direct_seconds(row, ["fft2d_r2c_32x32"]) is None
    assert targets.direct_seconds(row, ["sm80_xmma_fprop_implicit_gemm"]) == 0.9
    assert {verdict for verdict, _ in verdicts({}).values()} == {"not measured"}


def test_peers_of_torch_on_the_cpu(monkeypatch):
    torch = pytest.importorskip("torch")
    from pagnp.bench import gpu_torch

    x = np.random.default_rng(0).standard_normal((2, 6, 8, 8)).astype(np.float32)
    for make in (gpu_torch.conv, gpu_torch.sgemm):
        peer = make(SMALL, x, 2, device="cpu", graph=False)
        peer.run()
        assert peer.detail
    weight = torch.ones((1,))
    assert gpu_torch.captured(torch, weight.sum, graph=False) == weight.sum
    graph = pagnp.nn.pag_resnet(depth=26, width=0.0625, gated=["layer1.0"], heads={"a": {"task": "depth"}})
    assert set(gpu_torch.network(graph, np.zeros((1, 16, 16, 3), np.float32), device="cpu")()) == {"a"}
    module, image = gpu_torch.module_on(graph, np.zeros((1, 16, 16, 3), np.float32), "cpu")
    assert module.to("meta")(image.to("meta"))["a"].device.type == "meta", "a part of the module stays on the CPU"


class FakeCudnn(SimpleNamespace):
    """As much of cudnn-frontend as is used: four plans of so many seconds, of which the second is refused."""

    seconds = (0.4, 0.1, 0.2, 0.3)

    def __init__(self):
        names = ("heur_mode", "numerical_note", "data_type")
        super().__init__(ran=[], barred=[], **dict.fromkeys(names, _AnyName()), create_handle=lambda: "handle")

    def pygraph(self, **types):
        y = _AnyName()
        y.set_output = y.set_dim = y.set_stride = lambda value: y
        tensor = lambda name, dim, stride, data_type: (name, tuple(dim), tuple(stride))  # noqa: E731
        nothing = lambda *args: None  # noqa: E731
        return SimpleNamespace(
            tensor=tensor,
            conv_fprop=lambda **place: self.place.update(place) or y,
            **dict.fromkeys(("validate", "build_operation_graph", "create_execution_plans"), nothing),
            deselect_numeric_notes=self.barred.extend,
            get_execution_plan_count=lambda: 4,
            build_plan_at_index=self._build,
            get_workspace_size_plan_at_index=lambda index: 0,
            get_plan_name_at_index=lambda index: f"plan {index}",
            execute_plan_at_index=lambda pointers, workspace, index, handle: self.ran.append(index),
        )

    place = {}

    def _build(self, index):
        if index == 1:
            raise Exception("not supported")


class _AnyName:
    """Has every attribute: its own name."""

    def __getattr__(self, name):
        return name


def test_cudnns_fastest_plan_that_is_left_is_taken(monkeypatch):
    pytest.importorskip("torch")
    from pagnp.bench import gpu_cudnn

    cudnn = FakeCudnn()
    monkeypatch.setitem(sys.modules, "cudnn", cudnn)
    monkeypatch.setattr(gpu_cudnn, "_handle", lambda cudnn: "handle")
    monkeypatch.setattr(gpu_cudnn, "seconds_of", lambda torch, run: run() or cudnn.seconds[cudnn.ran[-1]])
    x = np.zeros((2, SMALL.h, SMALL.w, SMALL.c_in), np.float32)
    peer = gpu_cudnn.direct_conv(SMALL, x, 3, device="cpu", graph=False)
    assert peer.detail == "plan 2, the fastest of 3 plans" and set(cudnn.barred) >= {"WINOGRAD", "FFT", "TENSOR_CORE"}
    assert cudnn.place["dilation"] == [2, 2] and cudnn.place["image"][1:] == ((2, 8, 6, 8), (384, 1, 64, 8))
    cudnn.ran.clear()
    peer.run()
    assert cudnn.ran == [2, 2, 2]


def test_a_run_of_torch_is_captured_after_its_warm_up():
    from pagnp.bench import gpu_torch

    torch, calls = MagicMock(), []
    replay = gpu_torch.captured(torch, lambda: calls.append(torch.cuda.graph.called))
    assert calls == [False] * gpu_torch.WARM_UP + [True]
    replay()
    torch.cuda.CUDAGraph.return_value.replay.assert_called_once_with()


def test_events_of_cupy_are_in_milliseconds():
    pytest.importorskip("cupy")
    events, waited = gpu_timing.CupyEvents(), []
    times = iter((5.0, 7.5))
    event = lambda: SimpleNamespace(at=next(times), record=lambda: None, synchronize=lambda: waited.append(1))  # noqa: E731
    events._cuda = SimpleNamespace(Event=event, get_elapsed_time=lambda first, last: last.at - first.at)
    assert events.elapsed(events.record(), events.record()) == 0.0025 and waited


def test_the_peaks_kernel_is_launched_on_every_multiprocessor(monkeypatch):
    """On the stand-in for CuPy, which loads what NVRTC compiled and notes how it is called."""
    pytest.importorskip("cuda.bindings.nvrtc")
    import fake_cupy

    from pagnp.backends.base import get_backend
    from pagnp.bench.gpu_peak import FmaPeak, Streams

    cupy = fake_cupy.install(monkeypatch)
    device = get_backend("cupy").arrays
    peak, streams = FmaPeak(device, steps=64), Streams(device, size=1 << 16)
    peak()
    (grid, block, args, _) = cupy.kernels["fma_peak_f32"].asked[0]
    assert peak.flops == 2 * grid[0] * block[0] * 32 * 64 and grid[0] % 132 == 0
    assert args[1].size == grid[0] * block[0] and args[2] == 64 and args[2].dtype == np.int32
    streams()
    assert (
        streams.bytes == 2 << 16
        and np.array_equal(*(a.get() for a in streams._arrays))
        and streams._arrays[1].get().any()
    )


def test_the_benchmarks_kernel_compiles():
    pytest.importorskip("cuda.bindings.nvrtc")
    from pagnp.backends.cupy_raw import nvrtc
    from pagnp.bench.gpu_peak import SOURCE

    compiled = nvrtc.compile_sources({SOURCE.name: SOURCE.read_bytes()}, "sm_90")
    assert compiled.ptx.count("fma.rn.f32") >= 128 and ".entry fma_peak_f32" in compiled.ptx and compiled.cubin
