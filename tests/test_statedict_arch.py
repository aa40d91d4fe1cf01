"""Weights and architectures: what is read off the entries, a config.json, and all that does not fit, listed."""

# ruff: noqa: F811 - fixtures are imported, and arguments have their names

import inspect
import json

import numpy as np
import pytest
from state_dict_files import TINY, state, tiny  # noqa: F401

from pagnp import graphjson, modelfile, statedict
from pagnp.errors import ModelFileError, UsageError
from pagnp.nn import pag_resnet, resnet_spec

MULTIPOOL = {"block": "layer4.1"}
VARIANTS = {
    "all gated": {},
    "some gated": {"gated": ["layer1.1", "layer3.0"]},
    "not gated": {"gated": None},
    "multipool": {"multipool": MULTIPOOL},
    "tied multipool": {"multipool": {**MULTIPOOL, "tied": True, "hidden": [16, 24]}},
    "blur, res6": {"gate_blur": True, "res6": 24},
    "narrow": {"width": 0.3},
    "one channel": {"in_channels": 1},
    "hidden": {"heads": {"labels": {"task": "segmentation", "classes": 4, "hidden": [8, 16, 8]}}},
    "four heads": {
        "heads": {
            "boundary": {"task": "boundary"},
            "depth": {"task": "depth"},
            "labels": {"task": "segmentation", "classes": 2},
            "normals": {"task": "normals"},
        }
    },
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_named_architecture_is_read_off_the_entries(variant):
    want = pag_resnet(**{**TINY, "seed": 5, **VARIANTS[variant]})
    graph = statedict.build("pag_resnet26", want.weights)
    assert modelfile.model_hash(graph) == modelfile.model_hash(want)


def torchvision_resnet50(mid=8, classes=10):
    """Return a state_dict with the names and shapes of torchvision.models.resnet50, `mid` in place of 64."""
    random, shapes = np.random.default_rng(1), {"conv1.weight": (mid, 3, 7, 7)}

    def norm(name, count):
        shapes.update({f"{name}.{part}": (count,) for part in ("weight", "bias", "running_mean", "running_var")})

    norm("bn1", mid)
    c_in = mid
    for layer, count in enumerate((3, 4, 6, 3)):
        width = mid * 2**layer
        for i in range(count):
            block = f"layer{layer + 1}.{i}"
            shapes[f"{block}.conv1.weight"] = (width, c_in, 1, 1)
            shapes[f"{block}.conv2.weight"] = (width, width, 3, 3)
            shapes[f"{block}.conv3.weight"] = (4 * width, width, 1, 1)
            for part, channels in (("bn1", width), ("bn2", width), ("bn3", 4 * width)):
                norm(f"{block}.{part}", channels)
            if i == 0:
                shapes[f"{block}.downsample.0.weight"] = (4 * width, c_in, 1, 1)
                norm(f"{block}.downsample.1", 4 * width)
            c_in = 4 * width
    shapes.update({"fc.weight": (classes, c_in), "fc.bias": (classes,)})
    return {key: random.uniform(0.1, 1, shape).astype(np.float32) for key, shape in shapes.items()}


def test_torchvision_resnet50():
    state, notices = torchvision_resnet50(), []
    graph = statedict.build("resnet50", state, notices=notices)
    assert len(state) == 267  # torchvision 0.15's resnet50 has 320 entries, 53 of them num_batches_tracked
    assert notices == ["fc becomes a classifier of every pixel with 10 classes"]
    assert graph.nodes["layer2.0.conv1"].attrs["stride"] == [1, 1]
    assert graph.nodes["layer2.0.conv2"].attrs["stride"] == [2, 2]
    assert graph.nodes["layer4.0.conv2"].attrs["dilation"] == [1, 1]
    last = graph.nodes[graph.outputs["labels"]]
    assert np.array_equal(graph.weights[last.weights["weight"]][:, :, 0, 0], state["fc.weight"])
    assert np.array_equal(graph.weights[last.weights["bias"]], state["fc.bias"])
    statedict.build("pag_resnet50", state, notices=notices)
    assert notices[-1].endswith("output stride 8; torchvision's network is --arch resnet50")


def test_faults_of_torchvisions_resnet50_are_listed_by_the_files_own_names():
    state = {**torchvision_resnet50(), "more": np.zeros(1, np.float32), "bn1.bias": np.zeros(3, np.float32)}
    del state["fc.bias"], state["layer2.0.downsample.0.weight"]
    with pytest.raises(ModelFileError) as caught:
        statedict.build("resnet50", state, label="w.h5")
    assert str(caught.value) == (
        "w.h5: does not fit resnet50: 2 missing: fc.bias, layer2.0.downsample.0.weight; 1 unexpected: more; "
        "1 misshapen: bn1.bias (3,) need (8,)"
    )


def test_a_config_json(tmp_path):
    head = {"task": "segmentation", "classes": ["wall", "floor"], "palette": [[0, 0, 0], [9, 9, 9]], "hidden": []}
    options = {**TINY, "multipool": {"block": "layer4.1", "rates": [2, 0, 1]}, "heads": {"rooms": head}}
    caffe = {"kind": "caffe", "mean": [123.68, 116.779, 103.939], "pad_multiple": 8}
    config = tmp_path / "config.json"
    config.write_text(json.dumps({**options, "preprocess": caffe}))
    want = pag_resnet(**options)
    want.preprocess = caffe
    assert modelfile.model_hash(statedict.build(config, want.weights)) == modelfile.model_hash(want)
    config.write_text(
        json.dumps(
            {
                "depth": 50,
                "width": 0.125,
                "gated": None,
                "stride_on": "conv2",
                "heads": {"x": {**head, "classes": 10, "palette": None}},
            }
        )
    )
    graph = statedict.build(config, torchvision_resnet50())
    assert graph.outputs == {"x": "heads.x.conv1"} and graph.nodes["layer4.0.conv2"].attrs["dilation"] == [4, 4]


def test_a_blur_weight_may_be_absent(tmp_path):
    config = tmp_path / "config.json"
    config.write_text(json.dumps({**TINY, "gate_blur": True}))
    want = pag_resnet(**TINY, gate_blur=True)
    state = {key: array for key, array in want.weights.items() if "blur" not in key}
    assert modelfile.model_hash(statedict.build(config, state)) == modelfile.model_hash(want)


def test_config_json_knows_every_option_of_pag_resnet():
    options = set(graphjson.schema()["$defs"]["config"]["properties"]) - {"preprocess"}
    assert options == set(inspect.signature(resnet_spec).parameters)


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("", "is not valid JSON"),
        ("[]", "$: [] is not of type 'object'"),
        ('{"depth": 26}', "$: 'heads' is a required property"),
        ('{"heads": {}, "depth": 26}', "$.heads"),
        ('{"heads": {"a": {"task": "depth"}}, "colour": 1}', "$: Additional properties are not allowed ('colour'"),
        ('{"heads": {"a": {"task": "depth"}}, "depth": 51}', "pag_resnet: depth 51 is unknown; choose one of 26"),
        ('{"heads": {"a": {"task": "flow"}}}', "head 'a': task 'flow' is unknown"),
        ('{"heads": {"a/b": {"task": "depth"}}}', "$.heads: 'a/b' does not match"),
        ('{"heads": {"a": {"task": "depth"}}, "width": 1e9}', "$.width: 1000000000.0 is greater than the maximum"),
        ('{"heads": {"a": {"task": "depth"}}, "gated": ["layer9.0"]}', "gated block 'layer9.0' does not exist"),
        ('{"heads": {"a": {"task": "depth"}}, "preprocess": {"kind": "caffe"}}', "$.preprocess: 'mean' is a required"),
    ],
)
def test_bad_config_json(tmp_path, state, text, fragment):
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(ModelFileError) as caught:
        statedict.build(path, state)
    message = str(caught.value)
    assert message.startswith(f"{path}") and fragment in message and "\n" not in message, message


