"""The model file: round trip, the same bytes each time, and every refusal with its message."""

import json
import os
import re
import subprocess
import sys
import time
import zlib

import h5py
import numpy as np
import pytest

from pagnp import contract, graphjson, h5header, h5structure, modelfile
from pagnp.errors import GraphError, ModelFileError
from pagnp.graph import Graph

BIAS = "head.bias"  # a weight of shape (2,): easy to damage


def small_graph():
    """Return a graph with a norm, a gate, a select and a head; weights from a literal seed."""
    random = np.random.default_rng(7)
    graph = Graph(3, preprocess={"kind": "caffe", "mean": [123.68, 116.779, 103.939], "pad_multiple": 1})

    def conv(name, source, c_in, c_out, k):
        graph.weights[f"{name}.weight"] = random.standard_normal((c_out, c_in, k, k)).astype(np.float32)
        graph.weights[f"{name}.bias"] = random.standard_normal(c_out).astype(np.float32)
        roles = {"weight": f"{name}.weight", "bias": f"{name}.bias"}
        return graph.add("conv2d", source, name, roles, stride=(1, 1), padding=(k // 2,) * 4, dilation=(1, 1), groups=1)

    conv("conv1", "input", 3, 4, 1)
    for key in ("weight", "bias", "running_mean"):
        graph.weights[f"bn1.{key}"] = random.standard_normal(4).astype(np.float32)
    graph.weights["bn1.running_var"] = np.float32([0, 0.5, 1, 2])
    roles = {"gamma": "bn1.weight", "beta": "bn1.bias", "mean": "bn1.running_mean", "var": "bn1.running_var"}
    graph.add("norm", "conv1", "bn1", roles, eps=1e-5)
    conv("gate_logits", "bn1", 4, 2, 1)
    graph.add("gate", "gate_logits", "gate", mode="hard", form="kong2018", temperature=1.0, gate_index=0)
    conv("conv2", "bn1", 4, 4, 3)
    graph.add("select", ("gate", "bn1", "conv2"), "selected")
    conv("head", "selected", 4, 2, 1)
    graph.outputs["labels"] = "head"
    upsample = {"op": "bilinear", "align_corners": False}
    head = {"name": "labels", "task": "segmentation", "output": "labels", "upsample": upsample, "decode": "argmax"}
    graph.heads.append({**head, "classes": ["wall", "Fußboden"], "palette": [[0, 0, 0], [255, 128, 0]]})
    graph.producer = "pagnp test"
    return graph


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "m.h5"
    modelfile.write(small_graph(), path)
    return path


def test_round_trip(model):
    graph, back = small_graph(), modelfile.read(model)
    assert back.to_json() == graph.to_json()
    assert back.producer == "pagnp test"
    assert list(back.nodes) == list(graph.nodes)
    assert back.weights.keys() == graph.weights.keys()
    for key, array in graph.weights.items():
        assert not contract.compare(back.weights[key], array), key
        assert back.weights[key].flags.c_contiguous and back.weights[key].dtype == np.float32


def test_same_bytes_in_another_process_a_second_later(model, tmp_path):
    script = "import sys; sys.path[:0] = sys.argv[2:]; import test_modelfile as t; "
    script += "t.modelfile.write(t.small_graph(), sys.argv[1])"
    time.sleep(1.1)
    here = os.path.dirname(os.path.abspath(__file__))
    command = [sys.executable, "-c", script, str(tmp_path / "again.h5"), here, os.path.dirname(here)]
    subprocess.run(command, check=True)
    assert (tmp_path / "again.h5").read_bytes() == model.read_bytes()


def test_read_and_written_again_is_the_same_file(model, tmp_path):
    modelfile.write(modelfile.read(model), tmp_path / "again.h5")
    assert (tmp_path / "again.h5").read_bytes() == model.read_bytes()


def test_layout_is_what_the_document_says(model):
    with h5py.File(model) as file:
        assert file.attrs["format"] == b"pagnp-model" and file.attrs["format_version"] == 1
        assert file.attrs["contract"] == b"pagnp-bits/1"
        text = file["graph"][()].tobytes()
        assert text == graphjson.canonical(json.loads(text))
        assert file["weights/conv1.weight"].shape == (4, 3, 1, 1)
        assert file["weights/conv1.weight"].dtype == np.dtype("<f4")
        assert len(file["graph"].attrs["sha256"]) == 64


def test_only_weights_that_are_read_are_written(tmp_path):
    graph = small_graph()
    graph.weights["left.over"] = np.zeros(3, np.float32)
    modelfile.write(graph, tmp_path / "m.h5")
    assert "left.over" not in modelfile.read(tmp_path / "m.h5").weights


def test_all_attributes_of_compare_survive(tmp_path):
    graph = Graph(2)
    graph.add("slice_channels", "input", "first", start=0, stop=1)
    graph.add("compare", "first", "mask", op="gt", value=0.5)
    graph.add("masked", ("input", "mask"), "kept")
    graph.outputs["kept"] = "kept"
    modelfile.write(graph, tmp_path / "m.h5")
    assert modelfile.read(tmp_path / "m.h5").nodes["mask"].attrs == {"op": "gt", "value": 0.5}


def test_schema_knows_the_ops_and_attributes_of_opset():
    from pagnp import opset

    definitions = graphjson.schema()["$defs"]
    assert set(definitions["node"]["properties"]["op"]["enum"]) == set(opset.OPS)
    attrs = {name.rstrip("?") for spec in opset.OPS.values() for name in spec.attrs}
    assert set(definitions["attrs"]["properties"]) == attrs
    roles = {name.rstrip("?") for spec in opset.OPS.values() for name in spec.roles}
    assert set(definitions["node"]["properties"]["weights"]["properties"]) == roles


# The hash


def test_hash_is_independent_of_the_file(model, tmp_path):
    want = modelfile.model_hash(small_graph())
    with h5py.File(model) as old, h5py.File(tmp_path / "packed.h5", "w") as new:
        for name, value in old.attrs.items():
            new.attrs[name] = value
        for name in ["graph", *(f"weights/{key}" for key in old["weights"])]:
            new.create_dataset(name, data=old[name][()], compression="gzip", shuffle=True, fletcher32=True)
            new[name].attrs["sha256"] = old[name].attrs["sha256"]
    assert modelfile.model_hash(modelfile.read(tmp_path / "packed.h5")) == want
    assert len(want) == 64 and (tmp_path / "packed.h5").read_bytes() != model.read_bytes()


@pytest.mark.parametrize("part", ["weight", "sign of zero", "attribute", "class name"])
def test_hash_sees_every_part(part):
    graph, other = small_graph(), small_graph()
    if part == "weight":
        other.weights[BIAS][0] = np.nextafter(other.weights[BIAS][0], np.float32(9))
    elif part == "sign of zero":
        graph.weights[BIAS][0], other.weights[BIAS][0] = 0.0, -0.0
    elif part == "attribute":
        other.nodes["bn1"].attrs["eps"] = 1e-3
    else:
        other.heads[0]["classes"] = ["wall", "door"]
    assert modelfile.model_hash(graph) != modelfile.model_hash(other)
    other = small_graph()
    other.producer = "somebody else"
    assert modelfile.model_hash(other) == modelfile.model_hash(small_graph())


# Writing: whole or not at all


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError("disk full")])
def test_an_interrupted_write_leaves_the_old_file(model, monkeypatch, error):
    before = model.read_bytes()
    real, calls = modelfile._write_dataset, []

    def failing(*args):
        calls.append(args)
        if len(calls) == 3:
            raise error
        real(*args)

    monkeypatch.setattr(modelfile, "_write_dataset", failing)
    with pytest.raises(ModelFileError if isinstance(error, OSError) else KeyboardInterrupt):
        modelfile.write(small_graph(), model)
    assert model.read_bytes() == before and os.listdir(model.parent) == ["m.h5"]


