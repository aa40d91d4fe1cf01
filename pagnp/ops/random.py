"""Counter-based random numbers and Gumbel noise."""

import math

import numpy as np

from pagnp.backends.base import BackendLike
from pagnp.errors import ShapeError, UsageError
from pagnp.ops import checks
from pagnp.ops.call import Call
from pagnp.ops.gate import FORMS
from pagnp.types import AnyWords, GateForm, Tensor, Words


def philox4x32(counter: AnyWords, key: AnyWords, *, backend: BackendLike = "numpy") -> Words:
    """Return Philox4x32-10 blocks.

    counter  (m, 4) uint32
    key      (2,) uint32
    returns  (m, 4) uint32

    Raises:   DtypeError, ShapeError.
    Source:   Salmon et al. 2011; equal to Random123's philox4x32x10.
    """
    call = Call("philox4x32", backend)
    counter = call.array("counter", counter, np.uint32, "(m, 4)")
    key = call.array("key", key, np.uint32, "(2,)")
    if counter.shape[1] != 4 or key.shape != (2,):
        raise ShapeError(f"philox4x32: counter {counter.shape}, key {key.shape}; need (m, 4) and (2,)")
    return call.fill(counter, key, shape=counter.shape, dtype=np.uint32)


def gumbel_noise(
    h: int,
    w: int,
    channels: int,
    *,
    seed: int,
    gate_index: int = 0,
    form: GateForm = "kong2018",
    y0: int = 0,
    x0: int = 0,
    backend: BackendLike = "numpy",
) -> Tensor:
    """Return the Gumbel noise of a gate over a map, or over a part of it that starts at (y0, x0).

    seed        0 .. 2^64 - 1; gate_index numbers the gate in its network
    form        kong2018 or torch
    returns     (h, w, channels) float32, a NumPy array on every backend; the same for every image of a batch

    Numerics: EXACT; Philox4x32-10 by pixel, channel, gate and seed, then f32(-log64(-log64(u))) (docs/NUMERICS.md).
    Raises:   UsageError.
    """
    op = "gumbel_noise"
    shape = tuple(checks.integer(op, name, value, 1) for name, value in (("h", h), ("w", w), ("channels", channels)))
    numbers = {"seed": seed, "gate_index": gate_index, "y0": y0, "x0": x0}
    seed, gate_index, y0, x0 = (checks.integer(op, name, value, 0, math.inf) for name, value in numbers.items())
    if seed >= 1 << 64 or max(gate_index, y0 + shape[0], x0 + shape[1]) >= 1 << 32:
        raise UsageError(f"{op}: seed {seed} needs 64 bits at most, gate_index and coordinates 32")
    checks.choice(op, "form", form, FORMS)
    return Call(op, backend).fill(seed, gate_index, form, y0, x0, shape=shape)
