"""The Gumbel unit (PAG.md section 2): noise, noisy softmax, and the straight-through estimator."""

import torch
from torch import Tensor

from pagnp.types import GateForm


def gumbel_noise(z: Tensor, form: GateForm = "kong2018") -> Tensor:
    """Draw Gumbel(0, 1) noise, float32 or wider, of z's shape and device from torch's generator.

    Logits may be bfloat16 (autocast): a uniform number of that type would have 256 values, with 0 among them.
    form  kong2018: u = (rand + 1e-5) / 1.001, as in the authors' GumbelNoisySoftMax; torch: u in (0, 1), no clamp
    """
    dtype = torch.promote_types(z.dtype, torch.float32)
    u = torch.rand_like(z, dtype=dtype)
    if form == "kong2018":
        u = (u + 1e-5) / 1.001
    else:
        u = u.clamp_(min=torch.finfo(dtype).tiny)  # log(0) would be -inf
    return -torch.log(-torch.log(u))


def noisy_logits(z: Tensor, noise: Tensor, form: GateForm = "kong2018") -> Tensor:
    """Return the logits with their noise, before temperature: log(c) + g (kong2018) or z + g (torch).

    z, noise  (n, K, h, w); noise may broadcast
    """
    if form == "kong2018":
        clamped = (torch.softmax(z, dim=1) + 1e-3) / 1.001
        return torch.log(clamped) + noise
    return z + noise


def first_maximum(y: Tensor) -> Tensor:
    """Return the one-hot of the first maximum of `y` over channels, without gradient. (n, K, h, w)"""
    # torch.argmax does not promise which of equal maxima it takes; the gate's rule is the first.
    best = y.detach().max(dim=1, keepdim=True).values
    reached = (y.detach() >= best).to(torch.int32)
    return ((reached.cumsum(dim=1) == 1) & (reached == 1)).to(y.dtype)


def straight_through(p: Tensor, y: Tensor) -> Tensor:
    """Return one-hot(first maximum of y) in the forward pass, with the gradient of `p` in the backward pass.

    p, y  (n, K, h, w): the soft decision and what the hard one is taken from
    """
    # p - p.detach() is exactly zero, so the forward value is exactly 0 or 1.
    return first_maximum(y) + (p - p.detach())
