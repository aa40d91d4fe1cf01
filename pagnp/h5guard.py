"""Look into an HDF5 file that may be hostile: every link, type, layout and size is checked before data is read.

Used by `modelfile` (strict) and by `statedict` (plain files, more number types). Everything raises
ModelFileError as one line `FILE: ENTRY is X, need Y; fix`.
"""

import contextlib
import math
import os
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from pagnp.errors import ModelFileError, PagnpError

MAX_DEPTH = 16  # groups in groups
MAX_ENTRIES = 20_000  # links in the whole file; ResNet-101 with gates has about 800
MAX_CHUNKS = 65_536  # of one dataset
MAX_RATIO = 256  # stored to read, for datasets over RATIO_FREE bytes
RATIO_FREE = 1 << 20  # small constant tensors (a fresh bias, a running mean) compress well and do no harm
MAX_TEXT = 4096  # bytes of a text attribute
MAX_RANK = 8


@dataclass(frozen=True)
class Entry:
    """A dataset that passed `inspect`: nothing of it has been read yet."""

    name: str
    dataset: object
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def nbytes(self):
        """Bytes in memory."""
        return math.prod(self.shape) * self.dtype.itemsize


def shown(name):
    """Return `name` fit for one line of a terminal."""
    name = name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
    name = name if name.isprintable() else ascii(name)[1:-1]
    return name if len(name) <= 120 else name[:117] + "..."


def refuse(path, entry, problem):
    """Raise ModelFileError `FILE: ENTRY PROBLEM`; `entry` may be empty."""
    raise ModelFileError(f"{shown(path) or repr('')}: {shown(entry) + ' ' if entry else ''}{problem}")


@contextlib.contextmanager
def opened(path):
    """Open `path` for reading; yield its root group's id. Errors of the HDF5 library become ModelFileError."""
    import h5py

    if not os.path.exists(path):
        refuse(path, "", "does not exist; check the path")
    if not os.path.isfile(path):
        refuse(path, "", "is not a regular file, need an HDF5 file")
    if not os.access(path, os.R_OK):  # else the library's error, which reads like that of a damaged file
        refuse(path, "", "cannot be read; check its permissions")
    try:
        if not h5py.is_hdf5(os.fspath(path)):
            refuse(path, "", "is not an HDF5 file; write one with pagnp.torch.export or pagnp convert")
        with h5py.File(path, "r") as file:
            yield file["/"].id
    except PagnpError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, NotImplementedError, zlib.error) as error:
        detail = shown(str(error.args[0] if error.args else error).splitlines()[0])
        raise ModelFileError(f"{shown(path)}: is damaged or cut short ({detail}); copy or export it again") from error


def text_attribute(path, owner, entry, name):
    """Return the text of a fixed-length string attribute of `owner` (an HDF5 group or dataset id), called `entry`."""
    import h5py

    attribute = _attribute(path, owner, entry, name)
    kind = attribute.get_type()
    label = f"{entry} attribute {name}".strip()
    if not isinstance(kind, h5py.h5t.TypeStringID) or kind.is_variable_str():
        refuse(path, label, "is of another type, need a fixed-length string")
    if attribute.shape not in ((), (1,)) or kind.get_size() > MAX_TEXT:
        refuse(path, label, f"is too large, need one string of at most {MAX_TEXT} bytes")
    raw = np.zeros(attribute.shape, dtype=f"S{kind.get_size()}")
    attribute.read(raw, mtype=kind)  # as stored: HDF5 converts between no two character sets
    try:
        return raw.item().split(b"\0")[0].decode("utf-8")
    except UnicodeDecodeError as error:
        raise ModelFileError(f"{shown(path)}: {label} is not UTF-8; export again") from error


