"""The plain layout: images/ beside labels/, depth/, normals/, boundary/, with files of the same names.

    images/NAME.png      or .jpg .jpeg .tif .tiff
    labels/NAME.png      8 bits, grey or indexed: the class, 255 for none; or 16 bits, 65535 for none
    depth/NAME.png       16-bit grey: millimetres, 0 for unknown; or NAME.npy: float (h, w), metres
    normals/NAME.png     8-bit RGB: (value - 127.5) / 127.5 for x y z, grey for unknown; or NAME.npy: float (h, w, 3)
    boundary/NAME.png    8-bit grey: a boundary from 128 on; or NAME/*.png: one such map an annotator
    classes.csv          columns value, name (optional)

All may have a level SPLIT/ between. Axes of the normals and the kind of depth are those of the model.
"""

from collections.abc import Callable
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from pagnp.errors import GroundTruthError
from pagnp.evaluate.classnames import read_classes
from pagnp.evaluate.groundtruth import (
    GroundTruth,
    Scene,
    check_pairs,
    read_grey,
    read_labels,
    read_normals,
    read_rgb,
    same_size,
    stems,
)
from pagnp.image import EXTENSIONS
from pagnp.types import Array

MILLIMETRES = 1000  # in a metre
MARKED = 128  # from this value on a pixel of a boundary map is marked
SUFFIXES = {"labels": (".png",), "depth": (".png", ".npy"), "normals": (".png", ".npy"), "boundary": (".png",)}


def open_folders(root: Path, split: str | None) -> GroundTruth:
    """Open ROOT/images with the truths beside it. Raises GroundTruthError, also where a file has no partner."""
    level = split or ""
    images = stems(root / "images" / level, *EXTENSIONS)
    kinds = tuple(kind for kind in READERS if (root / kind / level).is_dir())
    if not kinds:
        raise GroundTruthError(
            f"{root}: no ground truth; need {', '.join(f'{kind}/' for kind in READERS)} or one of them"
        )
    splits = {path.name for path in (root / "images").iterdir() if path.is_dir()}
    files = {kind: _partners(root / kind / level, images, kind, splits) for kind in kinds}

    def read(name: str) -> Scene:
        scene = {"image": read_rgb(images[name])}
        for kind in kinds:
            scene[kind] = READERS[kind](files[kind][name])
            same_size(files[kind][name], scene)
        return scene

    return GroundTruth("folders", list(images), kinds, read, images.__getitem__, read_classes(root), split)


def _partners(folder, images, kind, splits):
    """Return {image name: the file, or the folder of maps, that holds a truth of it}; `splits` are no such folders."""
    suffixes = SUFFIXES[kind]
    inside = [path for path in sorted(folder.iterdir()) if path.name[0] != "."]
    found: dict[str, Path] = {}
    for path in inside:
        if path.suffix.lower() in suffixes and found.setdefault(path.stem, path) is not path:
            raise GroundTruthError(f"{path}: stands beside {found[path.stem].name}; keep one of them")
    if kind == "boundary":
        for path in inside:
            if path.is_dir() and path.name not in splits and found.setdefault(path.name, path) is not path:
                raise GroundTruthError(f"{path}: stands beside {found[path.name].name}; keep one of them")
    check_pairs(images, found, kind, lambda name: folder / f"{name}.png")
    return found


def _read_depth(path: Path) -> Array:
    if path.suffix.lower() == ".npy":
        return _read_npy(path, 2)
    return (read_grey(path, bits=16) / MILLIMETRES).astype(np.float32)


def _read_normals(path: Path) -> Array:
    return _read_npy(path, 3) if path.suffix.lower() == ".npy" else read_normals(path)


def _read_boundary(path: Path) -> Array:
    """Return bool (a, h, w)."""
    files = list(stems(path, ".png").values()) if path.is_dir() else [path]
    maps = [_read_marks(file) for file in files]
    for file, one in zip(files, maps, strict=True):
        if one.shape != maps[0].shape:
            raise GroundTruthError(f"{file}: is {one.shape}, {files[0].name} is {maps[0].shape}; sizes must agree")
    return np.stack(maps)


def _read_marks(path):
    """Return a boundary map as bool (h, w); values of 0 and 1, or indices of colours, would mark nothing unnoticed."""
    values = read_grey(path, indexed=False)
    if values.max() == 1:
        raise GroundTruthError(f"{path}: no value above 1; a boundary is {MARKED} or more, so save it as 0 and 255")
    return values >= MARKED


def _read_npy(path, axes):
    """Return a float array of a .npy file as float32, with (h, w) or (h, w, 3)."""
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise GroundTruthError(f"{path}: cannot be read ({error}); save it with numpy.save") from error
    if (
        not isinstance(array, np.ndarray)
        or array.dtype.kind != "f"
        or array.ndim != axes
        or array.shape[2:] not in ((), (3,))
    ):
        have = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else "an archive"
        raise GroundTruthError(f"{path}: is {have}, need float (h, w{', 3' * (axes == 3)})")
    return array.astype(np.float32)


READERS: dict[str, Callable[[Path], Array]] = {
    "labels": read_labels,
    "depth": _read_depth,
    "normals": _read_normals,
    "boundary": _read_boundary,
}
