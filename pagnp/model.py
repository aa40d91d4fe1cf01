"""Model: a graph bound to a backend; images in, Results out."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Unpack, overload

import numpy as np

from pagnp import budget as budgets
from pagnp import contract, gating, heads, memory
from pagnp.backends.base import get_backend
from pagnp.canonical import canonical
from pagnp.errors import DtypeError, ShapeError, UsageError
from pagnp.flops import count_macs
from pagnp.graph import Graph
from pagnp.lower import Plan, lower
from pagnp.parameters import prepare
from pagnp.result import Result, ponder_map
from pagnp.runner import Options, execute
from pagnp.types import AnyPicture, FilePath, GateMode, Json, Picture, Pictures, RunOptions, Size, Tensor

PLANS_KEPT = 8


def load(
    path: FilePath,
    backend: str = "auto",
    threads: int | None = None,
    allow_nonfinite: bool = False,
) -> "Model":
    """Load a model file and return a Model.

    path      a file written by pagnp.torch.export, pagnp.modelfile.write or `pagnp convert`
    backend   "auto" (numba), "numba" or "numpy"
    threads   worker threads, None = all cores this process may use
    Raises:   ModelFileError, GraphError, BackendError.
    """
    from pagnp import modelfile

    return Model(modelfile.read(path, allow_nonfinite=allow_nonfinite), backend=backend, threads=threads)


@dataclass(frozen=True)
class PlanSummary:
    """What a run will take: peak `bytes`, `macs` with all gates on, `layers` [{name, op, shape, macs}]."""

    bytes: int
    macs: int
    layers: list[dict[str, Any]]


class Model:
    """A network ready to run. Safe to call from several threads; it holds no state between calls but plans."""

    def __init__(self, graph: Graph, backend: str = "auto", threads: int | None = None) -> None:
        self.graph = graph.validate()
        self.backend = get_backend("numba" if backend == "auto" else backend, threads)
        self._canonical = canonical(graph)
        self._parameters = prepare(self._canonical, self.backend)
        self._plans: dict[Any, Plan] = {}

    @overload
    def __call__(self, image: Picture, **options: Unpack[RunOptions]) -> Result: ...

    @overload
    def __call__(self, image: Pictures[AnyPicture], **options: Unpack[RunOptions]) -> list[Result]: ...

    def __call__(
        self,
        image: "Picture | Pictures[AnyPicture]",
        *,
        budget: float | None = None,
        threshold: float | None = None,
        seed: int = 0,
        noise: Mapping[str, Tensor] | None = None,
        gate_mode: GateMode | None = None,
        dense: bool = False,
        trace: bool | Literal["digests"] = False,
        flip: bool = False,
    ) -> Result | list[Result]:
        """Run the network on an image and return a Result; on a batch or list, a list of Results.

        image      (h, w, 3) uint8 array, path or PIL image; (n, h, w, 3) array or a list for several
        budget     0..1, share of the gated convs' dense MACs to spend; threshold: a pixel computes iff z1 - z0 > t
        seed       of the Gumbel noise (gumbel gates only); noise: gate -> float32 (h', w', K) instead of it
        gate_mode  "hard", "soft", "gumbel_hard" or "gumbel_soft" for all gates, in place of the file's modes
        dense      compute every branch everywhere: same bits, more MACs
        trace      keep every layer in Result.layers; "digests": only its digest, in Result.layer_digests
        flip       average with the mirror image's prediction
        Raises:    ImageError, UsageError, ShapeError, MemoryLimitError.
        """
        options: RunOptions = {"budget": budget, "threshold": threshold, "seed": seed, "noise": noise}
        options |= {"gate_mode": gate_mode, "dense": dense, "trace": trace, "flip": flip}
        from pagnp.image import from_array, load_image

        if isinstance(image, (list, tuple)) or (isinstance(image, np.ndarray) and image.ndim == 4):
            return [self(one, **options) for one in image]
        loaded = load_image(image) if isinstance(image, str) or hasattr(image, "__fspath__") else from_array(image)
        return self._run_image(loaded, **options)

    def forward(
        self,
        x: Tensor,
        *,
        gate_mode: GateMode | None = None,
        threshold: float | None = None,
        seed: int = 0,
        noise: Mapping[str, Tensor] | None = None,
        dense: bool = False,
    ) -> dict[str, Tensor]:
        """Run on a raw tensor: float32 (n, h, w, c) in, dict output -> float32 (n, h', w', c') out."""
        if not isinstance(x, np.ndarray) or x.dtype != np.float32:
            raise DtypeError(f"forward: x is {getattr(x, 'dtype', type(x).__name__)}, need a float32 array")
        if x.ndim != 4 or x.shape[3] != self.graph.channels or 0 in x.shape:
            raise ShapeError(f"forward: x is {x.shape}, need (n, h, w, {self.graph.channels})")
        graph = self._graph(gate_mode)
        budgets.check(None, threshold, graph)
        plan = self._plan(graph, gate_mode, x.shape, dense)
        options = self._options(graph, plan, threshold, seed, noise)
        memory.require(plan, plan.bytes)
        run = execute(plan, self.backend, self._parameters, np.ascontiguousarray(x), options)
        return {output: run.value(name).copy() for output, name in graph.outputs.items()}

    def plan(self, size: Size, *, dense: bool = False, trace: bool = False, flip: bool = False) -> PlanSummary:
        """Return the PlanSummary of a call with an image of `size` (h, w): bytes at the peak (numba), MACs, layers."""
        h, w = size
        if not all(isinstance(side, (int, np.integer)) and side > 0 for side in (h, w)):
            raise ShapeError(f"plan: size is {size!r}, need two whole numbers (h, w) of at least 1")
        padded = self._padded(h, w)
        plan = self._plan(self._canonical, None, (1, *padded), dense)
        layers = [
            {"name": layer.name, "op": layer.op, "shape": plan.values[layer.name].shape, "macs": plan.macs[layer.name]}
            for layer in plan.layers.values()
        ]
        needed = memory.call_bytes(self._canonical, plan, size, trace, flip)
        return PlanSummary(needed, sum(plan.macs.values()), layers)

    def _padded(self, h, w):
        multiple = (self.graph.preprocess or {}).get("pad_multiple", 1)
        return h + -h % multiple, w + -w % multiple

    def _graph(self, gate_mode):
        return self._canonical if gate_mode is None else gating.with_gate_mode(self._canonical, gate_mode)

    def _options(self, graph, plan, threshold, seed, noise):
        gating.check_noise(graph, plan, noise or {})
        noise = {name: np.ascontiguousarray(array) for name, array in (noise or {}).items()}
        if not isinstance(seed, (int, np.integer)) or not 0 <= seed < 1 << 64:
            raise UsageError(f"seed is an integer from 0 to 2**64 - 1, got {seed!r}")
        return Options(None if threshold is None else np.float32(threshold), int(seed), noise)

    def _plan(self, graph, gate_mode, shape, dense):
        n, h, w = shape[:3]
        key = (n, h, w, dense, gate_mode)
        plan = self._plans.get(key)
        if plan is None:
            plan = lower(graph, h, w, n, dense)
            newest = [*self._plans.items(), (key, plan)][-PLANS_KEPT:]
            self._plans = dict(newest)  # replaced, never changed: no lock that a fork could leave locked
        return plan

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy by building anew: kernels and plans stay behind."""
        return Model, (self.graph, self.backend.name, self.backend.threads)

    def _input(self, pixels):
        """Normalise uint8 pixels (h, w, 3) and pad them to the model's multiple: float32 (1, h', w', 3)."""
        from pagnp.ops.pointwise import normalize_image

        h, w = pixels.shape[:2]
        x = normalize_image(pixels, *input_scale_shift(self.graph.preprocess))
        padded = self._padded(h, w)
        out = np.zeros((1, *padded, 3), np.float32)
        out[0, :h, :w] = x
        return out

    def _run_image(self, image, budget, threshold, seed, noise, gate_mode, dense, trace, flip):
        if self.graph.preprocess is None or self.graph.channels != 3:
            raise UsageError("the model says nothing about pixels (no preprocess entry for RGB); use Model.forward")
        graph = self._graph(gate_mode)
        budgets.check(budget, threshold, graph)
        x = self._input(image.pixels)
        plan = self._plan(graph, gate_mode, x.shape, dense)
        options = self._options(graph, plan, threshold, seed, noise)
        memory.require(plan, memory.call_bytes(graph, plan, image.pixels.shape[:2], trace is True, flip))
        if budget is not None:
            options = replace(options, threshold=self._find_threshold(graph, gate_mode, x, options, budget))
        mirrored = self._mirrored(graph, image, plan, options) if flip else {}
        layers, digests = {}, {}

        def watch(name, array):
            if trace is True:
                layers[name] = array[0].copy()
            digests[name] = contract.digest(array[0])

        run = execute(plan, self.backend, self._parameters, x, options, watch if trace else None)
        result = self._result(graph, image, plan, run, mirrored, options)
        return replace(result, layers=layers, layer_digests=digests)

    def _mirrored(self, graph, image, plan, options):
        """Return node -> logits (1, h', w', c) of the mirror image. Its run is over before the plain one begins."""
        x = self._input(np.ascontiguousarray(image.pixels[:, ::-1]))
        run = execute(plan, self.backend, self._parameters, x, options)
        return {node: run.value(node).copy() for node in graph.outputs.values()}

    def _find_threshold(self, graph, gate_mode, x, options, budget):
        plan = self._plan(graph, gate_mode, x.shape, False)

        def share_at(threshold):
            run = execute(plan, self.backend, self._parameters, x, replace(options, threshold=threshold))
            macs = count_macs(plan, run)
            return macs["gated_executed"] / macs["gated_dense"] if macs["gated_dense"] else 0.0

        return budgets.search(budget, share_at)

    def _result(self, graph, image, plan, run, mirrored, options):
        h, w = image.pixels.shape[:2]
        masks = {name: run.value(name)[0].copy() for name in graph.gates() if plan.values[name].kind == "mask"}
        rates = {}
        for name in graph.multipools():
            if plan.values[name].kind == "index":
                rates[name] = np.asarray(graph.nodes[name].attrs["rates"], np.int32)[run.value(name)[0]]
        hard = [name for name in masks if graph.nodes[name].op == "gate" and graph.nodes[name].attrs["mode"] == "hard"]
        used = options.threshold
        return Result(
            size=(h, w),
            outputs={head["name"]: self._decode(head, graph, plan, run, mirrored, h, w) for head in graph.heads},
            logits={name: run.value(node)[0].copy() for name, node in self._logits(graph).items()},
            masks=masks,
            rates=rates,
            ponder=np.ascontiguousarray(ponder_map(masks.values(), (plan.h, plan.w), self.backend)[:h, :w]),
            macs=count_macs(plan, run),
            thresholds={name: 0.0 if used is None else float(used) for name in hard},
            heads={head["name"]: head for head in graph.heads},
            pixels=image.digest,
        )

    def _logits(self, graph):
        """Return name -> node: the heads' logits by head, other outputs by their own names."""
        named = {head["name"]: graph.outputs[head["output"]] for head in graph.heads}
        claimed = {head["output"] for head in graph.heads}
        return {**named, **{name: node for name, node in graph.outputs.items() if name not in claimed}}

    def _decode(self, head, graph, plan, run, mirrored, h, w):
        node = graph.outputs[head["output"]]

        def picture(logits):
            up = heads.upsample(head, logits, (plan.h, plan.w), self.backend)
            if head["task"] == "classification" and head["upsample"]["op"] == "none":
                return up  # says something of the image, not of its pixels
            if up.shape[1] < h or up.shape[2] < w:
                raise ShapeError(
                    f"head '{head['name']}': upsampled to {up.shape[1]}x{up.shape[2]}, the image is {h}x{w}"
                )
            return heads.crop(up, h, w)

        x = picture(run.value(node))
        if mirrored:
            x = heads.flip_average(head, x, picture(mirrored[node]), self.backend)
        return heads.decode(head, x, self.backend)


def input_scale_shift(preprocess: Json) -> tuple[Tensor, Tensor]:
    """Return float32 (3,) scale and shift of a preprocess entry, computed in float64 and rounded once."""
    mean = np.asarray(preprocess["mean"], np.float64)
    if preprocess["kind"] == "caffe":
        return np.ones(3, np.float32), (-mean).astype(np.float32)
    std = np.asarray(preprocess["std"], np.float64)
    return (1.0 / (255.0 * std)).astype(np.float32), (-mean / std).astype(np.float32)
