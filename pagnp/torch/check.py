"""Hold an exported graph against its torch module: run both, compare logits and decisions.

A hard decision may fall differently where its margin is within rounding; everything behind it then differs by more
than rounding. So the torch side is run with the engine's decisions put in, and the decisions are counted apart.
"""

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import fx

from pagnp.backends.base import get_backend
from pagnp.canonical import canonical
from pagnp.errors import ExportError
from pagnp.graph import Graph
from pagnp.lower import lower
from pagnp.parameters import prepare
from pagnp.runner import execute
from pagnp.torch.gates import GateUnit
from pagnp.torch.trace import message
from pagnp.torch.translate import flatten
from pagnp.types import Array, Tensor

ROUNDING = 2.0**-23
# The engine may be this many times further from the float64 result than torch's own float32 run: the two
# sum in different orders, and the largest of many errors scatters.
ALLOWANCE = 16.0


@dataclass
class OutputError:
    """Largest distances of one output from torch in float64: the engine's, torch's own in float32, the bound."""

    error: float
    torch_error: float
    bound: float
    scale: float

    @property
    def ok(self) -> bool:
        return self.error <= self.bound  # NaN is not


@dataclass
class CheckReport:
    """outputs: name -> OutputError. Of `decisions` hard decisions `flips` fell differently.

    margin  the largest distance from the tie among the flips; margin_bound: what rounding explains there
    """

    outputs: dict[str, OutputError] = field(default_factory=dict)
    decisions: int = 0
    flips: int = 0
    margin: float = 0.0
    margin_bound: float = 0.0
    unexplained: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.problems

    @property
    def problems(self) -> list[tuple[str, str]]:
        """(where, what) of everything that rounding does not explain."""
        outputs = [(name, f"error {o.error:.3g} over {o.bound:.3g}") for name, o in self.outputs.items() if not o.ok]
        return [*outputs, *((name, "decides otherwise, beyond rounding") for name in self.unexplained)]

    def __str__(self) -> str:
        lines = [
            f"{name}: largest error {o.error:.3g} at values up to {o.scale:.3g} (torch float32 {o.torch_error:.3g}, "
            f"bound {o.bound:.3g})" + ("" if o.ok else "  TOO LARGE")
            for name, o in self.outputs.items()
        ]
        lines.append(f"decisions: {self.flips} of {self.decisions} fall differently, margins up to {self.margin:.3g}")
        lines += [f"decision {name}: differs where rounding does not explain it" for name in self.unexplained]
        return "\n".join(lines)


def check(
    module: torch.nn.Module,
    fx_graph: fx.Graph,
    origins: Mapping[fx.Node, str],
    graph: Graph,
    example_input: torch.Tensor,
    backend: str = "numba",
) -> CheckReport:
    """Run `module` (in eval mode) in torch and `graph` in pagnp on `example_input`; return a CheckReport.

    origins  fx node -> name of the graph node that decides there
    """
    x = example_input.detach().cpu()
    logits, decisions = run_engine(graph, np.ascontiguousarray(x.permute(0, 2, 3, 1).numpy()), backend)
    got = {name: torch.from_numpy(value).permute(0, 3, 1, 2).double() for name, value in logits.items()}
    single = _Forced(module, fx_graph, origins, graph, decisions, torch.float32)
    double = _Forced(module, fx_graph, origins, graph, decisions, torch.float64)
    with torch.no_grad():
        _check_trace(module, fx_graph, x)
        mine, truth = single.outputs(x), double.outputs(x)
    report = CheckReport()
    for name in graph.outputs:
        report.outputs[name] = _compare(got[name], mine[name].double(), truth[name])
    _count_flips(report, single, double)
    return report


def _compare(got, mine, truth):
    """Return the OutputError of `got`; where torch has no finite number, in float32 or 64, `got` must be torch's."""
    if got.shape != truth.shape:
        return OutputError(math.inf, 0.0, 0.0, 0.0)  # subtraction would broadcast
    finite = mine.isfinite() & truth.isfinite()
    scale, torch_error = _largest(truth[finite]), _largest((mine - truth)[finite])
    same = torch.equal(got[~finite].nan_to_num(nan=0.5), mine[~finite].nan_to_num(nan=0.5))
    error = _largest((got - truth)[finite]) if same else math.inf
    return OutputError(error, torch_error, ALLOWANCE * max(torch_error, ROUNDING * scale), scale)


