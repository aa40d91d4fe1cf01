"""One value of ours held against the reference's: what differs, by how much, and whether its bound explains it."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from pagnp.contract import canonical_bits
from pagnp.errorbound.rounding import wide
from pagnp.types import Array


@dataclass
class Row:
    """What was found at one layer. Differences are those of our op on the reference's own inputs.

    name, op    of the layer, or of a node inside one; outputs/<head> for what a head decodes
    kind        tensor, mask or index; shape without the batch axis
    difference  largest |ours - reference|; of decisions: how many differ
    bound       what is allowed at `place`, where difference/bound is largest; `ratio` is that
    ulp         largest distance in float32 values (+0 and -0 are one), None with NaN or for decisions
    got, want   ours and the reference's at `place`
    ok          no difference is out of its bound
    unbounded   values that differ where no bound can be computed (overflow, a division by what may be 0), and count
                as inside
    decisions   how many; flips: how many differ; margin: the smallest distance from turning, flip_margin: the largest
                among the flips (None where the op itself decides nothing)
    run         largest |ours - reference| of our own run from end to end; run_flips: decisions that differ there
    """

    name: str
    op: str
    kind: str
    shape: tuple[int, ...]
    difference: float
    bound: float
    ratio: float
    ulp: int | None
    place: tuple[int, ...]
    got: Any
    want: Any
    ok: bool
    unbounded: int = 0
    decisions: int = 0
    flips: int = 0
    margin: float | None = None
    flip_margin: float | None = None
    run: float | None = None
    run_flips: int | None = None

    def __str__(self) -> str:
        place = ",".join(str(i) for i in self.place)
        what = f"{self.name} ({self.op}): at [{place}] ours {self.got!s}, the reference {self.want!s}"
        if self.kind == "tensor":
            return f"{what}, apart {abs(float(self.got) - float(self.want)):.3g}, allowed {self.bound:.3g}"
        margin = "" if self.flip_margin is None else f", margins up to {self.flip_margin:.3g}"
        return f"{what}; {self.flips} of {self.decisions} decisions differ{margin}"


def compare_tensors(name: str, op: str, ours: Array, reference: Array, bound: Any) -> Row:
    """Return the Row of float32 `ours` against `reference` (float32 or float64), both (1, h, w, c)."""
    with np.errstate(all="ignore"):
        apart = np.abs(wide(ours) - wide(reference))
        same = (ours == reference) | (np.isnan(ours) & np.isnan(reference))
        apart = np.where(same, 0.0, apart)
        inside = same | np.isinf(bound) | (apart <= bound)
        ratio = np.where(same | np.isinf(bound), 0.0, apart / bound)
        # What is out of bound comes first, and of that what no number can say.
        ratio = np.where(inside, np.minimum(ratio, 1.0), np.where(ratio > 1, ratio, np.inf))
    place = np.unravel_index(int(np.argmax(ratio)), ratio.shape)
    known = apart[np.isfinite(apart)]
    largest = float(known.max(initial=0.0)) if known.size == apart.size else float("inf")
    return Row(
        name=name,
        op=op,
        kind="tensor",
        shape=ours.shape[1:],
        difference=largest,
        bound=float(np.broadcast_to(bound, apart.shape)[place]),
        ratio=float(ratio[place]),
        ulp=_ulp(ours, reference),
        place=tuple(int(i) for i in place[1:]),
        got=ours[place],
        want=reference[place],
        ok=bool(inside.all()),
        unbounded=int(np.count_nonzero(np.isinf(bound) & ~same)),
    )


def _ulp(ours, reference):
    """Return the largest number of float32 steps between the arrays, None where one side alone is NaN."""
    with np.errstate(over="ignore"):
        pair = [part.astype(np.float32) + np.float32(0) for part in (ours, reference)]
    if (np.isnan(pair[0]) != np.isnan(pair[1])).any():
        return None
    bits = [canonical_bits(part).astype(np.int64) for part in pair]
    ordered = [np.where(b & 0x80000000, 0x80000000 - b, b) for b in bits]
    return int(np.abs(ordered[0] - ordered[1]).max(initial=0))


def compare_decisions(name: str, op: str, ours: Array, reference: Array, error: Any, margin: Any) -> Row:
    """Return the Row of a mask or index `ours` against `reference`, both (1, h, w).

    error    as `errorbound.bound` gives it, None where nothing is open; margin: (1, h, w) float64 or None
    """
    flips = ours != reference
    if error is None:
        allowed = np.zeros(ours.shape, bool)
    elif error.ndim == ours.ndim:
        allowed = error
    else:
        allowed = np.take_along_axis(error, reference.astype(np.int64)[..., None], axis=-1)[..., 0]
    wrong = flips & ~allowed
    place = np.unravel_index(int(np.argmax(flips.astype(int) + wrong)), ours.shape)
    return Row(
        name=name,
        op=op,
        kind="mask" if ours.dtype == bool else "index",
        shape=ours.shape[1:],
        difference=float(np.count_nonzero(flips)),
        bound=float(np.count_nonzero(allowed & flips)),
        ratio=float("inf") if wrong.any() else 0.0,
        ulp=None,
        place=tuple(int(i) for i in place[1:]),
        got=ours[place],
        want=reference[place],
        ok=not wrong.any(),
        decisions=int(ours.size),
        flips=int(np.count_nonzero(flips)),
        margin=None if margin is None or not margin.size else float(margin.min()),
        flip_margin=float(margin[flips].max()) if margin is not None and flips.any() else None,
    )
