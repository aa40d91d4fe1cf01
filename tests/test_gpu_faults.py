"""A contender of the GPU benchmark that breaks the GPU: who it was, and how the others go on. On the shim."""

# ruff: noqa: F811 - fixtures are imported, and arguments have their names

import dataclasses
import functools
import gc
import json
import sys
import weakref
from unittest.mock import MagicMock

import gpucheck_on_shim as on_shim
import numpy as np
import pytest
from gpucheck_job import backend, folder, job  # noqa: F401
from test_gpu_bench import SMALL
from test_gpu_bench import convs_on as quick_convs_on

import pagnp
from pagnp.bench import gpu_convs, gpu_torch
from pagnp.bench.gpu_faults import FaultError, Watch
from pagnp.bench.peers import Peer, SkippedError
from pagnp.errors import BackendError
from pagnp.gpucheck import job as gpucheck_job
from pagnp.gpucheck import record, running, speed_convs, speed_network
from pagnp.gpucheck.job import AgainError
from pagnp.gpucheck.record import Record, no_problems
from pagnp.gpucheck.stages import Stage

ROW = f"{SMALL.name}, batch 1"


class Fault:
    """Breaks a device: from then on it answers nothing, as a GPU does a process after an illegal access."""

    def __init__(self, device, monkeypatch):
        self.there, right = False, device.launch
        monkeypatch.setattr(device, "wait", self.refuse)
        monkeypatch.setattr(device, "launch", lambda *args: (self.refuse(), right(*args)))

    def record(self):
        """As Events.record."""
        return on_shim.HostEvents.record()

    def elapsed(self, first, last):
        """As Events.elapsed: waits, and so fails where the device does."""
        self.refuse()
        return last - first

    def refuse(self):
        if self.there:
            raise BackendError("backend 'cupy': cudaErrorIllegalAddress")

    def peer(self, name, after=0):
        """Return what makes a Peer that breaks the device when it has run `after` times."""
        runs = []

        def run():
            runs.append(1)
            self.there |= len(runs) > after

        return lambda layer, x, launches: Peer(name, run, "")


@pytest.fixture
def fault(backend, monkeypatch):
    monkeypatch.setattr(gpu_convs, "MOST_LAUNCHES", 1)
    monkeypatch.setattr(speed_convs, "BATCHES", (1,))
    monkeypatch.setattr(backend.arrays, "can_record", False)
    return Fault(backend.arrays, monkeypatch)


def convs_on(backend, fault, **more):
    return dataclasses.replace(quick_convs_on(backend, **more), events=fault)


def harmless(layer, x, launches):
    return Peer("harmless", lambda: None, "")


def test_a_captured_run_of_torch_keeps_what_its_graph_reads():
    """A CUDA graph knows addresses; torch gives memory that nothing holds back to the driver at the next capture."""

    class Weight:
        pass

    def make():
        weight = Weight()
        return gpu_torch.captured(MagicMock(), lambda: weight and None), weakref.ref(weight)

    replay, weight = make()
    gc.collect()
    assert weight() is not None, "the weight is gone, and the graph reads it"
    replay()
    del replay
    gc.collect()
    assert weight() is None


def test_a_watch_names_who_was_at_work(backend, fault):
    watch = Watch(backend.arrays)
    with watch.on("first"):
        pass
    with pytest.raises(FaultError, match="^first: ValueError: wrong") as refused, watch.on("first"):
        raise ValueError("wrong")
    assert not refused.value.lost
    with pytest.raises(FaultError, match="second: BackendError: .*Illegal") as broke, watch.on("first"):
        watch.named("second", functools.partial(setattr, fault, "there", True))()
    assert broke.value.lost and broke.value.who == "second"


