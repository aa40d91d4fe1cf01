"""BSDS500: photographs with boundaries by several people, as images/SPLIT/ID.jpg and boundaries_bits/SPLIT/ID.png.

Bit a of the 16-bit map is set where annotator a marks a boundary; index.csv tells how many annotators an image has.
Arbelaez, Maire, Fowlkes, Malik 2011.
"""

import csv
from pathlib import Path

import numpy as np
import torch

from .dataset import DataError, Dataset, read_grey, read_rgb, same_size, stems


def annotators(root: Path) -> dict[tuple[str, str], int]:
    """Read {(split, id): number of annotators} from index.csv."""
    path = Path(root) / "index.csv"
    if not path.is_file():
        raise DataError(f"{path}: missing; it tells the number of annotators of each image")
    with open(path, newline="") as file:
        return {(row["split"], row["id"]): int(row["annotators"]) for row in csv.DictReader(file)}


def each_annotator(bits: np.ndarray, count: int) -> np.ndarray:
    """Unpack a 16-bit map into (count, h, w) bool, one map an annotator."""
    return ((bits[None].astype(np.uint16) >> np.arange(count, dtype=np.uint16)[:, None, None]) & 1).astype(bool)


def dataset(root: Path, split: str) -> Dataset:
    """Open "train", "val", "test", or "trainval": the 300 images that the benchmark's rules allow for training."""
    parts = ("train", "val") if split == "trainval" else (split,)
    root, counts = Path(root), annotators(root)
    names = [f"{part}/{name}" for part in parts for name in stems(root / "images" / part, ".jpg")]

    def read_scene(name: str) -> dict[str, torch.Tensor]:
        part, stem = name.split("/")
        path = root / "boundaries_bits" / part / f"{stem}.png"
        if (part, stem) not in counts:
            raise DataError(f"{root / 'index.csv'}: no row for {name}")
        marks = each_annotator(read_grey(path, bits=16), counts[part, stem])
        boundary = torch.from_numpy(marks.mean(0, dtype=np.float32))
        return same_size(path, {"image": read_rgb(root / "images" / f"{name}.jpg"), "boundary": boundary})

    return Dataset(names, read_scene)
