"""Pooling as ONNX nodes.

Ceil mode becomes padding behind the map: before opset 22, ONNX does not say where the last window may begin.
"""

import numpy as np

from pagnp.graph import Node
from pagnp.onnx.emitter import Emitter, UnsupportedError, onnx_pads


def max_pool2d(e: Emitter, node: Node) -> None:
    a, x = node.attrs, e.ins(node)[0]
    padding = _padding(e, node)
    # ONNX Runtime refuses padding as wide as the kernel, even where dilation makes the window wider than that.
    if max(padding[:2]) >= a["kernel"][0] or max(padding[2:]) >= a["kernel"][1]:
        x = framed(e, node, x, padding, -np.inf)
        padding = [0, 0, 0, 0]
    window = {"kernel_shape": a["kernel"], "strides": a["stride"], "dilations": a["dilation"]}
    e.result(node, "MaxPool", [x], pads=onnx_pads(padding), **window)


def avg_pool2d(e: Emitter, node: Node) -> None:
    a, x = node.attrs, e.ins(node)[0]
    padding, count_pad = _padding(e, node), int(a["count_include_pad"])
    if count_pad and padding != list(a["padding"]):
        # What ceil mode adds does not count, the padding does: it becomes part of the map.
        x = framed(e, node, x, a["padding"], 0)
        padding, count_pad = [p - own for p, own in zip(padding, a["padding"], strict=True)], 0
    window = {"kernel_shape": a["kernel"], "strides": a["stride"], "count_include_pad": count_pad}
    e.result(node, "AveragePool", [x], pads=onnx_pads(padding), **window)


def pad(e: Emitter, node: Node) -> None:
    sides = onnx_pads(node.attrs["padding"])
    e.result(node, "Pad", [*e.ins(node), e.constant([0, 0, *sides[:2], 0, 0, *sides[2:]], np.int64)])


def framed(e: Emitter, node: Node, x: str, padding: list[int], value: float) -> str:
    """Return x inside a frame of `value`, on the way to `node`; padding is (top, bottom, left, right)."""
    sides = onnx_pads(padding)
    return e.step(node, "Pad", [x, e.constant([0, 0, *sides[:2], 0, 0, *sides[2:]], np.int64), e.constant(value)])


def _padding(e, node):
    """Return the (top, bottom, left, right) with which a pooling without ceil mode gives the size of the result."""
    padding = list(node.attrs["padding"])
    if node.attrs["ceil_mode"]:
        for axis in (0, 1):
            padding[2 * axis + 1] = _after(e, node, axis)
    return padding


def _after(e, node, axis):
    """Return the padding behind an axis that makes room for the last window of ceil mode."""
    a = node.attrs
    before, after = a["padding"][2 * axis : 2 * axis + 2]
    stride = a["stride"][axis]
    span = a.get("dilation", (1, 1))[axis] * (a["kernel"][axis] - 1) + 1
    size = e.size(node.inputs[0])
    if size is not None:
        return max(after, (e.size(node.name)[axis] - 1) * stride + span - size[axis] - before)
    if stride > span - after:  # the last window may begin behind the map and is dropped then, but not at every size
        raise UnsupportedError(
            f"ceil_mode with windows of {span}, stride {stride} and padding {after} depends on the size; give a size"
        )
    return after + stride - 1
