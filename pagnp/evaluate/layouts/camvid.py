"""CamVid: road scenes in 11 classes, as images/SPLIT/NAME.jpg (or .png) and labels/SPLIT/NAME.png (0..10, 11 ignored).

Brostow, Fauqueur, Cipolla 2009; the split and the 11 classes are those of the SegNet papers.
"""

from pathlib import Path

import numpy as np

from pagnp.errors import GroundTruthError
from pagnp.evaluate.groundtruth import IGNORE, GroundTruth, Scene, check_pairs, read_grey, read_rgb, same_size, stems

CLASSES = (
    "Sky",
    "Building",
    "Pole",
    "Road",
    "Pavement",
    "Tree",
    "SignSymbol",
    "Fence",
    "Car",
    "Pedestrian",
    "Bicyclist",
)
PALETTE = (
    (128, 128, 128),
    (128, 0, 0),
    (192, 192, 128),
    (128, 64, 128),
    (60, 40, 222),
    (128, 128, 0),
    (192, 128, 128),
    (64, 64, 128),
    (64, 0, 128),
    (64, 64, 0),
    (0, 128, 192),
)
UNLABELLED = len(CLASSES)


def open_split(root: Path, split: str) -> GroundTruth:
    """Open a split: "train", "val" or "test". Raises GroundTruthError."""
    images = stems(root / "images" / split, ".jpg", ".png")
    folder = root / "labels" / split
    files = stems(folder, ".png")
    check_pairs(images, files, "labels", lambda name: folder / f"{name}.png")

    def read(name: str) -> Scene:
        path = files[name]
        labels = read_grey(path)
        if labels.max() > UNLABELLED:
            raise GroundTruthError(f"{path}: class {labels.max()}; the layout has 0..{UNLABELLED}")
        labels = np.where(labels == UNLABELLED, np.uint8(IGNORE), labels)
        return same_size(path, {"image": read_rgb(images[name]), "labels": labels})

    return GroundTruth("camvid", list(images), ("labels",), read, images.__getitem__, CLASSES, split)
