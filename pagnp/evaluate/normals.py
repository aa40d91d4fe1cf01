"""Scores of surface normals: the angle to the true normal, over all pixels of a set where that is known.

Source: Fouhey, Gupta, Hebert 2013.
"""

import numpy as np

from pagnp.errors import GroundTruthError
from pagnp.evaluate.means import Means
from pagnp.types import Array

WITHIN = (11.25, 22.5, 30.0)  # degrees
BIN = 0.001  # degrees: how finely the median of a set is known


class Normals(Means):
    """Sums over a set; `result` has mean, median and rms in degrees and the shares of pixels within WITHIN."""

    names = ("mean", "rms", *(f"within_{limit:g}" for limit in WITHIN))
    squared = ("rms",)

    def __init__(self) -> None:
        super().__init__()
        self.histogram = np.zeros(round(180 / BIN) + 1, np.int64)

    def add(self, normals: Array, truth: Array) -> dict[str, float]:
        """Add an image and return its own scores. normals, truth (h, w, 3), of any length; truths of 0 are unknown.

        Raises: GroundTruthError where a truth is not finite.
        """
        if not np.isfinite(truth).all():
            raise GroundTruthError("the normals have infinite values or NaN; (0, 0, 0) stands for unknown")
        known = np.any(truth != 0, axis=2)
        degrees = angles(normals[known], truth[known])
        bins = (np.where(np.isnan(degrees), 180, degrees) / BIN).astype(np.int64)  # an answer of NaN is no near one
        self.histogram += np.bincount(bins, minlength=len(self.histogram))
        own = self.add_pixels(degrees, degrees**2, *(degrees < limit for limit in WITHIN))
        return {**own, "median": float(np.median(degrees)) if degrees.size else float("nan")}

    def result(self) -> dict[str, object]:
        """Return what `Means` does, and the median to BIN degrees."""
        middle = np.searchsorted(self.histogram.cumsum(), (self.pixels + 1) // 2)
        median = (float(middle) + 0.5) * BIN if self.pixels else float("nan")
        return {"median": median, **super().result()}


def angles(a: Array, b: Array) -> Array:
    """Return the angles in degrees, float64 (n,), between vectors (n, 3); 90 where one of them is (0, 0, 0).

    From sine and cosine: the arc cosine alone is good to 0.02 degrees in float32.
    """
    a, b = a.astype(np.float64), b.astype(np.float64)
    sine, cosine = np.sqrt((np.cross(a, b) ** 2).sum(1)), (a * b).sum(1)
    nowhere = ~(a.any(1) & b.any(1))  # atan2(0, 0) is 0: no answer would be a perfect one
    degrees: Array = np.where(nowhere, 90.0, np.degrees(np.arctan2(sine, cosine)))
    return degrees
