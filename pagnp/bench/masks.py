"""Masks of an exact share of pixels, for gates that are told what to decide."""

from typing import Any

import numpy as np

from pagnp.errors import UsageError
from pagnp.graph import Graph
from pagnp.lower import Plan
from pagnp.types import Index, Mask, Tensor

KINDS = ("gates", "blobs", "random")  # "gates": no mask is given, the network's own gates decide, at a threshold
CELLS = 6  # blobs: coarse cells along the shorter side of a map
CERTAIN = np.float32(1e30)  # a logit that no network outweighs; z + CERTAIN is finite


def mask(kind: str, h: int, w: int, keep: float, seed: int) -> Mask:
    """Return a bool mask (h, w) with exactly round(keep * h * w) pixels True.

    kind  "random": pixels drawn one by one; "blobs": connected regions, as trained gates choose them
    """
    order = np.argsort(field(kind, h, w, seed), axis=None, kind="stable")
    out = np.zeros(h * w, np.bool_)
    out[order[: round(keep * h * w)]] = True
    return out.reshape(h, w)


def choice(kind: str, h: int, w: int, count: int, seed: int) -> Index:
    """Return an index (h, w) that picks each of `count` branches for an equal share of the pixels."""
    order = np.argsort(field(kind, h, w, seed), axis=None, kind="stable")
    out = np.empty(h * w, np.int32)
    out[order] = np.arange(h * w, dtype=np.int64) * count // (h * w)
    return out.reshape(h, w)


def field(kind: str, h: int, w: int, seed: int) -> np.ndarray[Any, Any]:
    """Return float64 noise (h, w): white for "random", smooth for "blobs"."""
    generator = np.random.Generator(np.random.PCG64(seed))
    if kind == "random":
        return generator.random((h, w))
    if kind != "blobs":
        raise UsageError(f"masks: '{kind}' is unknown; choose one of blobs, random")
    step = max(1, min(h, w) // CELLS)
    coarse = generator.random((-(-h // step) + 2, -(-w // step) + 2))
    return _between(_between(coarse, h, step).T, w, step).T


def _between(coarse, size, step):
    """Return `size` rows between those of `coarse`, `step` apart, joined by a smooth curve."""
    at = np.arange(size) / step
    first = at.astype(np.int64)
    part = (at - first)[:, None]
    part = part * part * (3 - 2 * part)
    return coarse[first] * (1 - part) + coarse[first + 1] * part


def forcing_noise(graph: Graph, plan: Plan, kind: str, keep: float, seed: int = 0) -> dict[str, Tensor]:
    """Return gate name -> noise (h', w', K) that makes the gates of a Gumbel run decide by `mask`.

    A gate in mode "gumbel_hard" compares logits plus noise; with noise this large the noise alone decides. So the
    network, its gates included, is computed as ever, through options that everybody has. A MultiPool gets no noise:
    it chooses for itself.
    Raises: UsageError if the graph has no two-way gate.
    """
    found = {}
    for number, node in enumerate(node for node in graph.nodes.values() if node.op == "gate"):
        z = plan.values[node.inputs[0]]
        noise = np.zeros(z.shape, np.float32)
        if not node.attrs.get("rates"):
            noise[..., 1] = np.where(mask(kind, z.h, z.w, keep, seed + number), CERTAIN, -CERTAIN)
        found[node.name] = noise
    if not any(noise.any() for noise in found.values()):
        raise UsageError("the network has no two-way gates; a keep rate needs them")
    return found
