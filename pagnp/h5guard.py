"""Look into an HDF5 file that may be hostile: how it begins, its links and attributes; `h5dataset` does the rest.

Used by `modelfile` and `statedict`. Everything raises ModelFileError as one line `FILE: ENTRY is X, need Y; fix`.

`opened` has the file walked over by `h5structure` before the HDF5 library sees it. The library loads plug-ins (shared
objects, HDF5_PLUGIN_PATH) when it needs a filter that it lacks: for data, whose filters `h5dataset.inspect` checks
before anything is read, and for heaps, which `h5structure` refuses. So no plug-in is loaded, and no setting of the
library, which belongs to the whole process, is touched.
"""

import contextlib
import os

import numpy as np

from pagnp import h5structure
from pagnp.errors import ModelFileError
from pagnp.h5header import Fault

MAX_TEXT = 4096  # bytes of a text attribute

SIGNATURE = b"\x89HDF\r\n\x1a\n"
# What h5py raises on the library's errors. Others (TypeError, IndexError ...) are mistakes of ours and must be seen.
LIBRARY_ERRORS = (OSError, RuntimeError, KeyError, ValueError)


def shown(name):
    """Return `name` fit for one line of a terminal."""
    name = name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
    name = name if name.isprintable() else ascii(name)[1:-1]
    return name if len(name) <= 120 else name[:117] + "..."


def refuse(path, entry, problem):
    """Raise ModelFileError `FILE: ENTRY PROBLEM`; `entry` may be empty."""
    raise ModelFileError(f"{shown(path) or repr('')}: {shown(entry) + ' ' if entry else ''}{problem}")


@contextlib.contextmanager
def reading(path, entry=""):
    """Turn the HDF5 library's errors into a ModelFileError that names `entry`. For calls of h5py and nothing else."""
    try:
        yield
    except LIBRARY_ERRORS as error:
        detail = shown((str(error.args[0] if error.args else error).splitlines() or [type(error).__name__])[0])
        label = f"{shown(path)}: {shown(entry) + ' ' if entry else ''}"
        raise ModelFileError(f"{label}is damaged or cut short ({detail}); copy or export it again") from error


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
    with reading(path):
        _check_structure(path)
        file = h5py.File(path, "r")
    try:
        with reading(path, "/"):
            root = h5py.h5g.open(file.id, b"/")
        yield root
    finally:
        with contextlib.suppress(*LIBRARY_ERRORS):  # all was read; what is damaged now was not needed
            file.close()


def _check_structure(path):
    """Refuse a file that does not begin as HDF5 or is not sound."""
    import h5py

    with open(path, "rb") as file:
        if file.read(len(SIGNATURE)) != SIGNATURE:
            if h5py.is_hdf5(os.fspath(path)):
                refuse(path, "", "has a user block in front of its HDF5 part, need none; h5unjam removes it")
            refuse(path, "", "is not an HDF5 file; write one with pagnp.torch.export or pagnp convert")
        try:
            h5structure.check(file, os.fstat(file.fileno()).st_size)
        except Fault as fault:
            entry, problem = fault.args
            raise ModelFileError(f"{shown(path)}: {shown(entry) + ' ' if entry else ''}{problem}") from fault


def text_attribute(path, owner, entry, name):
    """Return the text of a fixed-length string attribute of `owner` (an HDF5 group or dataset id), called `entry`."""
    import h5py

    label = f"{entry} attribute {name}".strip()
    attribute = _attribute(path, owner, entry, name)
    with reading(path, label):
        kind, shape = attribute.get_type(), attribute.shape
        text = isinstance(kind, h5py.h5t.TypeStringID) and not kind.is_variable_str()
        size = kind.get_size()
    if not text:
        refuse(path, label, "is of another type, need a fixed-length string")
    if shape not in ((), (1,)) or size > MAX_TEXT:
        refuse(path, label, f"is too large, need one string of at most {MAX_TEXT} bytes")
    raw = np.zeros(shape, dtype=f"S{size}")
    with reading(path, label):
        attribute.read(raw, mtype=kind)  # as stored: HDF5 converts between no two character sets
    try:
        return raw.item().split(b"\0")[0].decode("utf-8")
    except UnicodeDecodeError as error:
        raise ModelFileError(f"{shown(path)}: {label} is not UTF-8; export again") from error


def integer_attribute(path, owner, entry, name):
    """Return the value of an integer attribute of `owner` (an HDF5 group or dataset id), called `entry`."""
    import h5py

    label = f"{entry} attribute {name}".strip()
    attribute = _attribute(path, owner, entry, name)
    with reading(path, label):
        kind, shape = attribute.get_type(), attribute.shape
        integer = isinstance(kind, h5py.h5t.TypeIntegerID) and kind.get_size() <= 8
    if not integer or shape not in ((), (1,)):
        refuse(path, label, "is of another type, need one integer")
    raw = np.zeros(shape, dtype=np.int64)
    with reading(path, label):
        attribute.read(raw)
    return int(raw.item())


def has_attribute(path, owner, name):
    """Return whether `owner` (an HDF5 group or dataset id) has the attribute `name`."""
    import h5py

    with reading(path, f"attribute {name}"):
        return h5py.h5a.exists(owner, name.encode())


def _attribute(path, owner, entry, name):
    import h5py

    label = f"{entry} attribute {name}".strip()
    if not has_attribute(path, owner, name):
        refuse(path, label, "is missing; export again with pagnp.torch.export")
    with reading(path, label):
        return h5py.h5a.open(owner, name.encode())


def walk(path, root):
    """Return dict name -> h5py dataset id for all under `root`, names joined by `/`; opens nothing but hard links.

    Raises: ModelFileError for soft, external and user-defined links, and for a second name of a group or dataset (so
            for loops). `h5structure` has counted the entries and the groups in groups.
    """
    import h5py

    found, todo = {}, [("", root)]
    places = {_place(path, "/", root): "/"}
    while todo:
        prefix, group = todo.pop()
        with reading(path, prefix or "/"):
            names = sorted(group)
        for raw in names:
            name = prefix + raw.decode("utf-8", "backslashreplace")
            item = _followed(path, name, group, raw)
            first = places.setdefault(_place(path, name, item), name)
            if first is not name:
                refuse(path, name, f"is another name of {shown(first)} (or a loop), need one name each; export again")
            if isinstance(item, h5py.h5d.DatasetID):
                found[name] = item
            else:
                todo.append((name + "/", item))
    return found


def _followed(path, name, group, raw):
    """Return the id of the group or dataset that the link `raw` of `group` names."""
    import h5py

    with reading(path, name):
        kind = group.links.get_info(raw).type
    if kind != h5py.h5l.TYPE_HARD:
        word = {h5py.h5l.TYPE_SOFT: "a soft link", h5py.h5l.TYPE_EXTERNAL: "an external link"}.get(kind, "a link")
        refuse(path, name, f"is {word}, need a dataset in this file; export again")
    with reading(path, name):
        item = h5py.h5o.open(group, raw)
    if not isinstance(item, (h5py.h5d.DatasetID, h5py.h5g.GroupID)):
        refuse(path, name, "is a named type, need datasets and groups only; export again")
    return item


def _place(path, name, item):
    """Return where in the file an object is: the same for all its names."""
    import h5py

    with reading(path, name):
        return h5py.h5o.get_info(item).addr
