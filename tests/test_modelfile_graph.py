"""The graph in a model file: its JSON, its schema and its numbers; what is wrong is refused by its place."""

# ruff: noqa: F811 - fixtures are imported, and arguments have their names

import json
import os
import re
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
from small_model import edit, model, refused, rewrite, small_graph  # noqa: F401

from pagnp import graphjson, modelfile
from pagnp.graph import Graph


def refused_after(model, change, fragment):
    """Check that the file is refused once `change` was made to its JSON document."""
    with h5py.File(model) as file:
        document = json.loads(file["graph"][()].tobytes())
    change(document)
    rewrite(model, json.dumps(document))
    refused(model, fragment)


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
    refused_after(model, change, fragment)


def test_the_examples_of_the_document_are_valid():
    document = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "docs", "MODEL_FORMAT.md")
    with open(document, encoding="utf-8") as file:
        graph, config = map(json.loads, re.findall(r"```json\n(.*?)```", file.read(), re.DOTALL))
    graphjson.check_schema(graph, "MODEL_FORMAT.md")
    weights = {key: np.zeros(shape, np.float32) for key, shape in graph["weights"].items()}
    assert Graph.from_json(graph, weights).validate().outputs == {"labels": "classify"}
    graphjson.check_schema(config, "MODEL_FORMAT.md", "config")


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
    refused_after(model, change, fragment)


def test_a_norm_beyond_float32_is_named_with_its_file(tmp_path, monkeypatch):
    graph, path = small_graph(), tmp_path / "m.h5"
    graph.weights["bn1.weight"][:] = 3e38
    graph.weights["bn1.running_var"][:] = 0
    monkeypatch.setattr(modelfile, "check_values", lambda *args: True)
    modelfile.write(graph, path)
    monkeypatch.undo()
    refused(path, "graph: node 'bn1' (norm): scale or shift is no finite float32")


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
