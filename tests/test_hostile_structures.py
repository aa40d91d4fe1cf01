"""The structure of a model file's HDF5 (trees, heaps, headers): what would hurt is refused, by name, before it can.

What the HDF5 library would do with it (loops, crashes, gigabytes) was found by tests/fuzz.
"""

# ruff: noqa: F811 - fixtures are imported, and arguments have their names

import struct

import h5py
import numpy as np
import pytest
from hdf5_bytes import chunked, found, patched
from small_model import model, refused, small_graph  # noqa: F401

from pagnp import h5dataset, h5guard, h5structure, modelfile

UNDEFINED = b"\xff" * 8


@pytest.mark.parametrize(
    ("place", "content", "fragment"),
    [
        (8, b"\x09", "has a superblock of version 9, need 0 to 3"),
        (13, b"\x04", "has addresses or lengths of another size than 8 bytes"),
        (24, struct.pack("<Q", 8), "has a superblock extension, a driver or free space of its own"),
        (32, struct.pack("<Q", 96), "has a superblock extension, a driver or free space of its own"),
        (48, struct.pack("<Q", 96), "has a superblock extension, a driver or free space of its own"),
        (40, struct.pack("<Q", 1 << 40), "is damaged or cut short (it has 10984 of 1099511627776 bytes)"),
        (64, struct.pack("<Q", 1 << 40), "is damaged or cut short (byte 1099511627776 of 10984)"),
        (64, UNDEFINED, "is damaged or cut short"),
    ],
)
def test_superblock(model, place, content, fragment):
    patched(model, place, content)
    refused(model, fragment)


def test_something_in_front(model):
    for count in (512, 1024, 4096):
        path = model.with_name("front.h5")
        path.write_bytes(bytes(count) + model.read_bytes())
        refused(path, "has a user block in front of its HDF5 part, need none; h5unjam removes it")


def test_something_behind_does_no_harm(model):
    want = modelfile.model_hash(modelfile.read(model))
    with open(model, "ab") as file:
        file.write(model.read_bytes())
    assert modelfile.model_hash(modelfile.read(model)) == want


# Groups


def test_a_list_of_free_blocks_that_never_ends(model):
    """The library follows it until memory is gone."""
    heap = found(model, b"HEAP")
    raw = model.read_bytes()
    free, place = struct.unpack_from("<QQ", raw, heap + 16)
    patched(model, place + free, struct.pack("<QQ", free, 16))
    refused(model, "is damaged or cut short (free blocks in a loop or outside their heap)")
    patched(model, heap + 16, struct.pack("<Q", 1 << 60))
    refused(model, "free blocks in a loop")


def test_a_tree_in_itself(model):
    """A level more and a child that is the tree."""
    tree = found(model, b"TREE")
    patched(model, tree + 5, b"\x01")
    patched(model, tree + 32, struct.pack("<Q", tree))
    refused(model, "is damaged or cut short (a tree with level 1 in place of 0)")


@pytest.mark.parametrize("offset", [8, 16])
@pytest.mark.parametrize("number", [0, 2])
def test_a_tree_beside_itself(model, number, offset):
    """The library goes from neighbour to neighbour, for ever."""
    chunked(model, np.arange(2, dtype="<f4"), (2,))
    tree = found(model, b"TREE", number)
    patched(model, tree + offset, struct.pack("<Q", tree))
    refused(model, "is damaged or cut short (a tree whose nodes are not in one order)")


def test_large_trees_are_read(tmp_path):
    """Groups and chunks of so many entries that their trees have several levels."""
    with h5py.File(tmp_path / "w.h5", "w") as file:
        for i in range(1500):
            file[f"a{i * 7919 % 1500:04}"] = np.float32([i])
        file.create_dataset("chunks", data=np.arange(70 * 70, dtype="<f4").reshape(70, 70), chunks=(1, 1))
    with h5guard.opened(tmp_path / "w.h5") as root:
        entries = h5guard.walk("w.h5", root)
        assert len(entries) == 1501
        whole = h5dataset.read("w.h5", h5dataset.inspect("w.h5", "chunks", entries["chunks"], ["<f4"]))
    assert (whole.ravel() == np.arange(70 * 70)).all()


