"""torch.fx tracing that remembers where each operation stands in the module and in the source."""

import inspect
import os
import sys

import torch
from torch import fx

from pagnp.errors import ExportError
from pagnp.torch.blocks import SharedConv
from pagnp.torch.gates import BoxMean, GateUnit, Select

LEAVES = (GateUnit, Select, BoxMean, SharedConv)
_TORCH = os.path.dirname(torch.__file__) + os.sep
_HERE = os.path.dirname(__file__) + os.sep


class ModuleTracer(fx.Tracer):
    """fx.Tracer whose nodes carry meta["module"] (path of the module being called) and meta["source"] (file:line)."""

    def __init__(self):
        super().__init__()
        self.path = []
        self.failed_in = None

    def is_leaf_module(self, module, path):
        return isinstance(module, LEAVES) or super().is_leaf_module(module, path)

    def call_module(self, module, forward, args, kwargs):
        self.path.append(self.path_of_module(module))
        try:
            return super().call_module(module, forward, args, kwargs)
        except Exception:
            if self.failed_in is None:
                self.failed_in = self.path[-1]
            raise
        finally:
            self.path.pop()

    def create_node(self, kind, target, args, kwargs, name=None, type_expr=None):
        node = super().create_node(kind, target, args, kwargs, name, type_expr)
        node.meta["module"] = self.path[-1] if self.path else ""
        node.meta["source"] = _source_line()
        return node


def _source_line():
    """Return "file.py:line" of the innermost frame of the traced module's own code, or ""."""
    frame = sys._getframe(1)
    while frame is not None and frame.f_code is not trace.__code__:  # beyond `trace` stands who called export
        name = frame.f_code.co_filename
        if not name.startswith((_TORCH, _HERE, "<")):
            return f"{os.path.basename(name)}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


def trace(module):
    """Trace `module` (in eval mode) and return its fx.Graph. Arguments with defaults keep them.

    Raises: ExportError naming the module and the source line of control flow that depends on values.
    """
    tracer = ModuleTracer()
    parameters = list(inspect.signature(module.forward).parameters.values())
    defaults = {p.name: p.default for p in parameters[1:] if p.default is not inspect.Parameter.empty}
    try:
        return tracer.trace(module, defaults or None)
    except Exception as error:
        where = place(tracer.failed_in or "", _raised_at(error))
        what = f"torch.fx cannot trace it: {_one_line(error)}"
        problems = [(where, what), *unsupported_layers(module)]
        raise ExportError(message(problems), problems) from error


def _raised_at(error):
    """Return "file.py:line" of the last frame of `error` outside torch."""
    found, step = "", error.__traceback__
    while step is not None:
        name = step.tb_frame.f_code.co_filename
        if not name.startswith((_TORCH, _HERE, "<")):
            found = f"{os.path.basename(name)}:{step.tb_lineno}"
        step = step.tb_next
    return found


def unsupported_layers(module):
    """Return (where, what) for each layer of torch.nn that the exporter has no rule for, called or not."""
    from pagnp.torch.layers import LAYERS

    found = []
    for path, layer in module.named_modules():
        if type(layer).__module__.startswith("torch.nn") and not _is_container(layer) and type(layer) not in LAYERS:
            found.append((place(path, ""), f"layer {type(layer).__name__} is not supported (if it is called)"))
    return found


def _is_container(layer):
    nn = torch.nn
    return type(layer) in (nn.Module, nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)


def place(path, source):
    """Return where something is: "layer1.0 (net.py:12)"."""
    where = path or "the module itself"
    return f"{where} ({source})" if source else where


def message(problems):
    """Return the text of an ExportError that lists `problems`."""
    lines = [f"  {where}: {what}" for where, what in problems]
    count = "one thing" if len(lines) == 1 else f"{len(lines)} things"
    return "\n".join([f"export: {count} in the module cannot be expressed:", *lines])


def _one_line(error):
    return " ".join(str(error).split())[:200] or type(error).__name__
