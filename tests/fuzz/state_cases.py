"""Mutated plain state_dicts: HDF5, NPZ and safetensors."""

import functools
import io
import json
import struct
import warnings
import zipfile
from pathlib import Path

import byte_damage
import hdf5_bytes
import model_cases
import model_seeds
import numpy as np

from pagnp.nn import pag_resnet

ARCH = "pag_resnet26"
FEW = {"conv1.weight": (2, 3, 3, 3), "bn1.bias": (2,), "layer1.0.bn1.running_mean": (4,)}


@functools.cache
def states():
    """Return [entries]: a few, and those of a whole small network."""
    rng = np.random.default_rng(4)
    few = {key: rng.standard_normal(shape).astype(np.float32) for key, shape in FEW.items()}
    head = {"labels": {"task": "segmentation", "classes": 2}}
    return [{**few, "steps": np.int64([3])}, dict(pag_resnet(depth=26, width=0.125, heads=head).weights)]


def hdf5(state, separator=".", libver="earliest", **storage):
    """Return a state_dict as HDF5."""
    with model_seeds.in_memory(libver=libver) as file:
        for key, array in state.items():
            file.create_dataset(key.replace(".", separator), data=array, **storage)
        return model_seeds.image_of(file)


def npz(state, save=np.savez):
    """Return a state_dict as NPZ."""
    buffer = io.BytesIO()
    save(buffer, **state)
    return buffer.getvalue()


def safetensors(state):
    """Return a state_dict as safetensors."""
    header, body = {}, b""
    for key, array in state.items():
        kind = "F32" if array.dtype == np.float32 else "I64"
        places = [len(body), len(body) + array.nbytes]
        header[key] = {"dtype": kind, "shape": list(array.shape), "data_offsets": places}
        body += array.tobytes()
    return header, body


@functools.cache
def hdf5_seeds():
    """Return Seeds of HDF5 state_dicts."""
    few = states()[0]
    contents = [hdf5(few), hdf5(few, "/"), hdf5(few, libver="latest"), hdf5(few, chunks=True, compression="gzip")]
    contents += [hdf5({key: array.astype(np.float64) for key, array in few.items()}, libver="latest")]
    return [model_seeds.seed_of(content) for content in contents]


@functools.cache
def npz_seeds():
    """Return NPZ files; the last is a whole network."""
    few, whole = states()
    return [npz(few), npz(few, np.savez_compressed), npz({"a": np.asfortranarray(np.ones((2, 3)))}), npz(whole)]


EXTRA: list[bytes] = []


def prepare(corpus):
    """Make the seeds; add the files of the folder `corpus`."""
    states(), hdf5_seeds(), npz_seeds()
    EXTRA.extend(path.read_bytes() for path in sorted(Path(corpus).glob("*")) if corpus and path.is_file())


def hdf5_metadata(rng):
    """Fields of superblock, headers, trees."""
    seed = rng.choice(hdf5_seeds())
    return rng.choice((hdf5_bytes.damaged_fields, hdf5_bytes.exchanged_addresses, hdf5_bytes.exchanged_blocks))(
        rng, seed
    )


def hdf5_entries(rng):
    """Types, shapes, filters, links, attributes, changed through h5py."""
    with model_seeds.in_memory(rng.choice(hdf5_seeds()).content) as file:
        file.require_group("weights")
        file["graph"] = np.zeros(3, np.uint8)
        for _ in range(rng.choice((1, 1, 2))):
            model_cases._change_entry(rng, file)
        return model_seeds.image_of(file)


def npz_bytes(rng):
    """Any bytes of an archive; a beginning; pieces."""
    content = rng.choice(npz_seeds()[:3]) if rng.random() < 0.98 else npz_seeds()[3]
    draw = rng.random()
    if draw < 0.7:
        return byte_damage.flipped(rng, content)
    return (
        byte_damage.cut(rng, content) if draw < 0.8 else byte_damage.spliced(rng, content, rng.choice(npz_seeds()[:3]))
    )


