"""`pagnp compare --reference`: PyTorch's arrays of a whole network, and planted errors found at their layer.

The arrays are in golden/reference.npz, so nothing here needs torch.
"""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from reference_network import MAKER, compare, golden, graph, model  # noqa: F401

import pagnp
from pagnp import modelfile
from pagnp.backends.base import get_backend
from pagnp.cli.reference_report import table
from pagnp.errorbound import network
from pagnp.errorbound.reference import ReferenceFile
from pagnp.errorbound.rows import compare_tensors
from pagnp.graph import Graph, Node

# ruff: noqa: F811


def test_torch_is_within_its_bounds_at_every_layer(compare, golden, backend_name):
    code, out, err = compare(MAKER.PATH, "--backend", backend_name)
    assert code == 0, out + err
    assert f"all {len(golden) - 1} layers within their bounds" in out
    assert "decisions: 0 of" in out and "layer2.0.gate " in out


def test_json_has_every_row(compare, golden):
    code, out, _ = compare(MAKER.PATH, "--backend", "numpy", "--json")
    found = json.loads(out)
    rows = {row["name"]: row for row in found["layers"]}
    assert code == 0 and found["ok"] and found["first_out_of_bound"] is None and found["skipped"] == []
    # The golden file has modules, not what is between them; a gate's module is called <gate>.unit there.
    assert set(rows) == {key.removesuffix(".unit") for key in golden if key != "input"}
    assert found["not_in_file"] == []
    tensors = [row for row in rows.values() if row["kind"] == "tensor"]
    assert all(0 <= row["ratio"] <= 1 and row["difference"] >= 0 for row in tensors)
    assert any(row["difference"] > 0 and row["ulp"] > 0 for row in tensors), "torch sums as we do?"
    gate = rows["layer2.0.gate"]
    assert gate["kind"] == "mask" and gate["decisions"] == gate["shape"][0] * gate["shape"][1] > 1
    assert gate["margin"] > 0 and gate["flips"] == 0 and gate["run_flips"] == 0
    assert rows["layer4.1.multipool"]["kind"] == "index"
    assert rows["relu"]["run"] is not None and rows["bn1"]["run"] is None  # bn1 is inside the layer `relu`


# What is planted -> (change of (graph, weights), the first layer that must be out of bound)
def _scaled_weight(key, factor=1.01):
    def change(graph, weights):
        flat = weights[key].reshape(-1)
        flat[np.argmax(np.abs(flat))] *= np.float32(factor)

    return change


def _without(key):
    def change(graph, weights):
        weights[key][:] = 0

    return change


def _flipped(key):
    def change(graph, weights):
        weights[key] = np.ascontiguousarray(weights[key][:, :, ::-1])

    return change


def _attribute(name, **attrs):
    def change(graph, weights):
        graph.nodes[name] = replace(graph.nodes[name], attrs={**graph.nodes[name].attrs, **attrs})

    return change


def _left_out(name):
    def change(graph, weights):
        graph.nodes[name] = replace(graph.nodes[name], op="add", attrs={"value": 0.0})

    return change


def _other_input(name, slot, source):
    def change(graph, weights):
        inputs = list(graph.nodes[name].inputs)
        inputs[slot] = source
        graph.nodes[name] = replace(graph.nodes[name], inputs=tuple(inputs))

    return change


PLANTED = {
    "weight by 1 % in a 3x3": (_scaled_weight("layer1.1.conv2.weight"), "layer1.1.conv2"),
    "weight by 1 % in a 1x1": (_scaled_weight("layer3.0.conv1.weight"), "layer3.0.conv1"),
    "weight by 1 % in the stem": (_scaled_weight("conv1.weight"), "conv1"),
    "weight by 1 % in a gate": (_scaled_weight("layer2.0.gate.conv.weight"), "layer2.0.gate.conv"),
    "missing bias": (_without("heads.labels.conv3.bias"), "heads.labels.conv3"),
    "missing beta": (_without("layer2.1.bn3.bias"), "layer2.1.bn3"),
    "variance by 1 in 1000": (_scaled_weight("layer3.1.bn1.running_var", 1.001), "layer3.1.bn1"),
    "flipped taps": (_flipped("layer1.0.conv2.weight"), "layer1.0.conv2"),
    "other eps": (_attribute("layer1.0.bn1", eps=1e-3), "layer1.0.bn1"),
    "other padding": (_attribute("layer2.1.conv2", padding=[2, 0, 1, 1]), "layer2.1.conv2"),
    "no relu": (_left_out("layer2.0.relu1"), "layer2.0.relu1"),
    "no relu behind an add": (_left_out("layer1.0.relu3"), "layer1.0.relu3"),
    "branches swapped": (_other_input("layer2.0.select", 1, "layer2.0.relu2"), "layer2.0.select"),
    "another residual": (_other_input("layer1.1.add", 1, "layer1.0.downsample.1"), "layer1.1.relu3"),
}


