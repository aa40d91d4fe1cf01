"""Pointwise ops, those over channels, and those that move values, as ONNX nodes."""

import numpy as np
from onnx import TensorProto

from pagnp.graph import Node
from pagnp.onnx.emitter import Emitter

ARITHMETIC = {"add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div"}
COMPARISONS = {"gt": "Greater", "ge": "GreaterOrEqual", "lt": "Less", "le": "LessOrEqual", "eq": "Equal"}
SIMPLE = {
    **{"relu": "Relu", "sigmoid": "Sigmoid", "exp": "Exp", "log": "Log"},
    **{"global_mean": "GlobalAveragePool", "logical_not": "Not"},
}


def simple(e: Emitter, node: Node) -> None:
    e.result(node, SIMPLE[node.op], e.ins(node))


def exp10(e: Emitter, node: Node) -> None:
    e.result(node, "Pow", [e.constant(10), *e.ins(node)])


def softmax(e: Emitter, node: Node) -> None:
    e.result(node, "Softmax", e.ins(node), axis=1)


def argmax(e: Emitter, node: Node) -> None:
    e.result(node, "ArgMax", e.ins(node), axis=1, keepdims=1)


def l2_normalize(e: Emitter, node: Node) -> None:
    x = e.ins(node)[0]
    squares = e.step(node, "Mul", [x, x])
    total = e.step(node, "ReduceSum", [squares, e.constant([1], np.int64)], keepdims=1)
    length = e.step(node, "Add", [e.step(node, "Sqrt", [total]), e.constant(1e-5)])
    e.result(node, "Div", [x, length])


def arithmetic(e: Emitter, node: Node) -> None:
    e.result(node, ARITHMETIC[node.op], _operands(e, node, np.float32))


def compare(e: Emitter, node: Node) -> None:
    kind = e.values[node.inputs[0]].kind
    operands, op = _operands(e, node, np.int64 if kind == "index" else np.float32), node.attrs["op"]
    if op == "ne":
        e.result(node, "Not", [e.step(node, "Equal", operands)])
    else:
        e.result(node, COMPARISONS[op], operands)


def _operands(e, node, dtype):
    operands = e.ins(node)
    if len(operands) == 1:
        operands.append(e.constant(node.attrs["value"], dtype))
    return operands[::-1] if node.attrs.get("reverse") else operands


def to_float(e: Emitter, node: Node) -> None:
    e.result(node, "Cast", e.ins(node), to=TensorProto.FLOAT)


def concat(e: Emitter, node: Node) -> None:
    e.result(node, "Concat", e.ins(node), axis=1)


def slice_channels(e: Emitter, node: Node) -> None:
    bounds = [e.constant([number], np.int64) for number in (node.attrs["start"], node.attrs["stop"], 1)]
    e.result(node, "Slice", [*e.ins(node), *bounds])
