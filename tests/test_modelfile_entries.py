"""The HDF5 entries of a model file: each one that is missing, of another kind or hostile is refused by name."""

# ruff: noqa: F811 - fixtures are imported, and arguments have their names

import os
import zlib

import h5py
import numpy as np
import pytest
from small_model import BIAS, model, refused, swap  # noqa: F401

from pagnp import h5structure


def _drop(name):
    def change(file):
        del file.attrs[name]

    return change


def _set(name, value):
    def change(file):
        file.attrs[name] = value

    return change


@pytest.mark.parametrize(
    ("change", "fragments"),
    [
        (_drop("format"), ["attribute format is missing", "--arch"]),
        (_set("format", np.bytes_("keras")), ["attribute format is 'keras', need 'pagnp-model'"]),
        (_set("format", "pagnp-model"), ["attribute format is of another type, need a fixed-length string"]),
        (_set("format", 5), ["attribute format is of another type"]),
        (_set("format", np.bytes_(b"\xff\xfe")), ["attribute format is not UTF-8"]),
        (_set("format", np.bytes_(b"x" * 5000)), ["attribute format is too large"]),
        (_drop("format_version"), ["attribute format_version is missing"]),
        (_set("format_version", 2), ["attribute format_version is 2, need 1", "newer", "update pagnp"]),
        (_set("format_version", 0), ["attribute format_version is 0, need 1"]),
        (_set("format_version", 1.0), ["attribute format_version is of another type"]),
        (_set("contract", np.bytes_("pagnp-bits/2")), ["attribute contract is 'pagnp-bits/2', need 'pagnp-bits/1'"]),
        (_drop("contract"), ["attribute contract is missing"]),
        (_drop("producer"), ["attribute producer is missing"]),
    ],
)
def test_refuses_root_attributes(model, change, fragments):
    with h5py.File(model, "r+") as file:
        change(file)
    refused(model, *fragments)


# Each change gets the open file; `swap` replaces the dataset of BIAS, keeping its SHA-256.


def link(target):
    def change(file):
        del file["weights"][BIAS]
        file["weights"][BIAS] = target

    return change


def typed(dtype):
    def change(file):
        swap(file, data=np.zeros(2, dtype))

    return change


def external_link(file):
    del file["graph"]
    file["graph"] = h5py.ExternalLink("/etc/passwd", "x")


def external_storage(file):
    swap(file, shape=(2,), dtype="<f4", external=[("/etc/hostname", 0, 8)])


def virtual(file):
    source = h5py.VirtualSource("other.h5", "x", shape=(2,))
    layout = h5py.VirtualLayout(shape=(2,), dtype="<f4")
    layout[:] = source
    del file["weights"][BIAS]
    file["weights"].create_virtual_dataset(BIAS, layout)


def no_shape(file):
    swap(file, data=h5py.Empty("f4"))


def many_axes(file):
    swap(file, data=np.zeros((1,) * 9, "<f4"))


def shape_bomb(file):
    swap(file, shape=(1 << 40,), dtype="<f4")


def chunked_shape_bomb(file):
    swap(file, shape=(1 << 50,), dtype="<f4", chunks=(1 << 20,))


def missing_chunks(file):
    swap(file, shape=(2,), dtype="<f4", chunks=(1,))
    file["weights"][BIAS][0] = 1.0


def gzip_bomb(file):
    swap(file, data=np.zeros(1 << 24, "<f4"), chunks=(1 << 22,), compression="gzip")


def swelling_chunk(file):
    swap(file, shape=(2,), dtype="<f4", chunks=(2,), compression="gzip")
    file["weights"][BIAS].id.write_direct_chunk((0,), zlib.compress(bytes(1 << 16)))


def oversized_chunk(file):
    swap(file, shape=(2,), dtype="<f4", chunks=(2,), compression="gzip")
    file["weights"][BIAS].id.write_direct_chunk((0,), zlib.compress(os.urandom(1 << 16)))


def skipped_filter(file):
    swap(file, shape=(2,), dtype="<f4", chunks=(2,), compression="gzip")
    file["weights"][BIAS].id.write_direct_chunk((0,), bytes(8), filter_mask=1)


def lzf(file):
    swap(file, data=np.zeros(2, "<f4"), compression="lzf")


def wrong_shape(file):
    swap(file, data=np.zeros(3, "<f4"))


def wrong_hash(file):
    file["weights"][BIAS][0] += 1


def no_hash(file):
    del file["weights"][BIAS].attrs["sha256"]


def missing(file):
    del file["weights"][BIAS]


def no_graph(file):
    del file["graph"]


def stranger(file):
    file["weights/extra"] = np.zeros(2, "<f4")


def many_strangers(file):
    for i in range(14):
        file[f"extra{i:02}"] = np.zeros(1, "<f4")


def terminal_escape(file):
    file["weights/\x1b[31mred"] = np.zeros(2, "<f4")


