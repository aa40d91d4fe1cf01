"""MultiPool: every pixel gets the 3x3 conv at the dilation rate chosen for it. A composite of other ops."""

from collections.abc import Sequence

import numpy as np

from pagnp.backends.base import BackendLike
from pagnp.errors import DtypeError, ShapeError, UsageError
from pagnp.ops import checks
from pagnp.ops.call import Call
from pagnp.ops.conv import conv2d
from pagnp.ops.gate import blend, gather, mask_to_sites, span
from pagnp.types import AnyIndex, AnyTensor, Tensor


def multipool(
    x: AnyTensor,
    control: AnyIndex | AnyTensor,
    rates: Sequence[int],
    weights: Sequence[AnyTensor | None],
    *,
    scales: Sequence[AnyTensor | None] | None = None,
    shifts: Sequence[AnyTensor | None] | None = None,
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
    Raises:   DtypeError; ShapeError if lists, channels or indices do not fit; UsageError for a rate below 0.
    Source:   Kong and Fowlkes 2018 (arXiv 1805.01556).
    """
    call = Call("multipool", backend)
    x, control = call.tensor("x", x), call.adopt("control", control)
    for name, value in {"rates": rates, "weights": weights, "scales": scales, "shifts": shifts}.items():
        if value is not None and not isinstance(value, (list, tuple)):
            raise UsageError(f"multipool: {name} is {type(value).__name__}, need a list with an entry a branch")
    count = len(rates)
    norms = [[None] * count if each is None else each for each in (scales, shifts)]
    if count < 2 or any(len(each) != count for each in (weights, *norms)):
        lengths = ", ".join(str(len(each)) for each in (rates, weights, *norms))
        raise ShapeError(
            f"multipool: rates, weights, scales, shifts have lengths {lengths}; need one length, 2 or more"
        )
    mixed = call.dtype(control) == np.float32
    control = call.array("control", control, np.float32, "(n, h, w, K)") if mixed else _index(call, x, control, count)
    parts = zip(rates, weights, norms[0], norms[1], strict=True)
    branches = [_Branch(call, x, rate, weight, scale, shift, relu) for rate, weight, scale, shift in parts]
    with call.in_order():
        x, chosen = call.there(x), call.there(control)
        if mixed:
            out = blend(chosen, [branch(x, None) for branch in branches], backend=call.backend)
        else:
            out = _hard(call, x, chosen, branches)
    return call.result(out)


class _Branch:
    """One rate: called with sites it returns their rows (m, c), without the whole map."""

    def __init__(self, call, x, rate, weight, scale, shift, relu):
        self.rate = checks.integer(call.op, "rate", rate, 0)
        self.weight, self.relu, self.backend = None, relu, call.backend
        if (weight is None) != (self.rate == 0):
            raise ShapeError(
                f"multipool: rate {rate} {'has a' if self.rate == 0 else 'needs a'} weight; only 0 copies x"
            )
        if weight is None:
            if scale is not None or shift is not None:
                raise ShapeError("multipool: rate 0 has a scale or shift; it copies x, so give None")
            return
        c = x.shape[3]
        self.weight = call.array("weight", weight, np.float32, "(k, k, c, c)")
        k = self.weight.shape[0]
        if self.weight.shape != (k, k, c, c) or k % 2 == 0:
            raise ShapeError(f"multipool: weight is {self.weight.shape}, need (k, k, {c}, {c}) with odd k")
        named = {"scale": scale, "shift": shift}
        self.norm = {key: None if v is None else call.channel_vector(key, v, c) for key, v in named.items()}

    def __call__(self, x, sites):
        if self.weight is None:
            return x if sites is None else gather(x, sites, backend=self.backend)
        place = {"padding": self.rate * (self.weight.shape[0] // 2), "dilation": self.rate, "sites": sites}
        return conv2d(x, self.weight, **self.norm, relu=self.relu, **place, backend=self.backend)


def _index(call, x, control, count):
    if call.dtype(control) != np.int32:
        kind = call.dtype(control) or type(control).__name__
        raise DtypeError(f"multipool: control is {kind}, need an int32 index or float32 probabilities")
    if control.shape != x.shape[:3]:
        raise ShapeError(f"multipool: control is {control.shape}, x is {x.shape}; need {x.shape[:3]}")
    low, high = span(call, control)
    if low < 0 or high >= count:
        raise ShapeError(f"multipool: control goes from {low} to {high}, there are {count} branches")
    return call.array("control", control, np.int32, "(n, h, w)")


def _hard(call, x, control, branches):
    out, mask = call.empty(x.shape), call.empty(x.shape[:3], np.bool_)
    for k, branch in enumerate(branches):
        call.run(control, k, mask, kernel="picked")
        sites = mask_to_sites(mask, backend=call.backend)
        if sites.size:
            call.run(branch(x, sites), sites, out, kernel="scatter")
    return out
