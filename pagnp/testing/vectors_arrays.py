"""Arrays in files that anybody may have written: raw little-endian bytes, .npy, and .npy inside a ZIP (NPZ).

Nothing is unpickled, and nothing is read before its size, dtype and shape are known to be the ones expected.
"""

import os
import stat
import zipfile
import zlib
from collections import Counter
from typing import IO

import numpy as np
import numpy.typing as npt

from pagnp.errors import UsageError
from pagnp.testing.vectors import DTYPES, Stored
from pagnp.types import Array, FilePath

HEADER_BYTES = 4096  # an honest .npy header has 128
COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
ARCHIVE_FAULTS = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)


def to_bytes(array: npt.ArrayLike) -> bytes:
    """Return the elements as little-endian bytes in C order, bool as 0 and 1."""
    array = np.asarray(array)
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def from_bytes(content: bytes, stored: Stored) -> Array:
    """Return the array of `stored`'s dtype and shape whose bytes are `content`; bool as uint8, as it is stored."""
    array = np.ndarray(stored.shape, DTYPES[stored.dtype], buffer=content)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def read_raw(path: FilePath, stored: Stored) -> Array:
    """Read a file of raw little-endian elements. Raises UsageError if it is no file or not of the size expected."""
    with _opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size != stored.nbytes:
            raise UsageError(f"{path}: has {size} bytes, need {stored.nbytes} for {stored}")
        return from_bytes(_exactly(file, stored.nbytes, path), stored)


def read_npy(path: FilePath, stored: Stored) -> Array:
    """Read a .npy file. Raises UsageError if it is damaged or not of the dtype and shape expected."""
    with _opened(path) as file:
        return _read_npy(file, os.fstat(file.fileno()).st_size, stored, str(path))


class Archive:
    """An open NPZ file, whose members are read one by one; use it in a `with` statement.

    Raises: UsageError if the file is missing or no ZIP.
    """

    def __init__(self, path: FilePath) -> None:
        self.path = path
        self._file = _opened(path)
        try:
            self._zip = zipfile.ZipFile(self._file)
        except (*ARCHIVE_FAULTS, OSError) as error:
            self._file.close()
            raise UsageError(f"{path}: is no NPZ file, or a damaged one ({_said(error)})") from error
        self.keys = Counter(name.removesuffix(".npy") for name in self._zip.namelist())

    def read(self, key: str, stored: Stored) -> Array:
        """Return the array `key`. Raises UsageError if it is missing, damaged or not what is expected."""
        label = f"{self.path}: {key}"
        if self.keys[key] != 1:
            raise UsageError(f"{label}: is there {self.keys[key]} times, need 1")
        try:
            member = self._zip.getinfo(f"{key}.npy")
            if member.compress_type not in COMPRESSIONS:
                raise UsageError(f"{label}: is compressed in a way that NumPy does not write; use numpy.savez")
            with self._zip.open(member) as stream:
                return _read_npy(stream, member.file_size, stored, label)
        except UsageError:
            raise
        except KeyError as error:
            raise UsageError(f"{label}: is no .npy; write the file with numpy.savez") from error
        except (*ARCHIVE_FAULTS, OSError) as error:
            raise UsageError(f"{label}: is damaged ({_said(error)})") from error

    def __enter__(self) -> "Archive":
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()
        self._file.close()


def _opened(path):
    """Return the open regular file `path`: opening a pipe would wait for ever, a device has no size."""
    try:
        file = open(path, "rb") if stat.S_ISREG(os.stat(path).st_mode) else None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    if file is None:
        raise UsageError(f"{path}: is not a file")
    return file


def _read_npy(stream: IO[bytes], size: int, stored: Stored, label: str) -> Array:
    """Read one .npy of `size` bytes in all."""
    if size > stored.nbytes + HEADER_BYTES:
        raise UsageError(f"{label}: has {size} bytes, need {stored.nbytes} and a header for {stored}")
    shape, by_column, dtype = _npy_header(stream, label)
    want = (DTYPES[stored.dtype], "|b1") if stored.dtype == "bool" else (DTYPES[stored.dtype],)
    if dtype.str not in want or shape != stored.shape:
        raise UsageError(f"{label}: is {dtype.name} {dtype.str} {shape}, need {stored}, little-endian")
    content = _exactly(stream, stored.nbytes, label)
    if by_column:
        turned = np.ndarray(shape[::-1], DTYPES[stored.dtype], buffer=content).transpose()
        content = np.ascontiguousarray(turned).tobytes()
    return from_bytes(content, stored)


def _npy_header(stream, label):
    """Return (shape, whether in Fortran order, dtype)."""
    try:
        version = np.lib.format.read_magic(stream)
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in readers:
            raise ValueError(f"version {version}")
        return readers[version](stream)
    except (*ARCHIVE_FAULTS, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise UsageError(f"{label}: is no .npy, or a damaged one ({_said(error)})") from error


def _exactly(stream, count, label):
    """Return the `count` bytes that are left in `stream`."""
    content = stream.read(count + 1)
    if len(content) != count:
        raise UsageError(f"{label}: holds {'more' if len(content) > count else 'fewer'} than {count} bytes of elements")
    return content


def _said(error, limit=100):
    """Return an exception's text as a short line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= limit else text[:limit] + " ..."
