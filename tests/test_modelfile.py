"""The model file: round trip, the same bytes each time, what is written and what is no model file."""

# ruff: noqa: F811 - fixtures are imported, and arguments have their names

import json
import os
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
from small_model import BIAS, model, refused, small_graph  # noqa: F401

from pagnp import contract, graphjson, h5header, modelfile
from pagnp.errors import GraphError, ModelFileError
from pagnp.graph import Graph


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
    script = "import sys; sys.path[:0] = sys.argv[2:]; import small_model as t; "
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
    with pytest.raises(GraphError, match=r"head \$\.name: .*does not match"):
        modelfile.write(graph, tmp_path / "name.h5")
    for spoil, message in (
        (
            lambda graph: graph.heads[0].update(unit="m\n"),
            r"w.h5: graph is not valid JSON: the string 'm\\n' has control",
        ),
        (lambda graph: graph.heads[0].update(unit="\ud800"), "w.h5: graph: a name is no text"),
        (lambda graph: setattr(graph, "producer", "p" * 5000), "w.h5: producer is longer than 4096 bytes"),
    ):
        graph = small_graph()
        spoil(graph)
        with pytest.raises(ModelFileError, match=message):
            modelfile.write(graph, tmp_path / "w.h5")
    assert os.listdir(tmp_path) == ["m.h5"]


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
