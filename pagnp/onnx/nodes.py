"""Which function writes a graph op as ONNX nodes: one row an op of opset.OPS."""

from collections.abc import Callable

from pagnp.graph import Node
from pagnp.onnx import conv, gate, pointwise, pool, resample
from pagnp.onnx.emitter import Emitter

OPS: dict[str, Callable[[Emitter, Node], None]] = {
    **{name: getattr(conv, name) for name in ("conv2d", "conv_transpose2d", "norm", "bilinear_deconv")},
    **{name: getattr(pool, name) for name in ("max_pool2d", "avg_pool2d", "pad")},
    **{name: getattr(resample, name) for name in ("bilinear", "nearest")},
    **dict.fromkeys(pointwise.SIMPLE, pointwise.simple),
    **dict.fromkeys(pointwise.ARITHMETIC, pointwise.arithmetic),
    **{name: getattr(pointwise, name) for name in ("exp10", "softmax", "argmax", "l2_normalize", "compare")},
    **{name: getattr(pointwise, name) for name in ("to_float", "concat", "slice_channels")},
    **{name: getattr(gate, name) for name in ("gate", "select", "masked", "blend")},
}