def test_missing_unexpected_and_misshapen_entries_are_listed_together(state):
    state = dict(state)
    for name in ("bn1.bias", "bn1.weight"):
        del state[name]
    state["layer1.0.bn1.weight"] = np.zeros(7, np.float32)
    state.update({f"extra{i:02}": np.zeros(1, np.float32) for i in range(12)})
    with pytest.raises(ModelFileError) as caught:
        statedict.build("pag_resnet26", state, label="w.h5")
    message = str(caught.value)
    assert message.startswith("w.h5: does not fit pag_resnet26: 2 missing: bn1.bias, bn1.weight; 12 unexpected: ")
    assert "extra09 and 2 more; 1 misshapen: layer1.0.bn1.weight (7,) need (8,)" in message


def _without(state, part):
    return {key: array for key, array in state.items() if part not in key}


@pytest.mark.parametrize(
    ("name", "change", "error", "fragment"),
    [
        ("resnet18", dict, UsageError, "arch 'resnet18' is unknown; choose one of pag_resnet26"),
        ("none.json", dict, ModelFileError, "none.json: cannot be read"),
        ("pag_resnet50", dict, ModelFileError, "missing: layer1.2.bn1.bias"),
        ("pag_resnet26", lambda s: {"a": s["conv1.weight"]}, ModelFileError, "; 1 unexpected: a"),
        ("pag_resnet26", lambda s: {"a": s["conv1.weight"]}, ModelFileError, "missing: bn1.bias, bn1.running_mean, "),
        ("pag_resnet26", lambda s: dict(list(s.items())[1:]), ModelFileError, "resnet26: 1 missing: conv1.weight"),
        ("pag_resnet26", lambda s: _without(s, "layer4.0.conv1"), ModelFileError, "1 missing: layer4.0.conv1.weight"),
        ("pag_resnet26", lambda s: _without(s, "layer4.0.conv3"), ModelFileError, "1 missing: layer4.0.conv3.weight"),
        (  # a width that nothing confirms is not built
            "pag_resnet26",
            lambda s: {"layer4.0.conv1.weight": np.zeros((1 << 20, 1, 1, 1), np.float32)},
            ModelFileError,
            "conv1.weight is missing; check --arch",
        ),
        ("pag_resnet26", lambda s: _without(s, "heads."), ModelFileError, "has neither heads.* nor fc.*"),
        (
            "pag_resnet26",
            lambda s: {**s, "conv1.weight": np.zeros((8, 3, 3, 3), np.float32)},
            ModelFileError,
            "conv1.weight has shape (8, 3, 3, 3), need (c_out, c_in, 7, 7)",
        ),
        (
            "pag_resnet26",
            lambda s: {**s, "layer4.0.conv1.weight": np.zeros((1 << 20, 1, 1, 1), np.float32)},
            ModelFileError,
            "layer4.0.conv3.weight has shape (256, 64, 1, 1), need (c_out, 1048576, 1, 1)",
        ),
        (
            "pag_resnet26",
            lambda s: {**s, "heads.strange.conv1.weight": np.zeros((2, 256, 1, 1), np.float32)},
            ModelFileError,
            "head 'strange' with 2 channels could be several tasks; name its task in a config.json",
        ),
        (
            "pag_resnet26",
            lambda s: tiny(multipool={"block": "layer4.1", "rates": [0, 1, 2]}),
            ModelFileError,
            "layer4.1.multipool has 3 branches whose dilation rates are not in the weights",
        ),
    ],
)
def test_refused_architectures(state, name, change, error, fragment):
    with pytest.raises(error) as caught:
        statedict.build(name, change(state))
    assert fragment in str(caught.value) and "\n" not in str(caught.value), caught.value
