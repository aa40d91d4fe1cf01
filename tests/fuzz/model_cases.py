"""Mutated model files: HDF5 bytes, entries rewritten through h5py, and the graph's JSON."""

import copy
import json
from pathlib import Path

import byte_damage
import h5py
import hdf5_bytes
import numpy as np
from json_damage import damaged_json, damaged_text
from model_seeds import documents, image_of, in_memory, seeds, sha

from pagnp import graphjson, modelfile

SHIPPED = Path(__file__).parents[2] / "examples/models/rooms-seg.h5"

EXTRA: list[bytes] = []


def prepare(corpus):
    """Make the seeds; add the files of the folder `corpus`."""
    seeds(), documents()
    if SHIPPED.exists():
        EXTRA[:] = [SHIPPED.read_bytes()]
    EXTRA.extend(path.read_bytes() for path in sorted(Path(corpus).glob("*")) if corpus and path.is_file())


def bytes_of_metadata(rng):
    """Fields of superblock, headers, trees, heaps."""
    return hdf5_bytes.damaged_fields(rng, rng.choice(seeds()))


def blocks_exchanged(rng):
    """Pieces of structures over others."""
    return hdf5_bytes.exchanged_blocks(rng, rng.choice(seeds()))


def addresses_exchanged(rng):
    """Pointers led elsewhere."""
    return hdf5_bytes.exchanged_addresses(rng, rng.choice(seeds()))


def bits_flipped(rng):
    """Any bytes."""
    return byte_damage.flipped(rng, rng.choice(seeds()).content)


def cut_short(rng):
    """A beginning."""
    return byte_damage.cut(rng, rng.choice(seeds()).content)


def spliced(rng):
    """Pieces of two files; one behind the other; something in front."""
    content = rng.choice(seeds()).content
    if rng.random() < 0.1:
        return bytes(rng.choice((1, 8, 512, 1024, 2048))) + content
    return byte_damage.spliced(rng, content, rng.choice(seeds()).content)


def larger_file(rng):
    """The shipped model or a file of the corpus, with changed bytes."""
    content = rng.choice(EXTRA or [seeds()[0].content])
    return byte_damage.flipped(rng, content) if rng.random() < 0.7 else byte_damage.cut(rng, content)


def json_changed(rng):
    """The graph's JSON as a tree: left out, of another type, huge, renamed, in a cycle."""
    document, weights = rng.choice(documents())
    return _model(json.dumps(damaged_json(rng, copy.deepcopy(document))).encode("utf-8", "surrogatepass"), weights)


def json_text_changed(rng):
    """The graph's JSON as text: NaN, keys twice, deep nesting, bytes that are no UTF-8."""
    document, weights = rng.choice(documents())
    return _model(damaged_text(rng, graphjson.canonical(document)), weights)


def weights_changed(rng):
    """Weights with other values or shapes, and the graph's JSON saying so."""
    document, weights = copy.deepcopy(rng.choice(documents()))
    key = rng.choice(sorted(weights))
    array = weights[key].copy()
    if rng.random() < 0.6:
        values = (np.nan, np.inf, -np.inf, -1.0, 0.0, -0.0, 1e-45, 1e-30, 3e38, -3e38)
        array.flat[rng.randrange(array.size)] = rng.choice(values)
        if rng.random() < 0.3:
            array[:] = rng.choice(values)
    else:
        axis = rng.randrange(array.ndim)
        array = np.repeat(array, rng.choice((1, 2, 3, 64)), axis)[..., : rng.choice((1, 2, None))]
        document["weights"][key] = list(array.shape)
    weights[key] = array
    if rng.random() < 0.3:
        document["weights"][rng.choice(sorted(weights))] = [rng.choice((1, 2, 4, 1 << 20, 1 << 31))]
    return _model(graphjson.canonical(document), weights)


def _model(text, weights):
    return modelfile._hdf5(text, weights, "fuzz")


TYPES = ("<f8", "<f2", ">f4", "<i4", "u1", "?", "S4", "<c8", [("a", "<f4")], ("<f4", (2,)), "<u8")
TYPES += (h5py.ref_dtype, h5py.regionref_dtype, h5py.vlen_dtype("<f4"), h5py.string_dtype(), h5py.opaque_dtype("V4"))
STORAGE = (
    {"chunks": True},
    {"compression": "gzip"},
    {"compression": "lzf"},
    {"compression": "szip"},
    {"scaleoffset": 2},
    {"shuffle": True},
    {"fletcher32": True},
    {"compression": 32015, "allow_unknown_filter": True},
    {"compression": "gzip", "shuffle": True, "fletcher32": True},
)


