"""Read pictures: PNG, JPEG and TIFF files, arrays and PIL images become (h, w, 3) uint8.

The contract begins at these pixels. What a file holds is told by its content, never by its name. `imageguard` looks at
a file first; of what it leaves, pixels are decoded by one of Pillow's three readers, called directly: Image.open would
try every format, and its size limit and warnings are global settings of the host program.
"""

import contextlib
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PillowImage
from PIL.ExifTags import Base as ExifTag
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from pagnp.contract import digest
from pagnp.errors import ImageError, MemoryLimitError
from pagnp.imageguard import JPEG, PNG, TIFF, screen
from pagnp.tiffguard import PHOTOMETRIC
from pagnp.types import FilePath, Pixels, Size

MAX_PIXELS = 200_000_000
EXTENSIONS = (".png", ".jpg", ".jpeg", ".tif", ".tiff")  # what is taken from a folder

# Palettes go by way of RGBA: on the direct way Pillow warns about those with transparency.
_TO_RGB = {"1": "RGB", "L": "RGB", "LA": "RGB", "P": "RGBA", "PA": "RGBA", "RGB": "RGB", "RGBA": "RGB", "RGBX": "RGB"}
_GREY16 = ("I;16", "I;16L", "I;16B", "I;16N")
_TURNS = {  # EXIF orientation -> how to bring the picture upright
    2: PillowImage.Transpose.FLIP_LEFT_RIGHT,
    3: PillowImage.Transpose.ROTATE_180,
    4: PillowImage.Transpose.FLIP_TOP_BOTTOM,
    5: PillowImage.Transpose.TRANSPOSE,
    6: PillowImage.Transpose.ROTATE_270,
    7: PillowImage.Transpose.TRANSVERSE,
    8: PillowImage.Transpose.ROTATE_90,
}
_MIN_IS_WHITE = 0  # of the tag PHOTOMETRIC of TIFF 6.0


class _Tiff(TiffImageFile):
    """Pillow's reader without its size limit, a global setting of the host program that other readers do not ask."""

    def load_prepare(self):
        if getattr(self, "_im", None) is None:
            self.im = PillowImage.core.new(self.mode, getattr(self, "_tile_size", self.size))
        super().load_prepare()


_READERS = {PNG: PngImageFile, JPEG: JpegImageFile, TIFF: _Tiff}


@dataclass(frozen=True)
class Image:
    """Decoded pixels, C-contiguous (h, w, 3) uint8, and the file they came from (None for an array).

    on_device  the pixels as an array of a GPU, where they came from one
    """

    pixels: Pixels
    path: Path | None = None
    on_device: Any = None

    @property
    def size(self) -> Size:
        """(h, w)"""
        return self.pixels.shape[:2]

    @property
    def digest(self) -> str:
        """SHA-256 of the pixels by the contract's rule: it goes into receipts, because JPEG decoders differ."""
        # Not functools.cached_property: before Python 3.12 it holds a lock, which a forked child would find locked.
        found: str | None = self.__dict__.get("_digest")
        if found is None:
            found = self.__dict__["_digest"] = digest(self.pixels)
        return found


def load_image(path: FilePath, max_pixels: int = MAX_PIXELS) -> Image:
    """Read the PNG, JPEG or TIFF file at `path`, upright by its EXIF orientation, as an Image.

    16-bit channels become v >> 8, grey becomes RGB, alpha is dropped.
    Raises: ImageError (missing, damaged, another format, CMYK, float, several frames, more than `max_pixels` pixels by
            its header), MemoryLimitError.
    """
    path = Path(path)
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            kind = "a folder" if path.is_dir() else "a device or pipe"
            raise ImageError(f"{path}: is {kind}, not an image; give the file's name")
        with open(path, "rb") as file:
            return Image(_decode(file, path, max_pixels), path)
    except FileNotFoundError as error:
        raise ImageError(f"{path}: no such file; check its name") from error
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror or error}); check its permissions") from error
    except ValueError as error:  # a name with a zero byte
        raise ImageError(f"{str(path)!r}: cannot be read ({error}); check its name") from error


