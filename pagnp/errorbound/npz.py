"""NPZ files of strangers: names, shapes and dtypes first, from the headers alone; data only when asked. No pickles."""

import contextlib
import math
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from pagnp.errors import ModelFileError
from pagnp.h5guard import shown
from pagnp.types import Array, FilePath

MAX_ENTRIES = 20_000
FIX = "save it with numpy.savez and one float32 array a name"


@dataclass(frozen=True)
class Entry:
    """An array of the file that has not been read: the member's name in the archive, shape and dtype."""

    member: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def refuse(path: FilePath, key: str, problem: str) -> NoReturn:
    """Raise ModelFileError `FILE: KEY PROBLEM`; the key may be empty."""
    raise ModelFileError(f"{shown(path)}: {shown(key) + ' ' if key else ''}{problem}")


class Archive:
    """An open NPZ file: `entries` (key -> Entry) from the headers alone, `read(key)` an array. Close it, or use `with`.

    Raises: ModelFileError naming the file and the key: missing, no NPZ, damaged, Python objects, one name twice, sizes
            that disagree with the file's own table.
    """

    def __init__(self, path: FilePath) -> None:
        self.path = path
        if not os.path.isfile(path):
            refuse(path, "", "does not exist or is no file; check the path")
        with _reading(path):
            self._archive = zipfile.ZipFile(path)
        try:
            with _reading(path):
                self.entries = _entries(path, self._archive)
        except ModelFileError:
            self.close()
            raise

    def read(self, key: str) -> Array:
        """Return the array of a key, in native byte order. Raises ModelFileError if it is damaged."""
        with _reading(self.path, key), self._archive.open(self.entries[key].member) as member:
            array = np.lib.format.read_array(member, allow_pickle=False)
        return array.astype(array.dtype.newbyteorder("="), copy=False)

    def close(self) -> None:
        """Close the file."""
        self._archive.close()

    def __enter__(self) -> "Archive":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


@contextlib.contextmanager
def _reading(path: FilePath, key: str = "") -> Iterator[None]:
    """Turn what zipfile, zlib and NumPy raise on damaged files into a ModelFileError."""
    what = f"{shown(path)}: {shown(key) + ' ' if key else ''}"
    try:
        yield
    except zipfile.BadZipFile as error:
        raise ModelFileError(f"{what}is no NPZ file, or damaged ({shown(str(error))}); {FIX}") from error
    except (zlib.error, struct.error, OSError, EOFError, ValueError, KeyError, RuntimeError) as error:
        raise ModelFileError(f"{what}is damaged ({shown(str(error))}); save it again") from error


def _entries(path, archive):
    members = archive.infolist()
    if len(members) > MAX_ENTRIES:
        refuse(path, "", f"has {len(members)} entries, need at most {MAX_ENTRIES}")
    if any(member.filename.endswith("data.pkl") for member in members):
        refuse(path, "", f"is a torch checkpoint (a pickle, which can run code); {FIX}")
    found = {}
    for member in members:
        key = member.filename.removesuffix(".npy")
        if key in found:
            refuse(path, key, "is in the file twice; keep one")
        found[key] = _header(path, archive, member, key)
    if not found:
        refuse(path, "", f"holds no arrays; {FIX}")
    return found


def _header(path, archive, member, key):
    """Return the Entry of a member whose declared size is that of its header."""
    if not member.filename.endswith(".npy"):
        refuse(path, key, f"is no .npy array; {FIX}")
    with archive.open(member) as stream:
        try:
            version = np.lib.format.read_magic(stream)
            if version not in ((1, 0), (2, 0)):
                refuse(path, key, f"has npy version {version}, need 1.0 or 2.0; save it again")
            parse = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = parse(stream)
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
            raise ModelFileError(
                f"{shown(path)}: {shown(key)} is no .npy array ({shown(str(error))}); {FIX}"
            ) from error
        rest = member.file_size - stream.tell()
    if dtype.hasobject:
        refuse(path, key, f"holds Python objects, which can run code; {FIX}")
    if math.prod(shape) * dtype.itemsize != rest:
        refuse(path, key, f"declares {math.prod(shape) * dtype.itemsize} bytes but has {rest}; save it again")
    return Entry(member.filename, tuple(shape), dtype)
