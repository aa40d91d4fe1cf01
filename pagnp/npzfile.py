"""Read NPZ files (zipped NumPy arrays) that may be hostile: nothing is evaluated, all is checked before it inflates.

numpy.load parses headers with Python's own parser and takes all that zipfile can unpack; here are only plain arrays,
stored or deflated, whose sizes agree with the file's. Everything raises ModelFileError `FILE: ENTRY is X, need Y; fix`.
"""

import contextlib
import math
import os
import re
import struct
import zipfile
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from pagnp.errors import ModelFileError
from pagnp.h5dataset import MAX_RANK, MAX_RATIO, RATIO_FREE
from pagnp.h5guard import refuse, shown
from pagnp.h5structure import MAX_ENTRIES
from pagnp.types import Array, FilePath

MAX_HEADER = 4096  # bytes; NumPy writes 128
# One of the three entries of a header, as NumPy 1 and 2 write them
_ENTRY = r"'descr'\s*:\s*'(?P<dtype>[<>|=]?[A-Za-z]\d{0,4})'|'fortran_order'\s*:\s*(?P<order>True|False)"
_ENTRY += r"|'shape'\s*:\s*\((?P<shape>[\d\s,]*)\)"
_HEADER = re.compile(rf"\{{\s*(?:(?:{_ENTRY})\s*,?\s*){{3}}\}}\s*")

# What zipfile raises on damaged archives
_ERRORS = (zipfile.BadZipFile, zlib.error, struct.error, OSError, EOFError, ValueError, RuntimeError, KeyError)


@dataclass(frozen=True)
class Entry:
    """An array of the file that has not been read: its member in the archive, and what its header says."""

    info: zipfile.ZipInfo
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool

    @property
    def bytes(self) -> int:
        """Size of the array."""
        return math.prod(self.shape) * self.dtype.itemsize


class Archive:
    """An open NPZ file: `entries` (name without .npy -> Entry) from the headers alone. Close it, or use `with`.

    Raises: ModelFileError: missing, no NPZ, damaged, Python objects, one name twice, sizes that disagree.
    """

    def __init__(self, path: FilePath) -> None:
        self.path = path
        if not os.path.isfile(path):
            refuse(path, "", "does not exist or is no file; check the path")
        with _reading(path):
            self._zip = zipfile.ZipFile(path)
        try:
            members = _members(path, self._zip)
            self.entries = {name: _entry(path, self._zip, info) for name, info in members.items()}
        except ModelFileError:
            self.close()
            raise

    def read(self, name: str) -> Array:
        """Return the array of a name, in native byte order. Raises ModelFileError if it is damaged."""
        entry = self.entries[name]
        with _reading(self.path, entry.info.filename), self._zip.open(entry.info) as member:
            member.read(entry.info.file_size - entry.bytes)
            content = member.read(entry.bytes)
            member.read(1)  # to its end, where zipfile compares the checksum
        if len(content) != entry.bytes:
            refuse(self.path, entry.info.filename, f"has {len(content)} of {entry.bytes} bytes; get the file again")
        array = np.frombuffer(content, entry.dtype).reshape(entry.shape, order="F" if entry.fortran else "C")
        return array.astype(entry.dtype.newbyteorder("="), copy=False)

    def close(self) -> None:
        """Close the file."""
        self._zip.close()

    def __enter__(self) -> "Archive":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def read(path, floats, check_total):
    """Return dict name -> array of the float arrays in `path`, and the names of its integer arrays, which stay unread.

    floats       the dtypes taken
    check_total  called with (path, sizes in bytes) before an array is read
    Raises:      ModelFileError, also where an array is compressed beyond what weights can be.
    """
    with Archive(path) as archive:
        for entry in archive.entries.values():
            _check_weight(path, entry, floats)
        wanted = {name: entry for name, entry in archive.entries.items() if entry.dtype.kind == "f"}
        check_total(path, [entry.bytes for entry in wanted.values()])
        arrays = {name: archive.read(name) for name in wanted}
        return arrays, [name for name in archive.entries if name not in arrays]


def refuse_pickle(path):
    """Raise ModelFileError for a torch checkpoint, which is never opened."""
    fix = "in torch, save its arrays with numpy.savez, or a state_dict with safetensors.torch.save_file"
    refuse(path, "", f"is a torch checkpoint (a pickle, which can run code); {fix}")


