"""Training losses of PAG.md section 5: sparsity of the gates, and one loss for each task.

Logits are (n, c, h, w); targets have no channel axis except normals. Every loss returns a scalar tensor.
"""

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from pagnp.errors import UsageError
from pagnp.types import Size

SPARSITY_FORMS = ("kl", "kl_doubled", "mild")
SparsityForm: TypeAlias = Literal["kl", "kl_doubled", "mild"]


def sparsity(m: Tensor, rho: float, form: SparsityForm = "kl") -> Tensor:
    """Return how far a keep share `m` (scalar tensor in 0..1) is from the target rate `rho` (0..1).

    kl          rho ln(rho/m) + (1-rho) ln((1-rho)/(1-m))
    kl_doubled  twice that: the authors' code adds the skip channel's term too
    mild        ln(1 + (m0-(1-rho))^2) + ln(1 + (m1-rho)^2), m1 = m, m0 = 1-m
    """
    if form not in SPARSITY_FORMS:
        raise UsageError(f"sparsity: form '{form}' is unknown; choose one of {', '.join(SPARSITY_FORMS)}")
    if not 0 <= rho <= 1:
        raise UsageError(f"sparsity: target rate {rho} is outside 0..1")
    if form == "mild":
        return torch.log1p(((1 - m) - (1 - rho)) ** 2) + torch.log1p((m - rho) ** 2)
    # A gate that is fully shut or open keeps a finite loss, and a gradient by which it can come back.
    m = m + (m.clamp(1e-6, 1 - 1e-6) - m).detach()
    loss = m.new_zeros(())
    if rho > 0:
        loss = loss + rho * (math.log(rho) - torch.log(m))
    if rho < 1:
        loss = loss + (1 - rho) * (math.log(1 - rho) - torch.log(1 - m))
    return 2 * loss if form == "kl_doubled" else loss


def sparsity_loss(
    probabilities: Sequence[Tensor],
    rho: float | Sequence[float] | Tensor,
    form: SparsityForm = "kl",
    budget: Literal["gate", "global"] = "gate",
    weights: Sequence[float] | Tensor | None = None,
) -> Tensor:
    """Return the sparsity loss of a network's gates.

    probabilities  P(compute) maps (n, h, w) of each gate: `gate_probabilities(model)`
    rho            target share of computed pixels; one number, or one a gate (budget "gate")
    budget         "gate": the mean over gates of each gate's loss; "global": one loss on the mean over the pixels
                   of all gates, each pixel weighing its gate's weight
    weights        one weight a gate (its MACs a pixel, say); None: all 1
    returns        scalar tensor with a gradient to the gates' logits
    Raises:        UsageError if there is no gate, or not one rho or weight a gate
    """
    if not probabilities:
        raise UsageError("sparsity_loss: no gates; gate_probabilities needs a forward of a gated model first")
    weights = _one_a_gate("weights", 1.0 if weights is None else weights, len(probabilities))
    if budget == "global":
        if not _is_number(rho):
            raise UsageError('sparsity_loss: a global budget has one rho; a list of them goes with budget "gate"')
        total = sum(w * p.numel() for w, p in zip(weights, probabilities, strict=True))
        kept = sum(w * p.sum() for w, p in zip(weights, probabilities, strict=True)) / total
        return sparsity(kept, _one_a_gate("rho", rho, 1)[0], form)
    if budget != "gate":
        raise UsageError(f"sparsity_loss: budget '{budget}' is unknown; choose gate or global")
    rhos = _one_a_gate("rho", rho, len(probabilities))
    each = [sparsity(p.mean(), r, form) for p, r in zip(probabilities, rhos, strict=True)]
    return sum(w * loss for w, loss in zip(weights, each, strict=True)) / sum(weights)


def _one_a_gate(name, given, count):
    """Return `given` as a list of floats with an entry a gate; a number serves all."""
    values = [float(given)] * count if _is_number(given) else [float(value) for value in given]
    if len(values) != count:
        raise UsageError(f"sparsity_loss: {len(values)} {name} for {count} gates; give one a gate")
    return values


def _is_number(given):
    return isinstance(given, (int, float)) or getattr(given, "ndim", None) == 0


def upsample(logits: Tensor, size: Size) -> Tensor:
    """Bring logits to (h, w) as a `bilinear` half-pixel head does."""
    return functional.interpolate(logits, size=tuple(size), mode="bilinear", align_corners=False)


def segmentation_loss(
    logits: Tensor, labels: Tensor, ignore_index: int = 255, class_weights: Tensor | None = None
) -> Tensor:
    """Return the mean cross-entropy, 0 if all is ignored; logits (n, C, h, w), labels int64 (n, h, w)."""
    loss = functional.cross_entropy(logits, labels, weight=class_weights, ignore_index=ignore_index, reduction="sum")
    known = labels != ignore_index
    if class_weights is None:
        total = known.sum()
    else:
        total = torch.where(known, class_weights[torch.where(known, labels, 0)], 0.0).sum()
    # torch's own mean of nothing is NaN, and would spoil the weights; to ask first would make a GPU wait.
    return loss / torch.where(total > 0, total, 1)


def depth_loss(log_depth: Tensor, depth: Tensor, valid: Tensor | None = None, base: float = math.e) -> Tensor:
    """Return the mean squared error in log space; log_depth (n, 1, h, w), depth (n, h, w) above 0 where valid.

    valid  bool (n, h, w), None: where depth > 0
    base   e for a head decoded by exp, 10 for exp10
    """
    valid = depth > 0 if valid is None else valid
    target = torch.log(torch.where(valid, depth, torch.ones_like(depth))) / math.log(base)
    return _masked_mean((log_depth[:, 0] - target) ** 2, valid)


def normals_loss(normals: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
    """Return the mean of 1 - cos + acos(cos) between predicted and true directions.

    normals  (n, 3, h, w), any length;  target (n, 3, h, w), unit length;  valid bool (n, h, w) or None
    """
    length = torch.sqrt((normals**2).sum(dim=1, keepdim=True) + 1e-12)  # the root has no gradient at 0
    cosine = (normals / (length + 1e-5) * target).sum(dim=1)
    angle = torch.acos(cosine.clamp(-1 + 1e-5, 1 - 1e-5))  # acos has no finite gradient at 1
    valid = torch.ones_like(cosine, dtype=torch.bool) if valid is None else valid
    return _masked_mean(1 - cosine + angle, valid)


def boundary_loss(logits: Tensor, boundary: Tensor, valid: Tensor | None = None) -> Tensor:
    """Return the class-balanced logistic loss (Xie and Tu 2015): boundary pixels weigh the share of the others.

    logits  (n, 1, h, w);  boundary float or bool (n, h, w) in 0..1;  valid bool (n, h, w) or None
    """
    target = boundary.to(logits.dtype)
    valid = torch.ones_like(target, dtype=torch.bool) if valid is None else valid
    positive = _masked_mean(target, valid)
    weight = target * (1 - positive) + (1 - target) * positive
    loss = functional.binary_cross_entropy_with_logits(logits[:, 0], target, reduction="none")
    return _masked_mean(weight * loss, valid)


def _masked_mean(values, valid):
    """Mean over the valid pixels; 0 when there are none (values elsewhere may be anything but must not reach it)."""
    kept = torch.where(valid, values, torch.zeros_like(values))
    return kept.sum() / valid.sum().clamp(min=1)
