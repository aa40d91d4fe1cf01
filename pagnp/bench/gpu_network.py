"""A whole network on a GPU: launched anew or as a CUDA graph, dense and at keep rates, step by step."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from pagnp.backends.base import Backend
from pagnp.backends.gpu.device import Allocations
from pagnp.bench import masks
from pagnp.bench.gpu_timing import Events, step_seconds
from pagnp.bench.network import Way
from pagnp.bench.roofline import Peaks, Work, attainable, bound, works
from pagnp.dispatch import Options
from pagnp.flops import count_macs
from pagnp.fuse import CONVS
from pagnp.graph import Graph
from pagnp.lower import SITE_RULES, Plan, Step
from pagnp.model import Model
from pagnp.runner import Run, execute
from pagnp.types import Json, Macs, Size, Tensor

PROFILES = 5


def batch_input(graph: Graph, size: Size, n: int) -> Tensor:
    """Return float32 (n, h, w, c), normally distributed like normalised images, all different."""
    h, w = graph.padded_size(size)
    return np.random.Generator(np.random.PCG64(n)).standard_normal((n, h, w, graph.channels), np.float32)


def ways(graph: Graph, plan: Plan, keeps: Sequence[float], kinds: Sequence[str]) -> list[Way]:
    """Return the dense way and one for each keep rate and kind of masks; `plan` is a perforated one."""
    found = [Way("dense", {"dense": True})]
    for keep in keeps:
        for kind in kinds:
            noise = masks.forcing_noise(graph, plan, kind, keep)
            found.append(Way(f"keep {keep:g} {kind}", {"gate_mode": "gumbel_hard", "noise": noise}, keep, kind))
    return found


class DeviceWay:
    """One way to run a model on x (n, h, w, c), with everything in the GPU's memory, noise included."""

    def __init__(self, model: Model, x: Tensor, way: Way) -> None:
        self.model, self.way, self.device = model, way, model.backend.arrays
        run = model.run(x, **way.options)
        self.plan, self.parameters, self.options = run.plan, run.calls.parameters, self._moved(run.calls.options)
        del run
        self.x, self.kept = self.device.to_device(x), Allocations()
        self.eager()
        self.graph = self.device.record(self.eager) if self.device.can_record else None

    def _moved(self, options: Options) -> Options:
        noise = options.noise
        there = {name: self.device.to_device(a) if isinstance(a, np.ndarray) else a for name, a in noise.items()}
        return dataclasses.replace(options, noise=there)

    def eager(self, tick: Callable[[], object] | None = None) -> Run:
        """Launch every step; return the Run, whose arrays the next one takes over."""
        with self.device.reusing(self.kept):
            return execute(self.plan, self.model.backend, self.parameters, self.x, self.options, tick=tick)

    def replay(self) -> None:
        """Launch the CUDA graph of all steps."""
        self.device.replay(self.graph)

    def outputs(self) -> dict[str, Tensor]:
        """Return the outputs of a run, on the host."""
        run = self.eager()
        return {output: self.device.to_host(run.value(node)) for output, node in self.model.graph.outputs.items()}

    def macs(self) -> Macs:
        """Return what it computes, as `Result.macs`."""
        return count_macs(self.plan, self.eager().counts)

    @property
    def bytes(self) -> int:
        """Bytes of the arrays that a run holds, weights and input left out."""
        return sum(int(array.nbytes) for array in self.kept.taken)


class HostWay:
    """The same way on the CPU: its outputs are the bits that the GPU must have, its Run says what each step does."""

    def __init__(self, graph: Graph, backend: Backend, x: Tensor, way: Way) -> None:
        run = Model(graph, backend).run(x, **way.options)
        self.outputs = {output: run.value(node).copy() for output, node in graph.outputs.items()}
        self.works, self.kinds = works(graph, run), [kind_of(graph, step) for step in run.plan.steps]


def kind_of(graph: Graph, step: Step) -> str:
    """Return what a profile sums a step under: "conv 3x3", "sites", the step's kind, or the op of its node."""
    if step.kind in CONVS and step.layer is not None:
        k_h, k_w = graph.weights[step.layer.node.weights["weight"]].shape[2:]
        return f"conv {k_h}x{k_w}{', at sites' if step.sites is not None else ''}"
    if step.kind in SITE_RULES:
        return "lists of sites"
    return step.kind if step.layer is None else step.layer.op


def profile(
    subject: DeviceWay, host: HostWay, events: Events, peaks: Peaks, busy: Callable[[], object], passes: int = PROFILES
) -> Json:
    """Return the seconds of each step on the GPU: {"steps": [..], "kinds": {kind: ..}, "sum"}.

    busy  keeps the GPU at work for longer than the host takes to launch all steps: they then lie one behind the other,
          and no time of the host is in them
    """
    measured = []
    for _ in range(passes):
        busy()
        measured.append(step_seconds(events, _stamps(subject, events)))
    medians = np.median(np.asarray(measured), axis=0)
    steps = [
        _step(work, kind, float(seconds), peaks)
        for work, kind, seconds in zip(host.works, host.kinds, medians, strict=True)
    ]
    return {"steps": steps, "kinds": _kinds(steps), "sum": float(medians.sum())}


def _stamps(subject, events):
    """Return the marks before the first step of a run and after each."""
    stamps = []
    subject.eager(tick=lambda: stamps.append(events.record()))
    return stamps


def _step(work: Work, kind: str, seconds: float, peaks: Peaks) -> Json:
    return {
        "name": work.name,
        "kind": kind,
        "seconds": seconds,
        "macs": work.macs,
        "bytes": work.bytes,
        "bound": bound(work, peaks),
        "attainable": attainable(work, peaks),
    }


def _kinds(steps: Sequence[Json]) -> Json:
    """Sum the steps of each kind; `share`: of the time that the peaks allow."""
    found: Json = {}
    for step in steps:
        kind = found.setdefault(step["kind"], {"steps": 0, "seconds": 0.0, "macs": 0, "bytes": 0, "attainable": 0.0})
        kind["steps"] += 1
        for name in ("seconds", "macs", "bytes", "attainable"):
            kind[name] += step[name]
    for kind in found.values():
        kind["share"] = kind["attainable"] / kind["seconds"] if kind["seconds"] else 0.0
    return dict(sorted(found.items(), key=lambda pair: -pair[1]["seconds"]))