@pytest.mark.parametrize("name", list(PLANTED))
def test_planted_error_is_found_at_its_layer(name, graph):
    change, expected = PLANTED[name]
    weights = {key: array.copy() for key, array in graph.weights.items()}
    wrong = replace(graph, nodes=dict(graph.nodes), weights=weights)
    change(wrong, weights)
    with ReferenceFile(MAKER.PATH, wrong.validate()) as file:
        file.fit(file.input_size(), file.input_size())
        report = network.check(wrong, file.input(), file, get_backend("numba"))
    bad = [row.name for row in report.rows if not row.ok]
    assert report.first is not None and report.first.name == expected
    # Anchored, the error stays where it is: what comes behind starts from right values again.
    own = {expected, expected.replace("conv", "bn"), expected.replace("conv", "relu")}
    assert bad[0] == expected and set(bad) <= own | {"layer1.0.relu1", "relu", "layer3.1.relu1", "layer2.1.relu3"}


def test_planted_error_is_named_with_its_place(graph, compare, tmp_path):
    weights = dict(graph.weights) | {"heads.labels.conv3.bias": graph.weights["heads.labels.conv3.bias"] + 1}
    modelfile.write(replace(graph, weights=weights), tmp_path / "wrong.h5")
    code, out, _ = compare(MAKER.PATH, weights=tmp_path / "wrong.h5")
    assert code == 1
    assert "first layer out of bound: heads.labels.conv3 (conv2d): at [" in out and "allowed" in out
    assert out.count("OUT OF BOUND") == 1


def test_wrong_decisions_are_found(compare, golden):
    mask = golden["layer2.0.gate.unit"].copy()
    mask[0, 0, 2, 3] ^= True
    code, out, _ = compare(golden | {"layer2.0.gate.unit": mask}, "--json")
    found = json.loads(out)
    row = next(row for row in found["layers"] if row["name"] == "layer2.0.gate")
    assert code == 1 and found["first_out_of_bound"] == "layer2.0.gate" and row["place"] == [2, 3] and row["flips"] == 1
    # Behind it the network goes on with the reference's decision, so the select is another one than torch's.
    assert {r["name"] for r in found["layers"] if not r["ok"]} == {"layer2.0.gate", "layer2.0.select"}
    choice = golden["layer4.1.multipool.unit"].copy()
    choice[0, 0, 1, 1] = (choice[0, 0, 1, 1] + 1) % 3
    code, out, _ = compare(golden | {"layer4.1.multipool.unit": choice})
    assert code == 1 and "layer4.1.multipool (gate)" in out and "1 of 12 decisions differ" in out


def test_bounds_run_on_where_arrays_are_missing(compare, golden):
    """With a few arrays alone the bounds are wider and torch is still inside; an error is seen at the next of them."""
    few = {key: golden[key] for key in ("input", "layer1.0.relu3", "layer2.1.relu3", "heads.labels.conv3")}
    code, out, _ = compare(few, "--json")
    found = json.loads(out)
    assert code == 0 and len(found["layers"]) == 3 and "layer2.0.select" in found["not_in_file"]
    few["layer2.1.relu3"] = few["layer2.1.relu3"] * np.float32(1.5) + 1
    code, out, _ = compare(few, "--json")
    assert code == 1 and json.loads(out)["first_out_of_bound"] == "layer2.1.relu3"


