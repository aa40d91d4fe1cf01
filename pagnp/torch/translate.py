"""Translate a traced module into a Graph, node by node, collecting everything that cannot be expressed."""

import re

import numpy as np
import torch
from torch import fx

from pagnp import nodecheck, opset
from pagnp.errors import ExportError, GraphError
from pagnp.graph import INPUT, Graph, Node
from pagnp.torch import functions, layers
from pagnp.torch.aliases import Aliases
from pagnp.torch.trace import message, place
from pagnp.torch.values import UNKNOWN, Ref, UnsupportedError, Weight


class Translation:
    """The state of one translation.

    module    the root, in eval mode
    graph     the Graph so far
    values    fx node -> Ref, Dim, Weight, number ... (pagnp.torch.values)
    problems  list of (where, what)
    """

    def __init__(self, module, channels):
        self.module = module
        self.graph = Graph(channels)
        self.values, self.problems = {}, []
        self.aliases = Aliases()
        self.keys = {}
        for name, tensor in (*module.named_parameters(remove_duplicate=False), *module.named_buffers()):
            self.keys.setdefault(id(tensor), name)  # a shared tensor goes by its first name
        self.fx_node = None

    def run(self, fx_graph):
        """Translate every node; raise ExportError with all problems if there are any."""
        for node in fx_graph.nodes:
            self.fx_node = node
            if node.op == "placeholder":
                self.values[node] = Ref(INPUT, "tensor", self.graph.channels)
            elif node.op == "output":
                self._guarded(self._outputs, node.args[0])
            else:
                self.values[node] = self._guarded(self._translate, node)
        if self.problems:
            problems = list(dict.fromkeys(self.problems))
            raise ExportError(message(problems), problems)
        return self.graph

    def _guarded(self, function, *args):
        """Call; what it raises becomes a problem at the present fx node."""
        try:
            return function(*args)
        except (UnsupportedError, GraphError) as error:
            self.problem(str(error))
            return UNKNOWN

    def problem(self, what):
        node = self.fx_node
        path = node.target if node.op == "call_module" else node.meta.get("module", "")
        self.problems.append((place(path, node.meta.get("source", "")), what))

    def value(self, argument):
        """Return what an fx argument stands for; nodes inside lists, tuples and slices are replaced."""
        found = fx.node.map_aggregate(argument, lambda a: self._of_node(a) if isinstance(a, fx.Node) else a)
        return found

    def _of_node(self, node):
        return fx.node.map_aggregate(self.values[node], self.aliases.present)

    def _translate(self, node):
        if node.op == "get_attr":
            return self.weight_value(node.target)
        args = [self.value(a) for a in node.args]
        kwargs = {key: self.value(a) for key, a in node.kwargs.items()}
        if "input" in kwargs:  # torch's name of the first argument
            args.insert(0, kwargs.pop("input"))
        if node.op == "call_module":
            return self._layer(node, args, kwargs)
        if isinstance(node.target, type) and hasattr(node.target, "_fields"):
            return node.target(*args, **kwargs)  # a named tuple
        table = functions.METHODS if node.op == "call_method" else functions.FUNCTIONS
        rule = table.get(node.target)
        if rule is None:
            raise UnsupportedError(f"{_function_name(node)} is not supported")
        return self._call(rule, args, kwargs)

    def _layer(self, node, args, kwargs):
        layer = self.module.get_submodule(node.target)
        rule = layers.rule_of(layer)
        if rule is None:
            raise UnsupportedError(f"layer {type(layer).__name__} is not supported")
        return self._call(rule, [layer, *args], kwargs)

    def _call(self, rule, args, kwargs):
        try:
            return rule(self, *args, **kwargs)
        except TypeError as error:
            # Python's own text names the argument that the rule does not take.
            detail = str(error).split("() ")[-1]
            raise UnsupportedError(
                f"{_function_name(self.fx_node)} called in a way that is not supported: {detail}"
            ) from error

    def emit(self, op, inputs, weights=None, /, **attrs):
        """Add a node named after the present place and return its Ref; UNKNOWN if an input is."""
        if any(value is UNKNOWN for value in inputs):
            return UNKNOWN
        roles = {role: self._store(w) for role, w in (weights or {}).items() if w is not None}
        name = self._name(op)
        node, spec = Node(name, op, tuple(ref.name for ref in inputs), attrs, roles), opset.OPS[op]
        nodecheck.check_attrs(node)
        self.graph.nodes[name] = node
        try:
            nodecheck.check_kinds(node, [ref.kind for ref in inputs])
            c = spec.channels(node, [ref.c for ref in inputs], self.graph.weight_shape(node))
        except GraphError:
            del self.graph.nodes[name]
            raise
        return Ref(name, spec.kind(node), c)

    def _name(self, op):
        node = self.fx_node
        path = node.target if node.op == "call_module" else node.meta.get("module", "")
        if node.op == "call_module":
            name = self._owner(path)
        else:
            name = f"{path}.{op}" if path else op
        name = re.sub(r"[^A-Za-z0-9_.-]|^[.-]", "_", name)  # what the model file takes as a name
        unique, count = name, 0
        while unique in self.graph.nodes or unique in (INPUT, ""):
            count += 1
            unique = f"{name or op}_{count}"
        return unique

    def _owner(self, path):
        """A GateUnit's node carries the name of the gate or MultiPool that owns it."""
        if isinstance(self.module.get_submodule(path), layers.GateUnit):
            return path.rpartition(".")[0] or "gate"
        return path

    def weight_value(self, path):
        """Return the Weight behind a dotted attribute path."""
        owner, _, name = path.rpartition(".")
        found = getattr(self.module.get_submodule(owner), name)
        if not isinstance(found, torch.Tensor):
            raise UnsupportedError(f"attribute '{path}' of type {type(found).__name__}")
        return Weight(self.keys.get(id(found), path), found)

    def weight(self, found):
        """Return the Weight of a layer's tensor, or None."""
        if found is None:
            return None
        if id(found) not in self.keys:
            fix = "remove that first: torch.nn.utils.remove_weight_norm or parametrize.remove_parametrizations"
            raise UnsupportedError(f"a weight that is computed from others (weight_norm, say); {fix}")
        return Weight(self.keys[id(found)], found)

    def _store(self, weight):
        if weight.tensor.dtype != torch.float32:
            raise UnsupportedError(f"weight '{weight.key}' is {weight.tensor.dtype}, need float32; call .float()")
        if weight.tensor.is_meta:
            raise UnsupportedError(f"weight '{weight.key}' is on the meta device, so it has no values; load them first")
        if weight.key not in self.graph.weights:
            array = weight.tensor.detach().cpu().contiguous().numpy()
            self.graph.weights[weight.key] = np.array(array, np.float32)
        return weight.key

    def kind_of(self, name):
        """Return the kind of the graph value `name`: tensor, mask or index."""
        node = self.graph.nodes.get(name)
        return "tensor" if node is None else opset.OPS[node.op].kind(node)

    def _outputs(self, result):
        found = list(flatten(self.value(result), ""))
        if not found:
            self.problem("returns no tensor; return tensors (n, c, h, w)")
        for name, value in found:
            self._guarded(self._output, name, value)

    def _output(self, name, value):
        if value is UNKNOWN:
            return
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
            raise UnsupportedError(f"output name '{name}'; letters, digits, dots, dashes and underscores only")
        if name in self.graph.outputs:
            raise UnsupportedError(f"two outputs are called '{name}'; give one another name")
        what = _not_an_output(value)
        if what:
            raise UnsupportedError(f"output '{name}' is {what}; return tensors (n, c, h, w) that the network computes")
        self.graph.outputs[name] = value.name


def _not_an_output(value):
    """Return what keeps `value` from being an output, or None."""
    if not isinstance(value, Ref):
        return repr(value) if isinstance(value, Weight) else f"of type {type(value).__name__}"
    if value.kind != "tensor":
        return f"an {value.kind}" if value.kind == "index" else f"a {value.kind}"
    if value.squeezed:
        return "a tensor without its channel axis"
    return "the input itself" if value.name == INPUT else None


def flatten(value, prefix):
    """Yield (output name, value): a tensor is "output", dicts and named tuples give their keys, tuples output.0 ..."""
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, dict):
        for key, item in value.items():
            yield from flatten(item, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from flatten(item, f"{prefix or 'output'}.{i}")
    elif value is not None:
        yield prefix or "output", value


def _function_name(node):
    if node.op == "call_module":
        return f"module '{node.target}'"
    return f"{node.target if isinstance(node.target, str) else node.target.__name__}()"
