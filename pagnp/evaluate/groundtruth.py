"""A set of images with what is true of them: its scenes by name, read one at a time. The layouts make them.

A scene is a dict of arrays, all of one size (h, w):
    image     (h, w, 3) uint8
    labels    (h, w) uint8 or uint16   class; the largest value of the dtype where there is none
    boundary  (a, h, w) bool           one map an annotator; or (h, w) bool or float, the share who marked the pixel
    depth     (h, w) float             metres, 0 where unknown
    normals   (h, w, 3) float          unit vectors, (0, 0, 0) where unknown
Only `image` is always there.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL.PngImagePlugin import PngImageFile

from pagnp.errors import GroundTruthError, ImageError
from pagnp.image import MAX_PIXELS, load_image
from pagnp.imageguard import PNG, screen
from pagnp.types import Array

Scene = dict[str, Array]
IGNORE = 255  # of uint8 labels
TRUTH = {"segmentation": "labels", "boundary": "boundary", "depth": "depth", "normals": "normals"}  # task -> its truth


@dataclass(frozen=True)
class GroundTruth:
    """One split of a data set.

    layout   name of how its files lie
    names    of the scenes, in the order in which they are scored
    kinds    which truths a scene has
    read     name -> Scene. Raises GroundTruthError, ImageError
    image    name -> the image's path, or the file that holds it
    classes  names of the labels' classes, None where the folder does not tell
    split    which part of the set this is, None where it has no parts
    """

    layout: str
    names: Sequence[str]
    kinds: tuple[str, ...]
    read: Callable[[str], Scene]
    image: Callable[[str], Path]
    classes: tuple[str, ...] | None = None
    split: str | None = None


def ignored_label(labels: Array) -> int:
    """Return the label that stands for no class: the largest of its dtype."""
    return int(np.iinfo(labels.dtype).max)


def read_rgb(path: Path) -> Array:
    """Read an image file as (h, w, 3) uint8. Raises ImageError."""
    return load_image(path).pixels.copy()  # Pillow's own memory is read-only


def read_grey(path: Path, bits: int = 8, indexed: bool = True) -> Array:
    """Read a grey PNG as it is stored, uint8 or uint16: 16 bits must not pass through 8.

    indexed  take the indices of an indexed PNG of 8 bits, too

    Raises: GroundTruthError.
    """
    array, mode = _read_png(path)
    if mode not in {8: ("L", "P")[: 1 + indexed], 16: ("I;16", "I")}[bits]:
        raise GroundTruthError(f"{path}: {bits}-bit grey wanted, the file is of mode {mode}")
    return array.astype({8: np.uint8, 16: np.uint16}[bits], copy=False)


def read_labels(path: Path) -> Array:
    """Read a label map: a PNG of 8 bits, grey or indexed, or of 16 bits, grey. Raises GroundTruthError."""
    array, mode = _read_png(path)
    if mode in ("L", "P"):
        return array
    if mode in ("I;16", "I"):
        return array.astype(np.uint16)
    raise GroundTruthError(f"{path}: a grey or indexed PNG wanted, the file is of mode {mode}")


def read_normals(path: Path) -> Array:
    """Read an RGB PNG as normals (h, w, 3) float32, n = (value - 127.5) / 127.5; far from unit length: (0, 0, 0)."""
    array, mode = _read_png(path)
    if mode != "RGB":
        raise GroundTruthError(f"{path}: 8-bit RGB wanted, the file is of mode {mode}")
    normals = (array.astype(np.float32) - 127.5) / 127.5
    length = np.sqrt((normals * normals).sum(2))
    normals[(length < 0.8) | (length > 1.1)] = 0  # grey (128, 128, 128) is the usual mark for "none"
    return normals


def _read_png(path):
    """Return a PNG's values as they are stored, and its mode."""
    try:
        with open(path, "rb") as file:
            header = file.read(26)
            file.seek(0)
            screened = screen(file, path, MAX_PIXELS)
            if screened.format != PNG:
                raise GroundTruthError(f"{path}: a PNG wanted, the file is {screened.format}; save it as PNG")
            with PngImageFile(screened.file) as image:
                image.load()
                narrow = image.mode == "L" and header[24] < 8  # Pillow would scale the values
                return np.array(image), f"{header[24]}-bit grey" if narrow else image.mode
    except FileNotFoundError as error:
        raise GroundTruthError(f"{path}: no such file; every image needs its ground truth") from error
    except ImageError as error:
        raise GroundTruthError(str(error)) from error
    except (OSError, SyntaxError, ValueError) as error:
        raise GroundTruthError(f"{path}: cannot be read ({error}); get the file again") from error


def stems(folder: Path, *suffixes: str) -> dict[str, Path]:
    """Return stem -> path, sorted, of the files with these suffixes. Raises GroundTruthError if there is none."""
    if not folder.is_dir():
        raise GroundTruthError(f"{folder}: no such folder; give the data set's own folder, and a split that it has")
    try:
        inside = sorted(folder.iterdir())
    except OSError as error:
        raise GroundTruthError(f"{folder}: cannot be read ({error}); check its permissions") from error
    files = [path for path in inside if path.suffix.lower() in suffixes and path.name[0] != "."]
    if not files:
        raise GroundTruthError(f"{folder}: no {' or '.join('*' + suffix for suffix in suffixes)} in it")
    found: dict[str, Path] = {}
    for path in files:
        if found.setdefault(path.stem, path) is not path:
            raise GroundTruthError(f"{folder}: {found[path.stem].name} and {path.name} have one name; keep one of them")
    return found


def check_pairs(images: Collection[str], truths: Mapping[str, Path], kind: str, path_of: Callable[[str], Path]) -> None:
    """Raise GroundTruthError unless every image has its truth and every truth its image.

    images   their names;  truths: name -> path
    kind     of the truths, for the message;  path_of: where the truth of an image has to be
    """
    for name in images:
        if name not in truths:
            raise GroundTruthError(f"{path_of(name)}: no such file; every image needs its {kind}")
    for name, path in truths.items():
        if name not in images:
            raise GroundTruthError(f"{path}: has no image; get the image again, or take its ground truth away")


def same_size(path: Path, scene: Scene) -> Scene:
    """Return the scene if all its maps have the image's size. Raises GroundTruthError."""
    size = scene["image"].shape[:2]
    for kind, value in scene.items():
        found = value.shape[1:] if kind == "boundary" and value.ndim == 3 else value.shape[:2]
        if found != size:
            raise GroundTruthError(f"{path}: {kind} and image differ in size, {found} against {size}")
    return scene