def test_write_refuses(model, tmp_path):
    with pytest.raises(ModelFileError, match="exists already; give another name or --overwrite"):
        modelfile.write(small_graph(), model, overwrite=False)
    with pytest.raises(ModelFileError, match="cannot be written"):
        modelfile.write(small_graph(), tmp_path / "nowhere" / "m.h5")
    graph = small_graph()
    graph.weights[BIAS][1] = np.inf
    with pytest.raises(ModelFileError, match=r"weights/head\.bias is not finite"):
        modelfile.write(graph, tmp_path / "inf.h5")
    graph = small_graph()
    del graph.weights[BIAS]
    with pytest.raises(GraphError, match=r"head\.bias"):
        modelfile.write(graph, tmp_path / "lacking.h5")
    graph = small_graph()
    graph.heads[0]["name"] = "../../etc/labels"
    with pytest.raises(ModelFileError, match=r"graph \$\.heads\[0\]\.name: .*does not match"):
        modelfile.write(graph, tmp_path / "name.h5")
    assert os.listdir(tmp_path) == ["m.h5"]


# Reading: whole-file refusals


def refused(path, *fragments, **options):
    """Check that reading `path` fails with one line that begins with the file and has every fragment."""
    with pytest.raises(ModelFileError) as caught:
        modelfile.read(path, **options)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message and len(message) < 600
    for fragment in fragments:
        assert fragment in message, message
    return caught.value


