"""What the course needs of a data set: names, a way to read one scene, and what its heads are called.

A scene is a dict of torch tensors, all of one size (h, w):
    image     (3, h, w) uint8
    labels    (h, w) uint8      class, IGNORE where there is none
    boundary  (h, w) float32    share of the annotators who marked the pixel, 0..1
    depth     (h, w) float32    metres, 0 where unknown
    normals   (3, h, w) float32 unit vectors, towards the camera
Only `image` is always there.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pagnp.errors import GroundTruthError as DataError
from pagnp.errors import UsageError
from pagnp.evaluate.classnames import check_classes
from pagnp.evaluate.groundtruth import IGNORE, GroundTruth, Scene, ignored_label

__all__ = ["IGNORE", "DataError", "Dataset", "as_tensors", "tensors_of"]


@dataclass(frozen=True)
class Dataset:
    """One split of a data set; scenes are read when asked for, which costs little beside a step on a CPU."""

    names: Sequence[str]
    read_scene: Callable[[str], dict[str, torch.Tensor]]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, k: int) -> dict[str, torch.Tensor]:
        return self.read_scene(self.names[k])

    def in_memory(self) -> "Dataset":
        """Read every scene now; processes that are forked later share them."""
        with ThreadPoolExecutor() as pool:  # decoders let go of Python's lock
            scenes = dict(zip(self.names, pool.map(self.read_scene, self.names), strict=True))
        return Dataset(self.names, scenes.__getitem__)


def as_tensors(scene: Scene) -> dict[str, torch.Tensor]:
    """Return a scene of `pagnp.evaluate` as tensors: channels first, annotators as the share of them."""
    boundary = scene.get("boundary")
    if boundary is not None and boundary.ndim == 3:
        scene = {**scene, "boundary": boundary.mean(0, dtype=np.float32)}
    tensors = {name: torch.from_numpy(array) for name, array in scene.items()}
    return {name: x.permute(2, 0, 1).contiguous() if x.ndim == 3 else x for name, x in tensors.items()}


def tensors_of(truth: GroundTruth, classes: Sequence[str] = ()) -> Dataset:
    """Return the scenes of a ground truth as tensors; `classes` are those of its labels.

    Raises: DataError where the set says that its classes are others; reading a scene does where a value is none that
            can be learned.
    """
    try:
        check_classes("segmentation", len(classes), classes, truth.classes)
    except UsageError as error:
        folder = truth.image(truth.names[0]).parent
        raise DataError(
            f"{folder}: its classes.csv has {', '.join(truth.classes or ())}; need {', '.join(classes)}"
        ) from error

    def read(name: str) -> dict[str, torch.Tensor]:
        scene = truth.read(name)
        check(scene, len(classes), truth.image(name))
        return as_tensors(scene)

    return Dataset(truth.names, read)


def check(scene: Scene, classes: int, path: Path) -> None:
    """Raise DataError where a truth is no number, or a label is of no class: one such pixel spoils all weights."""
    for kind in ("depth", "normals", "boundary"):
        if not np.isfinite(scene.get(kind, 0)).all():
            raise DataError(f"{path}: the {kind} has infinite values or NaN; 0 stands for unknown")
    if np.min(scene.get("depth", 0)) < 0:
        raise DataError(f"{path}: the depth has negative values; 0 stands for unknown")
    labels = scene.get("labels")
    if labels is not None:
        wrong = labels[(labels >= classes) & (labels != ignored_label(labels))]
        if wrong.size:
            raise DataError(f"{path}: class {wrong.max()} in the labels, there are 0..{classes - 1}")
        scene["labels"] = np.where(labels == ignored_label(labels), IGNORE, labels).astype(np.uint8)
