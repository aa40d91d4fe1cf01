"""Hold an exported graph against its torch module, layer by layer, within the running error bounds of `errorbound`.

Torch runs in float64, so that nothing depends on how it rounds in float32; each layer of ours starts from torch's
values, and so is held to its own bound alone. A hard decision may fall otherwise where its margin is rounding.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import fx

from pagnp.backends.base import get_backend
from pagnp.canonical import canonical
from pagnp.errorbound import network
from pagnp.errorbound.rows import Row
from pagnp.errors import ExportError
from pagnp.graph import Graph
from pagnp.lower import lower
from pagnp.torch.gates import GateUnit
from pagnp.torch.trace import message
from pagnp.torch.translate import flatten
from pagnp.torch.values import Ref
from pagnp.types import Array

SAME_RUN = 2.0**-19  # of the largest value: two float32 runs of torch on one input, perhaps by different algorithms


@dataclass
class OutputError:
    """How far one output of our run from end to end is from torch's, at most, and torch's largest value."""

    error: float = 0.0
    scale: float = 0.0


@dataclass
class CheckReport:
    """What was found on all images of the example input.

    outputs  name -> OutputError
    wrong    layers that are out of their bounds, each once
    layers   that were compared; of `decisions` hard decisions `flips` fell otherwise in our run from end to end
    margin   the smallest distance of a decision from turning
    """

    outputs: dict[str, OutputError] = field(default_factory=dict)
    wrong: dict[str, Row] = field(default_factory=dict)
    layers: int = 0
    decisions: int = 0
    flips: int = 0
    margin: float = float("inf")

    @property
    def ok(self) -> bool:
        return not self.wrong

    @property
    def problems(self) -> list[tuple[str, str]]:
        """(layer, what) of everything that rounding does not explain."""
        return [(name, str(row)) for name, row in self.wrong.items()]

    def add(self, graph: Graph, found: network.Report, references: Mapping[str, Array]) -> None:
        """Take in what `network.check` found on one image."""
        rows = {row.name: row for row in found.rows}
        self.layers = max(self.layers, len(rows))
        for row in found.rows:
            if not row.ok:
                self.wrong.setdefault(row.name, row)
            if row.margin is not None:
                self.decisions, self.flips = self.decisions + row.decisions, self.flips + (row.run_flips or 0)
                self.margin = min(self.margin, row.margin)
        for name, node in graph.outputs.items():
            output, truth = self.outputs.setdefault(name, OutputError()), references[node]
            output.error = max(output.error, rows[node].run or 0.0)
            output.scale = max(output.scale, float(np.abs(truth[np.isfinite(truth)]).max(initial=0.0)))

    def __str__(self) -> str:
        lines = [
            f"{name}: largest error {o.error:.3g} at values up to {o.scale:.3g}" for name, o in self.outputs.items()
        ]
        if self.decisions:
            margin = f"the smallest margin is {self.margin:.3g}"
            lines.append(f"decisions: {self.flips} of {self.decisions} fall differently; {margin}")
        lines.append(f"{self.layers - len(self.wrong)} of {self.layers} layers within their error bounds")
        return "\n".join([*lines, *(f"OUT OF BOUND: {row}" for row in self.wrong.values())])


def check(
    module: torch.nn.Module,
    fx_graph: fx.Graph,
    values: Mapping[fx.Node, Any],
    graph: Graph,
    example_input: torch.Tensor,
    backend: str = "numba",
) -> CheckReport:
    """Run `module` (in eval mode) in torch and `graph` in pagnp on each image of `example_input`; return a CheckReport.

    values  fx node -> what it became in the graph (`Translation.values`)
    """
    x, engine, report = example_input.detach().cpu(), get_backend(backend), CheckReport()
    names = _layers(graph, x)
    with torch.no_grad():
        _check_trace(module, fx_graph, x)
        recorder = Recorder(module, fx_graph, values, torch.float64, names)
        for image in x.split(1):
            references = _our_layout(graph, image, recorder.record(image))
            pixels = np.ascontiguousarray(image.permute(0, 2, 3, 1).numpy())
            report.add(graph, network.check(graph, pixels, references, engine), references)
    return report


def _layers(graph, x):
    """Return the names of what is compared: one value a layer, and the outputs. ShapeError if x is too small."""
    plan = lower(canonical(graph), x.shape[2], x.shape[3], dense=True)
    return {*plan.layers, *graph.outputs.values()}


def _our_layout(graph, image, arrays):
    """Empty `arrays` and return them as `network.check` takes them; left out is what torch keeps in another size.

    Raises: ExportError if that is an output.
    """
    found = {}
    for name, value in graph.infer(*image.shape[2:]).items():
        array = arrays.pop(name, None)
        if array is None:
            continue
        if value.kind == "tensor" and array.shape == (1, value.c, value.h, value.w):
            found[name] = np.ascontiguousarray(array.transpose(0, 2, 3, 1))
        elif value.kind != "tensor" and array.size == value.h * value.w:
            found[name] = array.reshape(1, value.h, value.w).astype(bool if value.kind == "mask" else np.int32)
    problems = [
        (f"output '{n}'", "has another shape in torch") for n, node in graph.outputs.items() if node not in found
    ]
    if problems:
        raise ExportError(message(problems), problems)
    return found


def _check_trace(module, fx_graph, x):
    """Raise ExportError unless what torch.fx traced computes on `x` what the module itself does."""
    module = copied(module)  # forward may change the module's attributes
    for unit in (m for m in module.modules() if isinstance(m, GateUnit)):
        unit.noise_source = engine_noise
    traced = dict(flatten(fx.Interpreter(fx.GraphModule(module, fx_graph)).run(x.clone()), ""))
    direct = dict(flatten(module(x.clone()), ""))
    problems = [
        (f"output '{name}'", "what torch.fx traced is not what the module computes (random numbers, state, hooks?)")
        for name, value in direct.items()
        if name not in traced or not _same(value, traced[name])
    ]
    if problems:
        raise ExportError(message(problems), problems)


def _same(a, b):
    """Tell whether two float32 runs of torch agree as closely as two of its algorithms may."""
    if a.shape != b.shape:
        return False
    finite = a.isfinite() & b.isfinite()
    if not torch.equal(a[~finite].nan_to_num(nan=0.5), b[~finite].nan_to_num(nan=0.5)):
        return False
    a, b = a[finite].double(), b[finite].double()
    return not a.numel() or bool((a - b).abs().max() <= SAME_RUN * b.abs().max())


def copied(module):
    """Return a deep copy of `module` on the CPU, without tensors that its last forward left in attributes.

    Raises: ExportError if it cannot be copied.
    """
    kept = [v for m in module.modules() for v in vars(m).values() if isinstance(v, torch.Tensor) and not v.is_leaf]
    try:
        return copy.deepcopy(module, {id(v): v.detach().clone() for v in kept}).cpu()
    except (RuntimeError, TypeError) as error:
        problems = [("the module itself", f"cannot be copied for the check: {error}")]
        raise ExportError(message(problems), problems) from error


class Recorder(fx.Interpreter):
    """Runs a traced module in `dtype` and keeps what each node of the graph is there, as torch lays it out.

    values  as `check` has them; names: the graph nodes to keep, None: all
    """

    def __init__(self, module, fx_graph, values, dtype, names=None):
        # A copy, because the module is not ours to convert.
        module = copied(module).to(dtype)
        for attribute in [name for name, value in vars(module).items() if isinstance(value, torch.Tensor)]:
            setattr(module, attribute, getattr(module, attribute).to(dtype))
        super().__init__(fx.GraphModule(module, fx_graph), garbage_collect_values=True)
        for unit in (m for m in self.module.modules() if isinstance(m, GateUnit)):
            unit.noise_source = engine_noise
        refs = {node.name: value.name for node, value in values.items() if isinstance(value, Ref)}
        self.dtype, self.kept = dtype, {}
        self.refs = {node: name for node, name in refs.items() if names is None or name in names}

    def record(self, x):
        """Run on x (1, c, h, w); return name of a graph node -> array."""
        self.kept = {}
        self.run(x.to(self.dtype, copy=True))  # the network may change its input
        return self.kept

    def run_node(self, node):
        result = super().run_node(node)
        if isinstance(result, torch.Tensor) and result.is_floating_point():
            result = result.to(self.dtype)  # mask.float() would bring float32 into the float64 run
        name = self.refs.get(node.name)
        if isinstance(result, torch.Tensor) and name is not None and name not in self.kept:
            self.kept[name] = result.detach().numpy().copy()
        return result


def engine_noise(unit: Any, z: torch.Tensor) -> torch.Tensor:
    """Draw the noise that the engine draws with seed 0, as (1, K, h, w); `unit` has gate_index and form of the gate."""
    noise = np.empty((*z.shape[2:], z.shape[1]), np.float32)
    get_backend("numpy").gumbel_noise(0, unit.gate_index, unit.form, 0, 0, noise)
    return torch.from_numpy(noise).permute(2, 0, 1)[None].to(z.dtype)
