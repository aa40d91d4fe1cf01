"""The project's own rendered rooms with all four truths: ROOT/SPLIT/NNNNNN.npz as examples/rooms/make.py writes."""

import re
from pathlib import Path

import numpy as np
import torch
from rooms import CLASSES, PALETTE

from .dataset import DataError, Dataset, same_size

__all__ = ["CLASSES", "PALETTE", "dataset"]


def dataset(root: Path, split: str) -> Dataset:
    """Open the scenes that are in ROOT/SPLIT now."""
    folder = Path(root) / split
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; render scenes with examples/rooms/make.py --out {folder}")
    names = sorted(path.name for path in folder.iterdir() if re.fullmatch(r"\d{6}\.npz", path.name))
    if not names:
        raise DataError(f"{folder}: no scenes; render some with examples/rooms/make.py --out {folder}")

    def read_scene(name: str) -> dict[str, torch.Tensor]:
        with np.load(folder / name) as arrays:
            scene = {
                "image": torch.from_numpy(arrays["image"]).permute(2, 0, 1).contiguous(),
                "labels": torch.from_numpy(arrays["labels"]),
                "boundary": torch.from_numpy(arrays["boundary"].astype(np.float32)),
                "depth": torch.from_numpy(arrays["depth"].astype(np.float32)),
                "normals": torch.from_numpy(arrays["normals"].astype(np.float32)).permute(2, 0, 1).contiguous(),
            }
        return same_size(folder / name, scene)

    return Dataset(names, read_scene)
