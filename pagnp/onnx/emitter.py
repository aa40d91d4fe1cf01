"""An ONNX graph under construction: its nodes, its initializers and the names of its values.

Tensors are float32 (n, c, h, w), masks bool (n, 1, h, w), indices int64 (n, 1, h, w).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper

from pagnp.graph import INPUT, Graph, Node, Value
from pagnp.types import Array, MaybeNone, Size

NOISE = ".noise"  # what the name of a Gumbel gate's noise input ends in


class UnsupportedError(Exception):
    """Something that the ONNX model cannot express; the message says what."""


class Emitter:
    """ONNX nodes for the nodes of a graph.

    graph    the nodes to come, their weights and outputs
    values   name -> Value, with h and w None where the size is not fixed
    batch    how many images, None where that is not fixed
    names    node of the graph (or "input", or "<gate>.noise") -> its ONNX value
    """

    def __init__(self, graph: Graph, values: Mapping[str, Value], batch: int | None) -> None:
        self.graph, self.values, self.batch = graph, values, batch
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, Array] = {}
        self._weights: dict[str, str] = {}  # key of the graph's weights -> initializer
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}  # dtype, shape, bytes -> initializer
        self.noises = [name for name in graph.nodes if takes_noise(graph.nodes[name])]
        inputs = [INPUT, *(name + NOISE for name in self.noises)]
        self.names = {name: name for name in inputs}
        self._taken = {*inputs, *graph.outputs}
        for output, name in graph.outputs.items():
            self.names.setdefault(name, output)
        for name in graph.nodes:
            if name not in self.names:
                self.names[name] = self._unique(name)

    def _unique(self, name: str) -> str:
        """Return `name`, with underscores behind it if a value or initializer has it already."""
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        return name

    def ins(self, node: Node) -> list[str]:
        """Return the ONNX values that `node` reads."""
        return [self.names[name] for name in node.inputs]

    def size(self, name: str) -> Size | MaybeNone:
        """Return the (h, w) of a value, or None where it is not fixed."""
        value = self.values[name]
        return None if value.h is None else (value.h, value.w)

    def steps(self, node: Node, op: str, inputs: Sequence[str], count: int, **attrs: Any) -> list[str]:
        """Add an ONNX node on the way to the value of `node`; return its `count` outputs."""
        # Names of the graph's own nodes have no slash.
        outputs = [self._unique(f"{node.name}/{op}") for _ in range(count)]
        self.nodes.append(helper.make_node(op, inputs, outputs, outputs[0], **attrs))
        return outputs

    def step(self, node: Node, op: str, inputs: Sequence[str], **attrs: Any) -> str:
        """Add an ONNX node on the way to the value of `node`; return its output."""
        return self.steps(node, op, inputs, 1, **attrs)[0]

    def result(self, node: Node, op: str, inputs: Sequence[str], **attrs: Any) -> None:
        """Add the ONNX node that gives the value of `node`. It has the name of `node`."""
        self.nodes.append(helper.make_node(op, inputs, [self.names[node.name]], node.name, **attrs))

    def weight(self, node: Node, role: str) -> str:
        """Return the initializer of a weight of `node`. It has the weight's key as its name."""
        key = node.weights[role]
        if key not in self._weights:
            self._weights[key] = self._initializer(key, self.graph.weights[key])
        return self._weights[key]

    def constant(self, content: Any, dtype: Any = np.float32) -> str:
        """Return an initializer that holds `content`; equal ones are one."""
        array = np.asarray(content, dtype)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = self._initializer(f"constant/{len(self._constants)}", array)
        return self._constants[key]

    def _initializer(self, name: str, array: Array) -> str:
        name = self._unique(name)
        self.initializers[name] = array
        return name


def takes_noise(node: Node) -> bool:
    """True for a gate in a Gumbel mode."""
    return node.op == "gate" and node.attrs["mode"].startswith("gumbel")


def onnx_pads(padding: Sequence[int]) -> list[int]:
    """Return (top, bottom, left, right) in ONNX's order: top, left, bottom, right."""
    top, bottom, left, right = padding
    return [top, left, bottom, right]
