"""Weights as the kernels take them, made once per model."""

from dataclasses import dataclass
from typing import Any

from pagnp.backends.base import Backend
from pagnp.canonical import norm_scale_shift
from pagnp.graph import Graph, Node


@dataclass
class Parameters:
    """Weights as the kernels take them, made once per model.

    packed   (op, weight key, groups) -> the weight in the kernel's order
    vectors  node name -> scale, shift, bias of a conv; scale, shift of a norm
    """

    packed: dict[tuple[str, str, int], Any]
    vectors: dict[str, Any]


def prepare(graph: Graph, backend: Backend) -> Parameters:
    """Return the Parameters of a canonical `graph` for `backend`. Tied weights are packed once."""
    packed: dict[tuple[str, str, int], Any] = {}
    vectors: dict[str, Any] = {}
    to_device = backend.arrays.to_device
    for node in graph.nodes.values():
        if node.op in ("conv2d", "conv_transpose2d"):
            key = packed_key(node)
            if key not in packed:
                packed[key] = _layout(graph.weights[key[1]], node.op, key[2], backend)
            vectors[node.name] = tuple(
                to_device(graph.weights[node.weights[role]]) if role in node.weights else None
                for role in ("scale", "shift", "bias")
            )
        elif node.op == "norm":
            vectors[node.name] = tuple(to_device(array) for array in norm_scale_shift(graph.weights, node))
    backend.arrays.wait()  # other threads may use them on other streams
    return Parameters(packed, vectors)


def packed_key(node: Node) -> tuple[str, str, int]:
    """Return the key of a conv's weight in `Parameters.packed`: one weight may serve several kinds of conv."""
    return node.op, node.weights["weight"], node.attrs["groups"]


def _layout(weight, op, groups, backend):
    """Bring a PyTorch weight into the contract's order (k_h, k_w, c_in/groups, c_out)."""
    to_device = backend.arrays.to_device
    if op == "conv2d":
        return backend.pack_conv2d(to_device(weight.transpose(2, 3, 1, 0)), groups)
    return to_device(weight.transpose(2, 3, 0, 1))
