"""Write files whole or not at all: under a temporary name in the same folder, then renamed."""

import contextlib
import os
import secrets
from pathlib import Path

from pagnp.errors import UsageError


def write_atomic(path, content, overwrite=True):
    """Write the bytes `content` to `path`; a reader sees the old file or the new one, never a part.

    Raises: UsageError if the file exists and `overwrite` is false, or if the folder cannot be written to (missing,
            read-only, disk full). Whatever happens, Ctrl-C too, no temporary file stays behind.
    """
    path = Path(path)
    if os.path.isdir(path):  # unlike Path.is_dir, no error for a name that the system refuses
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
        raise _unwritable(path, error) from error


def make_folder(path):
    """Create the folder `path` and those above it where they are missing. Raises UsageError if that is refused."""
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(Path(path), error) from error


def _unwritable(path, error):
    """Return the UsageError for an OSError while `path` was being made."""
    reason = error.strerror or type(error).__name__
    return UsageError(
        f"{path}: cannot write to folder {path.parent} ({reason}); free space there or choose another folder"
    )


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