def _largest(values):
    return float(values.abs().max()) if values.numel() else 0.0


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
    """Tell whether two runs of torch agree as closely as two of its algorithms may."""
    return a.shape == b.shape and _compare(a.double(), b.double(), b.double()).ok


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


def run_engine(graph: Graph, x: Tensor, backend: str) -> tuple[dict[str, Tensor], dict[str, Array]]:
    """Run `graph` on x (n, h, w, c); return ({output: array}, {node: mask or index array})."""
    joined, engine = canonical(graph), get_backend(backend)
    plan = lower(joined, x.shape[1], x.shape[2], n=len(x))
    kept: dict[str, Array] = {}

    def watch(name: str, array: Array) -> None:
        if array.dtype != np.float32:
            kept[name] = array.copy()

    run = execute(plan, engine, prepare(joined, engine), x, watch=watch)
    return {name: run.value(node).copy() for name, node in graph.outputs.items()}, kept


class _Forced(fx.Interpreter):
    """Run the traced module with the engine's decisions in place of torch's, keeping torch's margins."""

    def __init__(self, module, fx_graph, origins, graph, decisions, dtype):
        # A copy, because the module is not ours to convert, and float64 shows what float32 should have been.
        module = copied(module).to(dtype)
        for attribute in [name for name, value in vars(module).items() if isinstance(value, torch.Tensor)]:
            setattr(module, attribute, getattr(module, attribute).to(dtype))
        super().__init__(fx.GraphModule(module, fx_graph), garbage_collect_values=True)
        for unit in (m for m in self.module.modules() if isinstance(m, GateUnit)):
            unit.noise_source = engine_noise
        self.origins = {node.name: name for node, name in origins.items()}
        self.pagnp_graph, self.decisions, self.dtype = graph, decisions, dtype
        self.margins = {}  # decision -> (margin tensor, flipped tensor)

    def outputs(self, x):
        return dict(flatten(self.run(x.to(self.dtype, copy=True)), ""))  # the network may change its input

    def run_node(self, node):
        result = super().run_node(node)
        if isinstance(result, torch.Tensor) and result.is_floating_point():
            result = result.to(self.dtype)  # mask.float() would bring float32 into the float64 run
        name = self.origins.get(node.name)
        if name is None or name not in self.decisions:
            return result
        forced = torch.from_numpy(self.decisions[name].astype(np.int64)).to(result.dtype)
        forced = forced.reshape(result.shape)
        args = self.map_nodes_to_values((*node.args, *node.kwargs.values()), node)
        if self.pagnp_graph.nodes[name].op == "gate":
            args = [self.module.get_submodule(node.target).scores]
        self.margins[name] = (_margin(self.pagnp_graph.nodes[name].op, args, forced), forced != result)
        return forced


def engine_noise(unit: GateUnit, z: torch.Tensor) -> torch.Tensor:
    """Draw the noise that the engine draws with seed 0, as (1, K, h, w)."""
    noise = np.empty((*z.shape[2:], z.shape[1]), np.float32)
    get_backend("numpy").gumbel_noise(0, unit.gate_index, unit.form, 0, 0, noise)
    return torch.from_numpy(noise).permute(2, 0, 1)[None].to(z.dtype)


def _margin(op, args, forced):
    """Return how far a decision is from the tie, in the shape of `forced`."""
    if op == "compare":
        a, b = (torch.as_tensor(side, dtype=torch.float64) for side in args)  # numbers, masks, indices
        return (a - b).abs().expand(forced.shape)
    z = args[0]
    if forced.dtype == torch.bool:
        return (z[:, 1:2] - z[:, 0:1]).abs()
    index = forced if forced.ndim == 4 else forced[:, None]
    return (z.max(dim=1, keepdim=True).values - z.gather(1, index)).reshape(forced.shape)


def _count_flips(report, single, double):
    for name, (truth, flipped) in double.margins.items():
        mine = single.margins[name][0]
        report.decisions += flipped.numel()
        if not bool(flipped.any()):
            continue
        noise = float((mine.double() - truth).abs().max())
        margin, bound = float(truth[flipped].max()), ALLOWANCE * max(noise, ROUNDING * float(truth.abs().max()))
        report.flips += int(flipped.sum())
        report.margin, report.margin_bound = max(report.margin, margin), max(report.margin_bound, bound)
        if not margin <= bound:
            report.unexplained.append(name)
