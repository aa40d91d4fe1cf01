"""Rendered rooms with all four truths: SPLIT/NNNNNN.npz, or NNNNNN.npz, as examples/rooms/make.py writes them."""

import re
from pathlib import Path

import numpy as np

from pagnp.errors import GroundTruthError, ModelFileError
from pagnp.evaluate.classnames import read_classes
from pagnp.evaluate.groundtruth import GroundTruth, Scene, same_size
from pagnp.image import MAX_PIXELS
from pagnp.npzfile import Archive

KINDS = ("labels", "boundary", "depth", "normals")
FLOATS = ("float16", "float32", "float64")
SHAPES = {  # of a map: the axes behind (h, w), the dtypes
    "image": ((3,), ("uint8",)),
    "labels": ((), ("uint8", "uint16")),
    "boundary": ((), ("bool", *FLOATS)),
    "depth": ((), FLOATS),
    "normals": ((3,), FLOATS),
}


def is_scene(path: Path) -> bool:
    """True if the file is named as a rendered scene."""
    return re.fullmatch(r"\d{6}\.npz", path.name) is not None


def open_split(root: Path, split: str | None) -> GroundTruth:
    """Open the scenes that are in ROOT/SPLIT now, or in ROOT itself. Raises GroundTruthError."""
    folder = root if split is None else root / split
    if not folder.is_dir():
        raise GroundTruthError(f"{folder}: no such folder; render scenes with examples/rooms/make.py --out {folder}")
    names = sorted(path.name for path in folder.iterdir() if is_scene(path))
    if not names:
        raise GroundTruthError(f"{folder}: no scenes; render some with examples/rooms/make.py --out {folder}")
    classes = read_classes(folder, root)
    return GroundTruth("rooms", names, KINDS, lambda name: read_scene(folder / name), folder.joinpath, classes, split)


def read_scene(path: Path) -> Scene:
    """Read a scene: labels as stored; boundary, depth and normals float32. Raises GroundTruthError."""
    try:
        with Archive(path) as archive:
            for kind in SHAPES:
                _check(path, kind, archive.entries.get(kind))
            scene = {kind: archive.read(kind).copy() for kind in SHAPES}
    except ModelFileError as error:  # of any NPZ file; it names the file
        raise GroundTruthError(str(error)) from error
    for kind in ("boundary", "depth", "normals"):
        scene[kind] = scene[kind].astype(np.float32)
    return same_size(path, scene)


def _check(path, kind, entry):
    """Raise GroundTruthError unless an Entry (None: missing) is what the map `kind` has to be."""
    axes, dtypes = SHAPES[kind]
    have = "missing" if entry is None else f"{entry.dtype} {entry.shape}"
    fits = entry is not None and len(entry.shape) >= 2 and entry.shape[2:] == axes and entry.dtype.name in dtypes
    if not fits or not 0 < entry.shape[0] * entry.shape[1] <= MAX_PIXELS:
        need = f"{' or '.join(dtypes)} (h, w{', 3' if axes else ''})"
        raise GroundTruthError(f"{path}: {kind} is {have}, need {need}; render the scene again")
