"""Files of weights that are damaged, hostile or of another kind: each is refused by name."""

# ruff: noqa: F811 - fixtures are imported, and arguments have their names

import pickle
import warnings
import zipfile

import h5py
import numpy as np
import pytest
from state_dict_files import as_hdf5, as_npz, as_safetensors, state  # noqa: F401

from pagnp import statedict
from pagnp.errors import ModelFileError


def object_array(path):
    np.savez(path, a=np.array([{}, None], dtype=object))


def torch_checkpoint(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))


def npz_member(name, raw, **options):
    def write(path):
        with zipfile.ZipFile(path, "w", **options) as archive:
            archive.writestr(name, raw)

    return write


def npy(shape, dtype, body):
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + body


def hdf5(change):
    def write(path):
        with h5py.File(path, "w") as file:
            change(file)

    return write


def dataset(name, *args, **kwargs):
    return hdf5(lambda file: file.create_dataset(name, *args, **kwargs))


def linked(target):
    def change(file):
        file["a"] = target

    return hdf5(change)


def twice(file):
    file["a.b"] = np.zeros(2, np.float32)
    file["a/b"] = np.zeros(2, np.float32)


def marked(file):
    file.attrs["format"] = "pagnp-model"


def damaged_zip(path):
    as_npz(path, {"a": np.arange(1000)}, np.savez_compressed)
    raw = bytearray(path.read_bytes())
    raw[120:140] = bytes(20)
    path.write_bytes(raw)


def damaged_safetensors(path):
    pytest.importorskip("safetensors", reason="the optional package safetensors is missing")
    path.write_bytes((50).to_bytes(8, "little") + b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,')


def bfloat16(path):
    pytest.importorskip("safetensors", reason="the optional package safetensors is missing")
    header = b'{"a":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))


def same_name_twice(path):
    with zipfile.ZipFile(path, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(2):
            archive.writestr("a.npy", npy((2,), "<f4", bytes(8)))


def overlapping(path):
    """Two members that are the same bytes: thousands of them would be a bomb."""
    npz_member("a.npy", npy((25_000,), "<f4", np.arange(25_000, dtype="<f4").tobytes()))(path)
    raw = path.read_bytes()
    start, end = raw.index(b"PK\1\2"), raw.index(b"PK\5\6")
    directory = raw[start:end]
    tail = bytearray(raw[end:])
    tail[8:12] = (2).to_bytes(2, "little") * 2
    tail[12:16] = (2 * len(directory)).to_bytes(4, "little")
    path.write_bytes(raw[:start] + directory + directory.replace(b"a.npy", b"b.npy") + bytes(tail))


def header(text):
    return npz_member("a.npy", b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text.encode() + bytes(8))


def two_names(path):
    as_hdf5(path, {"a": np.zeros(2), "b": np.zeros(2)})
    with h5py.File(path, "r+") as file:
        file["c"] = file["a"]


def in_heaps(path):
    with h5py.File(path, "w", libver="latest") as file:
        for i in range(20):
            file[f"a{i}"] = np.zeros(2, np.float32)


REFUSED = [
    (same_name_twice, "a.npy is there twice, need each name once"),
    (overlapping, "but its entries say that they store"),
    (
        npz_member("a.npy", npy((2,), "<f4", bytes(8)), compression=zipfile.ZIP_LZMA),
        "compressed by a method other than",
    ),
    (header("-" * 3000 + "1"), "a.npy has a header that is no plain array's"),
    (header("(" * 3000), "a.npy has a header that is no plain array's"),
    (header("x" * 5000), "a.npy is no npy array of version 1.0 or 2.0"),
    (
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }"),
        "a.npy has a header that is no plain array's",
    ),
    (header("{'descr': '<f4', 'descr': '<f4', 'shape': (2,), }"), "a.npy has a header that is no plain array's"),
    (header("{'descr': '<q9', 'fortran_order': False, 'shape': (2,), }"), "a.npy is of the unknown type <q9"),
    (npz_member("a.npy", npy((1,) * 9, "<f4", bytes(4))), "a.npy has 9 axes, need at most 8"),
    (two_names, "c is another name of a (or a loop)"),
    (in_heaps, "keeps links or attributes in a heap of HDF5 1.8"),
    (lambda path: None, "does not exist"),
    (lambda path: path.write_text("hello, world"), "is not an HDF5 file"),
    (lambda path: path.write_bytes(pickle.dumps({"a": 1}, protocol=2)), "is a torch checkpoint (a pickle"),
    (torch_checkpoint, "is a torch checkpoint (a pickle"),
    (object_array, "a.npy is Python objects, need float32"),
    (npz_member("a.txt", b"x"), "a.txt is no .npy array"),
    (npz_member("a.npy", b"no header"), "a.npy has no npy header (a damaged NPZ file?)"),
    (npz_member("a.npy", npy((1 << 40,), "<f4", bytes(8))), "a.npy declares 4398046511104 bytes but has 8"),
    (
        npz_member("a.npy", npy((1 << 22,), "<f4", bytes(1 << 24)), compression=zipfile.ZIP_DEFLATED),
        "need at most 256:1",
    ),
    (npz_member("a.npy", npy((2,), "<c8", bytes(16))), "a.npy is complex64, need float32"),
    (damaged_zip, "is a damaged NPZ file"),
    (damaged_safetensors, "is a damaged safetensors file"),
    (bfloat16, "a is BF16, need float32"),
    (hdf5(marked), "use it without --arch"),
    (hdf5(twice), "is the same key as"),
    (hdf5(lambda file: None), "has no float32 entries"),
    (dataset("a", data=np.array([1, 0.1])), "a is float64, need float32; its values are no float32 numbers"),
    (dataset("a", data=np.array([1, 1e300])), "a is float64, need float32; its values are no float32 numbers"),
    (dataset("a", data="text"), "a is a string, need float32; save again as float32"),
    (dataset("a", data=np.zeros(2, [("x", "<f4")])), "a is a compound type"),
    (dataset("a", shape=(1 << 40,), dtype="<f4"), "a declares 4398046511104 bytes but 0 are stored"),
    (linked(h5py.SoftLink("/b")), "a is a soft link"),
    (linked(h5py.ExternalLink("/etc/passwd", "/")), "a is an external link"),
]


@pytest.mark.parametrize(("write", "fragment"), REFUSED, ids=[f"{i:02}-{f[-24:]}" for i, (_, f) in enumerate(REFUSED)])
def test_refused_files(tmp_path, write, fragment):
    path = tmp_path / "w.npz"
    write(path)
    with pytest.raises(ModelFileError) as caught:
        statedict.read_state_dict(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and fragment in message and "\n" not in message, message


def test_too_many_bytes(tmp_path, state, monkeypatch):
    monkeypatch.setattr(statedict, "MAX_BYTES", 1000)
    for write in (as_hdf5, as_npz, as_safetensors):
        write(tmp_path / "w", state)
        with pytest.raises(ModelFileError, match="bytes of weights, need at most 1000"):
            statedict.read_state_dict(tmp_path / "w")
