"""What the kernels of the numba backend allocate for themselves, beside the arrays that they are given."""

from collections.abc import Mapping

from pagnp.fuse import Layer
from pagnp.graph import Graph, Value

FLOAT = 4
LISTING = 8  # bytes a pixel while a mask becomes a list of sites: they are int64 first
_NARROW_INPUT = 16  # channels: see backends/numba_cpu/conv.py


def fixed(graph: Graph, layer: Layer, values: Mapping[str, Value]) -> int:
    """Return the bytes that `layer` takes at any size: weights in another order, while the old ones are there."""
    if layer.op == "conv_transpose2d":  # by phases
        return 3 * graph.weights[layer.node.weights["weight"]].nbytes
    if layer.op == "bilinear_deconv":  # for every channel
        return 3 * FLOAT * (2 * layer.node.attrs["factor"]) ** 2 * values[layer.inputs[0]].c
    return 0


def of_row(layer: Layer, values: Mapping[str, Value]) -> int:
    """Return the bytes that `layer` takes for one row of its input; rows of padding count too."""
    x = values[layer.inputs[0]]
    if layer.op == "conv2d" and x.c < _NARROW_INPUT:  # a padded copy
        return FLOAT * (x.w + sum(layer.node.attrs["padding"][2:])) * x.c
    return 2 * FLOAT * x.w * x.c if layer.op == "gate" else 0  # noise, and the logits with it
