"""The speed of a whole network, PAG-ResNet-50: dense and at keep rates, beside torch, and where the time goes."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from pagnp.backends.base import get_backend
from pagnp.bench import gpu_network, gpu_onnxruntime, gpu_torch
from pagnp.bench.gpu_faults import FaultError
from pagnp.bench.gpu_network import DeviceWay, HostWay
from pagnp.bench.gpu_peak import FmaPeak, Streams
from pagnp.bench.gpu_session import ROUNDS, section
from pagnp.bench.gpu_timing import LEAST, Events, events_of
from pagnp.bench.network import Way, build
from pagnp.bench.peers import Peer, SkippedError
from pagnp.bench.roofline import Peaks
from pagnp.contract import compare
from pagnp.gpucheck.job import AgainError, Job
from pagnp.gpucheck.networks import HOST
from pagnp.gpucheck.record import failure
from pagnp.graph import Graph
from pagnp.model import Model
from pagnp.types import Json, Tensor

NETWORK, SIZE, QUICK_SIZE = "pag_resnet50", (480, 640), (96, 128)
BATCHES = (8, 1)
KEEPS, KINDS = (0.5, 0.25), ("random", "blobs")
PROFILED = ("dense", "keep 0.5 random")
BUSY = 8  # calls of the peak, about 10 ms each: while the host launches a network
COMPILING = 45.0  # seconds that torch.compile is taken to need at most: with less left it is not tried
LATENCY_RUNS = 15
EAGER, GRAPHS, COMPILED, REDUCED = "torch eager", "torch CUDA graph", "torch.compile", "torch.compile reduce-overhead"


def run(job: Job) -> None:
    """Time both batch sizes beside torch; what takes torch.compile comes last, on what time is left."""
    device, size = job.backend.arrays, SIZE if job.every == 1 else QUICK_SIZE
    run_network(job, build(NETWORK), size, (FmaPeak(device), Streams(device)), events_of(job.backend.name))


def run_network(job: Job, graph: Graph, size: tuple[int, int], machine: tuple[Any, Any], events: Events) -> None:
    """Measure `graph` on images of `size` and put the sections into the record, one by one.

    Goes on where a record ends that a process before this one left. Raises AgainError if another has to go on.
    """
    sections: list[Json] = job.record.values.setdefault("network", [])
    model = Model(graph, job.backend)
    done = {found["batch"] for found in sections}
    for n in (n for n in BATCHES if n not in done):
        with job.record.attempt(f"batch {n}", but=AgainError):
            x = gpu_network.batch_input(graph, size, n)
            plan = model.run(x).plan
            subjects = [DeviceWay(model, x, way) for way in gpu_network.ways(graph, plan, KEEPS, KINDS)]
            peers = quick_peers(job, graph, x)
            with blamed(job, peers, n):
                found = section(subjects, peers, machine, events, ROUNDS, LEAST)
            sections.append(found | {"size": list(size)})
            job.record.put("network", sections)
            _bits_and_profiles(job, graph, x, subjects, machine, events, sections)
            del subjects
    with job.record.attempt("latency from host to host"):
        job.record.put("latency", latency(graph, job.backend, size) | {"size": list(size)})
    for n in BATCHES:
        with job.record.attempt(f"torch.compile, batch {n}", but=AgainError):
            _compiled_section(job, model, graph, size, n, machine, events, sections)
    job.record.put("network", sections)


@contextlib.contextmanager
def blamed(job: Job, peers: Sequence[Peer], n: int) -> Iterator[None]:
    """A FaultError of a peer inside the block: put it into the record, and let another process go on without it."""
    try:
        yield
    except FaultError as error:
        if error.who not in {peer.name for peer in peers}:
            raise
        _without(job, error.who, n, str(error))
        raise AgainError(str(error)) from error


def _without(job, who, n, reason):
    """Say that a peer is left out from now on at batch size n."""
    job.record.values.setdefault("broken", []).append([who, n])
    job.record.skip(f"{who}, batch {n}", reason)


def _is_broken(job, who, n):
    return [who, n] in job.record.values.get("broken", [])


def _skip(job, who, n, error):
    """Say why there is no such peer. Raises AgainError if the GPU answers this process no more."""
    try:
        job.backend.arrays.wait()
    except Exception as lost:  # of any library
        _without(job, who, n, failure(error))
        raise AgainError(f"{who}: {failure(error)}") from lost
    job.record.skip(f"{who}, batch {n}", failure(error))


def quick_peers(job: Job, graph: Graph, x: Tensor) -> list[Peer]:
    """Return the peers that need no compiling: torch in eager mode and as a CUDA graph, and ONNX Runtime."""
    made, n = [], x.shape[0]
    for make in (_torch_peers, _onnxruntime_peers):
        who = "torch" if make is _torch_peers else gpu_onnxruntime.NAME
        if _is_broken(job, who, n):
            continue
        try:
            made += make(graph, x)
        except SkippedError as reason:
            job.record.skip(who, str(reason))
        except Exception as error:
            _skip(job, who, n, error)
    return [peer for peer in made if not _is_broken(job, peer.name, n)]


def _torch_peers(graph: Graph, x: Tensor) -> list[Peer]:
    torch = gpu_torch.torch_on_gpu()
    eager = gpu_torch.network(graph, x)
    return [
        Peer(EAGER, eager, f"{gpu_torch.DETAIL}; {gpu_torch.memory_of(torch, eager)}"),
        Peer(GRAPHS, gpu_torch.captured(torch, eager), f"{gpu_torch.DETAIL}; captured whole"),
    ]


def _onnxruntime_peers(graph: Graph, x: Tensor) -> list[Peer]:
    return [gpu_onnxruntime.network(graph, x)]


def _bits_and_profiles(job, graph, x, subjects, machine, events, sections):
    """Hold outputs against the CPU's, and say where the time goes, for the ways of PROFILED."""
    fma, peaks = machine[0], sections[-1]["peaks"]
    profiles = sections[-1].setdefault("profiles", {})
    for subject in subjects:
        if subject.way.name in PROFILED:
            host = HostWay(graph, get_backend(HOST), x, subject.way)
            outputs = subject.outputs()
            name = f"bits of {NETWORK}, batch {x.shape[0]}, {subject.way.name}"
            job.record.check(name, [f"{o}: {d}" for o, a in host.outputs.items() if (d := compare(outputs[o], a))])
            limits = Peaks(1e9 * peaks["gflops"], 1e9 * peaks["gbytes"])
            profiles[subject.way.name] = gpu_network.profile(subject, host, events, limits, _busy(fma))
            job.record.put("network", sections)