@contextlib.contextmanager
def _reading(path, name=""):
    """Turn the errors of zipfile and zlib into a ModelFileError that names the member. For their calls only."""
    try:
        yield
    except _ERRORS as error:
        place = f" ({shown(name)}: {shown(error)})" if name else f" ({shown(error)})"
        raise ModelFileError(f"{shown(path)}: is a damaged NPZ file{place}; save it again") from error


def _members(path, archive):
    """Return dict name (without .npy) -> ZipInfo. Reads no data."""
    infos = archive.infolist()
    if len(infos) > MAX_ENTRIES:
        refuse(path, "", f"has {len(infos)} entries, need at most {MAX_ENTRIES}; no network has so many")
    if any(info.filename.endswith("data.pkl") for info in infos):
        refuse_pickle(path)
    members = {}
    for info in infos:
        name = info.filename
        if not name.endswith(".npy"):
            refuse(path, name, "is no .npy array, need arrays only; save again with numpy.savez")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.flag_bits & 1:
            refuse(path, name, "is encrypted or compressed by a method other than deflate; save again with numpy.savez")
        if members.setdefault(name.removesuffix(".npy"), info) is not info:
            refuse(path, name, "is there twice, need each name once; save again with numpy.savez")
    stored, size = sum(info.compress_size for info in infos), os.path.getsize(path)
    if stored > size:
        refuse(path, "", f"has {size} bytes, but its entries say that they store {stored}; save it again")
    return members


def _entry(path, archive, info):
    """Return the Entry of a member, whose size must be what its header declares."""
    name = info.filename
    with _reading(path, name), archive.open(info) as member:
        start = member.read(12)
        version, count = start[6:8], 10 if start[6:7] == b"\1" else 12
        length = int.from_bytes(start[8:count], "little")
        text = (start[count:] + member.read(min(length, MAX_HEADER) + count - 12)).decode("latin-1")
    if not start.startswith(b"\x93NUMPY") or version not in (b"\1\0", b"\2\0") or length > MAX_HEADER:
        problem = "is no npy array of version 1.0 or 2.0" if start.startswith(b"\x93NUMPY") else "has no npy header"
        refuse(path, name, f"{problem} (a damaged NPZ file?); save again with numpy.savez")
    shape, fortran, dtype = _parsed(path, name, text)
    if dtype.hasobject:
        refuse(path, name, "is Python objects, need float32; save again as float32")
    entry, have = Entry(info, shape, dtype, fortran), info.file_size - count - length
    if entry.bytes != have:
        refuse(path, name, f"declares {entry.bytes} bytes but has {have}; save again")
    return entry


def _parsed(path, name, text):
    """Return (shape, whether in Fortran order, dtype) of a header's text."""
    found = _HEADER.fullmatch(text)
    parts = found.groupdict() if found else {}
    sizes = [size.strip() for size in (parts.get("shape") or "").split(",")]
    sizes = sizes[:-1] if sizes[-1] == "" else sizes
    if None in parts.values() or not found or not all(size.isdigit() and len(size) < 20 for size in sizes):
        refuse(path, name, "has a header that is no plain array's; save again with numpy.savez")
    if len(sizes) > MAX_RANK:
        refuse(path, name, f"has {len(sizes)} axes, need at most {MAX_RANK}; save again")
    try:
        dtype = np.dtype(parts["dtype"])
    except TypeError:
        refuse(path, name, f"is of the unknown type {parts['dtype']}, need float32; save again as float32")
    return tuple(map(int, sizes)), parts["order"] == "True", dtype


def _check_weight(path, entry, floats):
    """Raise ModelFileError unless an entry may be a weight, or a counter beside weights."""
    info, dtype = entry.info, entry.dtype
    if dtype not in floats and dtype.kind not in "iub":
        refuse(path, info.filename, f"is {dtype}, need float32; save again as float32")
    if info.file_size > max(RATIO_FREE, MAX_RATIO * info.compress_size):
        ratio = info.file_size // max(info.compress_size, 1)
        refuse(path, info.filename, f"is compressed {ratio}:1, need at most {MAX_RATIO}:1")
