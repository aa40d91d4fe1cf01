"""Join nodes to layers: what one epilogue writes is one layer. Layers depend on the graph alone."""

from collections.abc import Mapping
from dataclasses import dataclass

from pagnp.graph import INPUT, Graph, Node, Value

CONVS = ("conv2d", "conv_transpose2d")


@dataclass(frozen=True)
class Layer:
    """What one epilogue writes: a conv with its norm, residual and relu, or any other single node.

    name      the last member's name; other layers refer to it by this
    inputs    layers that `node` reads; `residual` is one more, added in the epilogue
    members   the names of the graph nodes inside
    """

    name: str
    node: Node
    inputs: tuple[str, ...]
    residual: str | None = None
    relu: bool = False
    members: tuple[str, ...] = ()

    @property
    def op(self) -> str:
        return self.node.op

    @property
    def reads(self) -> tuple[str, ...]:
        """All layers read, the residual included."""
        return self.inputs if self.residual is None else (*self.inputs, self.residual)


def fuse(graph: Graph) -> dict[str, Layer]:
    """Return name -> Layer, in execution order, for a canonical graph.

    A conv takes the `add` that is its only reader (of two convs the later one takes it), then a `relu` likewise.
    """
    joiner = _Joiner(graph)
    convs = [joiner.layer(node) for node in graph.nodes.values() if node.op in CONVS]
    layers = {layer.name: layer for layer in convs}
    inside = {name for layer in convs for name in layer.members}
    for node in graph.nodes.values():
        if node.name not in inside:
            layers[node.name] = Layer(node.name, node, node.inputs, members=(node.name,))
    return {name: layers[name] for name in graph.nodes if name in layers}


def at_size(graph: Graph, layer: Layer, values: Mapping[str, Value]) -> list[Layer]:
    """Return what `layer` is at an image's size: itself, or its members where its add broadcasts.

    values  node name -> Value at that size; no epilogue broadcasts
    """
    if layer.residual is None or values[layer.residual].shape == values[layer.members[0]].shape:
        return [layer]
    nodes = [graph.nodes[name] for name in layer.members]
    return [Layer(node.name, node, node.inputs) for node in nodes]


class _Joiner:
    """What deciding about a conv takes: channels, who reads what, which values are maps, and the file's order."""

    def __init__(self, graph):
        self.graph, self.values, self.readers = graph, graph.infer(), graph.readers()
        self.outputs, self.is_map = set(graph.outputs.values()), _maps(graph)
        self.position = {name: i for i, name in enumerate(graph.nodes)}

    def layer(self, conv):
        """Return the Layer of a conv with the add and the relu that it takes."""
        members, residual = [conv.name], None
        add = self.only_reader(conv.name, "add")
        if add is not None and self.takes(conv, add):
            members.append(add.name)
            residual = _other(add, conv.name)
        relu = self.only_reader(members[-1], "relu")
        if relu is not None:
            members.append(relu.name)
        return Layer(members[-1], conv, conv.inputs, residual, relu is not None, tuple(members))

    def only_reader(self, name, op):
        """Return the node that alone reads `name`, and only once, if it is an `op`; None for an output."""
        if name in self.outputs or len(self.readers[name]) != 1:
            return None
        reader = self.graph.nodes[self.readers[name][0]]
        return reader if reader.op == op and reader.inputs.count(name) == 1 else None

    def takes(self, conv, add):
        """True if `add` becomes the epilogue of `conv`."""
        other = _other(add, conv.name)
        if other in (None, INPUT) or self.values[other].c != self.values[conv.name].c:
            return False
        if self.is_map[other] != self.is_map[conv.name]:  # it broadcasts
            return False
        is_rival = self.graph.nodes[other].op in CONVS and self.only_reader(other, "add") is not None
        return not is_rival or self.position[conv.name] > self.position[other]


def _other(add, name):
    """Return the other operand of an add; None if that is a number."""
    return next((source for source in add.inputs if source != name), None)


def _maps(graph):
    """Return name -> True, or False where a global mean makes the value 1x1 whatever the image's size."""
    is_map = {INPUT: True}
    for node in graph.nodes.values():
        is_map[node.name] = node.op != "global_mean" and any(is_map[name] for name in node.inputs)
    return is_map
