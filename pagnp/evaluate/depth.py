"""Scores of depth maps: errors over all pixels of a set whose depth is known.

Source: Eigen, Puhrsch, Fergus 2014; the scaling by medians: Zhou, Brown, Snavely, Lowe 2017.
"""

import numpy as np

from pagnp.errors import GroundTruthError
from pagnp.evaluate.means import Means
from pagnp.types import Array

NEAREST = 1e-3  # metres: what is predicted nearer (or behind the camera) is taken as this, as in Godard et al. 2017
DELTA = 1.25  # its powers bound the ratio of prediction and truth
NAMES = ("abs_rel", "abs_rel_scaled", "sq_rel", "rmse", "log_rmse", "log10", "delta1", "delta2", "delta3")


class Depth(Means):
    """Sums over a set; `result` has abs_rel, sq_rel and rmse in metres, log_rmse (natural log), log10, delta1 to 3.

    abs_rel_scaled is abs_rel after an image's prediction was scaled by the ratio of the medians, truth to prediction.
    """

    names = NAMES
    squared = ("rmse", "log_rmse")

    def add(self, depth: Array, truth: Array) -> dict[str, float]:
        """Add an image and return its own scores. depth, truth (h, w) in metres; truths of 0 are unknown.

        Raises: GroundTruthError where a truth is negative or not finite.
        """
        if not np.all((truth >= 0) & (truth < np.inf)):
            raise GroundTruthError("the depth has negative or infinite values or NaN; 0 stands for unknown")
        known = truth > 0
        wanted, found = truth[known].astype(np.float64), depth[known].astype(np.float64)
        found = np.where(found < NEAREST, NEAREST, found)
        error, ratio = np.abs(found - wanted), np.maximum(found / wanted, wanted / found)
        log = np.log(found) - np.log(wanted)
        scale = np.median(wanted) / np.median(found) if wanted.size else 1.0
        return self.add_pixels(
            error / wanted,
            np.abs(scale * found - wanted) / wanted,
            error**2 / wanted,
            error**2,
            log**2,
            np.abs(log) / np.log(10),
            *(ratio < DELTA**k for k in (1, 2, 3)),
        )
