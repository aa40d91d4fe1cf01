"""The blocks of a PAG ResNet as nn.Modules: bottleneck, gated bottleneck, MultiPool, head."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from pagnp.nn.spec import StrideOn, check_rates
from pagnp.torch.gates import GateUnit, PAGGate, Select
from pagnp.types import GateForm, GateMode


class Bottleneck(nn.Module):
    """The ResNet bottleneck: 1x1, 3x3 (or a MultiPool in its place), 1x1, plus the shortcut.

    x        (n, c_in, h, w)
    returns  (n, 4 * mid, h_out, w_out)
    stride_on  "conv1": the stride is on the first 1x1 (Caffe); "conv2": on the 3x3 (torchvision)
    """

    def __init__(
        self,
        c_in: int,
        mid: int,
        stride: int = 1,
        dilation: int = 1,
        stride_on: StrideOn = "conv1",
        multipool: "MultiPool | None" = None,
    ) -> None:
        super().__init__()
        stride1, stride2 = (stride, 1) if stride_on == "conv1" else (1, stride)
        self.conv1 = nn.Conv2d(c_in, mid, 1, stride=stride1, bias=False)
        self.bn1 = nn.BatchNorm2d(mid)
        self.relu1 = nn.ReLU()
        if multipool is None:
            self.conv2 = nn.Conv2d(mid, mid, 3, stride2, padding=dilation, dilation=dilation, bias=False)
            self.bn2 = nn.BatchNorm2d(mid)
            self.relu2 = nn.ReLU()
        self.multipool = multipool
        self.conv3 = nn.Conv2d(mid, 4 * mid, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * mid)
        self.downsample = None
        if stride != 1 or c_in != 4 * mid:
            shortcut = nn.Conv2d(c_in, 4 * mid, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(4 * mid))
        self.relu3 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x1 = self.relu1(self.bn1(self.conv1(x)))
        shortcut = x if self.downsample is None else self.downsample(x)
        out = self.bn3(self.conv3(self.middle(x, x1)))
        return self.relu3(out + shortcut)

    def middle(self, x: Tensor, x1: Tensor) -> Tensor:
        """Return what the last 1x1 reads: the 3x3's result, or the MultiPool's."""
        if self.multipool is not None:
            return self.multipool(x1)
        return self.relu2(self.bn2(self.conv2(x1)))


class GatedBottleneck(Bottleneck):
    """A bottleneck whose 3x3 runs only where the gate says so; a skipped pixel carries x1 on (PAG.md section 1).

    The gate reads the block's INPUT with the block's stride. With stride_on "conv2" it lives on the output grid and
    a skipped pixel carries x1[s*oy, s*ox].
    gate  options of PAGGate: blur, bias, mode, form, temperature, index
    """

    def __init__(
        self,
        c_in: int,
        mid: int,
        stride: int = 1,
        dilation: int = 1,
        stride_on: StrideOn = "conv1",
        **gate: Any,
    ) -> None:
        super().__init__(c_in, mid, stride, dilation, stride_on)
        self.gate = PAGGate(c_in, stride, **gate)
        self.select = Select()
        self.carry_stride = self.conv2.stride[0]

    def middle(self, x: Tensor, x1: Tensor) -> Tensor:
        control = self.gate(x)
        x2 = self.relu2(self.bn2(self.conv2(x1)))
        s = self.carry_stride
        carried = x1 if s == 1 else x1[:, :, ::s, ::s]
        return self.select(control, carried, x2)


class SharedConv(nn.Module):
    """A dilated 3x3 whose weight comes with the call: the tied branches of a MultiPool."""

    def __init__(self, rate: int) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor, weight: Tensor) -> Tensor:
        return functional.conv2d(x, weight, padding=self.rate, dilation=self.rate)


class PoolBranch(nn.Module):
    """One branch of a MultiPool: conv3x3 with dilation `rate`, bn, relu."""

    def __init__(self, mid: int, rate: int, tied: bool) -> None:
        super().__init__()
        self.conv = SharedConv(rate) if tied else nn.Conv2d(mid, mid, 3, padding=rate, dilation=rate, bias=False)
        self.bn = nn.BatchNorm2d(mid)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor, *weight: Tensor) -> Tensor:
        return self.relu(self.bn(self.conv(x, *weight)))


class PoolAttention(nn.Module):
    """The attention head of a MultiPool: 1x1 bn relu, 3x3 bn relu, 1x1 with bias -> one logit a branch."""

    def __init__(self, mid: int, hidden: Sequence[int], branches: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(mid, hidden[0], 1, bias=False)
        self.bn1 = nn.BatchNorm2d(hidden[0])
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(hidden[0], hidden[1], 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(hidden[1])
        self.relu2 = nn.ReLU()
        self.conv3 = nn.Conv2d(hidden[1], branches, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu1(self.bn1(self.conv1(x)))
        return self.conv3(self.relu2(self.bn2(self.conv2(x))))


class MultiPool(nn.Module):
    """Choose per pixel which dilation rate sees it (PAG.md section 3).

    x        (n, mid, h, w)
    returns  the same shape; mode hard: one branch a pixel, soft: the weighted sum of all
    rates    one branch each, in the attention head's channel order; rate 0 copies x
    hidden   widths of the attention head's two hidden convs
    tied     one 3x3 weight for all rates (norms stay per branch)
    """

    def __init__(
        self,
        mid: int,
        rates: Sequence[int],
        *,
        hidden: Sequence[int] = (128, 32),
        mode: GateMode = "hard",
        tied: bool = False,
        form: GateForm = "kong2018",
        temperature: float = 1.0,
        index: int | None = None,
    ) -> None:
        super().__init__()
        rates = check_rates(rates)
        self.attention = PoolAttention(mid, hidden, len(rates))
        self.unit = GateUnit(mode, form, temperature, index, rates)
        self.conv = nn.Conv2d(mid, mid, 3, padding=1, bias=False) if tied else None  # only its weight is used
        self.branches = nn.ModuleList(PoolBranch(mid, rate, tied) if rate else nn.Identity() for rate in rates)
        self.select = Select()

    def forward(self, x: Tensor) -> Tensor:
        control = self.unit(self.attention(x))
        weight = () if self.conv is None else (self.conv.weight,)
        results = [x if isinstance(b, nn.Identity) else b(x, *weight) for b in self.branches]
        return self.select(control, *results)


class ConvNormReLU(nn.Module):
    """conv3x3, bn, relu (res6)."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(c_out)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.bn(self.conv(x)))


class Head(nn.Module):
    """A task's head: conv1x1 bn relu, then conv3x3 bn relu for each further hidden width, then conv1x1 with bias."""

    def __init__(self, c_in: int, hidden: Sequence[int], channels: int) -> None:
        super().__init__()
        self.depth = len(hidden)
        for i, width in enumerate(hidden, start=1):
            kernel = 1 if i == 1 else 3
            self.add_module(f"conv{i}", nn.Conv2d(c_in, width, kernel, padding=kernel // 2, bias=False))
            self.add_module(f"bn{i}", nn.BatchNorm2d(width))
            self.add_module(f"relu{i}", nn.ReLU())
            c_in = width
        self.add_module(f"conv{self.depth + 1}", nn.Conv2d(c_in, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        for i in range(1, self.depth + 1):
            for kind in ("conv", "bn", "relu"):
                x = getattr(self, f"{kind}{i}")(x)
        return getattr(self, f"conv{self.depth + 1}")(x)
