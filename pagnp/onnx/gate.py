"""Gates and what they steer, as ONNX nodes: every branch is computed, Where picks."""

import numpy as np

from pagnp.backends import constants
from pagnp.graph import Node
from pagnp.onnx.emitter import NOISE, Emitter, takes_noise


def gate(e: Emitter, node: Node) -> None:
    a, y = node.attrs, e.ins(node)[0]
    if takes_noise(node):
        y = _noisy(e, node, y)
    if a["mode"] == "gumbel_soft" and a["temperature"] != 1:
        y = e.step(node, "Div", [y, e.constant(a["temperature"])])
    if a["mode"].endswith("soft"):
        e.result(node, "Softmax", [y], axis=1)
    elif a.get("rates"):
        e.result(node, "ArgMax", [y], axis=1, keepdims=1)
    else:
        skip, computes = _channels(e, node, y, 2)
        e.result(node, "Greater", [computes, skip])  # a tie skips


def select(e: Emitter, node: Node) -> None:
    control, *branches = e.ins(node)
    if e.values[node.inputs[0]].kind == "mask":
        e.result(node, "Where", [control, branches[1], branches[0]])
        return
    # A sum of OneHot products takes ONNX Runtime half the time, but of an infinity in a branch not taken it makes NaN.
    chosen = branches[0]
    for k, branch in enumerate(branches[1:-1], start=1):
        chosen = e.step(node, "Where", [_is(e, node, control, k), branch, chosen])
    e.result(node, "Where", [_is(e, node, control, len(branches) - 1), branches[-1], chosen])


def masked(e: Emitter, node: Node) -> None:
    x, mask = e.ins(node)
    e.result(node, "Where", [mask, x, e.constant(0)])


def blend(e: Emitter, node: Node) -> None:
    p, *branches = e.ins(node)
    parts = _channels(e, node, p, len(branches))
    if len(branches) == 1:
        e.result(node, "Mul", [p, branches[0]])
        return
    products = [e.step(node, "Mul", pair) for pair in zip(parts, branches, strict=True)]
    total = products[0]
    for product in products[1:-1]:
        total = e.step(node, "Add", [total, product])
    e.result(node, "Add", [total, products[-1]])


def _is(e, node, index, k):
    return e.step(node, "Equal", [index, e.constant(k, np.int64)])


def _channels(e, node, x, count):
    """Return the `count` channels of x, each (n, 1, h, w)."""
    return e.steps(node, "Split", [x, e.constant([1] * count, np.int64)], count, axis=1)


def _noisy(e, node, z):
    """Return the logits of a Gumbel gate with its noise, before the temperature."""
    if node.attrs["form"] == "kong2018":
        z = e.step(node, "Add", [e.step(node, "Softmax", [z], axis=1), e.constant(constants.PROBABILITY_OFFSET_2018)])
        z = e.step(node, "Log", [e.step(node, "Div", [z, e.constant(constants.PROBABILITY_DIVISOR_2018)])])
    return e.step(node, "Add", [z, e.names[node.name + NOISE]])
