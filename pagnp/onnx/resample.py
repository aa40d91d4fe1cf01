"""Bilinear and nearest resizing as ONNX nodes."""

import numpy as np
from onnx import TensorProto

from pagnp.graph import Node
from pagnp.onnx.emitter import Emitter
from pagnp.opset import LIMIT


def bilinear(e: Emitter, node: Node) -> None:
    mode = "align_corners" if node.attrs["align_corners"] else "half_pixel"
    inputs = [e.ins(node)[0], "", *_target(e, node)]
    e.result(node, "Resize", inputs, mode="linear", coordinate_transformation_mode=mode)


def nearest(e: Emitter, node: Node) -> None:
    """Resize where ONNX's rule (the floor of o / scale) takes the pixels that torch's takes, else gather them."""
    if _is_plain(e, node):
        how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        e.result(node, "Resize", [e.ins(node)[0], "", *_target(e, node)], **how)
        return
    rows = e.step(node, "Gather", [e.ins(node)[0], _index(e, node, 0)], axis=2)
    e.result(node, "Gather", [rows, _index(e, node, 1)], axis=3)


def _target(e, node):
    """Return what Resize reads behind its first two inputs: scales, or none and sizes."""
    if "scale" in node.attrs:
        return [e.constant([1, 1, *node.attrs["scale"]])]
    size = e.size(node.name)
    if size is not None and e.batch is not None:
        return ["", e.constant([e.batch, e.values[node.name].c, *size], np.int64)]
    lead = _shape(e, node, e.ins(node)[0], 0, 2)
    return ["", e.step(node, "Concat", [lead, _size(e, node)], axis=0)]


def _shape(e, node, x, start, stop):
    """Return axes start to stop - 1 of the shape of x, int64."""
    parts = [e.constant([number], np.int64) for number in (start, stop, 0)]
    return e.step(node, "Slice", [e.step(node, "Shape", [x]), *parts])


def _size(e, node):
    """Return the value [h, w], int64, of the result's size."""
    if "size" in node.attrs:
        return e.constant(node.attrs["size"], np.int64)
    if len(node.inputs) == 2:
        return _shape(e, node, e.ins(node)[1], 2, 4)
    size = _shape(e, node, e.ins(node)[0], 2, 4)
    return e.step(node, "Mul", [size, e.constant(node.attrs["scale"], np.int64)])


def _is_plain(e, node):
    """True if ONNX's floor takes the pixels of torch's rule (docs/NUMERICS.md) at every size that may come."""
    size = e.size(node.inputs[0])
    if size is not None:
        return all(_same(*pair) for pair in zip(size, e.size(node.name), strict=True))
    # in / out is 1 / scale whatever the size, and the longest map shows what shorter ones show.
    return "scale" in node.attrs and all(_same(LIMIT // scale, LIMIT // scale * scale) for scale in node.attrs["scale"])


def _same(length_in, length_out):
    """Compare the source indices of one axis: torch's, ONNX's in exact and in float32 arithmetic."""
    o, one = np.arange(length_out, dtype=np.int64), np.float32(1)
    torch = torch_index(length_in, length_out)
    scale = one * length_out / (one * length_in)
    floor = np.floor(o.astype(np.float32) / scale).astype(np.int64)
    return bool(np.array_equal(torch, o * length_in // length_out) and np.array_equal(torch, floor))


def torch_index(length_in, length_out):
    """Return the source index of each output index, int64: floor(f32(o) * (f32(in) / f32(out)))."""
    step = np.float32(length_in) / np.float32(length_out)
    index = np.floor(np.arange(length_out).astype(np.float32) * step).astype(np.int64)
    return np.minimum(index, length_in - 1)


def _index(e, node, axis):
    """Return the value that holds the source indices of an axis (0 rows, 1 columns), int64."""
    size = e.size(node.inputs[0])
    if size is not None:
        return e.constant(torch_index(size[axis], e.size(node.name)[axis]), np.int64)
    zero, one, place = (e.constant(number, np.int64) for number in (0, 1, axis))
    size_in = e.step(node, "Gather", [_shape(e, node, e.ins(node)[0], 2, 4), place])
    size_out = e.step(node, "Gather", [_size(e, node), place])
    numbers = e.step(node, "Range", [zero, size_out, one])
    numbers, length_in, length_out = (_cast(e, node, v, TensorProto.FLOAT) for v in (numbers, size_in, size_out))
    step = e.step(node, "Div", [length_in, length_out])
    found = e.step(node, "Floor", [e.step(node, "Mul", [numbers, step])])
    return e.step(node, "Min", [_cast(e, node, found, TensorProto.INT64), e.step(node, "Sub", [size_in, one])])


def _cast(e, node, x, to):
    return e.step(node, "Cast", [x], to=to)
