"""Pixel-wise gates: decisions, choosing and blending branches, masks and sites."""

import numpy as np

from pagnp.backends.base import BackendLike
from pagnp.errors import DtypeError, ShapeError, UsageError
from pagnp.ops import checks
from pagnp.shapes import conv2d_size
from pagnp.types import (
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
    Tensors,
)

MODES = ("hard", "soft", "gumbel_hard", "gumbel_soft")
FORMS = ("kong2018", "torch")


def gate(
    z: Tensor,
    *,
    mode: GateMode = "hard",
    form: GateForm = "kong2018",
    temperature: Number = 1.0,
    noise: Tensor | None = None,
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
    z = checks.tensor("gate", "z", z)
    checks.choice("gate", "mode", mode, MODES)
    checks.choice("gate", "form", form, FORMS)
    channels = z.shape[3]
    if channels < 2:
        raise ShapeError(f"gate: z has {channels} channel, need one logit a branch, at least 2")
    index = channels != 2 if index is None else bool(index)
    noise = _check_noise(z, mode, noise)
    if threshold is not None:
        threshold = _check_threshold(mode, channels, index, threshold)
    if not temperature > 0:
        raise UsageError(f"gate: temperature is {temperature}, need a positive number")
    if not index and channels != 2 and mode.endswith("hard"):
        raise UsageError(f"gate: a mask decides between 2 branches, z has {channels}; use index=True")
    if mode.endswith("soft"):
        out = np.empty_like(z)
    else:
        out = np.empty(z.shape[:3], np.int32 if index else np.bool_)
    checks.kernel("gate", backend)(z, mode, form, np.float32(temperature), noise, threshold, out)
    return out


def _check_noise(z, mode, noise):
    if mode not in ("gumbel_hard", "gumbel_soft"):
        if noise is not None:
            raise UsageError(f"gate: noise is given, mode '{mode}' takes none; use gumbel_hard or gumbel_soft")
        return None
    if noise is None:
        raise UsageError(f"gate: mode '{mode}' needs noise; make it with ops.gumbel_noise")
    if isinstance(noise, np.ndarray) and noise.ndim == 3:
        noise = checks.array("gate", "noise", noise, np.float32, "(h, w, K)")
        checks.same_shape("gate", "noise", noise, z.shape[1:], "z without its batch axis")
    else:
        noise = checks.array("gate", "noise", noise, np.float32, "(n, h, w, K)")
        checks.same_shape("gate", "noise", noise, z.shape, "z")
    return noise


def _check_threshold(mode, channels, index, threshold):
    if mode != "hard" or channels != 2 or index:
        raise UsageError(f"gate: a threshold belongs to the hard two-way gate; mode '{mode}', {channels} channels")
    return np.float32(threshold)


def select(control: Mask | Index, branches: Tensors, *, backend: BackendLike = "numpy") -> Tensor:
    """Take each pixel from the branch that `control` names.

    control   (n, h, w) or (n, 1, 1); bool: branches[0] where False, branches[1] where True; or int32 index
    branches  list of (n, h, w, c) float32
    returns   (n, h, w, c) float32

    Numerics: EXACT; values are moved.
    Raises:   DtypeError, ShapeError; UsageError if an index names no branch.
    """
    branches = _check_branches("select", branches)
    shape = branches[0].shape[:3]
    if isinstance(control, np.ndarray) and control.dtype == np.int32:
        control = checks.array("select", "control", control, np.int32, "(n, h, w)")
        if control.shape not in (shape, (shape[0], 1, 1)):
            raise ShapeError(f"select: control has shape {control.shape}, need {shape} or {(shape[0], 1, 1)}")
        low, high = int(control.min()), int(control.max())
        if low < 0 or high >= len(branches):
            raise UsageError(f"select: control runs from {low} to {high}, there are {len(branches)} branches")
    else:
        if isinstance(control, np.ndarray) and control.dtype != np.bool_:
            raise DtypeError(f"select: control is {control.dtype}, need bool or int32")
        control = checks.mask("select", "control", control, shape)
        if len(branches) != 2:
            raise UsageError(f"select: a mask chooses between 2 branches, {len(branches)} given; use an int32 index")
    out = np.empty_like(branches[0])
    checks.kernel("select", backend)(control, branches, out)
    return out


def blend(p: Tensor, branches: Tensors, *, backend: BackendLike = "numpy") -> Tensor:
    """Add up the branches, weighted per pixel.

    p         (n, h, w, K) or (n, 1, 1, K) float32
    branches  list of K (n, h, w, c) float32
    returns   (n, h, w, c) float32

    Numerics: EXACT; acc = fma(p_k, branch_k, acc) from +0, k ascending.
    Raises:   DtypeError, ShapeError.
    """
    branches = _check_branches("blend", branches)
    p = checks.tensor("blend", "p", p)
    n, h, w, _ = branches[0].shape
    if p.shape not in ((n, h, w, len(branches)), (n, 1, 1, len(branches))):
        raise ShapeError(f"blend: p has shape {p.shape}, need {(n, h, w, len(branches))} for {len(branches)} branches")
    out = np.empty_like(branches[0])
    checks.kernel("blend", backend)(p, branches, out)
    return out


def masked(x: Tensor, mask: Mask, *, backend: BackendLike = "numpy") -> Tensor:
    """Return x where mask, else +0.

    x        (n, h, w, c) float32
    mask     (n, h, w) or (n, 1, 1) bool
    returns  (n, h, w, c) float32

    Numerics: EXACT; chosen, not multiplied.
    Raises:   DtypeError, ShapeError.
    """
    x = checks.tensor("masked", "x", x)
    mask = checks.mask("masked", "mask", mask, x.shape[:3])
    out = np.empty_like(x)
    checks.kernel("masked", backend)(x, mask, out)
    return out


def mask_to_sites(mask: Mask, *, backend: BackendLike = "numpy") -> Index:
    """Return the flat indices of True in `mask` (n, h, w) bool, ascending: int32 (m,).

    Raises: DtypeError, ShapeError.
    """
    return checks.kernel("mask_to_sites", backend)(checks.mask("mask_to_sites", "mask", mask))


def grow_mask(
    mask: Mask,
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
    mask = checks.mask(op, "mask", mask)
    size, kernel = checks.pair(op, "size", size), checks.pair(op, "kernel", kernel)
    stride, dilation = checks.pair(op, "stride", stride), checks.pair(op, "dilation", dilation)
    padding = checks.sides(op, padding)
    expected = (mask.shape[0], *conv2d_size(*size, kernel, stride, padding, dilation, op=op))
    checks.same_shape(op, "mask", mask, expected, "the convolution's output")
    out = np.empty((mask.shape[0], *size), np.bool_)
    checks.kernel(op, backend)(mask, kernel, stride, padding, dilation, out)
    return out


def gather(x: Tensor, sites: Index, *, backend: BackendLike = "numpy") -> Tensor:
    """Return the pixels of x (n, h, w, c) float32 at `sites` (m,) int32: (m, c) float32.

    Raises: DtypeError, ShapeError, SiteError.
    """
    x = checks.tensor("gather", "x", x)
    sites = checks.sites("gather", sites, x[..., 0].size)
    out = np.empty((len(sites), x.shape[3]), np.float32)
    if len(sites):
        checks.kernel("gather", backend)(x, sites, out)
    return out


def scatter(values: Tensor, sites: Index, x: Tensor, *, backend: BackendLike = "numpy") -> Tensor:
    """Return a copy of x with the pixels at `sites` replaced by `values`.

    values   (m, c) float32
    sites    (m,) int32, strictly increasing
    x        (n, h, w, c) float32
    returns  (n, h, w, c) float32

    Raises:   DtypeError, ShapeError, SiteError.
    """
    x = checks.tensor("scatter", "x", x)
    sites = checks.sites("scatter", sites, x[..., 0].size)
    out = x.copy()
    if len(sites) or not (isinstance(values, np.ndarray) and values.size == 0):
        values = checks.array("scatter", "values", values, np.float32, "(m, c)")
        checks.same_shape("scatter", "values", values, (len(sites), x.shape[3]), "sites and x")
        checks.kernel("scatter", backend)(values, sites, out)
    return out


def _check_branches(op, branches):
    if not isinstance(branches, (list, tuple)) or not branches:
        raise UsageError(f"{op}: branches is {type(branches).__name__}, need a list of at least one array")
    checked = [checks.tensor(op, f"branches[{k}]", branch) for k, branch in enumerate(branches)]
    for k, branch in enumerate(checked):
        checks.same_shape(op, f"branches[{k}]", branch, checked[0].shape, "branches[0]")
    return checked