def nested(file):
    file["weights/a/b"] = np.zeros(2, "<f4")


def deep(file):
    file["/".join("d" * 40)] = np.zeros(2, "<f4")


def loop(file):
    file["weights/again"] = file["weights"]


def named_type(file):
    file["weights/type"] = np.dtype("<f4")


def vlen_graph(file):
    text = file["graph"][()].tobytes().decode()
    del file["graph"]
    file["graph"] = text


def huge_graph(file):
    sha = file["graph"].attrs["sha256"]
    del file["graph"]
    file.create_dataset("graph", data=np.full((16 << 20) + 1, 32, np.uint8)).attrs["sha256"] = np.bytes_(sha)


def graph_group(file):
    del file["graph"]
    file.create_group("graph")


FIX = "export again with pagnp.torch.export"
HOSTILE = [
    (link(h5py.SoftLink("/graph")), "weights/head.bias is a soft link, need a dataset in this file"),
    (external_link, "graph is an external link, need a dataset in this file"),
    (link(h5py.ExternalLink("/etc/passwd", "x")), "weights keeps links or attributes in a heap of HDF5 1.8"),
    (external_storage, "weights/head.bias is stored in another file (external storage)"),
    (virtual, "weights/head.bias is a virtual dataset"),
    (typed("<f8"), f"weights/head.bias is float64, need float32; {FIX}"),
    (typed("<f2"), f"weights/head.bias is float16, need float32; {FIX}"),
    (typed(">f4"), "weights/head.bias is big-endian float32, need float32"),
    (typed("<i4"), "weights/head.bias is int32, need float32"),
    (typed("?"), "weights/head.bias is an enumeration, need float32"),
    (typed("S4"), "weights/head.bias is a string, need float32"),
    (typed("<c8"), "weights/head.bias is a compound type, need float32"),
    (typed([("a", "<f4"), ("b", "<i4")]), "weights/head.bias is a compound type, need float32"),
    (typed(("<f4", (3,))), "weights/head.bias"),
    (lambda file: swap(file, shape=(2,), dtype=h5py.ref_dtype), "weights/head.bias is a reference, need float32"),
    (lambda file: swap(file, shape=(2,), dtype=h5py.regionref_dtype), "weights/head.bias is a reference, need float32"),
    (lambda file: swap(file, shape=(2,), dtype=h5py.vlen_dtype("<f4")), "weights/head.bias is of variable length"),
    (lambda file: swap(file, shape=(2,), dtype=h5py.string_dtype()), "weights/head.bias is a string"),
    (no_shape, "weights/head.bias has no shape"),
    (many_axes, "weights/head.bias has no shape of at most 8 axes"),
    (shape_bomb, "weights/head.bias declares 4398046511104 bytes but 0 are stored"),
    (chunked_shape_bomb, "weights/head.bias has 0 of 1073741824 chunks"),
    (missing_chunks, "weights/head.bias has 1 of 2 chunks"),
    (gzip_bomb, "need at most 256:1"),
    (swelling_chunk, "weights/head.bias has a chunk that inflates to 13 bytes or more, need 8"),
    (oversized_chunk, "weights/head.bias has a chunk stored in another form than declared"),
    (skipped_filter, "weights/head.bias has a chunk stored in another form than declared"),
    (lzf, "weights/head.bias is compressed by HDF5 filter 32000, need none or gzip"),
    (wrong_shape, "weights/head.bias has shape (3,), need (2,)"),
    (wrong_hash, "weights/head.bias has sha256"),
    (no_hash, "weights/head.bias attribute sha256 is missing"),
    (missing, "lacks datasets that the graph needs: weights/head.bias"),
    (no_graph, "graph is missing"),
    (stranger, "has datasets that the graph does not know: weights/extra;"),
    (
        many_strangers,
        "extra00, extra01, extra02, extra03, extra04, extra05, extra06, extra07, extra08, extra09 and 4 more",
    ),
    (terminal_escape, "weights/\\x1b[31mred"),
    (nested, "has datasets that the graph does not know: weights/a/b"),
    (deep, "is nested deeper than 16 groups"),
    (loop, "weights/again is another name of weights (or a loop)"),
    (named_type, "weights/type is a named type"),
    (vlen_graph, "graph is a string, need uint8"),
    (huge_graph, "graph has shape (16777217,), need one axis of at most 16777216"),
    (graph_group, "graph is missing"),
]


@pytest.mark.parametrize(("change", "fragment"), HOSTILE, ids=[f"{i:02}-{f[-24:]}" for i, (_, f) in enumerate(HOSTILE)])
def test_refuses_hostile_entries(model, change, fragment):
    with h5py.File(model, "r+") as file:
        change(file)
    refused(model, fragment)


def test_refuses_too_much(model, monkeypatch):
    refused(model, "weights is 800 bytes, need at most 799", max_bytes=799)
    monkeypatch.setattr(h5structure, "MAX_ENTRIES", 5)
    refused(model, "has over 5 entries")