def _busy(fma: Callable[[], object]) -> Callable[[], object]:
    return lambda: [fma() for _ in range(BUSY)]


def _compiled_section(job, model, graph, size, n, machine, events, sections):
    """Time torch.compile beside our dense run, in rounds of their own."""
    name, mode = (REDUCED, "reduce-overhead") if n == 1 else (COMPILED, None)
    if _is_broken(job, name, n) or any(found.get("with") == name for found in sections):
        return
    if job.every > 1:
        job.record.skip(name, "a quick try compiles nothing")
        return
    if job.deadline.left < COMPILING:
        job.record.skip(name, f"{job.deadline.left:.0f} s were left, {COMPILING:.0f} are wanted to compile")
        return
    x = gpu_network.batch_input(graph, size, n)
    try:
        gpu_torch.torch_on_gpu()
        peer = Peer(name, gpu_torch.compiled(*gpu_torch.module_on(graph, x), mode), f"{gpu_torch.DETAIL}; {name}")
    except Exception as error:
        _skip(job, name, n, error)
        return
    dense = DeviceWay(model, x, Way("dense", {"dense": True}))
    with blamed(job, [peer], n):
        found = section([dense], [peer], machine, events, ROUNDS, LEAST)
    sections.append(found | {"size": list(size), "with": name})
    job.record.put("network", sections)


def latency(graph: Graph, backend: Any, size: tuple[int, int], clock: Callable[[], float] = time.perf_counter) -> Json:
    """Return {"median", "least", "most"} seconds of a whole call: pixels in the host's memory to labels there."""
    pixels = np.random.Generator(np.random.PCG64(5)).integers(0, 256, (*size, 3), np.uint8)
    model, seconds = Model(graph, backend), []
    for _ in range(LATENCY_RUNS):
        start = clock()
        model(pixels)
        seconds.append(clock() - start)
    return _spread(seconds[3:])  # the first three are launched anew, recorded, replayed for the first time


def _spread(seconds: Sequence[float]) -> Json:
    return {"median": float(np.median(seconds)), "least": min(seconds), "most": max(seconds)}
