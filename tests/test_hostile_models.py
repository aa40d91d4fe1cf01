"""Model files whose HDF5 structure, storage or meaning would hurt: each is refused, by name, before it can.

What the HDF5 library would do with them (loops, crashes, gigabytes) was found by tests/fuzz.
"""

import json
import os
import resource
import shutil
import struct
import subprocess
import sys
import textwrap
import time

import h5py
import numpy as np
import pytest
from test_modelfile import BIAS, edit, refused, rewrite, small_graph, swap

from pagnp import graphjson, h5dataset, h5guard, h5header, h5structure, modelfile
from pagnp.cli.main import main
from pagnp.errors import ModelFileError

UNDEFINED = b"\xff" * 8


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "m.h5"
    modelfile.write(small_graph(), path)
    return path


def patched(model, place, content):
    """Write `content` over the bytes at `place`."""
    raw = bytearray(model.read_bytes())
    raw[place : place + len(content)] = content
    model.write_bytes(raw)


def found(model, signature, number=0):
    """Return where the structure `signature` begins."""
    raw, place = model.read_bytes(), -1
    for _ in range(number + 1):
        place = raw.index(signature, place + 1)
    return place


# Superblock


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


# Datasets


def header_of(model, name):
    """Return where the object header of `name` is."""
    with h5py.File(model) as file:
        return h5py.h5o.get_info(file[name].id).addr


def message(model, name, kind):
    """Return where the body of a message in the header of `name` is."""
    raw, place = model.read_bytes(), header_of(model, name) + 16
    while True:
        found_kind, size = struct.unpack_from("<HH", raw, place)
        if found_kind == kind:
            return place + 8
        place += 8 + size


def test_data_that_two_datasets_share(model):
    """Of 20,000 datasets over the same megabyte a small file would fill all memory."""
    other = message(model, f"weights/{BIAS}", h5header.LAYOUT)
    raw = model.read_bytes()
    target = message(model, "weights/gate_logits.bias", h5header.LAYOUT)
    patched(model, target, raw[other : other + 18])
    refused(model, "is damaged or cut short", "belongs to something else, too")


def test_data_behind_the_file(model):
    patched(model, message(model, f"weights/{BIAS}", h5header.LAYOUT) + 2, struct.pack("<Q", 1 << 40))
    refused(model, f"weights/{BIAS} is damaged or cut short (data at 1099511627776")


@pytest.mark.parametrize(
    ("content", "fragment"),
    [
        (b"\x01", "has a data layout of version 1"),
        (b"\x04\x02", "has a data layout of version 4, need what HDF5 1.8 writes"),
        (b"\x03\x09", "is damaged or cut short"),
    ],
)
def test_layouts(model, content, fragment):
    patched(model, message(model, f"weights/{BIAS}", h5header.LAYOUT), content)
    refused(model, fragment, f"weights/{BIAS}")


def test_a_header_that_continues_in_itself(model):
    name = f"weights/{BIAS}"
    place = header_of(model, name)
    raw = model.read_bytes()
    size = struct.unpack_from("<I", raw, place + 8)[0]
    patched(model, message(model, name, 5) - 8, struct.pack("<HHB3xQQ", h5header.CONTINUATION, 16, 0, place + 16, size))
    refused(model, f"{name} is damaged or cut short")


def test_a_shared_message(model):
    patched(model, message(model, f"weights/{BIAS}", h5header.DATATYPE) - 4, b"\x03")
    refused(model, f"weights/{BIAS} shares a part of its header (a named type)")


def test_a_committed_type(model):
    with h5py.File(model, "r+") as file:
        file["type"] = np.dtype("<f4")
        swap(file, shape=(2,), dtype=file["type"], data=np.zeros(2))
    refused(model, f"weights/{BIAS} shares a part of its header (a named type)")


def chunked(model, data, chunk, **options):
    with h5py.File(model, "r+") as file:
        swap(file, data=data, chunks=chunk, maxshape=(None,), **options)


def test_a_chunk_larger_than_its_dataset(model):
    chunked(model, np.zeros(2, "<f4"), (1 << 20,), compression="gzip")
    refused(model, f"weights/{BIAS} is compressed", "need at most 256:1")


