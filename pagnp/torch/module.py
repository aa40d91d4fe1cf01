"""A graph as a torch module: dense, every branch computed and then chosen, as one would write the network in torch.

The module is a torch.fx.GraphModule: `module.code` shows what it runs, and torch.compile takes it whole.
"""

import operator
import re
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import fx, nn
from torch.nn import functional as F  # noqa: N812

from pagnp import shapes
from pagnp.canonical import canonical, norm_scale_shift
from pagnp.graph import INPUT, Graph, Node
from pagnp.ops.resample import bilinear_deconv_weight
from pagnp.torch.check import engine_noise
from pagnp.torch.gates import mix, pick
from pagnp.torch.gumbel import noisy_logits

# fx.Proxy: torch's functions take one for a tensor and record what they would do. Their annotations do not say so.
Proxy: TypeAlias = Any
Proxies: TypeAlias = list[Any]


def to_module(graph: Graph) -> fx.GraphModule:
    """Return a torch module in eval mode that computes `graph`: float32 (n, c, h, w) -> {output: (n, c', h', w')}.

    Norms behind convs are folded into their weights. Gumbel gates draw the engine's noise of seed 0. Results are those
    of pagnp up to rounding (docs/NUMERICS.md, "Against other libraries"), and a decision whose margin is rounding may
    fall otherwise. The fx node of each node of the canonical graph has its name in `meta["pagnp"]`.
    Raises: GraphError if the graph is not well formed.
    """
    return _Writer(canonical(graph.validate())).module()


class _Writer:
    """A torch.fx graph being written: proxies by node name, and the modules that hold the weights."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.values = graph, graph.infer()
        self.fx_graph = fx.Graph()
        self.parts: dict[str, nn.Module] = {}
        self.proxies = {INPUT: fx.Proxy(self.fx_graph.placeholder(INPUT))}

    def module(self) -> fx.GraphModule:
        for node in self.graph.nodes.values():
            self.proxies[node.name] = _TABLE[node.op](self, node, [self.proxies[name] for name in node.inputs])
        self.fx_graph.output({output: self.proxies[name].node for output, name in self.graph.outputs.items()})
        module = fx.GraphModule(self.parts, self.fx_graph, "PagnpGraph").eval().requires_grad_(False)
        for name, proxy in self.proxies.items():
            proxy.node.meta["pagnp"] = name
        return module

    def layer(self, node: Node, part: nn.Module, x: Proxy) -> Proxy:
        """Call `part`, which holds weights of the node, as a submodule that is named after it."""
        key = re.sub(r"\W", "_", node.name)
        while f"layers.{key}" in self.parts or hasattr(part, key):  # another node's, or an attribute of modules
            key += "_"
        self.parts[f"layers.{key}"] = part
        return self.call("call_module", f"layers.{key}", x)

    def call(self, kind: str, target: Any, *args: Any) -> Proxy:
        """Call a submodule, or a function that is not to be traced into."""
        return self.proxies[INPUT].tracer.create_proxy(kind, target, args, {})

    def weight(self, node: Node, role: str) -> Any:
        """Return a weight of the node as float64, or None."""
        return self.graph.weights[node.weights[role]].astype(np.float64) if role in node.weights else None


def _tensor(array: Any) -> torch.Tensor:
    return torch.from_numpy(np.array(array, np.float32, order="C"))


def _folded(writer: _Writer, node: Node) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return (weight, bias) of a conv with its norm, multiplied in float64 and rounded once."""
    weight, scale, added = (writer.weight(node, role) for role in ("weight", "scale", "shift"))
    if scale is None:
        added = writer.weight(node, "bias")
    elif node.op == "conv2d":
        weight = weight * scale[:, None, None, None]
    else:  # (c_in, c_out/groups, k_h, k_w), the groups one after the other along c_in
        groups = node.attrs["groups"]
        per_group = scale.reshape(groups, 1, -1)
        weight = (weight.reshape(groups, -1, *weight.shape[1:]) * per_group[..., None, None]).reshape(weight.shape)
    return _tensor(weight), None if added is None else _tensor(added)


def _conv2d(writer: _Writer, node: Node, ins: Proxies) -> Proxy:
    (weight, bias), a, x = _folded(writer, node), node.attrs, ins[0]
    top, bottom, left, right = a["padding"]
    same = top == bottom and left == right
    if not same:
        x = F.pad(x, (left, right, top, bottom))
    kernel, stride, dilation = (tuple(pair) for pair in (weight.shape[2:], a["stride"], a["dilation"]))
    window: dict[str, Any] = {
        "kernel_size": kernel,
        "stride": stride,
        "dilation": dilation,
        "groups": a["groups"],
        "device": "meta",
    }
    part = nn.Conv2d(weight.shape[1] * a["groups"], len(weight), padding=(top, left) if same else 0, **window)
    return writer.layer(node, _with(part, weight, bias), x)