def integer_attribute(path, owner, entry, name):
    """Return the value of an integer attribute of `owner` (an HDF5 group or dataset id), called `entry`."""
    import h5py

    attribute = _attribute(path, owner, entry, name)
    kind = attribute.get_type()
    if not isinstance(kind, h5py.h5t.TypeIntegerID) or attribute.shape not in ((), (1,)) or kind.get_size() > 8:
        refuse(path, f"{entry} attribute {name}".strip(), "is of another type, need one integer")
    raw = np.zeros(attribute.shape, dtype=np.int64)
    attribute.read(raw)
    return int(raw.item())


def has_attribute(owner, name):
    """Return whether `owner` (an HDF5 group or dataset id) has the attribute `name`."""
    import h5py

    return h5py.h5a.exists(owner, name.encode())


def _attribute(path, owner, entry, name):
    import h5py

    if not has_attribute(owner, name):
        refuse(path, f"{entry} attribute {name}".strip(), "is missing; export again with pagnp.torch.export")
    return h5py.h5a.open(owner, name.encode())


def walk(path, root):
    """Return dict name -> h5py dataset id for all under `root`, names joined by `/`; opens nothing but hard links.

    Raises: ModelFileError for soft, external and user-defined links, for groups deeper than MAX_DEPTH,
            for loops, and for more than MAX_ENTRIES entries.
    """
    import h5py

    found, todo, count = {}, [("", root, 0)], 0
    while todo:
        prefix, group, depth = todo.pop()
        count += group.get_num_objs()
        if count > MAX_ENTRIES:
            refuse(path, shown(prefix), f"has over {MAX_ENTRIES} entries; this is no model")
        for raw in sorted(group):
            name = prefix + raw.decode("utf-8", "backslashreplace")
            _check_link(path, name, group.links.get_info(raw).type)
            item = h5py.h5o.open(group, raw)
            if isinstance(item, h5py.h5d.DatasetID):
                found[name] = item
            elif not isinstance(item, h5py.h5g.GroupID):
                refuse(path, name, "is a named type, need datasets and groups only; export again")
            elif depth >= MAX_DEPTH:  # a loop of hard links ends here too
                refuse(path, name, f"is nested deeper than {MAX_DEPTH} groups (or in a loop); export again")
            else:
                todo.append((name + "/", item, depth + 1))
    return found


def _check_link(path, name, kind):
    import h5py

    if kind != h5py.h5l.TYPE_HARD:
        word = {h5py.h5l.TYPE_SOFT: "a soft link", h5py.h5l.TYPE_EXTERNAL: "an external link"}.get(kind, "a link")
        refuse(path, name, f"is {word}, need a dataset in this file; export again")


def inspect(path, name, dataset, dtypes, fix="export again with pagnp.torch.export"):
    """Check type, rank, layout, filters and stored size of a dataset id; return an Entry. Reads no data.

    dtypes   the NumPy dtypes allowed, the first is named in the message
    Raises:  ModelFileError
    """
    dtype = _plain_dtype(path, name, dataset, dtypes, fix)
    _check_layout(path, name, dataset)
    space = dataset.get_space()
    if space.get_simple_extent_type() not in _shaped_spaces() or space.get_simple_extent_ndims() > MAX_RANK:
        refuse(path, name, f"has no shape of at most {MAX_RANK} axes; {fix}")
    entry = Entry(name, dataset, tuple(int(size) for size in dataset.shape), dtype)
    _check_filters(path, entry)
    _check_stored(path, entry)
    return entry


def _shaped_spaces():
    import h5py

    return (h5py.h5s.SIMPLE, h5py.h5s.SCALAR)


def _plain_dtype(path, name, dataset, dtypes, fix):
    import h5py

    kind = dataset.get_type()
    for dtype in map(np.dtype, dtypes):
        if kind.equal(h5py.h5t.py_create(dtype)):
            return dtype
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
    word = words.get(kind.get_class())
    if word is None:
        try:
            word = _dtype_word(kind.dtype)
        except (TypeError, ValueError):
            word = "of an unknown number type"
    refuse(path, name, f"is {word}, need {_dtype_word(np.dtype(dtypes[0]))}; {fix}")