def test_chunks_in_one_place_or_twice(model):
    chunked(model, np.arange(2, dtype="<f4"), (1,))
    tree = found(model, b"TREE", 2)
    raw = model.read_bytes()
    assert raw[tree + 4] == 1
    first = raw[tree + 24 : tree + 24 + 32]
    patched(model, tree + 24 + 32, first[:24])
    refused(model, "is damaged or cut short (a chunk comes twice or begins inside another)")
    patched(model, tree + 24 + 32, raw[tree + 24 + 32 :][:24] + first[24:])
    refused(model, "belongs to something else, too")


def test_a_filtered_chunk_that_says_another_size(model):
    chunked(model, np.arange(2, dtype="<f4"), (2,), shuffle=True)
    tree = found(model, b"TREE", 2)
    patched(model, tree + 24, struct.pack("<I", 400))
    patched(model, tree + 24 + 24, struct.pack("<Q", model.stat().st_size))
    with open(model, "ab") as file:
        file.write(bytes(400))
    refused(model, f"weights/{BIAS} has a chunk stored in another form than declared")


@pytest.mark.parametrize("size", [0, 3, 4, 12])
def test_a_chunk_that_is_too_short_for_its_filters(model, size):
    """The library takes the checksum off a chunk of no bytes, and reads on through all memory."""
    chunked(model, np.arange(2, dtype="<f4"), (2,), compression="gzip", shuffle=True, fletcher32=True)
    patched(model, found(model, b"TREE", 2) + 24, struct.pack("<I", size))
    refused(model, f"weights/{BIAS} has a chunk that has ", "bytes, need 8")


@pytest.mark.parametrize("size", [0, 1, 8, 1 << 20])
def test_chunks_for_elements_of_another_size(model, size):
    chunked(model, np.arange(2, dtype="<f4"), (2,))
    patched(model, message(model, f"weights/{BIAS}", h5header.LAYOUT) + 15, struct.pack("<I", size))
    refused(model, f"weights/{BIAS} is damaged or cut short (chunks for elements of other than 4 bytes)")


@pytest.mark.parametrize("size", [0, 7, 9, 1 << 31])
def test_a_plain_chunk_of_another_size(model, size):
    chunked(model, np.arange(2, dtype="<f4"), (2,))
    patched(model, found(model, b"TREE", 2) + 24, struct.pack("<I", size))
    refused(model, f"weights/{BIAS}" if size < 9 else "is damaged or cut short")


def test_all_together_over_the_ratio(model, monkeypatch):
    monkeypatch.setattr(h5dataset, "TOTAL_FREE", 100)
    monkeypatch.setattr(h5dataset, "MAX_RATIO", 0.01)
    refused(model, "bytes of weights in 10984, need at most 0.01:1")


@pytest.mark.parametrize(
    ("dtype", "word"),
    [(h5py.opaque_dtype("V8"), "opaque"), (np.dtype("<f4"), None), (h5py.enum_dtype({"a": 1}), "an enumeration")],
)
def test_types(model, dtype, word):
    with h5py.File(model, "r+") as file:
        if word is None:
            swap(file, shape=(2,), dtype="<f4")
            file[f"weights/{BIAS}"][...] = 0
        else:
            swap(file, shape=(2,), dtype=dtype)
    refused(model, f"weights/{BIAS} is {word}, need float32" if word else "has sha256")


def test_a_bit_field(model):
    with h5py.File(model, "r+") as file:
        sha = file[f"weights/{BIAS}"].attrs["sha256"]
        del file[f"weights/{BIAS}"]
        space = h5py.h5s.create_simple((2,))
        h5py.h5d.create(file["weights"].id, BIAS.encode(), h5py.h5t.STD_B32LE, space)
        file[f"weights/{BIAS}"].attrs["sha256"] = sha
    refused(model, f"weights/{BIAS} is a bit field, need float32")