def _conv_transpose2d(writer: _Writer, node: Node, ins: Proxies) -> Proxy:
    """A crop that torch has not is one of the full result; the bias comes after it, as it is of every pixel."""
    (weight, bias), a = _folded(writer, node), node.attrs
    top, bottom, left, right = a["padding"]
    same = (top, left) == (bottom, right) and not any(a["output_padding"])
    kernel, stride, dilation = (tuple(pair) for pair in (weight.shape[2:], a["stride"], a["dilation"]))
    window: dict[str, Any] = {
        "kernel_size": kernel,
        "stride": stride,
        "dilation": dilation,
        "groups": a["groups"],
        "device": "meta",
    }
    part = nn.ConvTranspose2d(len(weight), weight.shape[1] * a["groups"], padding=(top, left) if same else 0, **window)
    y = writer.layer(node, _with(part, weight, bias if same else None), ins[0])
    if same:
        return y
    more_h, more_w = a["output_padding"]
    y = F.pad(y, (-left, more_w - right, -top, more_h - bottom))
    return y if bias is None else writer.layer(node, Affine(None, bias), y)


def _with(part: Any, weight: torch.Tensor, bias: torch.Tensor | None) -> Any:
    part.weight = nn.Parameter(weight)
    part.bias = None if bias is None else nn.Parameter(bias)
    return part


class Affine(nn.Module):
    """x * scale + shift per channel; scale may be None."""

    def __init__(self, scale: torch.Tensor | None, shift: torch.Tensor) -> None:
        super().__init__()
        self.scale = None if scale is None else nn.Parameter(scale[:, None, None])
        self.shift = nn.Parameter(shift[:, None, None])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.shift if self.scale is None else x * self.scale + self.shift


def _norm(writer: _Writer, node: Node, ins: Proxies) -> Proxy:
    scale, shift = norm_scale_shift(writer.graph.weights, node)
    return writer.layer(node, Affine(_tensor(scale), _tensor(shift)), ins[0])


def _pool(writer: _Writer, node: Node, ins: Proxies) -> Proxy:
    """Torch pads both sides alike, by half a window at most; other paddings go through `pool_padded`."""
    a, kernel = node.attrs, tuple(node.attrs["kernel"])
    top, bottom, left, right = a["padding"]
    plain = top == bottom <= kernel[0] // 2 and left == right <= kernel[1] // 2
    if not plain:
        return writer.call("call_function", pool_padded, ins[0], node.op, dict(a))
    window = kernel, tuple(a["stride"]), (top, left)
    if node.op == "max_pool2d":
        return F.max_pool2d(ins[0], *window, tuple(a["dilation"]), a["ceil_mode"])
    return F.avg_pool2d(ins[0], *window, a["ceil_mode"], a["count_include_pad"])


def pool_padded(x: torch.Tensor, op: str, a: dict[str, Any]) -> torch.Tensor:
    """Return max_pool2d or avg_pool2d of x with any padding; `a` are the node's attributes."""
    kernel, stride, dilation = (tuple(a.get(name, (1, 1))) for name in ("kernel", "stride", "dilation"))
    (h, w), (top, bottom, left, right) = x.shape[2:], a["padding"]
    out = shapes.pool2d_size(op, h, w, kernel, stride, (top, bottom, left, right), dilation, a["ceil_mode"])
    need = [(out[i] - 1) * stride[i] + dilation[i] * (kernel[i] - 1) + 1 for i in (0, 1)]
    sides = (left, need[1] - w - left, top, need[0] - h - top)
    if op == "max_pool2d":
        return F.max_pool2d(F.pad(x, sides, value=-float("inf")), kernel, stride, 0, dilation)
    counts = []
    for axis, (before, after) in enumerate(((top, bottom), (left, right))):
        start = torch.arange(out[axis]) * stride[axis] - before
        end = torch.clamp(start + kernel[axis], max=x.shape[2 + axis] + after)
        if not a["count_include_pad"]:
            start, end = start.clamp(min=0), end.clamp(max=x.shape[2 + axis])
        counts.append((end - start).to(x.dtype))
    return F.avg_pool2d(F.pad(x, sides), kernel, stride, divisor_override=1) / (counts[0][:, None] * counts[1])


