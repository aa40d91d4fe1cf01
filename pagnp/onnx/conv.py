"""Convolutions, their norms, and the transposed convolution with bilinear weights, as ONNX nodes."""

import numpy as np

from pagnp.graph import Node
from pagnp.onnx.emitter import Emitter, onnx_pads
from pagnp.onnx.pool import framed


def conv2d(e: Emitter, node: Node) -> None:
    a = node.attrs
    attrs = {"kernel_shape": _kernel(e, node), "strides": a["stride"], "dilations": a["dilation"], "group": a["groups"]}
    _conv(e, node, "Conv", attrs | {"pads": onnx_pads(a["padding"])})


def conv_transpose2d(e: Emitter, node: Node) -> None:
    a = node.attrs
    attrs = {"kernel_shape": _kernel(e, node), "strides": a["stride"], "dilations": a["dilation"], "group": a["groups"]}
    padding, extra, rest = list(a["padding"]), list(a["output_padding"]), [0, 0, 0, 0]
    for axis, stride in enumerate(a["stride"]):
        # Runtimes take less than a stride of it. More is less of the crop, and behind that, rows without a term.
        beyond, side = max(0, extra[axis] - (stride - 1)), 2 * axis + 1
        extra[axis], padding[side] = extra[axis] - beyond, padding[side] - beyond
        padding[side], rest[side] = max(0, padding[side]), max(0, -padding[side])
    _conv(e, node, "ConvTranspose", attrs | {"pads": onnx_pads(padding), "output_padding": extra}, rest)


def norm(e: Emitter, node: Node) -> None:
    c = e.values[node.name].c
    gamma = e.weight(node, "gamma") if "gamma" in node.weights else e.constant(np.ones(c))
    beta = e.weight(node, "beta") if "beta" in node.weights else e.constant(np.zeros(c))
    moments = [e.weight(node, "mean"), e.weight(node, "var")]
    e.result(node, "BatchNormalization", [*e.ins(node), gamma, beta, *moments], epsilon=node.attrs["eps"])


def bilinear_deconv(e: Emitter, node: Node) -> None:
    from pagnp.ops.resample import bilinear_deconv_weight

    factor, c = node.attrs["factor"], e.values[node.name].c
    weight = e.constant(np.broadcast_to(bilinear_deconv_weight(factor), (c, 1, 2 * factor, 2 * factor)))
    place = {"kernel_shape": [2 * factor] * 2, "strides": [factor] * 2, "pads": [factor // 2] * 4, "group": c}
    e.result(node, "ConvTranspose", [*e.ins(node), weight], **place)


def _kernel(e, node):
    return list(e.graph.weights[node.weights["weight"]].shape[2:])


def _conv(e, node, op, attrs, rest=(0, 0, 0, 0)):
    """Add the ONNX node `op` and its bias or norm; `rest` is a frame of +0 between the two."""
    roles = ["weight"] + ["bias"] * ("bias" in node.weights and not any(rest))
    inputs = [*e.ins(node), *(e.weight(node, role) for role in roles)]
    if "scale" not in node.weights and not any(rest):
        e.result(node, op, inputs, **attrs)
        return
    y = e.step(node, op, inputs, **attrs)
    if any(rest):
        y = framed(e, node, y, rest, 0)
    # A norm that says acc * scale + shift: runtimes fold it into the weights as they do with any norm behind a conv.
    c = e.values[node.name].c
    zeros, ones = e.constant(np.zeros(c)), e.constant(np.ones(c))
    scale = e.weight(node, "scale") if "scale" in node.weights else ones
    shift = next((e.weight(node, role) for role in ("shift", "bias") if role in node.weights), zeros)
    e.result(node, "BatchNormalization", [y, scale, shift, zeros, ones], epsilon=0.0)