def test_huge_attributes(model):
    with h5py.File(model, "r+") as file:
        file.attrs["producer"] = np.bytes_("x" * 60_000)
    refused(model, "attribute producer is too large, need one string of at most 4096 bytes")
    with h5py.File(model, "r+") as file:
        file.attrs["producer"] = np.zeros((100, 100), "S4")
    refused(model, "attribute producer is too large")


# Plug-ins

PLUGIN = """
#include <stdio.h>
#include <stdlib.h>
__attribute__((constructor)) static void loaded(void) {
    FILE *file = fopen(getenv("MARKER"), "w");
    if (file) fclose(file);
}
"""


@pytest.fixture(scope="module")
def plugins(tmp_path_factory):
    """A folder with a plug-in that leaves a mark when it is loaded."""
    compiler = next((name for name in ("cc", "gcc", "clang") if shutil.which(name)), None)
    if compiler is None:
        pytest.skip("no C compiler")
    folder = tmp_path_factory.mktemp("plugins")
    (folder / "p.c").write_text(PLUGIN)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", folder / "libp.so", folder / "p.c"], check=True)
    return folder


def test_reading_loads_no_plugin(model, plugins, tmp_path):
    """A filter that HDF5 lacks makes it load every shared object of the folder; the second run shows that it would."""
    with h5py.File(model, "r+") as file:
        old = file[f"weights/{BIAS}"][()]
        swap(file, shape=old.shape, dtype="<f4", chunks=old.shape, compression=32015, allow_unknown_filter=True)
        file[f"weights/{BIAS}"].id.write_direct_chunk((0,), old.tobytes())
    ours = "from pagnp import modelfile; modelfile.read(sys.argv[1])"
    theirs = f"import h5py; h5py.File(sys.argv[1])['weights/{BIAS}'][()]"
    for script, loads in ((ours, False), (theirs, True)):
        marker = tmp_path / f"marker{loads}"
        environment = {**os.environ, "HDF5_PLUGIN_PATH": str(plugins), "MARKER": str(marker)}
        command = [sys.executable, "-c", f"import sys; {script}", str(model)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 1 and marker.exists() == loads, done.stderr
    refused(model, f"weights/{BIAS} is compressed by HDF5 filter 32015, need none or gzip")


# The graph's JSON


def torchvision(mean, std):
    return {"kind": "torchvision", "mean": [0, 0, mean], "std": [1, 1, std], "pad_multiple": 1}


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        (b'{"a": [' + b"[]," * 2_000_001 + b"0]}", "values, need at most 2000000"),
        (b'"' + b'\\"' * 1_000_000, "is not valid JSON"),
        (b'{"a": "' + b"[" * 1000 + b'"}', "graph $: "),
        (b'{"a":' * 17 + b"0" + b"}" * 17, "nested deeper than 16 levels"),
    ],
)
def test_json_is_measured_before_it_is_built(model, text, fragment):
    rewrite(model, text)
    begun = time.monotonic()
    refused(model, fragment)
    assert time.monotonic() - begun < 5


def test_a_high_recursion_limit_of_the_host_is_no_danger(model):
    script = "import sys; sys.setrecursionlimit(10**6); from pagnp import graphjson; graphjson.parse(b'[' * 10**6, 'x')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "nested deeper than 16 levels" in done.stderr


@pytest.mark.parametrize(
    ("change", "fragment"),
    [
        (edit("channels", value=3.0), "graph $.channels: 3.0 is not of type 'integer'"),
        (edit("weights", "head.bias", value=[2.0]), "graph $.weights.head.bias[0]: 2.0 is not of type 'integer'"),
        (edit("nodes", 0, "attrs", "groups", value=1.0), "graph $.nodes[0].attrs.groups: 1.0 is not of type 'integer'"),
        (edit("nodes", 0, "attrs", "groups", value=True), "graph $.nodes[0].attrs.groups: True is not of type"),
        (edit("preprocess", "pad_multiple", value=8.0), "graph $.preprocess.pad_multiple: 8.0 is not of type"),
        (edit("preprocess", "mean", value=[0, 1e39, 0]), "graph $.preprocess.mean[1]: 1e+39 is greater than"),
        (
            edit(
                "preprocess", value={"kind": "torchvision", "mean": [0, 0, 1], "std": [1, 1, 1e-40], "pad_multiple": 1}
            ),
            "graph: preprocess: std is too small for mean and float32",
        ),
        (
            edit(
                "preprocess", value={"kind": "torchvision", "mean": [0, 0, 9], "std": [1, 1, 1e-38], "pad_multiple": 1}
            ),
            "graph: preprocess: std is too small for mean and float32",
        ),
        (edit("nodes", 3, "attrs", "temperature", value=1e-50), "temperature: 1e-50 is less than the minimum"),
        (edit("nodes", 3, "attrs", "temperature", value=1e50), "temperature: 1e+50 is greater than the maximum"),
    ],
)
def test_numbers_of_the_graph(model, change, fragment):
    with h5py.File(model) as file:
        document = json.loads(file["graph"][()].tobytes())
    change(document)
    rewrite(model, json.dumps(document))
    refused(model, fragment)


