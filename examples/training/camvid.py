"""CamVid: road scenes in 11 classes, as images/SPLIT/NAME.jpg (or .png) and labels/SPLIT/NAME.png (0..10, 11 ignored).

Brostow, Fauqueur, Cipolla 2009; the split and the 11 classes are those of the SegNet papers.
"""

from pathlib import Path

import torch

from .dataset import IGNORE, DataError, Dataset, read_grey, read_rgb, same_size, stems

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


def dataset(root: Path, split: str) -> Dataset:
    """Open a split: "train", "val" or "test"."""
    folder = Path(root) / "images" / split
    suffix = ".jpg" if folder.is_dir() and any(folder.glob("*.jpg")) else ".png"

    def read_scene(name: str) -> dict[str, torch.Tensor]:
        path = Path(root) / "labels" / split / f"{name}.png"
        labels = torch.from_numpy(read_grey(path))
        if int(labels.max()) > UNLABELLED:
            raise DataError(f"{path}: class {int(labels.max())}; the layout has 0..{UNLABELLED}")
        labels = torch.where(labels == UNLABELLED, torch.tensor(IGNORE, dtype=torch.uint8), labels)
        return same_size(path, {"image": read_rgb(folder / f"{name}{suffix}"), "labels": labels})

    return Dataset(stems(folder, suffix), read_scene)
