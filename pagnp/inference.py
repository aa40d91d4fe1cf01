"""One image through a network: pixels to input, plain and mirrored passes, the search for a budget, the Result."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from pagnp import budget as budgets
from pagnp import heads
from pagnp.backends.base import Backend
from pagnp.bandrun import BandRun, execute_bands
from pagnp.bands import BandPlan
from pagnp.dispatch import Options
from pagnp.executors import Executor
from pagnp.flops import count_macs
from pagnp.graph import Graph
from pagnp.image import Image
from pagnp.lower import Plan
from pagnp.result import Result, ponder_map
from pagnp.runner import Run
from pagnp.trace import Trace
from pagnp.types import Json, Pixels, Tensor

Progress: TypeAlias = Callable[[float], object]


@dataclass(frozen=True)
class Network:
    """What all images of a call share: a canonical graph, and what runs plans of it."""

    graph: Graph
    executor: Executor

    @property
    def backend(self) -> Backend:
        """Whose kernels run."""
        return self.executor.backend


class Inference:
    """One image through the plan for its size; with `bands` a few rows at a time.

    options   of the next run: `find_threshold` puts a threshold into them
    passes    runs of the network that the call takes at most, for the progress
    """

    def __init__(
        self,
        network: Network,
        image: Image,
        plan: Plan,
        bands: BandPlan | None,
        options: Options,
        progress: Progress | None = None,
    ) -> None:
        self.network, self.image, self.plan, self.bands = network, image, plan, bands
        self.options, self.progress = options, progress
        self.passes, self.begun = 1, 0
        self.pixels = image.on_device if image.on_device is not None else network.backend.arrays.to_device(image.pixels)

    def find_threshold(self, budget: float, plan: Plan, bands: BandPlan | None) -> None:
        """Set the threshold that brings the gated convs nearest to `budget`.

        plan, bands  the perforated ones, with which it is searched: those of the run itself may be dense
        """
        search = Inference(self.network, self.image, plan, bands, self.options, self._share)

        def share_at(threshold: np.float32) -> float:
            search.options = replace(self.options, threshold=threshold)
            macs = count_macs(plan, search._execute(self.pixels).counts)
            self.begun += 1
            return macs["gated_executed"] / macs["gated_dense"] if macs["gated_dense"] else 0.0

        self.options = replace(self.options, threshold=budgets.search(budget, share_at))

    def result(self, flip: bool, trace: Trace | None) -> Result:
        """Run the image (with `flip` its mirror image before) and return the Result without what `trace` collects."""
        mirrored: dict[str, Tensor] = {}
        if flip:  # this run is over, and its maps are gone, before the plain one begins
            turned = self.network.backend.arrays.empty(self.pixels.shape, np.uint8)
            one = (1, *self.pixels.shape)
            self.network.backend.mirror(self.pixels.reshape(one), False, turned.reshape(one))
            run, duplicate = self._execute(turned), self.network.backend.arrays.duplicate
            mirrored = {node: duplicate(run.value(node)) for node in self.network.graph.outputs.values()}
            del run
            self.begun += 1
        return self._result(self._execute(self.pixels, trace), mirrored)

    def _share(self, share):
        if self.progress is not None:
            self.progress((self.begun + share) / self.passes)

    def _execute(self, pixels: Pixels, trace: Trace | None = None) -> Run | BandRun:
        executor, watch = self.network.executor, None if trace is None else trace.add
        preprocess = self.network.graph.preprocess or {}
        source = Source(pixels, preprocess, (self.plan.h, self.plan.w), executor.backend)
        progress = None if self.progress is None else self._share
        if self.bands is None:
            return executor.execute(self.plan, source.rows(0, self.plan.h), self.options, watch, progress)
        common = (executor.backend, executor.parameters)
        return execute_bands(self.plan, self.bands, *common, source.rows, self.options, watch, progress)

    def _result(self, run, mirrored):
        graph, plan, size = self.network.graph, self.plan, self.image.size
        kinds = {name: value.kind for name, value in plan.values.items()}
        masks = {name: self._kept(run, name) for name in graph.gates() if kinds[name] == "mask"}
        rates = {name: self._rates(run, name) for name in graph.multipools() if kinds[name] == "index"}
        hard = [name for name in masks if graph.nodes[name].op == "gate" and graph.nodes[name].attrs["mode"] == "hard"]
        used = self.options.threshold
        padded = plan.h, plan.w
        return Result(
            size=size,
            outputs={head["name"]: self._answer(head, run, mirrored) for head in graph.heads},
            logits={name: self._kept(run, node) for name, node in _logits(graph).items()},
            masks=masks,
            rates=rates,
            ponder=ponder_map(masks.values(), padded, size, self.network.backend),
            macs=count_macs(plan, run.counts),
            thresholds={name: 0.0 if used is None else float(used) for name in hard},
            heads={head["name"]: head for head in graph.heads},
            pixels=self.image.digest,
            tile=None if self.bands is None else self.bands.tile,
        )

    def _kept(self, run, name):
        """Return a copy of what a node gave, without the batch axis."""
        value = run.value(name)
        return self.network.backend.arrays.duplicate(value).reshape(value.shape[1:])

    def _rates(self, run, name):
        """Return the dilation rate that a MultiPool chose for each pixel."""
        backend, index = self.network.backend, run.value(name)
        rates = self.network.graph.nodes[name].attrs["rates"]
        table = backend.arrays.constant(("rates", *rates), lambda: np.asarray(rates, np.int32))
        out = backend.arrays.empty(index.shape[1:], np.int32)
        backend.lookup(table, index.reshape(out.shape), out)
        return out

    def _answer(self, head, run, mirrored):
        node = self.network.graph.outputs[head["output"]]
        padded = self.plan.h, self.plan.w
        return heads.predict(head, run.value(node), mirrored.get(node), padded, self.image.size, self.network.backend)


def _logits(graph):
    """Return name -> node: the heads' logits by head, other outputs by their own names."""
    named = {head["name"]: graph.outputs[head["output"]] for head in graph.heads}
    claimed = {head["output"] for head in graph.heads}
    return {**named, **{name: node for name, node in graph.outputs.items() if name not in claimed}}


