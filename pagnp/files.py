"""Write files whole or not at all: under a temporary name in the same folder, then renamed."""

import contextlib
import io
import os
import secrets
from pathlib import Path

from PIL import Image, PngImagePlugin

from pagnp.errors import UsageError


def write_atomic(path, content, overwrite=True):
    """Write the bytes `content` to `path`; a reader sees the old file or the new one, never a part.

    Raises: UsageError if the file exists and `overwrite` is false, or if the folder cannot be written to (missing,
            read-only, disk full). Whatever happens, Ctrl-C too, no temporary file stays behind.
    """
    path = Path(path)
    if path.is_dir():
        raise UsageError(f"{path}: is a folder, cannot write a file of that name; choose another one")
    temporary = path.with_name(f".pagnp-{secrets.token_hex(8)}.tmp")
    try:
        try:
            with open(temporary, "xb") as file:
                file.write(content)
            _publish(temporary, path, overwrite)
        finally:
            temporary.unlink(missing_ok=True)
    except FileExistsError as error:
        raise UsageError(f"{path}: exists already; add --overwrite or choose another folder") from error
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise UsageError(
            f"{path}: cannot write to folder {path.parent} ({reason}); free space there or choose another folder"
        ) from error


def _publish(temporary, path, overwrite):
    """Give `temporary` its final name in one step. Raises FileExistsError if it is taken and must not be."""
    if overwrite:
        os.replace(temporary, path)
        return
    if os.path.lexists(path):
        raise FileExistsError(path)
    with contextlib.suppress(OSError):  # no hard links on this file system: below, with the check made above
        os.link(temporary, path)
        return
    if os.path.lexists(path):
        raise FileExistsError(path)
    os.replace(temporary, path)


def save_png_atomic(path, picture, text=None, overwrite=True):
    """Write `picture` (PIL image, or array as PIL takes it: (h, w) or (h, w, 3) uint8, (h, w) uint16) as PNG.

    text    dict of str for the PNG's text entries
    Raises: UsageError as `write_atomic`.
    """
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    info = PngImagePlugin.PngInfo()
    for key, value in (text or {}).items():
        info.add_text(key, value)
    encoded = io.BytesIO()
    image.save(encoded, "PNG", pnginfo=info)
    write_atomic(path, encoded.getvalue(), overwrite)
