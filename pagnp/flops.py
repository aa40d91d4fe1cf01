"""Multiply-adds (MACs) of a layer for one image; biases and pointwise ops are free."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pagnp.graph import Graph, Value
from pagnp.types import LayerMacs, Macs

if TYPE_CHECKING:  # lower.py counts with these functions
    from pagnp.fuse import Layer
    from pagnp.lower import Plan


def conv2d(h_out: int, w_out: int, weight_shape: tuple[int, ...]) -> int:
    """MACs of a conv at h_out * w_out pixels; weight_shape is (c_out, c_in/groups, k_h, k_w)."""
    c_out, c_group, k_h, k_w = weight_shape
    return h_out * w_out * c_out * c_group * k_h * k_w


def conv_transpose2d(h_in: int, w_in: int, weight_shape: tuple[int, ...]) -> int:
    """MACs of a transposed conv; weight_shape is (c_in, c_out/groups, k_h, k_w)."""
    c_in, c_group, k_h, k_w = weight_shape
    return h_in * w_in * c_in * c_group * k_h * k_w


def layer(graph: Graph, layer: "Layer", values: Mapping[str, Value]) -> int:
    """MACs of a fused layer when computed at every pixel of one image."""
    source = values[layer.inputs[0]]
    if layer.op == "conv2d":
        out = values[layer.members[0]]
        return conv2d(out.h, out.w, graph.weight_shape(layer.node)("weight"))
    if layer.op == "conv_transpose2d":
        return conv_transpose2d(source.h, source.w, graph.weight_shape(layer.node)("weight"))
    if layer.op == "bilinear_deconv":
        taps = 2 * layer.node.attrs["factor"]
        return conv_transpose2d(source.h, source.w, (source.c, 1, taps, taps))
    return 0


def count_macs(plan: "Plan", counts: Mapping[str, int]) -> Macs:
    """Return the MACs of one image as in Result.macs.

    counts  layer -> pixels that were computed; a layer that is not in it was computed everywhere
    """
    layers: dict[str, LayerMacs] = {}
    gated_dense, gated_executed = 0, 0
    for name, dense in plan.macs.items():
        if not dense:
            continue
        value = plan.values[name]
        computed = counts.get(name, plan.n * value.h * value.w)
        executed = dense * computed // (plan.n * value.h * value.w)
        layers[name] = {"dense": dense, "executed": executed}
        if name in plan.gated:
            gated_dense += dense
            gated_executed += executed
    return {
        "dense": sum(entry["dense"] for entry in layers.values()),
        "executed": sum(entry["executed"] for entry in layers.values()),
        "gated_dense": gated_dense,
        "gated_executed": gated_executed,
        "layers": layers,
    }
