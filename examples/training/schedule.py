"""What is due at a share of a course: learning rate, gate mode, temperature, pressure on the gates."""

import math
from dataclasses import dataclass

from .config import Stage


@dataclass(frozen=True)
class Plan:
    """The settings of one step."""

    lr: float
    mode: str
    temperature: float
    sparsity: float


def plan(progress: float, stage: Stage, gated: bool) -> Plan:
    """Return the settings at that share (0..1) of the course."""
    lr = learning_rate(progress, stage)
    if not gated or progress < stage.open:
        return Plan(lr, "open", 1.0, 0.0)
    first, last = stage.temperature
    if progress < stage.noisy:
        share = (progress - stage.open) / (stage.noisy - stage.open)
        # The pressure grows over the first fifth: gates that must close at once close anywhere.
        return Plan(lr, "gumbel_hard", first * (last / first) ** share, stage.sparsity * min(1.0, 5 * share))
    return Plan(lr, "hard", last, stage.sparsity)


def learning_rate(progress: float, stage: Stage) -> float:
    """Return the learning rate: linear warm-up, then cosine or poly, never under a thousandth of the peak."""
    if stage.schedule == "poly":
        fall = max(0.0, 1 - progress) ** 0.9  # Chen et al. 2017 (DeepLab)
    else:
        fall = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    rise = min(1.0, (progress + 1e-4) / stage.warmup) if stage.warmup else 1.0
    return stage.lr * rise * max(fall, 1e-3)
