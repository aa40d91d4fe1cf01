"""The blocks of a PAG ResNet as functions that add nodes: bottleneck, gated bottleneck, MultiPool, head.

Node and weight names are those of `pagnp.torch.nn`; `s` is the scope, as in "layer1.0".
"""

from typing import Any

import numpy as np

from pagnp.nn.builder import GraphBuilder
from pagnp.nn.spec import BlockSpec, GateSpec, HeadSpec, MultiPoolSpec, StrideOn
from pagnp.types import Pair

# gamma of the last norm of a residual block: sixteen of them added up stay of the input's order
RESIDUAL_GAIN = 0.3


def conv_norm_relu(
    g: GraphBuilder,
    x: str,
    c_out: int,
    *,
    conv: str,
    norm: str,
    relu: str,
    kernel: int,
    stride: Pair = 1,
    dilation: int = 1,
    shared: str | None = None,
) -> str:
    """conv (padded so that stride 1 keeps the size), norm, relu, under the three given names."""
    padding = dilation * (kernel // 2)
    x = g.conv(x, c_out, kernel=kernel, stride=stride, padding=padding, dilation=dilation, shared=shared, name=conv)
    return g.relu(g.norm(x, name=norm), name=relu)


def bottleneck(g: GraphBuilder, x: str, block: BlockSpec, stride_on: StrideOn, gate: GateSpec) -> str:
    """Add one bottleneck (PAG.md section 1).

    block      BlockSpec: plain, gated, or with a MultiPool
    stride_on  "conv1" or "conv2"
    gate       GateSpec
    """
    s, mid = block.name, block.mid
    stride1, stride2 = (block.stride, 1) if stride_on == "conv1" else (1, block.stride)
    x1 = conv_norm_relu(g, x, mid, conv=f"{s}.conv1", norm=f"{s}.bn1", relu=f"{s}.relu1", kernel=1, stride=stride1)
    shortcut = x
    if block.downsample:
        shortcut = g.conv(x, block.c_out, kernel=1, stride=block.stride, gain=1.0, name=f"{s}.downsample.0")
        shortcut = g.norm(shortcut, name=f"{s}.downsample.1")
    if block.multipool:
        y = multipool(g, x1, block.multipool, gate, block.gate_index, f"{s}.multipool")
    else:
        y = _middle(g, x, x1, block, stride2, gate)
    y = g.norm(g.conv(y, block.c_out, kernel=1, name=f"{s}.conv3"), name=f"{s}.bn3", gain=RESIDUAL_GAIN)
    return g.relu(g.add(y, shortcut, name=f"{s}.add"), name=f"{s}.relu3")


def _middle(g, x, x1, block, stride, gate):
    """The 3x3 of a bottleneck; if gated, only where the gate on the block's input `x` says so."""
    s = block.name
    mask = pag_gate(g, x, block.stride, gate, block.gate_index, f"{s}.gate") if block.gated else None
    x2 = conv_norm_relu(
        g,
        x1,
        block.mid,
        conv=f"{s}.conv2",
        norm=f"{s}.bn2",
        relu=f"{s}.relu2",
        kernel=3,
        stride=stride,
        dilation=block.dilation,
    )
    if mask is None:
        return x2
    # With the stride on the 3x3 a skipped pixel carries x1[s*oy, s*ox]: a pooling over one pixel.
    carried = x1 if stride == 1 else g.max_pool(x1, kernel=1, stride=stride, name=f"{s}.max_pool2d")
    return g.select(mask, (carried, x2), name=f"{s}.select")


def pag_gate(g: GraphBuilder, x: str, stride: int, gate: GateSpec, index: int | None, name: str) -> str:
    """Add a PAG unit on the block's input: conv1x1 -> 2 logits, optional 3x3 box mean, decision."""
    z = g.conv(x, 2, kernel=1, stride=stride, bias=True, name=f"{name}.conv")
    _centre(g, f"{name}.conv", [-gate.bias, gate.bias])
    if gate.blur:
        g.weight(f"{name}.blur.weight", np.full((2, 1, 3, 3), np.float32(1 / 9)))
        z = g.conv(z, 2, kernel=3, padding=1, groups=2, shared=f"{name}.blur.weight", name=f"{name}.blur")
    return g.gate(z, name=name, mode=gate.mode, form=gate.form, temperature=gate.temperature, index=index)


def multipool(g: GraphBuilder, x: str, spec: MultiPoolSpec, gate: GateSpec, index: int | None, name: str) -> str:
    """Add a MultiPool (PAG.md section 3): attention head, one dilated 3x3 a rate, and the choice per pixel."""
    z = x
    for i, (width, kernel) in enumerate(zip(spec.hidden, (1, 3), strict=True), start=1):
        layer: dict[str, Any] = {role: f"{name}.attention.{role_name}{i}" for role, role_name in _ROLES}
        z = conv_norm_relu(g, z, width, kernel=kernel, **layer)
    z = g.conv(z, len(spec.rates), kernel=1, bias=True, name=f"{name}.attention.conv3")
    _centre(g, f"{name}.attention.conv3", [0.0] * len(spec.rates))
    choice = g.gate(
        z, name=name, mode=spec.mode, form=gate.form, temperature=gate.temperature, rates=spec.rates, index=index
    )
    shared = f"{name}.conv.weight" if spec.tied else None
    branches = []
    for i, rate in enumerate(spec.rates):
        layer = {role: f"{name}.branches.{i}.{role_name}" for role, role_name in _ROLES}
        wide: dict[str, Any] = {"kernel": 3, "dilation": rate, "shared": shared}
        branches.append(conv_norm_relu(g, x, g.channels[x], **wide, **layer) if rate else x)
    return g.select(choice, branches, name=f"{name}.select")


_ROLES = (("conv", "conv"), ("norm", "bn"), ("relu", "relu"))


def _centre(g, name, bias):
    """Give a decision's conv rows that sum to zero and the bias `bias`.

    Inputs are behind a relu, so all positive: an uncentred random row would decide alike for every pixel.
    """
    weight = g.graph.weights[f"{name}.weight"]
    weight -= weight.mean(axis=1, keepdims=True)
    g.graph.weights[f"{name}.bias"][:] = bias


def head(g: GraphBuilder, x: str, spec: HeadSpec) -> str:
    """Add a task's head: conv1x1, then 3x3s, each with norm and relu, then conv1x1 with bias."""
    name = f"heads.{spec.name}"
    for i, width in enumerate(spec.hidden, start=1):
        layer: dict[str, Any] = {role: f"{name}.{role_name}{i}" for role, role_name in _ROLES}
        x = conv_norm_relu(g, x, width, kernel=1 if i == 1 else 3, **layer)
    return g.conv(x, spec.channels, kernel=1, bias=True, name=f"{name}.conv{len(spec.hidden) + 1}")
