"""The graph: plain nodes with a dense meaning, checked on construction of a model, and its canonical form."""

import json
import re
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pagnp import graphjson, nodecheck, opset
from pagnp.errors import GraphError, ModelFileError
from pagnp.types import Json, MaybeNone, Size, Tensor

INPUT = "input"
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")  # as in schema/graph.json: names become parts of file names


@dataclass(frozen=True)
class Node:
    """One op. `inputs` are node names; `weights` maps a role to a key of `Graph.weights`."""

    name: str
    op: str
    inputs: tuple[str, ...]
    attrs: dict[str, Any] = field(default_factory=dict)
    weights: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Value:
    """What a node produces: kind ("tensor", "mask", "index"), h, w (None before an image is known), c."""

    kind: str
    h: int | MaybeNone
    w: int | MaybeNone
    c: int

    @property
    def shape(self) -> tuple[int, ...]:
        """(h, w, c) of a tensor, (h, w) of a mask or index."""
        return (self.h, self.w, self.c) if self.kind == "tensor" else (self.h, self.w)


@dataclass
class Graph:
    """A network as plain data.

    channels    of the input tensor, which is named "input"
    nodes       name -> Node, in an order in which inputs come first
    outputs     output name -> node name (the heads' logits, or a plain network's results)
    weights     key -> float32 array in PyTorch's layout (conv OIHW, transposed conv IOHW)
    preprocess  how pixels become the input tensor (docs/MODEL_FORMAT.md), or None
    heads       how outputs are upsampled and decoded (docs/MODEL_FORMAT.md)
    """

    channels: int = 3
    nodes: dict[str, Node] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    weights: MutableMapping[str, Tensor] = field(default_factory=dict)
    preprocess: Json | None = None
    heads: list[Json] = field(default_factory=list)
    producer: str = "pagnp"

    def add(
        self,
        op: str,
        inputs: str | Sequence[str],
        /,
        name: str,
        weights: Mapping[str, str] | None = None,
        **attrs: Any,
    ) -> str:
        """Append a node and return its name. Raises GraphError on an unknown op, input or attribute."""
        if isinstance(inputs, str):
            inputs = (inputs,)
        attrs = {key: list(value) if isinstance(value, tuple) else value for key, value in attrs.items()}
        node = Node(name, op, tuple(inputs), attrs, dict(weights or {}))
        self._check_node(node)
        self.nodes[name] = node
        return name

    def _check_node(self, node):
        if node.op not in opset.OPS:
            raise GraphError(f"node '{node.name}': unknown op '{node.op}'")
        if not node.name or node.name == INPUT or node.name in self.nodes:
            raise GraphError(f"node '{node.name}': the name is empty, reserved or used twice")
        if not NAME.fullmatch(node.name):
            raise GraphError(f"node '{node.name}': a name has letters, digits and _ . - only, not . or - first")
        for source in node.inputs:
            if source != INPUT and source not in self.nodes:
                raise GraphError(f"node '{node.name}': input '{source}' is not a node before it")
        nodecheck.check_attrs(node)

    def padded_size(self, size: Size) -> Size:
        """Return the (h, w) of the input for an image of `size` (h, w): the next multiples of `pad_multiple`."""
        return padded_size(size, self.preprocess)

    def readers(self) -> dict[str, list[str]]:
        """Return name -> list of the names of nodes that read it (once per node)."""
        found: dict[str, list[str]] = {name: [] for name in (INPUT, *self.nodes)}
        for node in self.nodes.values():
            for source in dict.fromkeys(node.inputs):
                found[source].append(node.name)
        return found

    def weight_shape(self, node: Node) -> Callable[[str], tuple[int, ...]]:
        """Return a function role -> shape of that weight of `node`."""

        def shape(role: str) -> tuple[int, ...]:
            key = node.weights[role]
            known = getattr(self.weights, "shape", None)  # of weights.SharedWeights
            return self.weights[key].shape if known is None else known(key)

        return shape

    def infer(self, h: int | None = None, w: int | None = None) -> dict[str, Value]:
        """Return name -> Value for an input of h x w; without a size only kinds and channels are checked.

        Raises: GraphError or ShapeError with the node's name.
        """
        values = {INPUT: Value("tensor", h, w, self.channels)}
        for node in self.nodes.values():
            ins = [values[name] for name in node.inputs]
            nodecheck.check_kinds(node, [v.kind for v in ins])
            spec, shape = opset.OPS[node.op], self.weight_shape(node)
            c = spec.channels(node, [v.c for v in ins], shape)
            if c > opset.LIMIT:  # concats of concats double it with every node
                raise GraphError(f"node '{node.name}' ({node.op}): over {opset.LIMIT} channels")
            size: tuple[MaybeNone, MaybeNone] = (
                (None, None) if h is None else opset.size(node, [(v.h, v.w) for v in ins], shape)
            )
            values[node.name] = Value(spec.kind(node), *size, c)
        return values

    def validate(self) -> "Graph":
        """Check nodes, weights, channels, outputs, heads and preprocess; return self. Raises GraphError."""
        _check_described("preprocess", self.preprocess)
        for head in self.heads:
            _check_described("head", head)
        if not 1 <= self.channels <= opset.LIMIT:
            raise GraphError(f"the input has {self.channels} channels")
        checked = Graph(self.channels)
        for name, node in self.nodes.items():
            if name != node.name:
                raise GraphError(f"node '{node.name}' is listed as '{name}'")
            checked._check_node(node)
            checked.nodes[name] = node
            for role, key in node.weights.items():
                self._check_weight(node, role, key)
        self.check_values()
        _check_gates(self)
        return self

    def check_values(self) -> None:
        """Check what the nodes give: kinds, channels, outputs, heads, choices. Raises GraphError."""
        values = self.infer()
        _check_outputs(self, values)
        _check_choices(self, values)

    def _check_weight(self, node, role, key):
        if key not in self.weights:
            raise GraphError(f"node '{node.name}': weight '{key}' is not in the file")
        weight = self.weights[key]
        dtype = getattr(weight, "dtype", type(weight).__name__)
        if not isinstance(weight, np.ndarray) or dtype != np.float32:
            raise GraphError(f"node '{node.name}': weight '{key}' is {dtype}, need a float32 array")
        if weight.ndim != (4 if role == "weight" else 1) or 0 in weight.shape:
            raise GraphError(f"node '{node.name}': weight '{key}' ({role}) has shape {weight.shape}")

    def to_json(self) -> dict[str, Any]:
        """Return the graph without its weights as a JSON-able dict."""
        return {
            "channels": self.channels,
            "nodes": [
                {
                    "name": node.name,
                    "op": node.op,
                    "inputs": list(node.inputs),
                    "attrs": dict(node.attrs),
                    "weights": dict(node.weights),
                }
                for node in self.nodes.values()
            ],
            "outputs": dict(self.outputs),
            "preprocess": self.preprocess,
            "heads": list(self.heads),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any], weights: dict[str, Tensor], producer: str = "pagnp") -> "Graph":
        """Build a Graph from `to_json`'s dict and its weights; raises GraphError. Call `validate` next."""
        graph = cls(
            document["channels"],
            outputs=dict(document["outputs"]),
            weights=weights,
            preprocess=document.get("preprocess"),
            heads=list(document.get("heads", ())),
            producer=producer,
        )
        for entry in document["nodes"]:
            graph.add(entry["op"], entry["inputs"], entry["name"], entry.get("weights"), **entry.get("attrs", {}))
        return graph

    def gates(self) -> list[str]:
        """Return the two-way gate nodes, and every other node whose mask steers a select or a masked."""
        found = []
        for node in self.nodes.values():
            if node.op == "gate" and not node.attrs.get("rates"):
                found.append(node.name)
        for node in self.nodes.values():
            control = {"select": 0, "masked": 1}.get(node.op)
            if control is not None and node.inputs[control] not in found:
                source = self.nodes.get(node.inputs[control])
                if source is not None and opset.OPS[source.op].kind(source) == "mask":
                    found.append(source.name)
        return [name for name in self.nodes if name in found]

    def multipools(self) -> list[str]:
        """Return the gate nodes that choose among rates."""
        return [node.name for node in self.nodes.values() if node.op == "gate" and node.attrs.get("rates")]


