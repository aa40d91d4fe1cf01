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
from typing import Any

import numpy as np
import torch
from PIL import Image

IGNORE = 255


class DataError(Exception):
    """A data set's folder is not as its layout says; the message is for the user."""


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


def read_rgb(path: Path) -> torch.Tensor:
    """Read an image file as (3, h, w) uint8."""
    with Image.open(path) as image:
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).contiguous()


def read_grey(path: Path, bits: int = 8) -> np.ndarray[Any, Any]:
    """Read a grey PNG as it is stored; 16 bits must not pass through 8."""
    with Image.open(path) as image:
        if image.mode not in {8: ("L", "P"), 16: ("I;16", "I")}[bits]:
            raise DataError(f"{path}: {bits}-bit grey wanted, the file is of mode {image.mode}")
        return np.array(image)


def stems(folder: Path, suffix: str) -> list[str]:
    """Return the sorted names, without suffix, of the files of a folder."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; --data must name the data set's own folder")
    names = sorted(path.stem for path in folder.glob(f"*{suffix}") if not path.name.startswith("."))
    if not names:
        raise DataError(f"{folder}: no *{suffix} in it")
    return names


def same_size(path: Path, scene: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the scene if all its maps have the image's size."""
    for name, value in scene.items():
        if value.shape[-2:] != scene["image"].shape[-2:]:
            sizes = f"{tuple(value.shape[-2:])} against {tuple(scene['image'].shape[-2:])}"
            raise DataError(f"{path}: {name} and image differ in size, {sizes}")
    return scene
