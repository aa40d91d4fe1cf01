"""The meaning of a canonical graph, executed node by node through the public ops: no fusion, no perforation.

Slow and simple on purpose: every rewrite in lower.py is held against this.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from pagnp import ops
from pagnp.backends.base import BackendLike
from pagnp.canonical import norm_scale_shift
from pagnp.graph import INPUT, Graph, Node
from pagnp.types import Array, Number, Tensor


def interpret(
    graph: Graph,
    x: Tensor,
    backend: BackendLike = "numpy",
    noise: Mapping[str, Tensor] | None = None,
    seed: int = 0,
    threshold: Number | None = None,
) -> dict[str, Array]:
    """Return node name -> array for every node of a canonical `graph` on x (n, h, w, c) float32."""
    values = {INPUT: x}
    for node in graph.nodes.values():
        ins = [values[name] for name in node.inputs]
        values[node.name] = evaluate(graph, node, ins, backend, (noise or {}).get(node.name), seed, threshold)
    return values


def evaluate(
    graph: Graph,
    node: Node,
    ins: list[Any],
    backend: BackendLike = "numpy",
    noise: Tensor | None = None,
    seed: int = 0,
    threshold: Number | None = None,
) -> Array:
    """Return the array of one `node` of a canonical `graph` from the arrays of its inputs."""
    if node.op == "gate":
        return _gate(node, ins[0], backend, noise, seed, threshold)
    return _evaluate(graph, node, ins, backend)


def _evaluate(graph, node, ins, backend):
    a, op, call = node.attrs, node.op, {"backend": backend}
    if op in ("conv2d", "conv_transpose2d"):
        return _conv(graph, node, ins[0], call)
    if op == "norm":
        return ops.norm(ins[0], *norm_scale_shift(graph.weights, node), **call)
    if op in ("add", "sub", "mul", "div", "compare"):
        return _binary(op, a, ins, call)
    if op in ("max_pool2d", "avg_pool2d"):
        return getattr(ops, op)(ins[0], **_tuples(a), **call)
    if op in ("bilinear", "nearest"):
        size = {"size": ins[1].shape[1:3]} if len(ins) == 2 else {k: tuple(a[k]) for k in ("scale", "size") if k in a}
        extra = {"align_corners": a["align_corners"]} if op == "bilinear" else {}
        return getattr(ops, op)(ins[0], **size, **extra, **call)
    if op == "concat":
        return ops.concat(ins, **call)
    if op == "pad":
        return ops.pad(ins[0], tuple(a["padding"]), **call)
    if op == "slice_channels":
        return ops.slice_channels(ins[0], a["start"], a["stop"], **call)
    if op in ("select", "blend"):
        return getattr(ops, op)(ins[0], ins[1:], **call)
    if op == "masked":
        return ops.masked(*ins, **call)
    if op == "logical_not":
        return ~ins[0]
    if op == "to_float":
        return ins[0].astype(np.float32)[..., None]
    if op == "bilinear_deconv":
        return ops.bilinear_deconv(ins[0], a["factor"], **call)
    return getattr(ops, op)(ins[0], **call)


def _tuples(attrs):
    return {key: tuple(value) if isinstance(value, list) else value for key, value in attrs.items()}


def _conv(graph, node, x, call):
    parts = {role: graph.weights[key] for role, key in node.weights.items()}
    order = (2, 3, 1, 0) if node.op == "conv2d" else (2, 3, 0, 1)
    weight = np.ascontiguousarray(parts.pop("weight").transpose(order))
    return getattr(ops, node.op)(x, weight, **parts, **_tuples(node.attrs), **call)


def _binary(op, attrs, ins, call):
    if len(ins) == 1:
        kind = ins[0].dtype.type
        value = np.full((1,) * ins[0].ndim, attrs["value"], kind)
        ins = [value, ins[0]] if attrs.get("reverse") else [ins[0], value]
    if op != "compare":
        return getattr(ops, op)(*ins, **call)
    out = ops.compare(*ins, attrs["op"], **call)
    return np.ascontiguousarray(out[..., 0]) if out.ndim == 4 else out


def _gate(node, z, backend, noise, seed, threshold):
    a = node.attrs
    if a["mode"].startswith("gumbel") and noise is None:
        noise = ops.gumbel_noise(*z.shape[1:], seed=seed, gate_index=a["gate_index"], form=a["form"], backend=backend)
    hard = a["mode"] == "hard" and not a.get("rates")
    return ops.gate(
        z,
        mode=a["mode"],
        form=a["form"],
        temperature=a["temperature"],
        noise=noise,
        threshold=threshold if hard else None,
        index=bool(a.get("rates")),
        backend=backend,
    )
