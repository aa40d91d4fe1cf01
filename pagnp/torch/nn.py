"""PAG networks to train: gates, gated blocks, MultiPool and `pag_resnet`, ordinary nn.Modules.

The names in a state_dict are torchvision's where torchvision has the layer (conv1, bn1, layer1.0.conv1, ...,
layer1.0.downsample.0), and: layer1.0.gate.conv, layer4.1.multipool.branches.<i>.conv and .bn,
layer4.1.multipool.attention.conv1 ..., res6.conv, heads.<name>.conv1 ...

A step of training (examples/training/course.py has a whole one):

    model = pag_resnet(depth=26, width=0.25, heads={"labels": {"task": "segmentation", "classes": 13}})
    set_gate_mode(model, "gumbel_hard")     # noisy decisions, straight-through gradients; first "open" for a while
    set_temperature(model, 0.7)             # from 1 downwards
    out = model(x)                          # {"labels": logits at 1/8 of x}
    loss = losses.segmentation_loss(losses.upsample(out["labels"], labels.shape[-2:]), labels)
    loss = loss + 0.1 * losses.sparsity_loss(gate_probabilities(model), rho=0.6)

`model.eval()` decides by z[1] > z[0], without noise; `keep_rates(model)` then tells the true shares of the last
forward. Look at them while training: soft probabilities that are all rho satisfy the sparsity loss as well.
"""

from typing import Unpack

import torch

from pagnp.nn.spec import ResNetOptions, ResNetSpec, resnet_spec
from pagnp.torch.blocks import Bottleneck, ConvNormReLU, GatedBottleneck, Head, MultiPool
from pagnp.torch.gates import (
    GateUnit,
    PAGGate,
    Select,
    gate_probabilities,
    gates,
    keep_rates,
    set_gate_mode,
    set_temperature,
)

__all__ = [
    "Bottleneck",
    "GateUnit",
    "GatedBottleneck",
    "Head",
    "MultiPool",
    "PAGGate",
    "PAGResNet",
    "Select",
    "gate_probabilities",
    "gates",
    "keep_rates",
    "pag_resnet",
    "set_gate_mode",
    "set_temperature",
]


class PAGResNet(torch.nn.Module):
    """A bottleneck ResNet with gates, built from a ResNetSpec.

    x        (n, in_channels, h, w) float32, already normalised
    returns  {head: logits (n, channels, ceil(h / output_stride), ceil(w / output_stride))}
    """

    layer1: torch.nn.Sequential
    layer2: torch.nn.Sequential
    layer3: torch.nn.Sequential
    layer4: torch.nn.Sequential

    def __init__(self, spec: ResNetSpec) -> None:
        super().__init__()
        self.spec = spec
        self.conv1 = torch.nn.Conv2d(spec.in_channels, spec.stem, 7, stride=2, padding=3, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(spec.stem)
        self.relu = torch.nn.ReLU()
        self.maxpool = torch.nn.MaxPool2d(3, stride=2, padding=1)
        stages: dict[str, list[torch.nn.Module]] = {}
        for block in spec.blocks:
            stages.setdefault(block.name.split(".")[0], []).append(_block(block, spec))
        for name, blocks in stages.items():
            self.add_module(name, torch.nn.Sequential(*blocks))
        self.res6 = ConvNormReLU(spec.blocks[-1].c_out, spec.res6) if spec.res6 else None
        self.heads = torch.nn.ModuleDict({h.name: Head(spec.c_features, h.hidden, h.channels) for h in spec.heads})
        self.apply(_initialise)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
        if self.res6 is not None:
            x = self.res6(x)
        return {name: head(x) for name, head in self.heads.items()}


def _block(block, spec):
    """Build one bottleneck: plain, gated, or with a MultiPool."""
    gate = {"form": spec.gate.form, "temperature": spec.gate.temperature, "index": block.gate_index}
    shape = (block.c_in, block.mid, block.stride, block.dilation, spec.stride_on)
    if block.gated:
        return GatedBottleneck(*shape, mode=spec.gate.mode, blur=spec.gate.blur, bias=spec.gate.bias, **gate)
    if block.multipool is None:
        return Bottleneck(*shape)
    pool = block.multipool
    return Bottleneck(
        *shape,
        multipool=MultiPool(block.mid, pool.rates, hidden=pool.hidden, mode=pool.mode, tied=pool.tied, **gate),
    )


def _initialise(module):
    # He et al. 2015. The convs with a bias are gates, which start open, and logits, which keep torch's own start.
    if isinstance(module, torch.nn.Conv2d) and module.bias is None:
        torch.nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def pag_resnet(**options: Unpack[ResNetOptions]) -> PAGResNet:
    """Build a PAGResNet; the options are those of `pagnp.nn.spec.resnet_spec`, and of `pagnp.nn.pag_resnet`.

    depth=50, width=1.0, gated="all", multipool=None, output_stride=8, stride_on="conv1", heads (needed), res6=False,
    in_channels=3, gate_mode="hard", gate_form="kong2018", gate_temperature=1.0, gate_blur=False, gate_bias=1.0
    returns  PAGResNet: forward (n, c, h, w) -> {head: logits at 1/output_stride}
    Raises:  UsageError naming the argument.
    """
    return PAGResNet(resnet_spec(**options))