def test_refuses_what_is_no_file_of_ours(model, tmp_path):
    refused(tmp_path / "none.h5", "does not exist")
    refused(tmp_path, "is not a regular file")
    text = tmp_path / "text.h5"
    text.write_text("weights = 1\n")
    refused(text, "is not an HDF5 file")
    text.write_bytes(b"")
    refused(text, "is not an HDF5 file")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_refuses_a_truncated_file(model, share):
    whole = model.read_bytes()
    model.write_bytes(whole[: int(len(whole) * share)])
    error = refused(model, "is damaged or cut short", "copy or export it again")
    assert isinstance(error.__cause__, h5header.Fault)


def test_any_changed_byte_is_refused_or_harmless(model):
    whole, want = bytearray(model.read_bytes()), modelfile.model_hash(small_graph())
    for place in range(0, len(whole), 79):
        damaged = bytearray(whole)
        damaged[place] ^= 0x55
        model.write_bytes(damaged)
        try:
            graph = modelfile.read(model)
        except ModelFileError as error:
            assert "\n" not in str(error)
        else:
            assert modelfile.model_hash(graph) == want, place


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


# Reading: hostile entries. Each change gets the open file; `swap` replaces the dataset of BIAS, keeping its SHA-256.


def swap(file, *args, **kwargs):
    sha = file["weights"][BIAS].attrs["sha256"]
    del file["weights"][BIAS]
    file["weights"].create_dataset(BIAS, *args, **kwargs).attrs["sha256"] = np.bytes_(sha)


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


def test_nonfinite_weights(tmp_path):
    graph, path = small_graph(), tmp_path / "m.h5"
    graph.weights[BIAS][1] = np.nan
    graph.weights["conv1.bias"][1] = -np.inf
    modelfile.write(graph, path, allow_nonfinite=True)
    refused(path, "weights/conv1.bias, head.bias is not finite", "allow_nonfinite=True")
    back = modelfile.read(path, allow_nonfinite=True)
    assert np.isnan(back.weights[BIAS][1]) and "outside the contract" in back.producer
    modelfile.write(small_graph(), path)
    assert "outside" not in modelfile.read(path, allow_nonfinite=True).producer


@pytest.mark.parametrize("variance", [-1.0, -1e-5 - 1e-9])
def test_refuses_a_negative_variance(tmp_path, monkeypatch, variance):
    graph, path = small_graph(), tmp_path / "m.h5"
    graph.weights["bn1.running_var"][2] = variance
    with pytest.raises(ModelFileError, match=r"bn1\.running_var \+ eps is not positive"):
        modelfile.write(graph, path)
    monkeypatch.setattr(modelfile, "check_values", lambda *args: True)
    modelfile.write(graph, path)
    monkeypatch.undo()
    refused(path, "weights/bn1.running_var + eps is not positive, need var > -eps")
    refused(path, "weights/bn1.running_var + eps is not positive", allow_nonfinite=True)


# Reading: the graph's JSON


def rewrite(path, text):
    """Put other bytes into the dataset `graph`, with the right SHA-256."""
    array = np.frombuffer(text if isinstance(text, bytes) else text.encode(), np.uint8)
    with h5py.File(path, "r+") as file:
        del file["graph"]
        file.create_dataset("graph", data=array).attrs["sha256"] = np.bytes_(modelfile._sha256(array))


def edit(*steps, value=None, delete=False):
    """Return a change of the JSON document at the path `steps`."""

    def change(document):
        for step in steps[:-1]:
            document = document[step]
        if delete:
            del document[steps[-1]]
        else:
            document[steps[-1]] = value
        return None

    return change


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        (b"", "graph"),
        (b"{", "graph is not valid JSON"),
        (b"\xff{}", "graph is not valid JSON"),
        (b'{"channels": 3, "channels": 4}', "the key 'channels' appears twice"),
        (b'{"channels": NaN}', "the number NaN is not allowed"),
        (b'{"channels": -Infinity}', "the number -Infinity is not allowed"),
        (b'{"channels": 1e999}', "the number 1e999 is too large"),
        (b'{"channels": ' + b"9" * 5000 + b"}", "is too large"),
        (b"[" * 100_000, "nested deeper than 16 levels"),
        (b"[" * 20 + b"]" * 20, "nested deeper than 16 levels"),
        (b'{"a": "\\u001b[2J"}', "has control characters"),
        (b'{"a": "\\ud800"}', "graph is not valid JSON"),
        (b"[]", "graph $: [] is not of type 'object'"),
        (b"{}", "graph $: 'channels' is a required property"),
    ],
)
def test_refuses_bad_json(model, text, fragment):
    rewrite(model, text)
    refused(model, fragment)


