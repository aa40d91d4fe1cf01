"""MultiPool: every pixel gets the 3x3 conv at the dilation rate chosen for it. A composite of other ops."""

from collections.abc import Sequence

import numpy as np

from pagnp.backends.base import BackendLike
from pagnp.errors import DtypeError, ShapeError
from pagnp.ops import checks
from pagnp.ops.conv import conv2d
from pagnp.ops.gate import blend, gather, mask_to_sites
from pagnp.types import Index, Tensor


def multipool(
    x: Tensor,
    control: Index | Tensor,
    rates: Sequence[int],
    weights: Sequence[Tensor | None],
    *,
    scales: Sequence[Tensor | None] | None = None,
    shifts: Sequence[Tensor | None] | None = None,
    relu: bool = False,
    backend: BackendLike = "numpy",
) -> Tensor:
    """Choose (hard) or mix (soft), pixel by pixel, among convs of `x` that differ in their dilation rate.

    x               (n, h, w, c)           float32
    control         (n, h, w) int32: the branch of each pixel; or (n, h, w, K) float32: probabilities
    rates           K dilation rates; 0 copies x
    weights         K arrays (k, k, c, c) float32, k odd; None at rate 0. Tied branches: one array K times
    scales, shifts  K arrays (c,) float32 for the norm after each conv; None at rate 0
    returns         (n, h, w, c) float32

    Numerics: EXACT; hard: each pixel is computed by its own branch only, to the bit as conv2d everywhere and select;
              soft: every branch everywhere, then `blend`.
    Raises:   DtypeError; ShapeError if lists, channels or indices do not fit.
    Source:   Kong and Fowlkes 2018 (arXiv 1805.01556).
    """
    x = checks.tensor("multipool", "x", x)
    count = len(rates)
    norms = [scales or [None] * count, shifts or [None] * count]
    if count < 2 or any(len(each) != count for each in (weights, *norms)):
        lengths = ", ".join(str(len(each)) for each in (rates, weights, *norms))
        raise ShapeError(
            f"multipool: rates, weights, scales, shifts have lengths {lengths}; need one length, 2 or more"
        )
    parts = zip(rates, weights, norms[0], norms[1], strict=True)
    branches = [_Branch(x, rate, weight, scale, shift, relu, backend) for rate, weight, scale, shift in parts]
    if isinstance(control, np.ndarray) and control.dtype == np.float32:
        p = checks.array("multipool", "control", control, np.float32, "(n, h, w, K)")
        return blend(p, [branch(None) for branch in branches], backend=backend)
    return _hard(x, _index(x, control, count), branches, backend)


class _Branch:
    """One rate: called with sites it returns their rows (m, c), without the whole map."""

    def __init__(self, x, rate, weight, scale, shift, relu, backend):
        self.x, self.relu, self.backend = x, relu, backend
        self.rate = checks.integer("multipool", "rate", rate, 0)
        if (weight is None) != (self.rate == 0):
            raise ShapeError(
                f"multipool: rate {rate} {'has a' if self.rate == 0 else 'needs a'} weight; only 0 copies x"
            )
        k, c = 1 if weight is None else weight.shape[0], x.shape[3]
        if weight is not None and (weight.shape != (k, k, c, c) or k % 2 == 0):
            raise ShapeError(f"multipool: weight is {weight.shape}, need (k, k, {c}, {c}) with odd k")
        self.conv = {"scale": scale, "shift": shift}
        self.weight = weight

    def __call__(self, sites):
        if self.weight is None:
            return self.x if sites is None else gather(self.x, sites, backend=self.backend)
        place = {"padding": self.rate * (self.weight.shape[0] // 2), "dilation": self.rate, "sites": sites}
        return conv2d(self.x, self.weight, **self.conv, relu=self.relu, **place, backend=self.backend)


def _index(x, control, count):
    if not isinstance(control, np.ndarray) or control.dtype != np.int32:
        kind = getattr(control, "dtype", type(control).__name__)
        raise DtypeError(f"multipool: control is {kind}, need an int32 index or float32 probabilities")
    if control.shape != x.shape[:3]:
        raise ShapeError(f"multipool: control is {control.shape}, x is {x.shape}; need {x.shape[:3]}")
    if control.min() < 0 or control.max() >= count:
        raise ShapeError(f"multipool: control goes from {control.min()} to {control.max()}, there are {count} branches")
    return control


def _hard(x, control, branches, backend):
    out = np.empty_like(x)
    scatter = checks.kernel("scatter", backend)
    for k, branch in enumerate(branches):
        sites = mask_to_sites(control == k, backend=backend)
        if sites.size:
            scatter(branch(sites), sites, out)
    return out