def from_array(x: Image | PillowImage.Image | Pixels) -> Image:
    """Return `x`, a (h, w, 3) or grey (h, w) uint8 array or PIL image, as an Image. Raises ImageError on all else."""
    if isinstance(x, Image):
        return x
    if isinstance(x, PillowImage.Image):
        with _complaints("image"):
            x.load()  # before the orientation is asked for: loading a TIFF turns it
        return Image(_pixels(x, "image", _orientation(x)))
    if not isinstance(x, np.ndarray):
        raise ImageError(f"image: got {type(x).__name__}; give a path, a PIL image or a (h, w, 3) uint8 array")
    if x.dtype != np.uint8:
        raise ImageError(f"image: the array is {x.dtype}, need uint8 with values 0 to 255")
    if x.ndim == 2:
        x = np.repeat(x[:, :, None], 3, axis=2)
    if x.ndim != 3 or x.shape[2] != 3 or 0 in x.shape:
        raise ImageError(f"image: the array is {x.shape}, need (h, w, 3) in RGB order, or (h, w) for grey")
    return Image(np.ascontiguousarray(x))


def find_images(paths: Iterable[FilePath]) -> list[Path]:
    """Return the Paths of the image files named by `paths`, each once: files as they are, folders with all below them.

    From a folder, files with one of EXTENSIONS (any case) are taken, sorted by path; hidden ones are left out.
    Raises: ImageError if a path does not exist, or a folder has no image or cannot be read.
    """
    found: dict[str, Path] = {}
    for path in map(Path, paths):
        if not os.path.lexists(path):
            raise ImageError(f"{path}: no such file or folder; check its name")
        for file in _images_below(path) if path.is_dir() else [path]:
            found.setdefault(os.path.realpath(file), file)
    return list(found.values())


def _images_below(folder):
    """Return the sorted image files in `folder` and its subfolders; links to folders are not followed."""

    def refuse(error):
        raise ImageError(f"{error.filename}: cannot be read ({error.strerror}); check its permissions") from error

    files = []
    for below, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        images = [name for name in names if name.lower().endswith(EXTENSIONS) and not name.startswith(".")]
        files += [Path(below, name) for name in images]
    if not files:
        raise ImageError(f"{folder}: no image in this folder; pagnp takes files named {' '.join(EXTENSIONS)}")
    return sorted(files)


@contextlib.contextmanager
def _complaints(name):
    """Turn every complaint of a decoder about the picture `name` into an ImageError."""
    try:
        yield
    except ImageError:
        raise
    except MemoryError as error:
        raise MemoryLimitError(f"{name}: not enough memory to decode it; use a smaller image") from error
    except Exception as error:  # on damaged files Pillow raises nearly anything: OSError, SyntaxError, struct.error ...
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{name}: damaged or cut short ({reason}); get the file again or save it anew") from error


def _decode(file, path, max_pixels):
    """Return the pixels of the open `file`."""
    screened = screen(file, path, max_pixels)
    with screened.file, contextlib.ExitStack() as stack:
        with _complaints(path):
            image = stack.enter_context(_READERS[screened.format](screened.file))
        if image.mode not in (*_TO_RGB, *_GREY16, "I"):  # before it is decoded
            _refuse_mode(image, path)
        with _complaints(path):
            image.load()
        return _pixels(image, path, screened.orientation)


def _refuse_mode(image, name):
    raise ImageError(f"{name}: has {image.mode} colours; pagnp reads grey, RGB and palettes: save it as 8-bit RGB")


def _pixels(image, name, orientation):
    """Return a loaded PIL image as (h, w, 3) uint8, upright."""
    if 0 in image.size:
        raise ImageError(f"{name}: has no pixels ({image.width} x {image.height})")
    if image.mode in _GREY16 or (image.mode == "I" and image.format == "PNG"):  # "I": Pillow before 11
        picture = PillowImage.fromarray(_grey16_to_8(image))
    elif image.mode in _TO_RGB:
        picture = image
    else:
        _refuse_mode(image, name)
    turn = _TURNS.get(orientation)
    if turn is not None:
        picture = picture.transpose(turn)
    with _complaints(name):  # of palettes
        picture = picture.convert(_TO_RGB[picture.mode])
    return np.ascontiguousarray(np.asarray(picture)[:, :, :3])


def _grey16_to_8(image):
    """Return the upper bytes of 16-bit grey; Pillow leaves a TIFF's white-is-zero scale as it is."""
    grey = np.asarray(image).astype(np.uint16)
    if getattr(image, "tag_v2", {}).get(PHOTOMETRIC) == _MIN_IS_WHITE:
        grey = ~grey
    return (grey >> 8).astype(np.uint8)


def _orientation(image):
    """Return the EXIF orientation, 1 where there is none. (Of a TIFF, load() has turned the image and removed it.)"""
    try:
        return int(image.getexif().get(ExifTag.Orientation, 1))
    except Exception:  # unreadable EXIF raises nearly anything; it says nothing about the orientation then
        return 1
