"""Model files whose storage or types would hurt are refused by name before they can; our own mistakes are not hidden.

What the HDF5 library would do with them (loops, crashes, gigabytes) was found by tests/fuzz.
"""

# ruff: noqa: F811 - fixtures are imported, and arguments have their names

import os
import resource
import shutil
import struct
import subprocess
import sys
import textwrap

import h5py
import numpy as np
import pytest
from hdf5_bytes import chunked, found, header_of, message, patched
from small_model import BIAS, model, refused, swap  # noqa: F401

from pagnp import graphjson, h5dataset, h5guard, h5header, h5structure, modelfile
from pagnp.cli.main import main
from pagnp.errors import ModelFileError


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