def padded_size(size: Size, preprocess: Json | None) -> Size:
    """Return the (h, w) of a network's input for an image of `size` (h, w), by its entry `preprocess`."""
    multiple = (preprocess or {}).get("pad_multiple", 1)
    h, w = (side + -side % multiple for side in size)
    return h, w


def _check_described(part, entry):
    """Raise GraphError unless `entry` is as schema/graph.json has the definition `part`; tuples are lists there."""
    try:
        document = json.loads(json.dumps(entry, allow_nan=False))
        graphjson.check_schema(document, part, part, fix="docs/MODEL_FORMAT.md has what belongs there")
    except ModelFileError as error:
        raise GraphError(str(error)) from error
    except (TypeError, ValueError, RecursionError) as error:  # NumPy's numbers, NaN, cycles
        raise GraphError(f"{part}: {error}; write plain numbers, texts and lists (docs/MODEL_FORMAT.md)") from error


def _check_outputs(graph, values):
    if not graph.outputs:
        raise GraphError("the graph has no outputs")
    for output, name in graph.outputs.items():
        if name not in graph.nodes:
            raise GraphError(f"output '{output}': there is no node '{name}'")
        if values[name].kind != "tensor":
            raise GraphError(f"output '{output}': node '{name}' is a {values[name].kind}, need a tensor")
    names = [head["name"] for head in graph.heads]
    if len(set(names)) != len(names):
        raise GraphError(f"two heads have one name: {', '.join(names)}")
    for head in graph.heads:
        if head["output"] not in graph.outputs:
            raise GraphError(f"head '{head['name']}': there is no output '{head['output']}'")
        _check_head(head, values[graph.outputs[head["output"]]].c)