@pytest.mark.parametrize(
    ("change", "fragment"),
    [
        (edit("extra", value=1), "graph $: Additional properties are not allowed ('extra' was unexpected)"),
        (edit("channels", value="3"), "graph $.channels: '3' is not of type 'integer'"),
        (edit("nodes", 0, "op", value="eval"), "graph $.nodes[0].op: 'eval' is not one of"),
        (edit("nodes", 0, "name", value="a/b"), "graph $.nodes[0].name: 'a/b' does not match"),
        (edit("nodes", 0, "attrs", "stride", value=[1]), "graph $.nodes[0].attrs.stride: [1] is too short"),
        (edit("nodes", 0, "attrs", "stride", value=[0, 1]), "node 'conv1' (conv2d): attribute 'stride' cannot be"),
        (edit("nodes", 0, "attrs", "groups", delete=True), "node 'conv1' (conv2d): attribute 'groups' is missing"),
        (edit("nodes", 0, "attrs", "mode", value="hard"), "node 'conv1' (conv2d): unknown attribute 'mode'"),
        (edit("nodes", 0, "attrs", "name", value="x"), "graph $.nodes[0].attrs: Additional properties"),
        (edit("nodes", 0, "attrs", "op", value="gt"), "node 'conv1'"),
        (edit("nodes", 0, "attrs", "groups", value=3), "node 'conv1' (conv2d): weight expects 9 input channels"),
        (edit("nodes", 0, "inputs", value=["bn1"]), "node 'conv1': input 'bn1' is not a node before it"),
        (edit("nodes", 1, "name", value="conv1"), "node 'conv1': the name is empty, reserved or used twice"),
        (edit("nodes", 1, "weights", "var", value="none"), "node 'bn1': weight 'none' is not in the file"),
        (edit("nodes", 1, "weights", "beta", delete=True), "has weights that no node reads: weights/bn1.bias"),
        (edit("channels", value=4), "node 'conv1' (conv2d): weight expects 3 input channels"),
        (edit("outputs", value={}), "graph $.outputs"),
        (edit("outputs", "labels", value="gate"), "output 'labels': node 'gate' is a mask, need a tensor"),
        (edit("outputs", "labels", value="none"), "output 'labels': there is no node 'none'"),
        (edit("heads", 0, "output", value="none"), "head 'labels': there is no output 'none'"),
        (edit("heads", 0, "decode", value="run"), "graph $.heads[0].decode: 'run' is not one of"),
        (edit("heads", 0, "classes", value=["one"]), "head 'labels': 1 classes for 2 channels"),
        (edit("heads", 0, "upsample", value={"op": "bilinear"}), "graph $.heads[0].upsample: 'align_corners' is a req"),
        (edit("heads", 0, "palette", 0, value=[0, 0, 256]), "graph $.heads[0].palette[0][2]: 256 is greater than"),
        (edit("preprocess", "std", value=[1, 1, 1]), "graph $.preprocess: False schema does not allow"),
        (edit("preprocess", "kind", value="torchvision"), "graph $.preprocess: 'std' is a required property"),
        (edit("preprocess", "kind", value="python"), "graph $.preprocess.kind: 'python' is not one of"),
        (edit("weights", "head.bias", value=[3]), "weights/head.bias has shape (2,), need (3,)"),
        (edit("weights", "head.bias", value=[1 << 31]), "weights is 8589935384 bytes, need at most 4294967296"),
        (edit("weights", "..", value=[1]), "graph $.weights: '..' does not match"),
        (edit("weights", "a/b", value=[1]), "graph $.weights: 'a/b' does not match"),
        (edit("weights", "head.bias", delete=True), "has datasets that the graph does not know: weights/head.bias"),
    ],
)
def test_refuses_a_bad_graph(model, change, fragment):
    with h5py.File(model) as file:
        document = json.loads(file["graph"][()].tobytes())
    change(document)
    rewrite(model, json.dumps(document))
    refused(model, fragment)


def test_the_examples_of_the_document_are_valid():
    document = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "docs", "MODEL_FORMAT.md")
    with open(document, encoding="utf-8") as file:
        graph, config = map(json.loads, re.findall(r"```json\n(.*?)```", file.read(), re.DOTALL))
    graphjson.check_schema(graph, "MODEL_FORMAT.md")
    weights = {key: np.zeros(shape, np.float32) for key, shape in graph["weights"].items()}
    assert Graph.from_json(graph, weights).validate().outputs == {"labels": "classify"}
    graphjson.check_schema(config, "MODEL_FORMAT.md", "config")
