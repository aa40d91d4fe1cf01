"""torch.fx tracing that remembers where each operation stands in the module and in the source."""

import inspect
import operator
import os
import sys
from contextlib import contextmanager

import torch
from torch import fx

from pagnp.errors import ExportError
from pagnp.torch.blocks import SharedConv
from pagnp.torch.gates import BoxMean, GateUnit, Select
from pagnp.torch.layers import rule_of

# Python's `x += y` on torch tensors changes x for all who hold it; fx by itself would record `x = x + y`.
IN_PLACE = {"__iadd__": operator.iadd, "__isub__": operator.isub}
IN_PLACE |= {"__imul__": operator.imul, "__itruediv__": operator.itruediv}
LEAVES = (GateUnit, Select, BoxMean, SharedConv)
_TORCH = os.path.dirname(torch.__file__) + os.sep
_HERE = os.path.dirname(__file__) + os.sep


class Proxy(fx.Proxy):
    """fx.Proxy that records in-place operators as such."""


def _in_place(operation):
    def record(self, other):
        return self.tracer.create_proxy("call_function", operation, (self, other), {})

    return record


for _name, _operation in IN_PLACE.items():
    setattr(Proxy, _name, _in_place(_operation))


class ModuleTracer(fx.Tracer):
    """fx.Tracer whose nodes carry meta["module"] (path of the module being called) and meta["source"] (file:line)."""

    def __init__(self):
        super().__init__()
        self.path = []
        self.failed_in = None

    def proxy(self, node):
        return Proxy(node, self)

    def create_args_for_root(self, root_fn, is_module, concrete_args=None):
        # One image goes in; arguments with defaults keep them, whatever their type.
        parameters = list(inspect.signature(root_fn).parameters.values())[1:]
        named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        needed = [p.name for p in named if p.default is p.empty]
        if len(needed) > 1:
            raise TypeError(f"forward needs {', '.join(needed)}, but one image is all that goes in")
        name = needed[0] if needed else "x"
        return root_fn, [self.root, self.create_proxy("placeholder", name, (), {})]

    def is_leaf_module(self, module, path):
        return isinstance(module, LEAVES) or super().is_leaf_module(module, path) or rule_of(module) is not None

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

    What the module's forward leaves in its attributes is taken back, but for fx's own constants at the root.
    Raises: ExportError naming the module and the source line of control flow that depends on values.
    """
    tracer = ModuleTracer()
    try:
        with _attributes_kept(module):
            return tracer.trace(module)
    except Exception as error:
        where = place(tracer.failed_in or "", _raised_at(error))
        what = f"torch.fx cannot trace it: {first_line(error)}"
        problems = [(where, what), *unsupported_layers(module)]
        raise ExportError(message(problems), problems) from error


@contextmanager
def _attributes_kept(root):
    """Put back what forward stores (`self.mask = mask`), for it is a Proxy during a trace."""
    before = [(m, dict(vars(m)), _contents(m)) for m in root.modules()]
    try:
        yield
    finally:
        for module, attributes, contents in before:
            for name in set(vars(module)) - set(attributes):
                if module is not root or not name.startswith("_tensor_constant"):
                    delattr(module, name)
            vars(module).update(attributes)
            for container, content in contents:
                container.clear()
                (container.extend if isinstance(container, list) else container.update)(content)


def _contents(module):
    """Return (container, copy) of the lists and dicts among the attributes that somebody's forward may fill."""
    own = [v for k, v in vars(module).items() if type(v) in (list, dict) and k not in _TORCHS_OWN]
    return [(container, type(container)(container)) for container in own]


_TORCHS_OWN = frozenset(vars(torch.nn.Module()))


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
    found = []
    for path, layer in module.named_modules():
        if type(layer).__module__.startswith("torch.nn") and not _is_container(layer) and rule_of(layer) is None:
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


def first_line(error):
    """Return the text of an exception on one line, cut at 200 characters."""
    return " ".join(str(error).split())[:200] or type(error).__name__
