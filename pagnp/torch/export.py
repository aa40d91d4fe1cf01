"""Write a torch module as a pagnp model file: trace, translate, check against torch, write."""

import os
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from pagnp.errors import ExportError
from pagnp.torch.check import CheckReport, check
from pagnp.torch.nn import PAGResNet
from pagnp.torch.trace import message, trace
from pagnp.torch.translate import Translation


@dataclass
class ExportReport:
    """What `export` did: the file, its size in nodes and weights, and the check against torch."""

    path: str
    nodes: int
    weights: int
    check: CheckReport

    def __str__(self):
        return f"{self.path}: {self.nodes} nodes, {self.weights} weights\n{self.check}"


def export(module, path, example_input, preprocess=None, heads=None, *, backend="numba"):
    """Write `module` to the model file `path`, after running both on `example_input` and comparing.

    module         any nn.Module of the layers in `torch/layers.py` and the functions and methods in
                   `torch/functions.py`, `arithmetic.py` and `indexing.py`; traced by torch.fx in eval mode
    example_input  float32 (n, c, h, w)
    preprocess     how pixels become the input (docs/MODEL_FORMAT.md); None: a pag_resnet's own, else none
    heads          how outputs become answers, a list of dicts; None: a pag_resnet's own, else none
    backend        that runs the graph for the check
    returns        ExportReport
    Numerics:      every output within a bound taken from torch's own rounding (`CheckReport`); a hard decision may
                   differ only where rounding explains it.
    Raises:        ExportError listing everything unsupported and where it is, or what differed; then no file is
                   written.
    """
    from pagnp import modelfile

    graph, report = _export(module, example_input, preprocess, heads, backend)
    modelfile.write(graph, path)
    weights = sum(array.size for array in graph.weights.values())
    return ExportReport(os.fspath(path), len(graph.nodes), weights, report)


def to_graph(module, example_input, preprocess=None, heads=None):
    """Return the Graph of `module` without checking it against torch or writing it; arguments as `export`."""
    return _export(module, example_input, preprocess, heads, None)[0]


def _export(module, example_input, preprocess, heads, backend):
    """Return (Graph, CheckReport or None)."""
    _check_input(example_input)
    with _evaluating(module):
        fx_graph = trace(module)
        translation = Translation(module, example_input.shape[1])
        graph = translation.run(fx_graph)
        spec = module.spec if isinstance(module, PAGResNet) else None
        graph.preprocess = spec.preprocess if preprocess is None and spec else preprocess
        graph.heads = [head.entry for head in spec.heads] if heads is None and spec else list(heads or ())
        graph.validate()
        if backend is None:
            return graph, None
        report = check(module, fx_graph, translation.origins, graph, example_input, backend)
    if not report.ok:
        raise ExportError(f"export: pagnp and torch disagree on the example input:\n{report}", report.problems)
    return graph, report


def _check_input(x):
    if not isinstance(x, torch.Tensor) or x.dtype != torch.float32 or x.ndim != 4:
        have = f"{x.dtype} {tuple(x.shape)}" if isinstance(x, torch.Tensor) else type(x).__name__
        problems = [("example_input", f"is {have}, need a float32 tensor (n, c, h, w)")]
        raise ExportError(message(problems), problems)


@contextmanager
def _evaluating(module):
    """Put `module` in eval mode; afterwards every submodule's mode and the root's attributes are as before."""
    modes = {m: m.training for m in module.modules()}
    attributes = set(vars(module))
    module.eval()
    try:
        yield
    finally:
        for submodule, training in modes.items():
            submodule.training = training
        for name in set(vars(module)) - attributes:
            delattr(module, name)  # torch.fx leaves constants of the trace on the root
