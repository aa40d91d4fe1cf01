"""Datasets of an HDF5 file that may be hostile: type, shape, storage and size are checked before data is read.

Everything raises ModelFileError as one line `FILE: ENTRY is X, need Y; fix`; links and attributes are in `h5guard`.
"""

import math
import os
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from pagnp.errors import ModelFileError
from pagnp.h5guard import LIBRARY_ERRORS, reading, refuse, shown
from pagnp.h5structure import MAX_CHUNKS

MAX_RATIO = 256  # stored to read, for datasets over RATIO_FREE bytes
RATIO_FREE = 1 << 20  # small constant tensors (a fresh bias, a running mean) compress well and do no harm
TOTAL_FREE = 64 << 20  # but many of them would
MAX_RANK = 8


@dataclass(frozen=True)
class Entry:
    """A dataset that passed `inspect`: nothing of it has been read yet. `stored` is its bytes in the file."""

    name: str
    dataset: object
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    stored: int = 0

    @property
    def nbytes(self):
        """Bytes in memory."""
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class Storage:
    """How a dataset is stored: layout code, filter codes, chunk shape (None without chunks), bytes in the file."""

    layout: int
    filters: list[int]
    chunk: tuple[int, ...] | None
    stored: int


def inspect(path, name, dataset, dtypes, fix="export again with pagnp.torch.export"):
    """Check type, rank, layout, filters and stored size of a dataset id; return an Entry. Reads no data.

    dtypes   the NumPy dtypes allowed, the first is named in the message
    Raises:  ModelFileError
    """
    import h5py

    dtype = _plain_dtype(path, name, dataset, dtypes, fix)
    _check_layout(path, name, dataset)
    with reading(path, name):
        space = dataset.get_space()
        shaped = space.get_simple_extent_type() in (h5py.h5s.SIMPLE, h5py.h5s.SCALAR)
        shape = tuple(int(size) for size in dataset.shape) if shaped else ()
    if not shaped or len(shape) > MAX_RANK:
        refuse(path, name, f"has no shape of at most {MAX_RANK} axes; {fix}")
    storage = _storage(path, name, dataset)
    entry = Entry(name, dataset, shape, dtype, storage.stored)
    _check_filters(path, name, storage)
    _check_stored(path, entry, storage)
    return entry


def _plain_dtype(path, name, dataset, dtypes, fix):
    import h5py

    with reading(path, name):
        kind = dataset.get_type()
        for dtype in map(np.dtype, dtypes):
            if kind.equal(h5py.h5t.py_create(dtype)):
                return dtype
        found = kind.get_class()
    words = {
        h5py.h5t.STRING: "a string",
        h5py.h5t.COMPOUND: "a compound type",
        h5py.h5t.REFERENCE: "a reference",
        h5py.h5t.VLEN: "of variable length",
        h5py.h5t.ENUM: "an enumeration",
        h5py.h5t.ARRAY: "an array type",
        h5py.h5t.OPAQUE: "opaque",
        h5py.h5t.BITFIELD: "a bit field",
    }
    word = words.get(found)
    if word is None:
        try:
            word = _dtype_word(kind.dtype)
        except (TypeError, *LIBRARY_ERRORS):  # times, complex numbers, and floats of no kind that NumPy has
            word = "of an unknown number type"
    refuse(path, name, f"is {word}, need {_dtype_word(np.dtype(dtypes[0]))}; {fix}")


def _dtype_word(dtype):
    order = "big-endian " if dtype.byteorder == ">" else ""
    return order + dtype.name


def _check_layout(path, name, dataset):
    import h5py

    with reading(path, name):
        plist = dataset.get_create_plist()
        layout, external = plist.get_layout(), plist.get_external_count()
    if layout == h5py.h5d.VIRTUAL:
        refuse(path, name, "is a virtual dataset, need its data in this file; export again")
    if layout not in (h5py.h5d.COMPACT, h5py.h5d.CONTIGUOUS, h5py.h5d.CHUNKED):
        refuse(path, name, "has an unknown storage layout; export again")
    if external:
        refuse(path, name, "is stored in another file (external storage), need its data in this file; export again")


def _storage(path, name, dataset):
    import h5py

    with reading(path, name):
        plist = dataset.get_create_plist()
        filters = [plist.get_filter(i)[0] for i in range(plist.get_nfilters())]
        chunk = plist.get_chunk() if plist.get_layout() == h5py.h5d.CHUNKED else None
        return Storage(plist.get_layout(), filters, chunk, dataset.get_storage_size())