def test_a_norm_beyond_float32_is_named_with_its_file(tmp_path, monkeypatch):
    graph, path = small_graph(), tmp_path / "m.h5"
    graph.weights["bn1.weight"][:] = 3e38
    graph.weights["bn1.running_var"][:] = 0
    monkeypatch.setattr(modelfile, "check_values", lambda *args: True)
    modelfile.write(graph, path)
    monkeypatch.undo()
    refused(path, "graph: node 'bn1' (norm): scale or shift is no finite float32")


# What the reader itself must not hide


@pytest.mark.parametrize("error", [TypeError, AttributeError, IndexError, NameError, AssertionError])
def test_our_own_mistakes_are_not_called_damage(model, monkeypatch, error):
    def mistaken(*args):
        raise error("ours")

    for module, name in ((h5structure, "check"), (h5guard, "walk"), (h5dataset, "read"), (graphjson, "parse")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, mistaken)
            with pytest.raises(error, match="ours"):
                modelfile.read(model)


def test_errors_of_the_library_keep_their_cause(model):
    with h5guard.opened(model) as root, pytest.raises(ModelFileError) as caught, h5guard.reading("f.h5", "entry"):
        h5py.h5o.open(root, b"none")
    assert str(caught.value).startswith("f.h5: entry is damaged or cut short (")
    assert isinstance(caught.value.__cause__, KeyError)


def test_refusals_are_small_and_quick(model):
    """None of the bombs may cost memory: the limit is far below what they declare."""
    chunked(model, np.zeros(1 << 24, "<f4"), (1 << 24,), compression="gzip")
    script = textwrap.dedent("""
        import resource, sys
        import h5py, jsonschema, numpy
        from pagnp import modelfile, errors
        try:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            modelfile.read(sys.argv[1])
        except errors.ModelFileError:
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """)
    done = subprocess.run([sys.executable, "-c", script, str(model)], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 20 * 1024 * (1 if resource.getpagesize() <= 4096 else 4)


def test_the_command_line_says_it_in_one_line_and_returns_3(model, capsys):
    patched(model, found(model, b"HEAP") + 16, struct.pack("<Q", 1 << 60))
    assert main(["info", str(model)]) == 3
    said = capsys.readouterr().err.strip()
    assert "\n" not in said and str(model) in said and "free blocks in a loop" in said


def test_channels_that_double_with_every_node(tmp_path, monkeypatch):
    """With 2000 nodes the number has so many digits that Python refuses to write it."""
    graph, last, path = small_graph(), "input", tmp_path / "m.h5"
    for i in range(20):
        last = graph.add("concat", (last,) * 200, f"wide{i}")
    graph.add("slice_channels", last, "narrow", start=0, stop=1)
    monkeypatch.setattr(type(graph), "validate", lambda self: self)
    modelfile.write(graph, path)
    monkeypatch.undo()
    refused(path, "graph: node 'wide2' (concat): over 1048576 channels")


def test_a_schema_error_does_not_print_the_document(model):
    rewrite(model, json.dumps({"nodes": ["x" * 100] * 1000}))
    error = refused(model, "graph $")
    assert error.__cause__ is None and error.__suppress_context__