class Source:
    """The network's input, row by row: uint8 pixels (h, w, 3) normalised, then +0 to the size of the plan."""

    def __init__(self, pixels: Pixels, preprocess: Json, padded: tuple[int, int], backend: Backend) -> None:
        self.pixels, self.padded, self.backend = pixels, padded, backend
        key = ("input", preprocess["kind"], *preprocess["mean"], *preprocess.get("std", ()))
        self.scale, self.shift = (
            backend.arrays.constant((*key, part), lambda part=part: input_scale_shift(preprocess)[part])
            for part in (0, 1)
        )

    def rows(self, first: int, last: int) -> Tensor:
        """Return rows first..last-1 as float32 (1, rows, w, 3)."""
        out: Tensor = self.backend.arrays.empty((1, last - first, self.padded[1], 3))
        real = self.pixels[first : min(last, self.pixels.shape[0])]
        if real.shape[0]:
            self.backend.normalize_u8(real, self.scale, self.shift, out)
        else:
            self.backend.zero(out)
        return out


def input_scale_shift(preprocess: Json) -> tuple[Tensor, Tensor]:
    """Return float32 (3,) scale and shift of a preprocess entry, computed in float64 and rounded once."""
    mean = np.asarray(preprocess["mean"], np.float64)
    if preprocess["kind"] == "caffe":
        return np.ones(3, np.float32), (-mean).astype(np.float32)
    std = np.asarray(preprocess["std"], np.float64)
    return (1.0 / (255.0 * std)).astype(np.float32), (-mean / std).astype(np.float32)