NAMES = ("a.npy", "a/b.npy", "a.b.npy", "../a.npy", "a.txt", "x/data.pkl", "conv1.weight.npy", "\x1b.npy")
DTYPES = ("<f4", ">f4", "<f8", "<f2", "<i8", "|b1", "|O", "<c8", "<U3", "|S4", "|V4", "<M8", "<f16", "f", "<g4", "|i1")
SHAPES = (
    "(2,)",
    "()",
    "(2, 3)",
    "(0,)",
    "(-1,)",
    "(1000000000000,)",
    "(2",
    "2",
    "(2L,)",
    "(" * 300,
    "(1,) * 9",
    "(2.0,)",
)
SHAPES += ("(" + "1, " * 9 + ")", "(" + "9" * 30 + ",)", "[2]", "None", "(True,)")


def npz_members(rng):
    """Headers, sizes, names, methods and copies of members."""
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w") as archive:
        warnings.simplefilter("ignore")  # of names that come twice
        for i in range(rng.choice((1, 2, 3))):
            name = rng.choice(
                ("a.npy", "a/b.npy", "a.b.npy", "../a.npy", "a.txt", "x/data.pkl", "conv1.weight.npy", "\x1b.npy")
            )
            shape, kind = rng.choice(SHAPES), rng.choice(DTYPES)
            text = f"{{'descr': '{kind}', 'fortran_order': {rng.choice(('False', 'True', '1'))}, 'shape': {shape}, }}"
            if rng.random() < 0.2:
                text = rng.choice(("{}", "", "-" * 3000 + "1", "{" * 100, text[:-9], text + text, "x" * 5000))
            elif rng.random() < 0.2:
                text = byte_damage.flipped(rng, text.encode()).decode("latin-1")
            version = rng.choice((b"\1\0", b"\1\0", b"\2\0", b"\3\0", b"\0\0"))
            size = struct.pack("<I" if version[0] >= 2 else "<H", rng.choice((len(text), len(text), 0, 65535, 118)))
            body = bytes(rng.choice((0, 4, 8, 24, 100, 1 << 20)))
            content = (
                rng.choice((b"\x93NUMPY", b"\x93NUMPY", b"\x93numpy")) + version + size + text.encode("latin-1") + body
            )
            method = rng.choice((0, 8, 8, 12, 14))
            try:
                archive.writestr(name + str(i) * (rng.random() < 0.2), content, compress_type=method)
            except (NotImplementedError, RuntimeError, ValueError):
                continue
    content = buffer.getvalue()
    return byte_damage.flipped(rng, content) if rng.random() < 0.2 else content


def safetensors_header(rng):
    """The JSON header: types, shapes, offsets; its length."""
    header, body = safetensors(states()[0] if rng.random() < 0.97 else states()[1])
    for _ in range(rng.choice((0, 1, 1, 2))):
        entry = header[rng.choice(sorted(header))]
        if not isinstance(entry, dict) or not entry:
            continue
        key = rng.choice(sorted(entry))
        values = (
            "F32",
            "F64",
            "F16",
            "BF16",
            "F8_E4M3",
            "I64",
            "BOOL",
            "X",
            0,
            -1,
            1 << 63,
            1 << 64,
            1.5,
            None,
            [],
            [0, 8],
        )
        values += ([8, 0], [-1, 3], [1 << 62, 2], [1 << 32] * 3, [0, 1 << 63], {}, "\ud800")
        entry[key] = rng.choice(values)
    text = json.dumps(header).encode()
    draw = rng.random()
    if draw < 0.2:
        text = bytes(byte_damage.flipped(rng, text))
    elif draw < 0.3:
        text = text.replace(b'"steps"', rng.choice((b'"__metadata__"', b'"bn1.bias"', b'""', b'"\\u001b"')))
    elif draw < 0.35:
        text = b'{"a":' * rng.choice((100, 100_000)) + text
    length = rng.choice((len(text),) * 8 + (0, len(text) + 1, 1 << 27, 1 << 63))
    content = struct.pack("<Q", length) + text + body
    return byte_damage.cut(rng, content) if rng.random() < 0.1 else content


MUTATORS = (hdf5_metadata, hdf5_entries, npz_bytes, npz_members, safetensors_header)
WEIGHTS = (30, 10, 20, 20, 20)
