"""Panoramas with three truths, side by side: NAME_rgb.png, NAME_depth.png, NAME_normals.png, NAME_semantic.png.

The indoor frames of Stanford 2D-3D-S (Armeni et al. 2017). Depth is the distance along the ray, 512 steps a metre;
normals are local to each column, x to the left, y down, z to the camera. Only a model trained on such truths has scores
that mean something. Label 0 is "clutter or unknown" and counts as a class.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from pagnp.errors import GroundTruthError
from pagnp.evaluate.classnames import read_classes
from pagnp.evaluate.groundtruth import (
    GroundTruth,
    Scene,
    check_pairs,
    read_grey,
    read_normals,
    read_rgb,
    same_size,
    stems,
)
from pagnp.types import Array

STEPS = 512  # of depth in a metre
NO_DEPTH = 65535
ENDINGS = {"labels": "_semantic", "depth": "_depth", "normals": "_normals"}


def open_folder(root: Path) -> GroundTruth:
    """Open the frames of a folder. Raises GroundTruthError."""
    files = stems(root, ".png")
    images = _ending(files, "_rgb")
    if not images:
        raise GroundTruthError(f"{root}: no *_rgb.png in it; give the folder of the frames")
    truths = {kind: _truths(root, files, images, kind) for kind in ENDINGS}

    def read(name: str) -> Scene:
        scene = {"image": read_rgb(images[name])}
        for kind, paths in truths.items():
            scene[kind] = READERS[kind](paths[name])
            same_size(paths[name], scene)
        return scene

    classes = read_classes(root, root.parent)
    return GroundTruth("panorama", list(images), tuple(ENDINGS), read, images.__getitem__, classes)


def _ending(files, ending):
    """Return {name: path} of the files {stem: path} whose stem ends so."""
    return {stem.removesuffix(ending): path for stem, path in files.items() if stem.endswith(ending)}


def _truths(root, files, images, kind):
    """Return {name: path} of one kind of truths, of which every image needs one."""
    truths = _ending(files, ENDINGS[kind])
    check_pairs(images, truths, kind, lambda name: root / f"{name}{ENDINGS[kind]}.png")
    return truths


def _read_depth(path: Path) -> Array:
    steps = read_grey(path, bits=16)
    return np.where(steps == NO_DEPTH, 0, steps / STEPS).astype(np.float32)


READERS: dict[str, Callable[[Path], Array]] = {"labels": read_grey, "depth": _read_depth, "normals": read_normals}
