"""A canonical graph computed by PyTorch node by node, in float32, as somebody would write its layers."""

import numpy as np
import torch
import torch_rows
from torch.nn import functional as F  # noqa: N812

from pagnp.errorbound.layers import Held, Terms
from pagnp.fuse import Layer
from pagnp.graph import INPUT
from pagnp.testing.case import Case

ABSENT = {"residual": None, "relu": False, "sites": None, "scale": None, "shift": None, "bias": None}


def _padded(a, shape, fill):
    """Return the input of a pooling, padded by `fill` for the last window, and its kernel and stride."""
    top, _, left, _ = a["padding"]
    n, h, w, c = a["x"].shape
    d = a.get("dilation", (1, 1))
    size = [(shape[1 + i] - 1) * a["stride"][i] + d[i] * (a["kernel"][i] - 1) + 1 for i in (0, 1)]
    bottom, right = max(0, size[0] - top - h), max(0, size[1] - left - w)
    x = F.pad(torch_rows.nchw(torch, a["x"]), (left, right, top, bottom), value=fill)
    return x[:, :, : size[0], : size[1]]


def max_pool2d(a, shape):
    pooled = F.max_pool2d(_padded(a, shape, -np.inf), tuple(a["kernel"]), tuple(a["stride"]), 0, tuple(a["dilation"]))
    return torch_rows.nhwc(pooled)


def avg_pool2d(a, shape):
    """Sums of windows over the pixels that count, by PyTorch's own counts."""
    sums = F.avg_pool2d(_padded(a, shape, 0.0), tuple(a["kernel"]), tuple(a["stride"]), divisor_override=1)
    sides = []
    for axis in (0, 1):
        before, after = a["padding"][2 * axis : 2 * axis + 2]
        length = a["x"].shape[1 + axis]
        start = torch.arange(shape[1 + axis]) * a["stride"][axis] - before
        end = torch.clamp(start + a["kernel"][axis], max=length + after)
        if not a["count_include_pad"]:
            start, end = start.clamp(min=0), end.clamp(max=length)
        sides.append((end - start).float())
    return torch_rows.nhwc(sums / (sides[0][:, None] * sides[1]))


def norm(a, shape):
    part = {name: torch.from_numpy(array) for name, array in a["norm"].items() if name != "eps"}
    x = torch_rows.nchw(torch, a["x"])
    y = F.batch_norm(x, part["mean"], part["var"], part.get("gamma"), part.get("beta"), eps=a["norm"]["eps"])
    return torch_rows.nhwc(y)


def conv(op, a, shape):
    """A conv, its bias and its norm as layers of their own, not folded."""
    parts = a.pop("norm", None)
    if parts is not None:
        a = a | {"scale": None, "shift": None, "bias": parts.get("bias")}
    y = torch_rows.TORCH[op](torch, Case(op, seed=0), ABSENT | a, shape)
    if parts is None:
        return y
    return norm({"x": y, "norm": {name: value for name, value in parts.items() if name != "bias"}}, shape)


def gate(a, shape):
    if a["mode"].startswith("gumbel") and a["form"] == "kong2018":
        p = (torch.softmax(torch.from_numpy(a["z"]), dim=-1) + 1e-3) / 1.001
        a = a | {"z": torch.log(p).numpy(), "form": "torch"}
    case = Case("gate", index=bool(a["index"]), seed=0)
    return torch_rows.TORCH["gate"](torch, case, a, shape)


def evaluate(raw, graph, x, noise):
    """Return node name -> array of a canonical `graph` (of `raw`) on x (1, h, w, c); noise as `Terms` takes it."""
    values, terms = graph.infer(*x.shape[1:3]), Terms(raw, graph, noise)
    held = {INPUT: Held(x)}
    for node in graph.nodes.values():
        a, _ = terms.of(Layer(node.name, node, node.inputs), held)
        a = {
            key: tuple(value) if isinstance(value, list) and key not in ("xs", "branches") else value
            for key, value in a.items()
        }
        shape = (1, *values[node.name].shape)
        with torch.no_grad(), np.errstate(all="ignore"):
            held[node.name] = Held(np.ascontiguousarray(_one(node.op, a, shape)))
    return {name: part.value for name, part in held.items() if name != INPUT}


def _one(op, a, shape):
    if op in ("conv2d", "conv_transpose2d"):
        return conv(op, a, shape)
    if op in ("max_pool2d", "avg_pool2d", "norm", "gate"):
        return globals()[op](a, shape)
    if op == "logical_not":
        return ~a["m"]
    if op == "to_float":
        return a["m"][..., None].astype(np.float32)
    if op == "div" and a.get("constant") == "a":  # as torch does it: a number by a tensor is a reciprocal
        return (float(a["a"].ravel()[0]) / torch.from_numpy(a["b"])).numpy()
    if op == "select" and a["control"].shape[1:] == (1, 1):
        a = a | {"control": np.broadcast_to(a["control"], shape[:3])}
    if op == "compare":
        found = torch_rows.TORCH[op](torch, None, a, shape)
        return found[..., 0] if found.ndim == 4 else found
    return torch_rows.TORCH[op](torch, Case(op, seed=0), a, shape)
