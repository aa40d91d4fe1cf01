"""A whole network: dense and at keep rates, on one input, with the times of its steps."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from pagnp.bench import masks
from pagnp.errors import UsageError
from pagnp.flops import count_macs
from pagnp.graph import Graph
from pagnp.lower import Plan
from pagnp.model import Model
from pagnp.nn import pag_resnet
from pagnp.runner import Run
from pagnp.types import Macs, Size, Tensor

DEPTHS: dict[str, Literal[26, 50, 101]] = {"pag_resnet26": 26, "pag_resnet50": 50, "pag_resnet101": 101}
NETWORKS = tuple(DEPTHS)
HEAD = {"segmentation": {"task": "segmentation", "classes": 19}}
STEEP, PASSES, NEAR = 64.0, 14, 0.002  # thresholds to search between, at most so often, until the share is so near
SEED = 0


def build(name: str) -> Graph:
    """Return one of NETWORKS with random weights: output stride 8, every block gated (hard), one head of 19 classes."""
    return pag_resnet(depth=DEPTHS[name], gated="all", heads=HEAD, gate_bias=0)


def random_input(graph: Graph, size: Size) -> Tensor:
    """Return float32 (1, h, w, c), normally distributed like a normalised image, of `size` padded to fit."""
    h, w = graph.padded_size(size)
    return np.random.Generator(np.random.PCG64(SEED)).standard_normal((1, h, w, graph.channels), np.float32)


@dataclass
class Way:
    """One way to run a network: everywhere, or at a keep rate.

    options  of `Model.run`; keep, masks: the share of pixels that was asked for, and how it is chosen
    stamps   what `clock` said before the first step and after each, of every call so far
    """

    name: str
    options: dict[str, Any]
    keep: float = 1.0
    masks: str | None = None
    stamps: list[float] = field(default_factory=list)


class Subject:
    """A model on one input x (1, h, w, c). `plan` is the perforated one."""

    def __init__(self, graph: Graph, x: Tensor, threads: int) -> None:
        self.graph, self.x, self.model = graph, x, Model(graph, "numba", threads)
        self.plan: Plan = self.model.run(x).plan

    def run(self, way: Way, clock: Callable[[], float] = time.perf_counter) -> dict[str, Tensor]:
        """Run one way and return what `Model.forward` does."""
        run = self.finished(way, lambda: way.stamps.append(clock()))
        return {output: run.value(node).copy() for output, node in self.graph.outputs.items()}

    def finished(self, way: Way, tick: Callable[[], object] | None = None) -> Run:
        """Run one way and return the Run."""
        return self.model.run(self.x, tick=tick, **way.options)

    def macs(self, way: Way) -> Macs:
        """Return what one way computes, as `Result.macs`."""
        run = self.finished(way)
        return count_macs(run.plan, run.counts)

    def dense(self) -> Way:
        """Return the way that computes every branch everywhere."""
        return Way("dense", {"dense": True})

    def at(self, keep: float, kind: str, threshold: float | None = None) -> Way:
        """Return the way that keeps the share `keep` of every gate's pixels, by masks of `kind` (masks.KINDS).

        kind       "gates": of the whole gated work about so much, by the network's own gates and a threshold
        threshold  the one that was found for this keep rate before, to save the search
        """
        name = f"keep {keep:g} {kind}"
        if kind == "gates":
            threshold = self.threshold(keep) if threshold is None else threshold
            return Way(name, {"threshold": threshold}, keep, kind)
        noise = masks.forcing_noise(self.graph, self.plan, kind, keep)
        return Way(name, {"gate_mode": "gumbel_hard", "noise": noise}, keep, kind)

    def threshold(self, keep: float) -> float:
        """Return the gate threshold that keeps about `keep` of the gated work, by bisection.

        Raises: UsageError if the network has no two-way gates, or other than hard ones.
        """
        if not any(node.op == "gate" and not node.attrs.get("rates") for node in self.graph.nodes.values()):
            raise UsageError("the network has no two-way gates; a keep rate needs them")
        low, high, tried = -STEEP, STEEP, []
        for _ in range(PASSES):
            middle = (low + high) / 2
            share = kept(self.macs(Way("", {"threshold": middle})))
            tried.append((abs(share - keep), middle))
            if abs(share - keep) < NEAR:
                break
            low, high = (middle, high) if share > keep else (low, middle)
        return min(tried)[1]


def kept(macs: Macs) -> float:
    """Return the share of the gated work that was done; 1 where nothing is gated."""
    return macs["gated_executed"] / macs["gated_dense"] if macs["gated_dense"] else 1.0


def step_seconds(way: Way, steps: int, warm_up: int = 2) -> np.ndarray[Any, Any]:
    """Return float64 (calls, steps): seconds of each step in each call, without the first `warm_up` calls."""
    calls = np.asarray(way.stamps).reshape(-1, steps + 1)
    return np.diff(calls[warm_up:], axis=1)


def ways(subject: Subject, keeps: Sequence[float], kinds: Sequence[str], thresholds: dict[float, float]) -> list[Way]:
    """Return the dense way and one for each keep rate and kind; `thresholds` keeps what was searched."""
    found = [subject.dense()]
    for kind in kinds:
        for keep in keeps:
            way = subject.at(keep, kind, thresholds.get(keep))
            if kind == "gates":
                thresholds[keep] = way.options["threshold"]
            found.append(way)
    return found