def test_a_symbol_table_or_tree_in_two_places(model):
    """Both groups use the same symbols: their entries are reached twice."""
    first, second = found(model, b"TREE"), found(model, b"TREE", 1)
    raw = model.read_bytes()
    patched(model, first + 32, raw[second + 32 : second + 40])
    refused(model, "is damaged or cut short")


@pytest.mark.parametrize(
    ("signature", "offset", "content", "fragment"),
    [
        (b"SNOD", 6, b"\xff\xff", "65535 symbols or no symbols"),
        (b"SNOD", 4, b"\x02", "symbols or no symbols"),
        (b"SNOD", 8, struct.pack("<Q", 1 << 33), "a name without an end"),
        (b"SNOD", 24, struct.pack("<I", 7), "a symbol of kind 7"),
        (b"HEAP", 8, struct.pack("<Q", 1 << 50), "heap at"),
        (b"HEAP", 24, struct.pack("<Q", 1 << 50), "heap at"),
        (b"HEAP", 0, b"PEAH", "no heap at"),
        (b"TREE", 4, b"\x01", "no tree of this kind"),
        (b"TREE", 6, b"\xff\xff", "no tree of this kind"),
        (b"TREE", 32, UNDEFINED, "symbol table at"),
    ],
)
def test_damaged_groups(model, signature, offset, content, fragment):
    patched(model, found(model, signature) + offset, content)
    refused(model, "is damaged or cut short", fragment)


@pytest.mark.parametrize("options", [{"libver": "latest"}, {"libver": "v108"}, {"track_order": True}])
def test_heaps_of_newer_groups(model, options, tmp_path):
    with h5py.File(model) as old, h5py.File(tmp_path / "new.h5", "w", **options) as new:
        for name, value in old.attrs.items():
            new.attrs[name] = value
        for name in old:
            old.copy(name, new)
        for i in range(20):
            new.create_group(f"more{i:02}", track_order=True)
    refused(tmp_path / "new.h5", "keeps links or attributes in a heap of HDF5 1.8", "libver='earliest'")


def test_attributes_in_a_heap(model):
    with h5py.File(model, "r+", libver="latest") as file:
        group = file["weights"].create_group("g", track_order=True)
        for i in range(20):
            group.attrs[f"a{i}"] = i
    refused(model, "weights/g keeps links or attributes in a heap")


def test_the_plain_groups_of_newer_files_are_read(tmp_path):
    graph = small_graph()
    document, weights = modelfile._document(graph)
    kept = {key: weights[key] for key in sorted(weights)[:8]}
    for libver in ("latest", "v108"):
        with h5py.File(tmp_path / "w.h5", "w", libver=libver) as file:
            for key, array in kept.items():
                file[key] = array
        with h5guard.opened(tmp_path / "w.h5") as root:
            assert sorted(h5guard.walk("w.h5", root)) == sorted(kept)


def test_too_deep_and_too_many(model, monkeypatch):
    with h5py.File(model, "r+") as file:
        file["/".join("d" * 18)] = np.zeros(2, "<f4")
    refused(model, "is nested deeper than 16 groups")
    monkeypatch.setattr(h5structure, "MAX_ENTRIES", 5)
    refused(model, "has over 5 entries")


def test_second_names(model):
    """A cycle of hard links, a group and a dataset with two names."""
    with h5py.File(model, "r+") as file:
        file["weights/root"] = file["/"]
    refused(model, "weights/root is another name of / (or a loop)")
    with h5py.File(model, "r+") as file:
        del file["weights/root"]
        file["weights/twin"] = file["graph"]
    refused(model, "weights/twin is another name of graph (or a loop)")