def _resize(writer: _Writer, node: Node, ins: Proxies) -> Proxy:
    a, how = node.attrs, dict[str, Any](mode=node.op)
    if node.op == "bilinear":
        how["align_corners"] = a["align_corners"]
    if len(ins) == 2:
        return F.interpolate(ins[0], size=ins[1].shape[2:], **how)
    if "size" in a:
        return F.interpolate(ins[0], size=tuple(a["size"]), **how)
    return F.interpolate(ins[0], scale_factor=tuple(float(factor) for factor in a["scale"]), **how)


def _bilinear_deconv(writer: _Writer, node: Node, ins: Proxies) -> Proxy:
    factor, channels = node.attrs["factor"], writer.values[node.name].c
    place = {"stride": factor, "padding": factor // 2, "groups": channels, "bias": False}
    part = nn.ConvTranspose2d(channels, channels, 2 * factor, **place)
    plane = _tensor(bilinear_deconv_weight(factor))
    return writer.layer(node, _with(part, plane.expand(channels, 1, -1, -1).contiguous(), None), ins[0])


class Noise(nn.Module):
    """The logits of a Gumbel gate with the engine's noise of seed 0, before temperature."""

    def __init__(self, gate_index: int, form: Any) -> None:
        super().__init__()
        self.gate_index, self.form = gate_index, form

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return noisy_logits(z, engine_noise(self, z), self.form)


def _gate(writer: _Writer, node: Node, ins: Proxies) -> Proxy:
    a, y = node.attrs, ins[0]
    if a["mode"].startswith("gumbel"):
        y = writer.layer(node, Noise(a["gate_index"], a["form"]), y)
    if a["mode"] == "gumbel_soft":
        y = y / a["temperature"]
    if a["mode"].endswith("soft"):
        return torch.softmax(y, 1)
    return torch.argmax(y, 1, True) if a.get("rates") else y[:, 1:2] > y[:, 0:1]


def _select(writer: _Writer, node: Node, ins: Proxies) -> Proxy:
    control, *branches = ins
    if writer.values[node.inputs[0]].kind == "mask":
        return torch.where(control, branches[1], branches[0])
    return pick(control, branches)


def _blend(writer: _Writer, node: Node, ins: Proxies) -> Proxy:
    p, *branches = ins
    return mix(p, branches)


def _binary(function: Callable[[Any, Any], Any]) -> Callable[..., Proxy]:
    def write(writer: _Writer, node: Node, ins: Proxies) -> Proxy:
        if len(ins) == 2:
            return function(*ins)
        value = node.attrs["value"]
        return function(value, ins[0]) if node.attrs.get("reverse") else function(ins[0], value)

    return write


def _compare(writer: _Writer, node: Node, ins: Proxies) -> Proxy:
    return _binary(getattr(operator, node.attrs["op"]))(writer, node, ins)


def _of(function: Callable[..., Any]) -> Callable[..., Proxy]:
    """Return the writer of an op that is `function(*inputs)`."""
    return lambda writer, node, ins: function(*ins)


def _pad(writer: _Writer, node: Node, ins: Proxies) -> Proxy:
    top, bottom, left, right = node.attrs["padding"]
    return F.pad(ins[0], (left, right, top, bottom))


_TABLE: dict[str, Callable[[_Writer, Node, Proxies], Proxy]] = {
    "conv2d": _conv2d,
    "conv_transpose2d": _conv_transpose2d,
    "norm": _norm,
    **dict.fromkeys(("max_pool2d", "avg_pool2d"), _pool),
    **dict.fromkeys(("bilinear", "nearest"), _resize),
    "bilinear_deconv": _bilinear_deconv,
    "global_mean": _of(lambda x: x.mean((2, 3), True)),
    "relu": _of(F.relu),
    "sigmoid": _of(torch.sigmoid),
    "exp": _of(torch.exp),
    "exp10": _of(lambda x: torch.pow(10.0, x)),
    "log": _of(torch.log),
    "softmax": _of(lambda x: torch.softmax(x, 1)),
    "l2_normalize": _of(lambda x: x / (torch.sqrt((x * x).sum(1, True)) + 1e-5)),
    **{op: _binary(getattr(operator, name)) for op, name in (("add", "add"), ("sub", "sub"), ("mul", "mul"))},
    "div": _binary(operator.truediv),
    "concat": lambda writer, node, ins: torch.cat(ins, 1),
    "pad": _pad,
    "slice_channels": lambda writer, node, ins: ins[0][:, node.attrs["start"] : node.attrs["stop"]],
    "argmax": _of(lambda x: torch.argmax(x, 1, True)),
    "compare": _compare,
    "logical_not": _of(operator.invert),
    "to_float": _of(lambda m: m.float()),
    "gate": _gate,
    "select": _select,
    "blend": _blend,
    "masked": _of(lambda x, mask: torch.where(mask, x, 0.0)),
}