def _check_filters(path, name, storage):
    import h5py

    known = (h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32)
    for code in storage.filters:
        if code not in known or storage.filters.count(code) > 1:
            refuse(path, name, f"is compressed by HDF5 filter {code}, need none or gzip; h5repack -f GZIP=4")


def _check_stored(path, entry, storage):
    """Refuse a dataset whose declared size is not backed by stored bytes ("shape bomb", "gzip bomb")."""
    if storage.chunk is None:
        if storage.stored != entry.nbytes:
            problem = f"declares {entry.nbytes} bytes but {storage.stored} are stored; export again"
            refuse(path, entry.name, problem)
        return
    if len(storage.chunk) != len(entry.shape) or 0 in storage.chunk:
        refuse(path, entry.name, f"has chunks of shape {storage.chunk} for a shape of {entry.shape}; export again")
    grid = [-(-size // step) for size, step in zip(entry.shape, storage.chunk, strict=True)]
    count = math.prod(grid)
    with reading(path, entry.name):
        have = entry.dataset.get_num_chunks()  # reads only the index, never the chunks
    if count > MAX_CHUNKS or have != count:
        refuse(path, entry.name, f"has {have} of {count} chunks (at most {MAX_CHUNKS}) stored; export again")
    # A chunk may be larger than its dataset, and is inflated whole.
    size = max(entry.nbytes, count * math.prod(storage.chunk) * entry.dtype.itemsize)
    if size > max(RATIO_FREE, MAX_RATIO * storage.stored):
        ratio = size // max(storage.stored, 1)
        refuse(path, entry.name, f"is compressed {ratio}:1, need at most {MAX_RATIO}:1")


def check_total(path, entries, most, fix=""):
    """Refuse entries that take over `most` bytes, or more than the file can hold (data that many datasets share)."""
    total, stored, size = sum(e.nbytes for e in entries), sum(e.stored for e in entries), os.path.getsize(path)
    if total > most:
        refuse(path, "", f"has {total} bytes of weights, need at most {most}{fix}")
    if stored > size:
        refuse(path, "", f"has {size} bytes, but its datasets say that they store {stored}; export again")
    if total > max(TOTAL_FREE, MAX_RATIO * size):
        refuse(path, "", f"has {total} bytes of weights in {size}, need at most {MAX_RATIO}:1; export again")


def read(path, entry):
    """Return the data of an inspected `entry` as a C-contiguous array of its dtype (native byte order)."""
    import h5py

    _check_chunks(path, entry)
    array = np.empty(entry.shape, dtype=entry.dtype.newbyteorder("="))
    if array.size:
        with reading(path, entry.name):
            entry.dataset.read(h5py.h5s.ALL, h5py.h5s.ALL, array)
    return array


def _check_chunks(path, entry):
    """Undo each chunk's filters here first: HDF5's own trust sizes that the file tells, and inflate without limit."""
    import h5py

    storage = _storage(path, entry.name, entry.dataset)
    if storage.chunk is None:
        return
    whole = math.prod(storage.chunk) * entry.dtype.itemsize
    deflated = h5py.h5z.FILTER_DEFLATE in storage.filters
    checksum = 4 * (h5py.h5z.FILTER_FLETCHER32 in storage.filters)
    most = whole + checksum + (whole // 100 + 1024) * deflated  # deflate adds 5 bytes per 16 KB at worst
    places = []
    with reading(path, entry.name):
        entry.dataset.chunk_iter(lambda info: places.append((info.chunk_offset, info.filter_mask, info.size)))
    for offset, skipped, size in places:
        if skipped or size > most or (not deflated and size != whole + checksum):
            refuse(path, entry.name, "has a chunk stored in another form than declared; export again")
        if deflated:
            _check_inflated(path, entry, storage, offset, whole)


def _check_inflated(path, entry, storage, offset, whole):
    """Refuse a deflated chunk that does not give `whole` bytes exactly."""
    import h5py

    with reading(path, entry.name):
        content = entry.dataset.read_direct_chunk(offset)[1]
    for code in reversed(storage.filters):  # in the order in which they are undone
        if code == h5py.h5z.FILTER_FLETCHER32:
            content = content[:-4] if len(content) > 4 else b""
        elif code == h5py.h5z.FILTER_DEFLATE:
            try:
                content = zlib.decompressobj().decompress(content, whole + 5)  # a checksum may be inside
            except zlib.error as error:
                raise ModelFileError(f"{shown(path)}: {entry.name} is damaged ({error}); export again") from error
    if len(content) != whole:
        problem = f"inflates to {len(content)} bytes or more" if len(content) > whole else f"has {len(content)} bytes"
        refuse(path, entry.name, f"has a chunk that {problem}, need {whole}; export again")
