"""Model: a graph bound to a backend; images in, Results out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Unpack, overload

import numpy as np

from pagnp import budget as budgets
from pagnp import gating, gpuarrays, memory
from pagnp.backends.base import BackendLike
from pagnp.backends.choice import AUTO, backend_of, choose, of_array
from pagnp.bands import TILES, plan_bands
from pagnp.canonical import canonical
from pagnp.dispatch import Options
from pagnp.errors import DtypeError, ImageError, ShapeError, UsageError
from pagnp.executors import executor
from pagnp.graph import Graph
from pagnp.inference import Inference, Network
from pagnp.lower import lower
from pagnp.parameters import prepare
from pagnp.result import Result
from pagnp.runner import Run
from pagnp.trace import Trace
from pagnp.types import AnyPicture, FilePath, GateMode, Picture, Pictures, RunOptions, Size, Tensor
from pagnp.weights import share

PLANS_KEPT = 8


def load(
    path: FilePath,
    backend: BackendLike = "auto",
    threads: int | None = None,
    allow_nonfinite: bool = False,
) -> "Model":
    """Load a model file and return a Model.

    path      a file written by pagnp.torch.export, pagnp.modelfile.write or `pagnp convert`
    backend   "auto" (numba; for arrays in a GPU's memory that GPU), "numba", "numpy", "cupy", "numba-cuda", or
              "auto-gpu" (prefers a GPU and tells the logger "pagnp" what it took)
    threads   worker threads, None = all cores this process may use
    Raises:   ModelFileError, GraphError, BackendError.
    """
    from pagnp import modelfile

    model = Model(modelfile.read(path, allow_nonfinite=allow_nonfinite), backend=backend, threads=threads)
    share(model.graph, model._canonical, model._parameters)
    return model


@dataclass(frozen=True)
class PlanSummary:
    """What a run will take: peak `bytes`, `macs` with all gates on, `layers` [{name, op, shape, macs}]."""

    bytes: int
    macs: int
    layers: list[dict[str, Any]]


class Model:
    """A network ready to run. Safe to call from several threads.

    Between calls it keeps plans and the memory of one run. The graph and its arrays are the model's: to run with other
    weights, change them and make another Model.
    """

    def __init__(self, graph: Graph, backend: BackendLike = "auto", threads: int | None = None) -> None:
        if not isinstance(graph, Graph):
            raise UsageError(f"Model: graph is a {type(graph).__name__}, need a Graph; of a file: pagnp.load")
        self.graph = graph.validate()
        self.backend = choose(backend, threads)
        self._follows = backend == AUTO  # arrays of a GPU to that GPU
        self._on_gpu: dict[Any, Model] = {}
        self._canonical = canonical(graph)
        self._parameters = prepare(self._canonical, self.backend)
        self._plans: dict[Any, Any] = {}
        self._executor = executor(self.backend, self._parameters)

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
        tile: int | None = None,
        progress: Callable[[float], object] | None = None,
    ) -> Result | list[Result]:
        """Run the network on an image and return a Result; on a batch or list, a list of Results.

        image      (h, w, 3) uint8 array, path or PIL image; (n, h, w, 3) array or a list for several
        budget     0..1, share of the gated convs' dense MACs to spend; threshold: a pixel computes iff z1 - z0 > t
        seed       of the Gumbel noise (gumbel gates only); noise: gate -> float32 (h', w', K) instead of it
        gate_mode  "hard", "soft", "gumbel_hard" or "gumbel_soft" for all gates, in place of the file's modes
        dense      compute every branch everywhere: same bits, more MACs
        trace      keep every layer in Result.layers; "digests": only its digest, in Result.layer_digests
        flip       average with the mirror image's prediction
        tile       compute in bands of so many rows of the image: same bits, less memory; None: only where the whole
                   image does not fit into memory (Result.tile says)
        progress   called with the share of the work that is done, 0 to 1; of several images for each from 0 on
        Raises:    ImageError, UsageError, ShapeError, DtypeError (noise), MemoryLimitError.
        """
        if not (isinstance(trace, (bool, np.bool_)) or isinstance(trace, str) and trace == "digests"):
            raise UsageError(f"trace is True, False or 'digests', got {trace!r}")
        trace = trace if isinstance(trace, str) else bool(trace)
        options: RunOptions = {"budget": budget, "threshold": threshold, "seed": seed, "noise": noise}
        options |= {"gate_mode": gate_mode, "dense": dense, "trace": trace, "flip": flip}
        options |= {"tile": tile, "progress": progress}
        from pagnp.image import from_array, load_image

        if isinstance(image, (list, tuple)) or (isinstance(image, np.ndarray) and image.ndim == 4):
            return [self(one, **options) for one in image]
        if gpuarrays.on_gpu(image):
            return self._at_home_of(image)._run_gpu_array(image, options)
        loaded = load_image(image) if isinstance(image, str) or hasattr(image, "__fspath__") else from_array(image)
        return self._run_image(loaded, **options).mapped(self.backend.arrays.to_host)

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
        """Run on a raw tensor: float32 (n, h, w, c) in, dict output -> float32 (n, h', w', c') out.

        An array in a GPU's memory is taken without a copy; the outputs are then arrays of the same library. The options
        are those of a call with an image.

        Raises: DtypeError, ShapeError (also where the network does not fit this size), UsageError, MemoryLimitError.
        """
        model, outputs = self._at_home_of(x), self.graph.outputs.items()
        arrays = model.backend.arrays
        with gpuarrays.in_order_of(arrays, x):
            run = model.run(x, gate_mode=gate_mode, threshold=threshold, seed=seed, noise=noise, dense=dense)
            values = {output: arrays.duplicate(run.value(name)) for output, name in outputs}
            del run  # on this stream: here its memory may go to the next run
            if not gpuarrays.on_gpu(x):
                return {output: arrays.to_host(value) for output, value in values.items()}
            return {output: gpuarrays.like(x, value) for output, value in values.items()}

    def run(
        self,
        x: Tensor,
        *,
        gate_mode: GateMode | None = None,
        threshold: float | None = None,
        seed: int = 0,
        noise: Mapping[str, Tensor] | None = None,
        dense: bool = False,
        tick: Callable[[], object] | None = None,
    ) -> Run:
        """Run like `forward` and return the Run itself: its plan, what was computed where, every surviving array.

        On a GPU the arrays are the Run's while it lives, on the stream of this call; a later run may take their memory.

        tick  called before the first step of the plan and after each
        """
        if gpuarrays.on_gpu(x):
            x = self._adopt(x, "forward: x")
        elif not isinstance(x, np.ndarray):
            raise DtypeError(f"forward: x is {getattr(x, 'dtype', type(x).__name__)}, need a float32 array")
        if x.dtype != np.float32:
            raise DtypeError(f"forward: x is {x.dtype}, need a float32 array")
        if x.ndim != 4 or x.shape[3] != self.graph.channels or 0 in x.shape:
            raise ShapeError(f"forward: x is {x.shape}, need (n, h, w, {self.graph.channels})")
        graph = self._graph(gate_mode)
        budgets.check(None, threshold, graph)
        plan = self._plan(graph, gate_mode, x.shape, dense)
        options = self._options(graph, plan, threshold, seed, noise)
        self._executor.require(plan, plan.bytes)
        x = np.ascontiguousarray(x) if isinstance(x, np.ndarray) else x
        return self._executor.execute(plan, x, options, tick=tick)

    def plan(
        self, size: Size, *, dense: bool = False, trace: bool = False, flip: bool = False, tile: int | None = None
    ) -> PlanSummary:
        """Return the PlanSummary of a call with an image of `size` (h, w): bytes at the peak (numba), MACs, layers."""
        sides = tuple(size) if isinstance(size, (tuple, list)) else ()
        if len(sides) != 2 or not all(isinstance(side, (int, np.integer)) and side > 0 for side in sides):
            raise ShapeError(f"plan: size is {size!r}, need two whole numbers (h, w) of at least 1")
        h, w = sides
        padded = self.graph.padded_size((h, w))
        plan = self._plan(self._canonical, None, (1, *padded), dense)
        bands = None if tile is None else self._bands(self._canonical, None, plan, dense, check_tile(tile))
        layers = [
            {"name": layer.name, "op": layer.op, "shape": plan.values[layer.name].shape, "macs": plan.macs[layer.name]}
            for layer in plan.layers.values()
        ]
        needed = memory.call_bytes(self._canonical, plan, size, trace, flip, bands)
        return PlanSummary(needed, sum(plan.macs.values()), layers)

    def _at_home_of(self, array):
        """Return the model to run `array` with: itself, or for an array of a GPU one on that GPU."""
        if not gpuarrays.on_gpu(array) or not self.backend.arrays.on_host:
            return self
        name = of_array(array)
        if not self._follows:
            what, hint = gpuarrays.type_name(array), gpuarrays.to_numpy_hint("it", array)
            raise DtypeError(f"backend '{self.backend.name}': got a {what}; {hint}, or take backend '{name}'")
        home = name, gpuarrays.ordinal_of(array)
        if home not in self._on_gpu:
            self._on_gpu = self._on_gpu | {home: Model(self.graph, backend_of(array))}
        return self._on_gpu[home]

    def _adopt(self, array, what):
        """Return an array of a GPU as one of this backend's, C-contiguous."""
        adopted = gpuarrays.adopted(self.backend.arrays, array, what)
        if adopted is None:
            raise DtypeError(
                f"{what} is a {gpuarrays.type_name(array)}, which backend '{self.backend.name}' cannot take"
            )
        return adopted

    def _run_gpu_array(self, image, options):
        """Run an image (h, w, 3) uint8, or a batch (n, h, w, 3), that is in the GPU's memory; results stay there."""
        from pagnp.image import Image

        pixels = self._adopt(image, "image")
        if pixels.dtype != np.uint8 or pixels.ndim not in (3, 4) or pixels.shape[-1] != 3 or 0 in pixels.shape:
            raise ImageError(f"image: the array is {pixels.dtype} {pixels.shape}, need uint8 (h, w, 3) in RGB order")
        if pixels.ndim == 4:
            shape = pixels.shape[1:]
            images = (pixels[i : i + 1].reshape(shape) for i in range(pixels.shape[0]))
            return [self._run_gpu_array(gpuarrays.like(image, one), options) for one in images]
        with gpuarrays.in_order_of(self.backend.arrays, image):
            result = self._run_image(Image(self.backend.arrays.to_host(pixels), on_device=pixels), **options)
            return result.mapped(lambda array: gpuarrays.like(image, array))

    def _graph(self, gate_mode):
        return gating.with_gate_mode(self._canonical, gate_mode)

    def _options(self, graph, plan, threshold, seed, noise):
        noise = {} if noise is None else noise
        if not isinstance(noise, Mapping):
            raise UsageError(f"noise is a dict gate -> array, got {type(noise).__name__}")
        gating.check_noise(graph, plan, noise)
        arrays = self.backend.arrays
        noise = {
            name: self._adopt(array, f"noise of '{name}'") if gpuarrays.on_gpu(array) else arrays.to_device(array)
            for name, array in noise.items()
        }
        if not isinstance(seed, (int, np.integer)) or not 0 <= seed < 1 << 64:
            raise UsageError(f"seed is an integer from 0 to 2**64 - 1, got {seed!r}")
        return Options(None if threshold is None else np.float32(threshold), int(seed), noise)

    def _plan(self, graph, gate_mode, shape, dense):
        n, h, w = shape[:3]
        return self._remembered((n, h, w, dense, gate_mode), lambda: lower(graph, h, w, n, dense))

    def _bands(self, graph, gate_mode, plan, dense, tile):
        key = (plan.h, plan.w, dense, gate_mode, tile, "bands")
        return self._remembered(key, lambda: plan_bands(graph, plan, tile))

    def _remembered(self, key, make):
        """Return what `make` gave for `key` lately, or gives now."""
        found = self._plans.get(key)
        if found is None:
            found = make()
            newest = [*self._plans.items(), (key, found)][-PLANS_KEPT:]
            self._plans = dict(newest)  # replaced, never changed: no lock that a fork could leave locked
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy by building anew: kernels and plans stay behind."""
        return Model, (self.graph, AUTO if self._follows else self.backend.name, self.backend.threads)

    def _run_image(
        self, image, budget, threshold, seed, noise, gate_mode, dense, trace, flip, tile, progress
    ):  # fmt: skip
        if self.graph.preprocess is None or self.graph.channels != 3:
            raise UsageError("the model says nothing about pixels (no preprocess entry for RGB); use Model.forward")
        graph = self._graph(gate_mode)
        budgets.check(budget, threshold, graph)
        plan = self._plan(graph, gate_mode, (1, *graph.padded_size(image.size)), dense)
        options = self._options(graph, plan, threshold, seed, noise)
        bands = self._fitting_bands(graph, gate_mode, plan, dense, image.size, trace is True, flip, tile)
        network = Network(graph, self._executor)
        inference = Inference(network, image, plan, bands, options, progress)
        inference.passes = 1 + bool(flip) + (budgets.PASSES if budget is not None else 0)
        if budget is not None:
            sparse = self._plan(graph, gate_mode, (1, plan.h, plan.w), False)
            sparse_bands = None if bands is None else self._bands(graph, gate_mode, sparse, False, bands.tile)
            inference.find_threshold(budget, sparse, sparse_bands)
        if not trace:
            return inference.result(flip, None)
        seen = Trace(keep=trace is True)
        result = inference.result(flip, seen)
        layers, digests, probes = seen.ordered(list(plan.layers))
        return replace(result, layers=layers, layer_digests=digests, layer_probes=probes)

    def _fitting_bands(self, graph, gate_mode, plan, dense, size, trace, flip, tile):
        """Return None for a run of the whole image, or bands: those asked for, or the highest that fit into memory.

        Where nothing leaves room for the caller, what takes the least: that may be the whole image.
        """
        heights = (None, *(rows for rows in TILES if rows < plan.h)) if tile is None else (check_tile(tile),)
        if tile is None and self._executor.holds(plan):
            return None
        found, arrays = [], self.backend.arrays
        for height in heights:
            bands = None if height is None else self._bands(graph, gate_mode, plan, dense, height)
            found.append((memory.call_bytes(graph, plan, size, trace, flip, bands), bands))
            if memory.fits_well(found[-1][0], arrays):
                return bands
            if self._executor.release() and memory.fits_well(found[-1][0], arrays):
                return bands
        needed, bands = min(found, key=lambda pair: pair[0])
        if not memory.fits(needed, arrays):
            memory.refuse(plan, needed, arrays, None if bands is None else bands.tile)
        return bands


def check_tile(tile: int) -> int:
    """Return `tile`, a number of rows; raises UsageError unless it is a whole number of at least 1."""
    if not isinstance(tile, (int, np.integer)) or isinstance(tile, bool) or tile < 1:
        raise UsageError(f"tile is a number of rows of at least 1, got {tile!r}")
    return int(tile)