@pytest.mark.parametrize("after", (0, 1, 4))
def test_a_library_that_breaks_the_gpu_is_named_and_left_out(job, backend, fault, after, tmp_path):
    job.record.path = tmp_path / "record.json"
    convs = convs_on(backend, fault, peers={"harmless": harmless, "wild": fault.peer("wild", after)})
    with pytest.raises(AgainError, match="wild"):
        speed_convs.measure(job, convs, {}, [SMALL])
    assert no_problems(vars(job.record)) and "answered this process no more" in job.record.skipped[f"wild, {ROW}"]
    fault.there, job.record = False, Record.going_on(job.record.path)  # another process
    speed_convs.measure(job, convs, {}, [SMALL])
    found = job.record.values["convs"]
    assert [row["layer"] for row in found] == [SMALL.name] and list(found[0]["peers"]) == ["harmless"]
    assert no_problems(vars(job.record)), job.record.checks
    speed_convs.measure(job, convs, {}, [SMALL])
    assert len(job.record.values["convs"]) == 1, "what is done is not done again"


def test_a_library_that_only_fails_in_a_round_costs_no_process(job, backend, fault):
    runs = iter((None, None))
    convs = convs_on(
        backend, fault, peers={"weak": lambda *_: Peer("weak", lambda: next(runs), ""), "harmless": harmless}
    )
    speed_convs.measure(job, convs, {}, [SMALL])
    assert list(job.record.values["convs"][0]["peers"]) == ["harmless"]
    assert "weak: StopIteration" in job.record.skipped[f"weak, {ROW}"] and no_problems(vars(job.record))


def test_a_tile_kernel_that_breaks_the_gpu_is_a_failure_with_its_name(job, backend, fault, monkeypatch):
    device, right = backend.arrays, backend.arrays.launch
    bad = gpu_convs.usable_tiles(gpu_convs.Prepared(SMALL, 1, backend), Watch(device))[-1].kernel
    monkeypatch.setattr(
        device, "launch", lambda name, *args: (right(name, *args), setattr(fault, "there", name == bad))
    )
    with pytest.raises(AgainError):
        speed_convs.measure(job, convs_on(backend, fault), {}, [SMALL])
    assert job.record.checks[ROW]["failed"] == 1
    assert job.record.checks[ROW]["first"][0].startswith(f"tile {bad}: BackendError: backend 'cupy': cudaErrorIllegal")
    fault.there = False
    speed_convs.measure(job, convs_on(backend, fault), {}, [SMALL])
    assert bad not in job.record.values["convs"][0]["tiles"] and job.record.checks[ROW]["failed"] == 1


def test_a_row_whose_chosen_kernel_breaks_the_gpu_is_given_up(job, backend, fault):
    fault.there = True
    with pytest.raises(AgainError):
        speed_convs.measure(job, convs_on(backend, fault), {}, [SMALL])
    assert job.record.checks[ROW]["first"][0].startswith("pagnp: BackendError")
    fault.there = False
    speed_convs.measure(job, convs_on(backend, fault), {}, [SMALL])
    assert job.record.values["convs"] == [] and job.record.checks[ROW]["count"] == 1


def test_another_backend_that_breaks_the_gpu_is_that_backends_failure(job, backend, fault, monkeypatch):
    monkeypatch.setattr(speed_convs, "FULL", 1)
    kernels = backend.kernels | {"conv2d": lambda *args: setattr(fault, "there", True)}
    other = type(backend)("numba-cuda", kernels, arrays=backend.arrays)
    with pytest.raises(AgainError):
        speed_convs.measure(job, convs_on(backend, fault), {"numba-cuda": other}, [SMALL])
    assert list(job.record.checks) == ["bits of every tile at full size", "launches of numba-cuda"][1:]
    fault.there = False
    speed_convs.measure(job, convs_on(backend, fault), {"numba-cuda": other}, [SMALL])
    assert job.record.values["convs"][0]["peers"] == {}


GRAPH = functools.partial(
    pagnp.nn.pag_resnet, depth=26, width=0.0625, gated=["layer1.0"], heads={"a": {"task": "segmentation", "classes": 5}}
)


