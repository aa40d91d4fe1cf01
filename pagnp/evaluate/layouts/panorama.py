"""Panoramas with three truths, side by side: NAME_rgb.png, NAME_depth.png, NAME_normals.png, NAME_semantic.png.

The indoor frames of Stanford 2D-3D-S (Armeni et al. 2017). Depth is the distance along the ray, 512 steps a metre;
normals are local to each column, x to the left, y down, z to the camera. Only a model trained on such truths has scores
that mean something. Label 0 is "clutter or unknown" and counts as a class.
"""

from pathlib import Path

import numpy as np

from pagnp.errors import GroundTruthError
from pagnp.evaluate.classnames import read_classes
from pagnp.evaluate.groundtruth import GroundTruth, Scene, read_grey, read_normals, read_rgb, same_size, stems

STEPS = 512  # of depth in a metre
NO_DEPTH = 65535


def open_folder(root: Path) -> GroundTruth:
    """Open the frames of a folder. Raises GroundTruthError."""
    images = {stem.removesuffix("_rgb"): path for stem, path in stems(root, ".png").items() if stem.endswith("_rgb")}
    if not images:
        raise GroundTruthError(f"{root}: no *_rgb.png in it; give the folder of the frames")

    def read(name: str) -> Scene:
        path = root / f"{name}_depth.png"
        steps = read_grey(path, bits=16)
        return same_size(
            path,
            {
                "image": read_rgb(images[name]),
                "labels": read_grey(root / f"{name}_semantic.png"),
                "depth": np.where(steps == NO_DEPTH, 0, steps / STEPS).astype(np.float32),
                "normals": read_normals(root / f"{name}_normals.png"),
            },
        )

    kinds = ("labels", "depth", "normals")
    return GroundTruth("panorama", list(images), kinds, read, images.__getitem__, read_classes(root, root.parent))
