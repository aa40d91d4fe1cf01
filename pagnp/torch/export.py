"""Write a torch module as a pagnp model file: trace, translate, check against torch, write."""

import os
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from pagnp import graphjson
from pagnp.errors import ExportError, GraphError, ModelFileError, ShapeError
from pagnp.graph import Graph
from pagnp.torch.check import CheckReport, check
from pagnp.torch.nn import PAGResNet
from pagnp.torch.trace import first_line, message, trace
from pagnp.torch.translate import Translation
from pagnp.types import FilePath, Json, MaybeNone

DOCUMENTED = "docs/MODEL_FORMAT.md says what is possible"


@dataclass
class ExportReport:
    """What `export` did: the file, its size in nodes and weights, and the check against torch."""

    path: str
    nodes: int
    weights: int
    check: CheckReport

    def __str__(self) -> str:
        return f"{self.path}: {self.nodes} nodes, {self.weights} weights\n{self.check}"


def export(
    module: torch.nn.Module,
    path: FilePath,
    example_input: torch.Tensor,
    preprocess: Json | None = None,
    heads: Sequence[Json] | None = None,
    *,
    backend: str = "numba",
) -> ExportReport:
    """Write `module` to the model file `path`, after running both on `example_input` and comparing.

    module         any nn.Module of the layers in `torch/layers.py` and the functions and methods in
                   `torch/functions.py`, `arithmetic.py` and `indexing.py`; traced by torch.fx in eval mode and left
                   as it was. DataParallel and torch.compile are looked through
    path           of the file; one that exists is replaced
    example_input  float32 (n, c, h, w), finite; arguments of forward behind the first keep their defaults
    preprocess     how pixels become the input (docs/MODEL_FORMAT.md); None: a pag_resnet's own, else none
    heads          how outputs become answers, a list of dicts; None: a pag_resnet's own, else none
    backend        that runs the graph for the check
    returns        ExportReport
    Numerics:      every layer within its running error bound of torch in float64 (docs/NUMERICS.md, "Against other
                   libraries"); a hard decision may differ only where its margin is within rounding.
    Raises:        ExportError listing everything unsupported and where it is, or what differed; GraphError for bad
                   heads or preprocess; ModelFileError if the file cannot be written. Then no file is written.
    """
    from pagnp import modelfile

    graph, report = _export(module, example_input, preprocess, heads, backend)
    modelfile.write(graph, path)
    weights = sum(array.size for array in graph.weights.values())
    return ExportReport(os.fspath(path), len(graph.nodes), weights, report)


def to_graph(
    module: torch.nn.Module,
    example_input: torch.Tensor,
    preprocess: Json | None = None,
    heads: Sequence[Json] | None = None,
) -> Graph:
    """Return the Graph of `module` without checking it against torch or writing it; arguments as `export`."""
    return _export(module, example_input, preprocess, heads, None)[0]


def _export(
    module: torch.nn.Module,
    example_input: torch.Tensor,
    preprocess: Json | None,
    heads: Sequence[Json] | None,
    backend: str | None,
) -> tuple[Graph, CheckReport | MaybeNone]:
    """Return (Graph, CheckReport or None)."""
    module = _unwrapped(module)
    _check_input(example_input)
    with _evaluating(module), torch.random.fork_rng(devices=[]):
        fx_graph = trace(module)
        translation = Translation(module, example_input.shape[1])
        graph = translation.run(fx_graph)
        spec = module.spec if isinstance(module, PAGResNet) else None
        graph.preprocess = spec.preprocess if preprocess is None and spec else preprocess
        graph.heads = [head.entry for head in spec.heads] if heads is None and spec else list(heads or ())
        _check_answers(graph)
        graph.validate()
        if backend is None:
            return graph, None
        try:
            report = check(module, fx_graph, translation.values, graph, example_input, backend)
        except (GraphError, ShapeError, RuntimeError) as error:
            problems = [("example_input", f"cannot be run through the network: {first_line(error)}")]
            raise ExportError(message(problems), problems) from error
    if not report.ok:
        raise ExportError(f"export: pagnp and torch disagree on the example input:\n{report}", report.problems)
    return graph, report


def _check_answers(graph):
    """Raise ExportError for heads and preprocess that are not what docs/MODEL_FORMAT.md says."""
    try:
        graphjson.check_schema({**graph.to_json(), "weights": {}}, "heads or preprocess", fix=DOCUMENTED)
    except ModelFileError as error:
        problems = [("the arguments of export", str(error))]
        raise ExportError(message(problems), problems) from error


def _unwrapped(module):
    """Return the module inside DataParallel and torch.compile. Raises ExportError for what is no traceable module."""
    while True:
        if isinstance(module, (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)):
            module = module.module
        elif isinstance(module, torch.nn.Module) and "_orig_mod" in module._modules:  # torch.compile
            module = module._orig_mod
        else:
            break
    if not isinstance(module, torch.nn.Module) or isinstance(module, torch.jit.ScriptModule):
        problems = [("module", f"is a {type(module).__name__}, need a torch.nn.Module written in Python")]
        raise ExportError(message(problems), problems)
    return module


def _check_input(x):
    plain = isinstance(x, torch.Tensor) and x.dtype == torch.float32 and x.layout == torch.strided
    if not plain or x.ndim != 4 or x.is_meta or not x.numel():
        have = f"{x.dtype} {tuple(x.shape)} on {x.device}" if isinstance(x, torch.Tensor) else type(x).__name__
        what = f"is {have}, need a float32 tensor (n, c, h, w) with values"
    elif not bool(x.isfinite().all()):
        what = "has NaN or infinite values; take an image"
    else:
        return
    raise ExportError(message([("example_input", what)]), [("example_input", what)])


@contextmanager
def _evaluating(module):
    """Put `module` in eval mode; afterwards every submodule's mode and the root's attributes are as before.

    The flags alone: somebody's own train() may do more (merge weights, say), which could not be undone.
    """
    modes = {m: m.training for m in module.modules()}
    attributes = set(vars(module))
    for submodule in modes:
        submodule.training = False
    try:
        yield
    finally:
        for submodule, training in modes.items():
            submodule.training = training
        for name in set(vars(module)) - attributes:
            delattr(module, name)  # torch.fx leaves constants of the trace on the root
