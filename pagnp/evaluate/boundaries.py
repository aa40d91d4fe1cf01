"""Boundary scores as in the BSDS500 benchmark: ODS, OIS and AP of soft maps against several annotators.

Source: Arbelaez, Maire, Fowlkes, Malik 2011, and the benchmark's code (boundaryBench). docs/EVALUATION.md says what is
computed, step by step.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pagnp.types import Array, Mask, Tensor

TOLERANCE = 0.0075  # of the diagonal; the benchmark's maxDist
INTERPOLATED = 100  # points between two thresholds at which the best F is looked for; the benchmark's maxF
TIE = 1e-12  # rounding of the interpolation decides nothing: the lowest threshold does
SURE = 0.5  # a map of shares marks a pixel where at least half of the annotators did

Doubles = npt.NDArray[np.float64]


def thresholds_of(count: int) -> Doubles:
    """Return `count` thresholds, evenly between 0 and 1 without both: 0.01 to 0.99 for 99."""
    step = 1 / (count + 1)
    return np.linspace(step, 1 - step, count)


def each_annotator(boundary: Array) -> Mask:
    """Return bool (a, h, w) of a truth: one map an annotator, or float (h, w), a share, as the map of one."""
    return boundary if boundary.ndim == 3 else (boundary >= SURE)[None]


def count_matches(
    strength: Tensor,
    annotators: Mask,
    thresholds: Doubles,
    *,
    thin: bool = True,
    tolerance: float = TOLERANCE,
    threads: int | None = None,
) -> Array:
    """Return int64 (t, 4) for a map: marks found, marks, right detected pixels, detected pixels at each threshold.

    strength     (h, w), thinned at each threshold after it was cut;  annotators  bool (a, h, w), taken as they are
    tolerance    how far a pair may be apart, as a share of the diagonal
    Marks are summed over annotators; a detected pixel is right if it has a partner at any of them.
    """
    from pagnp.backends.numba_cpu.threads import default_threads, parallel
    from pagnp.evaluate.counting import count_f32
    from pagnp.evaluate.matching import offsets_within
    from pagnp.evaluate.thinning import TABLES

    h, w = strength.shape
    strength = np.ascontiguousarray(strength, np.float32)
    sites = [np.flatnonzero(marks).astype(np.int32) for marks in annotators]
    starts = np.cumsum([0, *map(len, sites)])
    # Thresholds that cut the map alike (all of them, for a binary one) are counted once.
    cut = len(thresholds) - np.searchsorted(thresholds, strength.ravel().astype(np.float64), side="right")
    above = np.bincount(cut, minlength=len(thresholds) + 1).cumsum()[-2::-1]
    _, chosen, place = np.unique(above, return_index=True, return_inverse=True)
    counts = np.zeros((len(chosen), 4), np.int64)
    offsets = offsets_within(tolerance * np.sqrt(h * h + w * w))
    common = strength, thresholds[chosen], np.concatenate([*sites, np.empty(0, np.int32)]), starts, offsets
    parallel(count_f32, len(chosen), threads or default_threads(), *common, TABLES[: 2 * thin], counts, chunk=1)
    return counts[place.ravel()]


@dataclass
class Boundaries:
    """The counts of a set of images, from which its scores are made."""

    thresholds: Doubles
    total: Array = field(init=False)
    at_best: Array = field(init=False)

    def __post_init__(self) -> None:
        self.total = np.zeros((len(self.thresholds), 4), np.int64)
        self.at_best = np.zeros(4, np.int64)

    def add(self, counts: Array) -> dict[str, float]:
        """Add an image's counts (of `count_matches`) and return its best F with its threshold, as for OIS."""
        f = f_measure(*recall_precision(counts))
        best = int(np.argmax(f))
        self.total += counts
        self.at_best += counts[best]
        return {"f": float(f[best]), "threshold": float(self.thresholds[best])}

    def result(self) -> dict[str, object]:
        """Return ods, ois (each with recall and precision), ap, and the curve."""
        recall, precision = recall_precision(self.total)
        best = best_f(self.thresholds, recall, precision)
        ois_recall, ois_precision = recall_precision(self.at_best[None])
        curve = zip(self.thresholds, recall, precision, f_measure(recall, precision), strict=True)
        return {
            "ods": best["f"],
            "ods_threshold": best["threshold"],
            "ods_recall": best["recall"],
            "ods_precision": best["precision"],
            "ois": float(f_measure(ois_recall, ois_precision)[0]),
            "ois_recall": float(ois_recall[0]),
            "ois_precision": float(ois_precision[0]),
            "ap": average_precision(recall, precision),
            "curve": [
                {"threshold": round(float(t), 9), "recall": float(r), "precision": float(p), "f": float(f)}
                for t, r, p, f in curve
            ],
        }


def recall_precision(counts: Array) -> tuple[Doubles, Doubles]:
    """Return recall and precision (t,) of counts (t, 4); 0 where nothing is marked or detected."""
    found, marked, right, detected = counts.T.astype(np.float64)
    return found / np.maximum(marked, 1), right / np.maximum(detected, 1)


def f_measure(recall: Doubles, precision: Doubles) -> Doubles:
    """Return the harmonic mean of recall and precision; 0 where both are."""
    total = recall + precision
    mean: Doubles = 2 * recall * precision / np.where(total > 0, total, 1)
    return mean


def best_f(thresholds: Doubles, recall: Doubles, precision: Doubles) -> dict[str, float]:
    """Return the best f with its threshold, recall and precision, on the curve drawn linearly between thresholds."""
    share = np.linspace(0, 1, INTERPOLATED)[1:]

    def drawn(values: Doubles) -> Doubles:
        between = values[1:, None] * share + values[:-1, None] * (1 - share)
        return np.concatenate((values[:1], between.ravel()))

    t, r, p = drawn(thresholds), drawn(recall), drawn(precision)
    f = f_measure(r, p)
    k = int(np.argmax(f >= f.max() - TIE))
    return {"f": float(f[k]), "threshold": float(t[k]), "recall": float(r[k]), "precision": float(p[k])}


def average_precision(recall: Doubles, precision: Doubles) -> float:
    """Return the mean precision at recalls 0, 0.01 ... 1, drawn linearly between points; 0 beyond the curve's ends.

    Of equal recalls the first counts, that of the lowest threshold. NaN where there is one recall only, and no curve
    (a binary map): the benchmark's code says 0 then.
    """
    points, chosen = np.unique(recall, return_index=True)
    if len(points) < 2:
        return float("nan")
    drawn = np.interp(np.linspace(0, 1, 101), points, precision[chosen], left=0, right=0)
    return float(drawn.sum() / 100)  # the benchmark divides by 100
