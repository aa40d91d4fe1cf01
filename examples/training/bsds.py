"""BSDS500 as pagnp reads it (pagnp/evaluate/layouts/bsds.py), in tensors."""

from pathlib import Path

from pagnp.evaluate.layouts.bsds import open_split

from .dataset import Dataset, tensors_of


def dataset(root: Path, split: str) -> Dataset:
    """Open "train", "val", "test", or "trainval": the 300 images that the benchmark's rules allow for training."""
    return tensors_of(open_split(Path(root), split))