def _check_head(head, channels):
    need = {"identity": None, "argmax": None, "l2_normalize": 3}.get(head["decode"], 1)
    if need and channels != need:
        raise GraphError(f"head '{head['name']}': decode '{head['decode']}' needs {need} channels, has {channels}")
    task, labels = head.get("task"), head["decode"] == "argmax"
    if task not in (None, "classification") and (task == "segmentation") != labels:
        raise GraphError(f"head '{head['name']}': decode '{head['decode']}' does not go with the task {task}")
    need = {"depth": 1, "normals": 3, "boundary": 1}.get(task)
    if need and channels != need:
        raise GraphError(f"head '{head['name']}': {task} needs {need} channels, has {channels}")
    for key in ("classes", "palette"):
        if head.get(key) is not None and head["decode"] == "argmax" and len(head[key]) != channels:
            raise GraphError(f"head '{head['name']}': {len(head[key])} {key} for {channels} channels")


def _check_gates(graph):
    indices = [node.attrs["gate_index"] for node in graph.nodes.values() if node.op == "gate"]
    if len(set(indices)) != len(indices):
        raise GraphError("two gates have one gate_index; each needs its own noise stream")


def _check_choices(graph, values):
    """Refuse a select whose index could name a branch that is not there."""
    for node in graph.nodes.values():
        if node.op != "select" or values[node.inputs[0]].kind != "index":
            continue
        control, branches = graph.nodes[node.inputs[0]], len(node.inputs) - 1
        count = values[control.inputs[0]].c  # an index comes from an argmax or a gate: one choice a channel
        if count > branches:
            raise GraphError(
                f"node '{node.name}' (select): '{control.name}' chooses among {count}, there are {branches} branches"
            )