def test_open_decisions_widen_what_they_steer(graph, golden):
    """Where logits are missing and a margin lies within their bound, the select may take either branch, no third."""
    nhwc = {key: np.ascontiguousarray(array.transpose(0, 2, 3, 1)) for key, array in golden.items() if array.ndim == 4}
    skipped, computed = nhwc["layer1.0.relu1"], nhwc["layer1.0.relu2"]
    known = {"layer1.0.relu1": skipped, "layer1.0.relu2": computed}
    # Both logits of the gate are one sum: a tie, which we skip, and rounding may compute.
    weights = {key: array.copy() for key, array in graph.weights.items()}
    weights["layer1.0.gate.conv.weight"][1] = weights["layer1.0.gate.conv.weight"][0]
    weights["layer1.0.gate.conv.bias"][:] = 0
    tied, backend = replace(graph, weights=weights), get_backend("numpy")

    def select(of, value):
        report = network.check(of, MAKER.network_input(), known | {"layer1.0.select": value}, backend)
        return next(row for row in report.rows if row.name == "layer1.0.select")

    other = skipped.copy()
    other[0, 3, 4] = computed[0, 3, 4]
    row = select(tied, other)
    assert row.ok and row.difference == np.abs(computed - skipped)[0, 3, 4].max() > 0.01
    other[0, 3, 4] += 10
    row = select(tied, other)
    assert not row.ok and row.place[:2] == (3, 4)
    # With the network's own logits no margin is that small: what torch took is right, and nothing else.
    assert select(graph, nhwc["layer1.0.select"]).ok
    taken = golden["layer1.0.gate.unit"][:, 0, ..., None]
    assert not select(graph, np.where(taken, skipped, computed)).ok


def test_own_values_of_an_image_agree_to_the_bit(compare, model, tmp_path):
    """A file of our own run, layers in our layout, heads and masks: no difference at all, the image as input."""
    pixels = np.random.default_rng(3).integers(0, 256, (19, 27, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "room.png")
    result = pagnp.load(model, backend="numpy")(pixels, trace=True, dense=True)
    arrays = {f"layers/{name}": array for name, array in result.layers.items()}
    arrays |= {f"outputs/{name}": array for name, array in result.outputs.items()}
    code, out, err = compare(arrays, str(tmp_path / "room.png"), "--backend", "numba", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert len(found["layers"]) == len(result.layers) + 1 and found["not_in_file"] == []
    assert all(row["difference"] == 0 and (row["run"] or row["run_flips"] or 0) == 0 for row in found["layers"])
    labels = result.outputs["labels"].copy()
    labels[7, 9] = (labels[7, 9] + 1) % 5
    code, out, _ = compare(arrays | {"outputs/labels": labels}, str(tmp_path / "room.png"))
    assert code == 1 and "first layer out of bound: outputs/labels (argmax): at [7,9]" in out


def test_float64_arrays_lack_our_last_rounding():
    """An op that is exact but for its one rounding has no bound of its own; a float64 run does not share that."""
    wide, x = Graph(3), np.random.default_rng(4).standard_normal((1, 5, 6, 3)).astype(np.float32)
    wide.nodes["sum"], wide.outputs["y"] = Node("sum", "add", ("input",), {"value": 0.1}), "sum"
    value = x.astype(np.float64) + np.float32(0.1)
    for reference, ok in ((value, True), (value * (1 + 2.0**-22), False)):
        report = network.check(wide.validate(), x, {"sum": reference}, get_backend("numpy"))
        assert (report.first is None) == ok and report.rows[0].difference > 0


def test_differences_without_a_bound_are_counted():
    """Where a bound is infinite a difference cannot be judged: it is not out of bound, and not passed in silence."""
    ours, theirs = np.array([1, 2, 3], np.float32).reshape(1, 1, 1, 3), np.array([1, 9, 3], np.float32)
    row = compare_tensors("layer", "exp", ours, theirs.reshape(ours.shape), np.array([np.inf, np.inf, 0]))
    assert row.ok and row.unbounded == 1
    assert "1 values differ where no bound can be computed" in "\n".join(table(network.Report([row])))


def test_golden_file_is_small_and_says_where_it_comes_from():
    assert json.loads(MAKER.PATH.with_suffix(".json").read_text())["command"] == MAKER.COMMAND
    assert MAKER.PATH.stat().st_size < 500_000