def _dtype_word(dtype):
    order = "big-endian " if dtype.byteorder == ">" else ""
    return order + dtype.name


def _check_layout(path, name, dataset):
    import h5py

    plist = dataset.get_create_plist()
    if plist.get_layout() == h5py.h5d.VIRTUAL:
        refuse(path, name, "is a virtual dataset, need its data in this file; export again")
    if plist.get_layout() not in (h5py.h5d.COMPACT, h5py.h5d.CONTIGUOUS, h5py.h5d.CHUNKED):
        refuse(path, name, "has an unknown storage layout; export again")
    if plist.get_external_count():
        refuse(path, name, "is stored in another file (external storage), need its data in this file; export again")


def _filters(entry):
    plist = entry.dataset.get_create_plist()
    return [plist.get_filter(i)[0] for i in range(plist.get_nfilters())]


def _check_filters(path, entry):
    import h5py

    found = _filters(entry)
    known = (h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32)
    for code in found:
        if code not in known or found.count(code) > 1:
            refuse(path, entry.name, f"is compressed by HDF5 filter {code}, need none or gzip; h5repack -f GZIP=4")


def _check_stored(path, entry):
    """Refuse a dataset whose declared size is not backed by stored bytes ("shape bomb", "gzip bomb")."""
    import h5py

    plist = entry.dataset.get_create_plist()
    stored = entry.dataset.get_storage_size()
    if plist.get_layout() != h5py.h5d.CHUNKED:
        if stored != entry.nbytes:
            refuse(path, entry.name, f"declares {entry.nbytes} bytes but {stored} are stored; export again")
        return
    grid = [-(-size // step) for size, step in zip(entry.shape, plist.get_chunk(), strict=True)]
    # get_num_chunks reads only the index, never the chunks
    if math.prod(grid) > MAX_CHUNKS or entry.dataset.get_num_chunks() != math.prod(grid):
        have = entry.dataset.get_num_chunks()
        refuse(path, entry.name, f"has {have} of {math.prod(grid)} chunks (at most {MAX_CHUNKS}) stored; export again")
    if entry.nbytes > max(RATIO_FREE, MAX_RATIO * stored):
        refuse(path, entry.name, f"is compressed {entry.nbytes // max(stored, 1)}:1, need at most {MAX_RATIO}:1")


def read(path, entry):
    """Return the data of an inspected `entry` as a C-contiguous array of its dtype (native byte order)."""
    _check_chunks(path, entry)
    array = np.empty(entry.shape, dtype=entry.dtype.newbyteorder("="))
    if array.size:
        import h5py

        entry.dataset.read(h5py.h5s.ALL, h5py.h5s.ALL, array)
    return array


def _check_chunks(path, entry):
    """Inflate gzip chunks within their declared size first: HDF5's own filter grows its buffer without limit."""
    import h5py

    filters = _filters(entry)
    if h5py.h5z.FILTER_DEFLATE not in filters:
        return
    checksum = 4 * (h5py.h5z.FILTER_FLETCHER32 in filters)
    limit = math.prod(entry.dataset.get_create_plist().get_chunk()) * entry.dtype.itemsize + checksum
    places = []
    entry.dataset.chunk_iter(lambda info: places.append((info.chunk_offset, info.filter_mask, info.size)))
    for offset, skipped, size in places:
        if skipped or size > limit + limit // 100 + 1024:  # deflate adds 5 bytes per 16 KB at worst
            refuse(path, entry.name, "has a chunk stored in another form than declared; export again")
        inflater = zlib.decompressobj()
        if len(inflater.decompress(entry.dataset.read_direct_chunk(offset)[1], limit + 1)) > limit:
            refuse(path, entry.name, f"has a chunk that inflates beyond its {limit} bytes; export again")
