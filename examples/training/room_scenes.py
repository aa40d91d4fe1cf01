"""The project's own rendered rooms as pagnp reads them (pagnp/evaluate/layouts/rooms.py), in tensors."""

from pathlib import Path

from rooms import CLASSES, PALETTE

from pagnp.evaluate.layouts.rooms import open_split

from .dataset import Dataset, tensors_of

__all__ = ["CLASSES", "PALETTE", "dataset"]


def dataset(root: Path, split: str) -> Dataset:
    """Open the scenes that are in ROOT/SPLIT now."""
    return tensors_of(open_split(Path(root), split), CLASSES)
