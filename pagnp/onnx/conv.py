"""Convolutions, their norms, and the transposed convolution with bilinear weights, as ONNX nodes."""

import numpy as np

from pagnp.graph import Node
from pagnp.onnx.emitter import Emitter, onnx_pads


def conv2d(e: Emitter, node: Node) -> None:
    a = node.attrs
    attrs = {"kernel_shape": _kernel(e, node), "strides": a["stride"], "dilations": a["dilation"], "group": a["groups"]}
    _conv(e, node, "Conv", attrs | {"pads": onnx_pads(a["padding"])})


def conv_transpose2d(e: Emitter, node: Node) -> None:
    a = node.attrs
    attrs = {"kernel_shape": _kernel(e, node), "strides": a["stride"], "dilations": a["dilation"], "group": a["groups"]}
    attrs |= {"pads": onnx_pads(a["padding"]), "output_padding": a["output_padding"]}
    _conv(e, node, "ConvTranspose", attrs)


def norm(e: Emitter, node: Node) -> None:
    c = e.graph.weights[node.weights["mean"]].shape[0]
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


def _conv(e, node, op, attrs):
    inputs = [*e.ins(node), e.weight(node, "weight")]
    if "bias" in node.weights:
        inputs.append(e.weight(node, "bias"))
    if "scale" not in node.weights:
        e.result(node, op, inputs, **attrs)
        return
    # A norm that says acc * scale + shift: runtimes fold it into the weights as they do with any norm behind a conv.
    c = e.graph.weights[node.weights["scale"]].shape[0]
    y = e.step(node, op, inputs, **attrs)
    vectors = [e.weight(node, "scale"), e.weight(node, "shift"), e.constant(np.zeros(c)), e.constant(np.ones(c))]
    e.result(node, "BatchNormalization", [y, *vectors], epsilon=0.0)
