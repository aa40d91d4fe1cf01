"""Pixel-wise gates: decisions, choosing and blending branches, masks and sites."""

import numpy as np
import numpy.typing as npt

from pagnp.backends.base import BackendLike
from pagnp.errors import DtypeError, ShapeError, UsageError
from pagnp.ops import checks
from pagnp.ops.call import Call
from pagnp.shapes import conv2d_size
from pagnp.types import (
    AnyIndex,
    AnyMask,
    AnyTensor,
    AnyTensors,
    Array,
    GateForm,
    GateMode,
    Index,
    Mask,
    Number,
    Pair,
    Sides,
    Size,
    Tensor,
)

MODES = ("hard", "soft", "gumbel_hard", "gumbel_soft")
FORMS = ("kong2018", "torch")


def gate(
    z: AnyTensor,
    *,
    mode: GateMode = "hard",
    form: GateForm = "kong2018",
    temperature: Number = 1.0,
    noise: AnyTensor | None = None,
    threshold: Number | None = None,
    index: bool | None = None,
    backend: BackendLike = "numpy",
) -> Array:
    """Decide per pixel which of K branches is computed, from the logits z.

    z          (n, h, w, K) float32, K >= 2
    noise      (h, w, K) or (n, h, w, K) float32, gumbel modes only: see `gumbel_noise`
    threshold  hard mode, K = 2: compute iff z1 - z0 > threshold
    index      whether a hard mode gives an index; None: if K > 2
    returns    hard, gumbel_hard: (n, h, w) bool (True computes), or int32 index of the branch
               soft, gumbel_soft: (n, h, w, K) float32 probabilities

    Numerics: EXACT; hard: z1 > z0 (ties and NaN skip), or the first maximum. Soft: softmax. Gumbel: y = z + noise
              (torch) or log((softmax(z) + 1e-3)/1.001) + noise (kong2018), then as hard, or softmax(y/temperature).
    Raises:   DtypeError, ShapeError, UsageError.
    Source:   Kong and Fowlkes 2018; Jang et al. 2017.
    """
    call = Call("gate", backend)
    z = call.tensor("z", z)
    checks.choice("gate", "mode", mode, MODES)
    checks.choice("gate", "form", form, FORMS)
    channels = z.shape[3]
    if channels < 2:
        raise ShapeError(f"gate: z has {channels} channel, need one logit a branch, at least 2")
    index = channels != 2 if index is None else bool(index)
    noise = _check_noise(call, z, mode, noise)
    if threshold is not None:
        threshold = _check_threshold(mode, channels, index, threshold)
    divisor = checks.number("gate", "temperature", temperature)
    if not divisor > 0:
        raise UsageError(f"gate: temperature is {temperature}, need a positive number (of float32)")
    if not index and channels != 2 and mode.endswith("hard"):
        raise UsageError(f"gate: a mask decides between 2 branches, z has {channels}; use index=True")
    shape = z.shape if mode.endswith("soft") else z.shape[:3]
    dtype: npt.DTypeLike = np.float32 if mode.endswith("soft") else np.int32 if index else np.bool_
    return call.fill(z, mode, form, divisor, noise, threshold, shape=shape, dtype=dtype)


def _check_noise(call, z, mode, noise):
    if mode not in ("gumbel_hard", "gumbel_soft"):
        if noise is not None:
            raise UsageError(f"gate: noise is given, mode '{mode}' takes none; use gumbel_hard or gumbel_soft")
        return None
    if noise is None:
        raise UsageError(f"gate: mode '{mode}' needs noise; make it with ops.gumbel_noise")
    noise = call.adopt("noise", noise)
    if call.dtype(noise) is not None and noise.ndim == 3:
        noise = call.array("noise", noise, np.float32, "(h, w, K)")
        checks.same_shape("gate", "noise", noise, z.shape[1:], "z without its batch axis")
    else:
        noise = call.array("noise", noise, np.float32, "(n, h, w, K)")
        checks.same_shape("gate", "noise", noise, z.shape, "z")
    return noise


def _check_threshold(mode, channels, index, threshold):
    if mode != "hard" or channels != 2 or index:
        raise UsageError(f"gate: a threshold belongs to the hard two-way gate; mode '{mode}', {channels} channels")
    return checks.number("gate", "threshold", threshold)


def select(control: AnyMask | AnyIndex, branches: AnyTensors, *, backend: BackendLike = "numpy") -> Tensor:
    """Take each pixel from the branch that `control` names.

    control   (n, h, w) or (n, 1, 1); bool: branches[0] where False, branches[1] where True; or int32 index
    branches  list of (n, h, w, c) float32
    returns   (n, h, w, c) float32

    Numerics: EXACT; values are moved.
    Raises:   DtypeError, ShapeError; UsageError if an index names no branch.
    """
    call = Call("select", backend)
    maps = _check_branches(call, branches)
    shape = maps[0].shape[:3]
    control = call.adopt("control", control)
    if call.dtype(control) == np.int32:
        control = call.array("control", control, np.int32, "(n, h, w)")
        if control.shape not in (shape, (shape[0], 1, 1)):
            raise ShapeError(f"select: control has shape {control.shape}, need {shape} or {(shape[0], 1, 1)}")
        low, high = span(call, control)
        if low < 0 or high >= len(maps):
            raise UsageError(f"select: control runs from {low} to {high}, there are {len(maps)} branches")
    else:
        if call.dtype(control) not in (None, np.bool_):
            raise DtypeError(f"select: control is {call.dtype(control)}, need bool or int32")
        control = call.mask("control", control, shape)
        if len(maps) != 2:
            raise UsageError(f"select: a mask chooses between 2 branches, {len(maps)} given; use an int32 index")
    return call.fill(control, maps, shape=maps[0].shape)


