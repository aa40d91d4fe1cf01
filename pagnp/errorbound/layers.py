"""From a layer of a graph to the arguments that its bound takes: attributes, weights and inputs by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pagnp.errorbound.gate import lead, margins
from pagnp.errorbound.rounding import error_of, wide
from pagnp.fuse import CONVS, Layer
from pagnp.graph import Graph, Node
from pagnp.types import Array, Tensor


@dataclass(frozen=True)
class Held:
    """A value of ours and how far the other side's may be from it; `error` as `errorbound.bound` takes it."""

    value: Array
    error: Any = None


class Terms:
    """What bounds need beside the inputs: the graph as it was before norms joined convs, and the gates' noise.

    raw     the graph as loaded; graph: its canonical form
    noise   (gate node, shape (h, w, K)) -> float32 noise, the same on both sides
    """

    def __init__(
        self, raw: Graph, graph: Graph, noise: Callable[[Node, tuple[int, ...]], Tensor], threshold: Any = None
    ) -> None:
        self.raw, self.graph, self.noise, self.threshold = raw, graph, noise, threshold

    def of(self, layer: Layer, held: Mapping[str, Held]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return (args, errors) of `errorbound.bound` for a layer whose inputs are in `held`."""
        node, a, op = layer.node, layer.node.attrs, layer.op
        ins = [held[name] for name in layer.inputs]
        values, errors = [h.value for h in ins], [h.error for h in ins]
        if op in CONVS:
            residual = None if layer.residual is None else held[layer.residual]
            args = {"x": values[0], **self.conv(node)}
            if residual is None:
                return args, {"x": errors[0]}
            return args | {"residual": residual.value}, {"x": errors[0], "residual": residual.error}
        if op in ("add", "sub", "mul", "div", "compare"):
            return _binary(a, values, errors)
        if op == "norm":
            return {"x": values[0], "norm": self.norm(node)}, {"x": errors[0]}
        if op == "gate":
            return self._gate(node, values[0]), {"z": errors[0]}
        if op == "concat":
            return {"xs": values}, {"xs": errors}
        if op in ("select", "blend"):
            control = "control" if op == "select" else "p"
            return {control: values[0], "branches": values[1:]}, {control: errors[0], "branches": errors[1:]}
        if op == "masked":
            return {"x": values[0], "mask": values[1]}, {"x": errors[0], "mask": errors[1]}
        name = "m" if op in ("logical_not", "to_float") else "x"
        return {name: values[0], **a}, {name: errors[0]}

    def conv(self, node: Node) -> dict[str, Any]:
        """Return weight, place and epilogue of a conv node; a joined norm as the four vectors that it was."""
        order = (2, 3, 1, 0) if node.op == "conv2d" else (2, 3, 0, 1)
        found = {name: node.attrs[name] for name in ("stride", "padding", "dilation", "groups")}
        found["weight"] = self.weights(node, "weight").transpose(order)
        found |= {role: self.weights(node, role) for role in ("scale", "shift", "bias") if role in node.weights}
        conv = self.before_norm(node.name)
        if conv is not None and self.graph.nodes.get(node.name) is node:
            found["norm"] = self.norm(self.raw.nodes[node.name])
            if "bias" in conv.weights:
                found["norm"]["bias"] = self.raw.weights[conv.weights["bias"]]
        return found

    def before_norm(self, name: str) -> Node | None:
        """Return the conv of the loaded graph whose norm is called `name`, if that norm joined it."""
        node = self.raw.nodes.get(name)
        if node is None or node.op != "norm" or self.graph.nodes[name].op == "norm":
            return None
        return self.raw.nodes[node.inputs[0]]

    def norm(self, node: Node) -> dict[str, Any]:
        """Return mean, var, gamma, beta and eps of a norm node."""
        return {**{role: self.raw.weights[key] for role, key in node.weights.items()}, "eps": node.attrs["eps"]}

    def weights(self, node: Node, role: str) -> Tensor:
        """Return a weight of `node`, of either graph."""
        key = node.weights[role]
        return self.graph.weights[key] if key in self.graph.weights else self.raw.weights[key]

    def _gate(self, node, z):
        a = node.attrs
        args = {"z": z, "mode": a["mode"], "form": a["form"], "temperature": np.float32(a["temperature"])}
        args["noise"] = self.noise(node, z.shape[1:]) if a["mode"].startswith("gumbel") else None
        hard = a["mode"] == "hard" and not a.get("rates")
        return args | {"threshold": self.threshold if hard else None, "index": bool(a.get("rates"))}


def _binary(attrs, values, errors):
    args = {"op": attrs["op"]} if "op" in attrs else {}
    if len(values) == 2:
        return args | {"a": values[0], "b": values[1]}, {"a": errors[0], "b": errors[1]}
    number = np.full((1,) * values[0].ndim, attrs["value"], values[0].dtype)
    x, constant = ("b", "a") if attrs.get("reverse") else ("a", "b")
    return args | {x: values[0], constant: number, "constant": constant}, {x: errors[0]}


def margins_of(op: str, args: Mapping[str, Any], errors: Mapping[str, Any]) -> Any:
    """Return how far each decision (n, h, w) is from turning, float64 without sign; None where op decides nothing."""
    with np.errstate(all="ignore"):
        if op == "gate" and args["mode"].endswith("hard"):
            return np.abs(margins(args, errors)[0])
        if op == "argmax":
            return lead(wide(args["x"]), error_of(errors, "x"))[0]
        if op == "compare":
            found = np.abs(wide(args["a"]) - wide(args["b"]))
            return found.reshape(found.shape[:3])
    return None
