"""Scores of label maps: a confusion matrix over all pixels of a set, and what follows from it."""

from collections.abc import Sequence

import numpy as np

from pagnp.errors import GroundTruthError
from pagnp.evaluate.groundtruth import ignored_label
from pagnp.types import Array


class Segmentation:
    """The confusion matrix of a set: int64 (classes, classes), rows are the truth's classes."""

    def __init__(self, classes: int) -> None:
        self.matrix = np.zeros((classes, classes), np.int64)

    def add(self, labels: Array, truth: Array) -> dict[str, float]:
        """Add an image and return its own scores. labels, truth (h, w); pixels of the ignored label do not count.

        Raises: GroundTruthError where the truth has a class that the model does not know.
        """
        classes = len(self.matrix)
        known = truth != ignored_label(truth)
        wanted, found = truth[known].astype(np.int64), labels[known].astype(np.int64)
        if wanted.size and wanted.max() >= classes:
            raise GroundTruthError(
                f"class {wanted.max()} in the labels, the model knows 0..{classes - 1}; "
                f"pixels to be left out have label {ignored_label(truth)}"
            )
        own = np.bincount(wanted * classes + found, minlength=classes * classes).reshape(classes, classes)
        self.matrix += own
        scores = scores_of(own)
        return {name: scores[name] for name in ("mean_iou", "pixel_accuracy", "class_accuracy")}

    def result(self, names: Sequence[str] | None = None) -> dict[str, object]:
        """Return mean_iou, pixel_accuracy, class_accuracy, pixels, and iou and accuracy by class name."""
        matrix, classes = self.matrix, [str(k) for k in range(len(self.matrix))] if names is None else list(names)
        classes = [f"{name} ({k})" if classes.count(name) > 1 else name for k, name in enumerate(classes)]
        iou, accuracy = per_class(matrix)
        return {
            **scores_of(matrix),
            "pixels": int(matrix.sum()),
            "iou": dict(zip(classes, map(float, iou), strict=True)),
            "accuracy": dict(zip(classes, map(float, accuracy), strict=True)),
        }


def per_class(matrix: Array) -> tuple[Array, Array]:
    """Return float64 (classes,) intersection over union, and the share of each class's pixels that are right.

    NaN for a class that neither truth nor answer has (iou), or that the truth does not have (accuracy).
    """
    hit, marked = np.diag(matrix), matrix.sum(1)
    union = marked + matrix.sum(0) - hit
    iou = np.where(union > 0, hit / np.maximum(union, 1), np.nan)
    return iou, np.where(marked > 0, hit / np.maximum(marked, 1), np.nan)


def scores_of(matrix: Array) -> dict[str, float]:
    """Return mean_iou, pixel_accuracy and class_accuracy; means are over the classes that have a number."""
    iou, accuracy = per_class(matrix)
    total = int(matrix.sum())
    return {
        "mean_iou": _mean(iou),
        "pixel_accuracy": float(np.trace(matrix) / total) if total else float("nan"),
        "class_accuracy": _mean(accuracy),
    }


def _mean(values):
    """Return the mean of what is not NaN, NaN where nothing is."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else float("nan")
