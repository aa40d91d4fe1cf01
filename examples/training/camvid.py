"""CamVid as pagnp reads it (pagnp/evaluate/layouts/camvid.py), in tensors."""

from pathlib import Path

from pagnp.evaluate.layouts.camvid import CLASSES, PALETTE, open_split

from .dataset import Dataset, tensors_of

__all__ = ["CLASSES", "PALETTE", "dataset"]


def dataset(root: Path, split: str) -> Dataset:
    """Open a split: "train", "val" or "test"."""
    return tensors_of(open_split(Path(root), split), CLASSES)
