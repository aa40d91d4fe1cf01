"""Whole-layer skipping, to compare PAG with: a gate decides for each block and image, as in ConvNet-AIG.

    w = hard(fc2(relu(bn(fc16(mean over the image)))));   out = relu(shortcut + w F(x))

Veit and Belongie 2018. Decisions, noise and target rates are those of the PAG gates: only what is skipped differs.
"""

import torch
from torch import Tensor, nn

from pagnp.torch.blocks import Bottleneck
from pagnp.torch.gates import GateUnit, PAGGate, Select
from pagnp.torch.nn import PAGResNet

HIDDEN = 16  # units of the gate's hidden layer, as in the paper


class BlockGate(PAGGate):
    """Decide from the mean over the image whether it is worth the block.

    x        (n, c_in, h, w)
    returns  as GateUnit, of size 1 x 1
    """

    def __init__(self, c_in: int, bias: float, index: int) -> None:
        nn.Module.__init__(self)
        self.conv1 = nn.Conv2d(c_in, HIDDEN, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(HIDDEN)
        self.relu1 = nn.ReLU()
        self.conv = nn.Conv2d(HIDDEN, 2, 1)
        self.unit = GateUnit(gate_index=index)
        nn.init.normal_(self.conv.weight, std=0.01)
        with torch.no_grad():
            self.conv.bias.copy_(torch.tensor([-bias, bias]))

    def forward(self, x: Tensor) -> Tensor:
        x = x.mean((2, 3), keepdim=True)
        return self.unit(self.conv(self.relu1(self.bn1(self.conv1(x)))))


class SkippedBottleneck(Bottleneck):
    """A bottleneck of which an image that is not worth it takes the shortcut alone."""

    gate: BlockGate
    select: Select

    def forward(self, x: Tensor) -> Tensor:
        control = self.gate(x)
        shortcut = x if self.downsample is None else self.downsample(x)
        out = self.bn3(self.conv3(self.middle(x, self.relu1(self.bn1(self.conv1(x))))))
        return self.relu3(self.select(control, shortcut, out + shortcut))


def skip_whole_blocks(net: PAGResNet, bias: float) -> None:
    """Give every block of a dense network such a gate."""
    taken = sum(isinstance(module, GateUnit) for module in net.modules())  # the noise streams of MultiPools
    for index, block in enumerate(net.spec.blocks, taken):
        stage, place = block.name.split(".")
        module = getattr(net, stage)[int(place)]
        module.__class__ = SkippedBottleneck  # its layers and their names stay as they are
        module.gate, module.select = BlockGate(block.c_in, bias, index), Select()