def test_a_network_is_measured_without_the_library_that_broke_the_gpu(job, backend, fault, monkeypatch):
    for name, value in {"ROUNDS": 1, "LEAST": 0.0, "BATCHES": (1,), "KEEPS": (), "LATENCY_RUNS": 4}.items():
        monkeypatch.setattr(speed_network, name, value)
    wild = fault.peer("wild", 1)(None, None, 1)
    monkeypatch.setattr(speed_network, "_torch_peers", lambda graph, x: [wild, Peer("tame", lambda: None, "")])

    def none(graph, x):
        raise SkippedError("not here")

    monkeypatch.setattr(speed_network, "_onnxruntime_peers", none)
    machine = (on_shim.Machine(backend.arrays),) * 2
    measure = functools.partial(speed_network.run_network, job, GRAPH(), (16, 24), machine, fault)
    with pytest.raises(AgainError, match="wild"):
        measure()
    assert "wild: BackendError" in job.record.skipped["wild, batch 1"] and no_problems(vars(job.record))
    fault.there = False
    measure()
    assert [peer["name"] for peer in job.record.values["network"][0]["peers"]] == ["tame"]
    assert no_problems(vars(job.record)), job.record.checks


def test_a_library_that_breaks_the_gpu_while_it_is_made(job, backend, fault, monkeypatch):
    def breaks(graph, x):
        fault.there = True
        raise RuntimeError("CUDA error: an illegal memory access")

    monkeypatch.setattr(speed_network, "_torch_peers", breaks)
    monkeypatch.setattr(speed_network, "_onnxruntime_peers", lambda graph, x: [])
    x = np.zeros((1, 16, 16, 3), np.float32)
    with pytest.raises(AgainError, match="torch"):
        speed_network.quick_peers(job, GRAPH(), x)
    fault.there = False
    assert speed_network.quick_peers(job, GRAPH(), x) == [] and "illegal" in job.record.skipped["torch, batch 1"]


# Processes

GOES_ON = """
import sys, pathlib
from pagnp.gpucheck.record import Record
again = sys.argv[2:] == ["again=1"]
record = Record.going_on(pathlib.Path(sys.argv[1])) if again else Record(pathlib.Path(sys.argv[1]))
record.check("rows")
tries = record.values.get("tries", 0) + 1
record.put("tries", tries)
if tries < {tries}:
    sys.exit(6)
record.finish()
"""


@pytest.mark.parametrize(("tries", "status"), ((1, "passed"), (3, "passed"), (99, "not run")))
def test_another_process_goes_on_where_one_ended(tries, status, monkeypatch):
    monkeypatch.setattr(running, "MOST_PROCESSES", 3)
    monkeypatch.setattr(running, "LEAST", 0.1)
    stage = Stage("speed-convs", "cupy", 20, 1, "speed")
    code = GOES_ON.format(tries=tries)
    command = lambda stage, seconds, path: [sys.executable, "-c", code, str(path)]  # noqa: E731
    (outcome,) = running.run([stage], command, 60, lambda outcomes: None)
    assert outcome.status == status and outcome.found["checks"]["rows"]["count"] == min(tries, 3)
    assert ("broke the GPU" in outcome.reason) == (status == "not run")


def test_a_stage_that_another_process_can_go_on_with(monkeypatch, tmp_path):
    def run(job):
        job.record.check("rows", count=2)
        if len(job.record.values) == 0:
            job.record.put("first", 1)
            raise AgainError("wild: illegal address")

    monkeypatch.setattr(speed_convs, "run", run)
    path = tmp_path / "record.json"
    words = ["speed-convs", "cupy", "10", str(path)]
    assert gpucheck_job.main(words, lambda name: None) == gpucheck_job.AGAIN
    assert not json.loads(path.read_bytes())["finished"]
    assert gpucheck_job.main([*words, "again=1"], lambda name: None) == 0
    found = json.loads(path.read_bytes())
    assert found["checks"]["rows"]["count"] == 4 and found["finished"]
    assert running.verdict(0, found) == (running.PASSED, "")
    failed = {"checks": {"rows": {"count": 1, "failed": 1, "first": ["tile x: broke"]}}}
    assert running.verdict(gpucheck_job.AGAIN, failed)[0] == running.FAILED


def test_a_record_that_goes_on_is_whole(tmp_path):
    first = record.Record(tmp_path / "record.json")
    first.check("a", ["wrong"], 3)
    first.skip("b", "why")
    first.put("c", [1])
    again = Record.going_on(tmp_path / "record.json")
    assert (again.checks, again.skipped, again.values) == (first.checks, first.skipped, first.values)
