"""The canonical form of a graph: norms joined to their convs, in float64. It is what the graph means.

docs/NUMERICS.md, "The canonical graph".
"""

from collections.abc import Mapping
from copy import copy
from dataclasses import replace

import numpy as np

from pagnp.errors import GraphError
from pagnp.graph import INPUT, Graph, Node
from pagnp.types import Tensor


def canonical(graph: Graph) -> Graph:
    """Return `graph` with every norm joined to the conv that only it reads. This is the graph's meaning.

    scale = gamma / sqrt(var + eps), shift = beta + (bias - mean) * scale in float64, each rounded once.
    The joined node keeps the norm's name; its new weights are called `<norm>/scale` and `<norm>/shift`.
    Nodes nobody reads, directly or through others, are dropped.
    """
    readers = graph.readers()
    kept = reachable(graph)
    outputs = set(graph.outputs.values())
    result = replace(graph, nodes={}, weights=copy(graph.weights), outputs=dict(graph.outputs))
    joined = {}
    for node in graph.nodes.values():
        if node.name not in kept:
            continue
        live_readers = [name for name in readers[node.name] if name in kept]
        if node.op in ("conv2d", "conv_transpose2d") and len(live_readers) == 1 and node.name not in outputs:
            reader = graph.nodes[live_readers[0]]
            if reader.op == "norm" and "scale" not in node.weights:
                joined[reader.name] = node
                continue
        result.nodes[node.name] = _join(result, joined[node.name], node) if node.name in joined else node
    used = {key for node in result.nodes.values() for key in node.weights.values()}
    for key in [key for key in result.weights if key not in used]:
        del result.weights[key]
    return result


def reachable(graph: Graph) -> set[str]:
    """Return the names of the nodes that an output depends on."""
    kept, todo = set(), list(graph.outputs.values())
    while todo:
        name = todo.pop()
        if name not in kept:
            kept.add(name)
            todo.extend(source for source in graph.nodes[name].inputs if source != INPUT)
    return kept


def norm_scale_shift(weights: Mapping[str, Tensor], node: Node, bias: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the float32 scale and shift of a norm node (`weights` are the graph's).

    Raises: GraphError if finite weights give a scale or shift that is not finite.
    """
    part = {role: weights[key].astype(np.float64) for role, key in node.weights.items()}
    count = part["var"].shape
    part["bias"] = np.zeros(count) if bias is None else bias.astype(np.float64)
    with np.errstate(all="ignore"):
        scale = part.get("gamma", np.ones(count)) / np.sqrt(part["var"] + np.float64(node.attrs["eps"]))
        offset = part["bias"] - part["mean"]
        product = offset * scale
        shift = part.get("beta", np.zeros(count)) + product
        rounded = scale.astype(np.float32), shift.astype(np.float32)
    if not np.isfinite(rounded).all() and all(np.isfinite(array).all() for array in part.values()):
        raise GraphError(f"node '{node.name}' (norm): scale or shift is no finite float32; var + eps must be positive")
    return rounded


def _join(graph, conv, norm):
    bias = graph.weights[conv.weights["bias"]] if "bias" in conv.weights else None
    scale, shift = norm_scale_shift(graph.weights, norm, bias)
    roles = {"weight": conv.weights["weight"], "scale": f"{norm.name}/scale", "shift": f"{norm.name}/shift"}
    graph.weights[roles["scale"]], graph.weights[roles["shift"]] = scale, shift
    return Node(norm.name, conv.op, conv.inputs, conv.attrs, roles)