def entries_changed(rng):
    """Types, shapes, filters, links, attributes, groups, changed through h5py."""
    with in_memory(rng.choice(seeds()).content) as file:
        for _ in range(rng.choice((1, 1, 2))):
            _change_entry(rng, file)
        return image_of(file)


def _change_entry(rng, file):
    group = file["weights"]
    names = [f"weights/{key}" for key in group] + ["graph"] * 3
    name = rng.choice([name for name in names if name in file] or ["graph"])
    move = rng.randrange(10)
    try:
        if move < 3:
            _replace(rng, file, name)
        elif move == 3:
            del file[name]
            link = (h5py.SoftLink("/graph"), h5py.SoftLink(f"/{name}"), h5py.ExternalLink("/dev/zero", "/x"), file)
            file[name] = rng.choice((*link, group, np.dtype("<f4")))
        elif move == 4:
            file[rng.choice(("x", "weights/x", "a/" * 17 + "b", "weights/\x1b[2J", "g/" * 3 + "x"))] = file["graph"]
        elif move < 8:
            _change_attribute(rng, rng.choice((file, file, file[name])))
        elif move == 8:
            for i in range(rng.choice((1, 20, 200))):
                file.create_group(f"more{i}", track_order=rng.random() < 0.5)
        elif file[name].size < 1 << 20:  # a file in memory is as large as its last byte
            file[name][(0,) * file[name].ndim] = rng.choice((0, 1, 64))
    except (LookupError, ValueError, TypeError, OSError, RuntimeError, AttributeError):
        pass  # not every change fits every entry, or the change before


def _replace(rng, file, name):
    """Put another dataset in the place of `name`, with its old attribute or a right one."""
    huge = file[name].size is None or file[name].size > 1 << 20
    old, attribute = np.zeros(2, "<f4") if huge else file[name][()], file[name].attrs.get("sha256", b"")
    del file[name]
    move = rng.randrange(5)
    if move == 0:
        dtype = rng.choice(TYPES)
        file.create_dataset(name, shape=(2,), dtype=dtype)
    elif move == 1:
        shape = rng.choice(((), (0,), (1 << 40,), (1,) * 9, (1 << 20, 1 << 20), (2, 0), (3,)))
        file.create_dataset(name, shape=shape, dtype=old.dtype)
    elif move == 2:
        file.create_dataset(name, data=old, **rng.choice(STORAGE))
    elif move == 3:
        chunk = [rng.choice((1, size, 7)) for size in old.shape]
        chunk[0] = rng.choice((chunk[0], 1 << 14))  # larger than its dataset
        filters = rng.choice(({}, {"compression": "gzip"}, {"shuffle": True}))
        file.create_dataset(name, data=old, maxshape=(None,) * old.ndim, chunks=tuple(chunk), **filters)
    elif rng.random() < 0.5:
        file.create_dataset(name, shape=(2,), dtype="<f4", external=[("/dev/zero", 0, 8)])
    else:
        layout = h5py.VirtualLayout(shape=(2,), dtype="<f4")
        layout[:] = h5py.VirtualSource("other.h5", "x", shape=(2,))
        file.create_virtual_dataset(name, layout)
    have = file[name][()] if rng.random() < 0.5 and file[name].size and file[name].size < 1 << 20 else None
    file[name].attrs["sha256"] = attribute if have is None else sha(have)


def _change_attribute(rng, owner):
    names = [*owner.attrs, "sha256"]
    name = rng.choice(names)
    values = (
        0,
        1,
        2,
        2.5,
        "text",
        np.bytes_("text"),
        np.bytes_("pagnp-model"),
        b"\xff\xfe",
        np.zeros(3),
        h5py.Empty("f4"),
    )
    values += (np.bytes_("x" * 5000), np.array(["a", "b"], dtype="S1"), np.int64(-1), np.uint64(2**64 - 1), True)
    values += (np.bytes_("pagnp-bits/2"), np.zeros(7000, "u1"), np.bytes_("0" * 64))
    if rng.random() < 0.2:
        del owner.attrs[name]
    else:
        owner.attrs[name] = rng.choice(values)


MUTATORS = (
    bytes_of_metadata,
    blocks_exchanged,
    addresses_exchanged,
    bits_flipped,
    cut_short,
    spliced,
    larger_file,
    json_changed,
    json_text_changed,
    weights_changed,
    entries_changed,
)
WEIGHTS = (40, 10, 14, 8, 2, 4, 0.05, 10, 4, 4, 8)