def blend(p: AnyTensor, branches: AnyTensors, *, backend: BackendLike = "numpy") -> Tensor:
    """Add up the branches, weighted per pixel.

    p         (n, h, w, K) or (n, 1, 1, K) float32
    branches  list of K (n, h, w, c) float32
    returns   (n, h, w, c) float32

    Numerics: EXACT; acc = fma(p_k, branch_k, acc) from +0, k ascending.
    Raises:   DtypeError, ShapeError.
    """
    call = Call("blend", backend)
    maps = _check_branches(call, branches)
    p = call.tensor("p", p)
    n, h, w, _ = maps[0].shape
    if p.shape not in ((n, h, w, len(maps)), (n, 1, 1, len(maps))):
        raise ShapeError(f"blend: p has shape {p.shape}, need {(n, h, w, len(maps))} for {len(maps)} branches")
    return call.fill(p, maps, shape=maps[0].shape)


def masked(x: AnyTensor, mask: AnyMask, *, backend: BackendLike = "numpy") -> Tensor:
    """Return x where mask, else +0.

    x        (n, h, w, c) float32
    mask     (n, h, w) or (n, 1, 1) bool
    returns  (n, h, w, c) float32

    Numerics: EXACT; chosen, not multiplied.
    Raises:   DtypeError, ShapeError.
    """
    call = Call("masked", backend)
    x = call.tensor("x", x)
    mask = call.mask("mask", mask, x.shape[:3])
    return call.fill(x, mask, shape=x.shape)


def mask_to_sites(mask: AnyMask, *, backend: BackendLike = "numpy") -> Index:
    """Return the flat indices of True in `mask` (n, h, w) bool, ascending: int32 (m,).

    On a GPU this waits for their number.

    Raises: DtypeError, ShapeError.
    """
    call = Call("mask_to_sites", backend)
    return call.result(call.run(call.mask("mask", mask)))


def grow_mask(
    mask: AnyMask,
    size: Size,
    kernel: Pair,
    *,
    stride: Pair = 1,
    padding: Sides = 0,
    dilation: Pair = 1,
    backend: BackendLike = "numpy",
) -> Mask:
    """Return which inputs a convolution reads for the output sites in `mask`.

    mask     (n, h_out, w_out) bool
    size     (h_in, w_in) of the convolution's input; kernel int or (y, x); the rest as conv2d
    returns  (n, h_in, w_in) bool

    Raises:   DtypeError, UsageError; ShapeError if the sizes do not belong together.
    """
    op = "grow_mask"
    call = Call(op, backend)
    mask = call.mask("mask", mask)
    size, kernel = checks.pair(op, "size", size), checks.pair(op, "kernel", kernel)
    stride, dilation = checks.pair(op, "stride", stride), checks.pair(op, "dilation", dilation)
    padding = checks.sides(op, padding)
    expected = (mask.shape[0], *conv2d_size(*size, kernel, stride, padding, dilation, op=op))
    checks.same_shape(op, "mask", mask, expected, "the convolution's output")
    return call.fill(mask, kernel, stride, padding, dilation, shape=(mask.shape[0], *size), dtype=np.bool_)


def gather(x: AnyTensor, sites: AnyIndex, *, backend: BackendLike = "numpy") -> Tensor:
    """Return the pixels of x (n, h, w, c) float32 at `sites` (m,) int32: (m, c) float32.

    Raises: DtypeError, ShapeError, SiteError.
    """
    call = Call("gather", backend)
    x = call.tensor("x", x)
    sites = call.sites(sites, x.size // x.shape[3])
    out = call.empty((sites.size, x.shape[3]))
    if sites.size:
        call.run(x, sites, out)
    return call.result(out)


def scatter(values: AnyTensor, sites: AnyIndex, x: AnyTensor, *, backend: BackendLike = "numpy") -> Tensor:
    """Return a copy of x with the pixels at `sites` replaced by `values`.

    values   (m, c) float32
    sites    (m,) int32, strictly increasing
    x        (n, h, w, c) float32
    returns  (n, h, w, c) float32

    Raises:   DtypeError, ShapeError, SiteError.
    """
    call = Call("scatter", backend)
    x = call.tensor("x", x)
    sites = call.sites(sites, x.size // x.shape[3])
    values = call.array("values", values, np.float32, "(m, c)")
    checks.same_shape("scatter", "values", values, (sites.size, x.shape[3]), "sites and x")
    out = call.empty(x.shape)
    call.run(x, out, kernel="copy")
    if sites.size:
        call.run(values, sites, out)
    return call.result(out)


def span(call: Call, control: Array) -> tuple[int, int]:
    """Return the least and the greatest number in a checked index; on a GPU this waits for it."""
    values = call.values(control)
    return int(values.min()), int(values.max())


def _check_branches(call, branches):
    checked = call.tensors("branches", branches)
    for k, branch in enumerate(checked):
        checks.same_shape(call.op, f"branches[{k}]", branch, checked[0].shape, "branches[0]")
    return checked
