"""Whole networks on a GPU backend: the digests that the CPU gives, in every way to run them."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from pagnp import modelfile, receipt, replay
from pagnp.backends.base import Backend, get_backend
from pagnp.bench.gpu_launches import launches
from pagnp.contract import compare
from pagnp.gpucheck import arrays
from pagnp.gpucheck.job import Job
from pagnp.graph import Graph
from pagnp.image import load_image
from pagnp.model import Model
from pagnp.result import Result
from pagnp.testing import sample
from pagnp.types import Pixels

HOST = "numba"  # its digests are proved to be NumPy's by the tests of the CPU backends
VARIANTS: tuple[dict[str, Any], ...] = (
    {},
    {"dense": True},
    {"budget": 0.4},
    {"threshold": -0.5},
    {"flip": True},
    {"tile": 64},
    {"gate_mode": "soft"},
    {"gate_mode": "gumbel_hard", "seed": 7},
)
RUNS = ("launched", "recorded", "replayed")  # the first, second and third run of a plan (sessions.py)
BATCH = 3
RESERVE = 12.0  # seconds for what comes after the variants
NO_MODEL = "no shipped model here: give --weights and --image, or start it in the source tree"


def run(job: Job) -> None:
    """Check the built-in sample, then the shipped model in every way, receipts, and arrays of other libraries."""
    with launches(job.backend.arrays) as counts:
        with job.record.attempt("sample network"):
            wrong = sample.differing(job.backend)
            job.record.check("sample network", [f"other digest: {name}" for name in wrong], len(sample.EXPECTED))
        if job.weights is None or job.image is None:
            job.record.skip("shipped model", NO_MODEL)
        else:
            _shipped(job, modelfile.read(job.weights))
        job.record.put("kernels", dict(counts))


def _shipped(job, graph):
    picture = load_image(job.image).pixels
    part = np.ascontiguousarray(picture[50:147, 60:191] if job.every == 1 else picture[60:84, 90:130])
    sizes = {"a part": part} if job.every > 1 else {"a part": part, "the whole picture": picture}
    host = Model(graph, get_backend(HOST))
    for options in VARIANTS[:: job.every]:
        name = f"shipped model, {', '.join(f'{key} {value}' for key, value in options.items()) or 'plain'}"
        if job.deadline.left < RESERVE:
            job.record.skip(name, "no time was left")
            continue
        with job.record.attempt(name):
            for size, pixels in sizes.items():
                _variant(job, name, size, host, pixels, options)
    with job.record.attempt("places in a batch"):
        _batch(job, host, graph)
    for names, pair in receipt_pairs(job.backend, graph).items():
        with job.record.attempt(f"receipt, {names}"):
            job.record.check(f"receipt, {names}", across(*pair, job.weights, part))
    arrays.check(job, host, part)


def _variant(job, name, size, host, pixels, options):
    """Hold each of RUNS, with graphs and without, against one run on the CPU; then all layers."""
    want = host(pixels, trace="digests", **options)
    for graphs in (True, False):
        model = Model(host.graph, without_graphs(job.backend) if not graphs else job.backend)
        for number, how in enumerate(RUNS):
            problems = differences(model(pixels, **options), want)
            how = how if graphs else f"run {number + 1} without graphs"
            job.record.check(name, [f"{size}, {how}: {problem}" for problem in problems])
    layers = Model(host.graph, job.backend)(pixels, trace="digests", **options).layer_digests
    wrong = [key for key in want.layer_digests if layers.get(key) != want.layer_digests[key]]
    job.record.check(f"{name}, layers", [f"{size}: first that differs: {wrong[0]}"] if wrong else [], len(layers))


def without_graphs(backend: Backend) -> Backend:
    """Return the backend on the same device, which then records nothing."""
    return replace(backend, arrays=_Unrecorded(backend.arrays))


class _Unrecorded:
    """A device that says it cannot record."""

    can_record = False

    def __init__(self, device: Any) -> None:
        self._device = device

    def __getattr__(self, name: str) -> Any:
        return getattr(self._device, name)


def differences(got: Result, want: Result) -> list[str]:
    """Return in what two Results differ, layers left out."""
    found = [f"digest of {name}" for name in want.digests if got.digests.get(name) != want.digests[name]]
    for name in ("macs", "thresholds", "kept"):
        if getattr(got, name) != getattr(want, name):
            found.append(f"{name} {getattr(got, name)}, not {getattr(want, name)}")
    found += [f"rates of {name}" for name in want.rates if compare(got.rates[name], want.rates[name])]
    return found + (["ponder map"] if compare(got.ponder, want.ponder) else [])


def _batch(job, host, graph):
    """An image must give the same wherever it stands in a batch, dense and perforated."""
    rng = np.random.Generator(np.random.PCG64(3))
    x = rng.standard_normal(
        (BATCH, *graph.padded_size((72 // job.every, 104 // job.every)), graph.channels), np.float32
    )
    for dense in (False, True):
        model = Model(graph, job.backend)
        wants = [host.forward(np.ascontiguousarray(x[i : i + 1]), dense=dense) for i in range(BATCH)]
        for how in RUNS:
            outputs = model.forward(x, dense=dense)
            for i, want in enumerate(wants):
                wrong = [name for name, array in want.items() if compare(outputs[name][i : i + 1], array)]
                job.record.check("places in a batch", [f"{how}, dense {dense}, image {i}: {name}" for name in wrong])


def receipt_pairs(backend: Backend, graph: Graph) -> dict[str, tuple[Model, Model]]:
    """Return name -> (who writes, who verifies)."""
    host, device = Model(graph, get_backend(HOST)), Model(graph, backend)
    return {f"{HOST} to {backend.name}": (host, device), f"{backend.name} to {HOST}": (device, host)}


def across(writer: Model, reader: Model, weights: Any, pixels: Pixels) -> list[str]:
    """Return what `reader` finds other than in the receipt of `writer`, in its text form and back."""
    options: dict[str, Any] = {"budget": 0.4, "flip": True}
    recorder = receipt.Recorder(writer, weights)
    recorder.add("picture", writer(pixels, trace="digests", **options), options)
    document = receipt.parse(receipt._text(recorder.document()).encode(), "receipt")
    _, rows = replay.replay(reader, pixels, document["images"][0])
    return [f"{row.name}: receipt {row.receipt}, here {row.here}" for row in _differing(rows)]


def _differing(rows: list[replay.Row]) -> Iterator[replay.Row]:
    return (row for row in rows if not row.same)
