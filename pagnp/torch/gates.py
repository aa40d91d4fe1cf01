"""Gates as nn.Modules: the decision itself, the PAG unit around it, and how its answer picks a branch."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from pagnp.errors import UsageError
from pagnp.nn.spec import GateSpec
from pagnp.opset import GATE_MODES
from pagnp.torch.gumbel import first_maximum, gumbel_noise, noisy_logits, straight_through
from pagnp.types import GateForm, GateMode

TRAIN_MODES = ("open", *GATE_MODES)
TrainMode: TypeAlias = Literal["open"] | GateMode


class GateUnit(nn.Module):
    """Decide from K logits per pixel. The decision alone: it has no parameters.

    z        (n, K, h, w) float32
    returns  eval, mode hard:  bool (n, 1, h, w), z[1] > z[0]; or, with `rates`, int64 (n, 1, h, w), the first maximum
             eval, soft modes: probabilities (n, K, h, w)
             training:         (n, K, h, w); one-hot with the gradient of the soft decision in the hard modes

    `mode` is what eval does and what is exported; `train_mode` what training does: one of the modes, or "open"
    (2-way gates compute every pixel; MultiPool is soft). After each forward, `probability` is softmax(z) with its
    gradient, `sample` the noisy soft decision of training, `scores` what the decision was
    taken from (the logits, with their noise in the gumbel modes), and `chosen` the hard decision as one-hot.
    `gate_index` names the gate's noise stream in the model file; None: export gives it the next free number.
    """

    probability: Tensor | None
    sample: Tensor | None
    scores: Tensor | None
    chosen: Tensor | None

    def __init__(
        self,
        mode: GateMode = "hard",
        form: GateForm = "kong2018",
        temperature: float = 1.0,
        gate_index: int | None = None,
        rates: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        GateSpec(mode, form, temperature)  # raises UsageError on unknown values
        self.mode, self.form, self.temperature = mode, form, temperature
        self.gate_index = gate_index
        self.rates = None if rates is None else tuple(rates)
        self.train_mode: TrainMode = "gumbel_hard" if mode == "hard" else mode
        self.noise_source: Callable[[GateUnit, Tensor], Tensor] | None = (
            None  # callable (unit, z) -> noise, in place of torch's generator
        )
        self.probability = self.sample = self.chosen = self.scores = None

    def __getstate__(self) -> dict[str, Any]:
        # Maps kept from the last forward belong to its autograd graph: they can be neither copied nor pickled.
        return {**self.__dict__, "probability": None, "sample": None, "chosen": None, "scores": None}

    def extra_repr(self) -> str:
        rates = "" if self.rates is None else f", rates={list(self.rates)}"
        return f"mode={self.mode}, form={self.form}, gate_index={self.gate_index}{rates}"

    def forward(self, z: Tensor) -> Tensor:
        mode = self.train_mode if self.training else self.mode
        p = torch.softmax(z, dim=1)
        self.probability, self.sample = p, p
        if mode == "open":
            return self._open(p)
        y = z
        if mode.startswith("gumbel"):
            noise = self.noise_source(self, z) if self.noise_source else gumbel_noise(z, self.form)
            y = noisy_logits(z, noise, self.form)
            self.sample = torch.softmax(y / self.temperature, dim=1)
        self.scores = y.detach()
        hard = straight_through(self.sample, y)
        self.chosen = hard.detach()
        if not mode.endswith("hard"):
            return self.sample
        return hard if self.training else self._decision(y)

    def _open(self, p):
        if self.rates is not None:
            self.chosen = first_maximum(p)
            return p
        control = torch.stack((torch.zeros_like(p[:, 0]), torch.ones_like(p[:, 0])), dim=1)
        self.chosen = control
        return control

    def _decision(self, y):
        if self.rates is not None:
            return self.chosen.argmax(dim=1, keepdim=True)
        return y[:, 1:2] > y[:, 0:1]  # a tie and NaN skip


class Select(nn.Module):
    """Pick or blend branches per pixel by what a GateUnit returned.

    control   bool or int64 (n, 1, h, w), or weights (n, K, h, w)
    branches  K tensors (n, c, h, w); with a mask branches[0] where False, branches[1] where True
    """

    def forward(self, control: Tensor, *branches: Tensor) -> Tensor:
        if control.dtype == torch.bool:
            return torch.where(control, branches[1], branches[0])
        return mix(control, branches) if control.is_floating_point() else pick(control, branches)


def pick(index: Tensor, branches: Sequence[Tensor]) -> Tensor:
    """Return at each pixel the branch (n, c, h, w) that `index` (n, 1, h, w) names."""
    y = branches[0]
    for k, branch in enumerate(branches[1:], start=1):
        y = torch.where(index == k, branch, y)
    return y


def mix(p: Tensor, branches: Sequence[Tensor]) -> Tensor:
    """Return the sum of the branches (n, c, h, w), each times its channel of p (n, K, h, w), in their order."""
    y = p[:, 0:1] * branches[0]
    for k, branch in enumerate(branches[1:], start=1):
        y = y + p[:, k : k + 1] * branch
    return y


class BoxMean(nn.Module):
    """Fixed 3x3 box mean of each channel, zero padding, no renormalisation at the border ("gauss_blur")."""

    weight: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.full((channels, 1, 3, 3), 1 / 9))

    def forward(self, z: Tensor) -> Tensor:
        return nn.functional.conv2d(z, self.weight, padding=1, groups=self.weight.shape[0])


class PAGGate(nn.Module):
    """A Pixel-wise Attentional Gate: conv1x1 -> 2 logits (0 skip, 1 compute) -> decision.

    x        (n, c_in, h, w); `stride` as the gated block's
    returns  what GateUnit returns: in eval mode "hard" a bool mask (n, 1, h_out, w_out)
    Source:  Kong and Fowlkes 2019, section 3; PAG.md sections 1 and 2.
    """

    def __init__(
        self,
        c_in: int,
        stride: int = 1,
        *,
        blur: bool = False,
        bias: float = 1.0,
        mode: GateMode = "hard",
        form: GateForm = "kong2018",
        temperature: float = 1.0,
        index: int | None = None,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, 2, 1, stride=stride)
        self.blur = BoxMean(2) if blur else None
        self.unit = GateUnit(mode, form, temperature, index)
        # Small weights and a bias towards computing: training starts from the ungated network.
        nn.init.normal_(self.conv.weight, std=0.01)
        with torch.no_grad():
            self.conv.bias.copy_(torch.tensor([-bias, bias]))  # type: ignore[union-attr]

    def forward(self, x: Tensor) -> Tensor:
        z = self.conv(x)
        if self.blur is not None:
            z = self.blur(z)
        return self.unit(z)


def gates(model: nn.Module) -> dict[str, PAGGate]:
    """Return {name: PAGGate} of a model, in order of construction."""
    return {name: module for name, module in model.named_modules() if isinstance(module, PAGGate)}


def _units(model):
    return [module for module in model.modules() if isinstance(module, GateUnit)]


def set_temperature(model: nn.Module, temperature: float) -> None:
    """Set the Gumbel temperature of every gate and MultiPool."""
    for unit in _units(model):
        GateSpec(temperature=temperature)
        unit.temperature = float(temperature)


def set_gate_mode(model: nn.Module, mode: TrainMode) -> None:
    """Set what gates and MultiPools do in training: open, soft, hard, gumbel_soft or gumbel_hard. Eval is unchanged."""
    if mode not in TRAIN_MODES:
        raise UsageError(f"set_gate_mode: '{mode}' is unknown; choose one of {', '.join(TRAIN_MODES)}")
    for unit in _units(model):
        unit.train_mode = mode


def gate_probabilities(model: nn.Module, sampled: bool = False) -> list[Tensor]:
    """Return the soft P(compute) maps (n, h, w), one a gate, of the last forward, with their gradients.

    sampled  False: softmax of the logits, which is what the sparsity losses take; True: the noisy soft decision
    """
    units = [_after_forward(name, gate) for name, gate in gates(model).items()]
    return [(unit.sample if sampled else unit.probability)[:, 1] for unit in units]


def keep_rates(model: nn.Module) -> dict[str, float]:
    """Return {gate name: share of pixels that the last forward computed}, counted on the hard decision."""
    return {name: float(_after_forward(name, gate).chosen[:, 1].mean()) for name, gate in gates(model).items()}


def _after_forward(name, gate):
    if gate.unit.chosen is None:
        raise UsageError(f"gate '{name}' has decided nothing yet; call the model on an image first")
    return gate.unit
