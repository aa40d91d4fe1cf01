"""A loaded model holds the weights of its convolutions once, in the order of the kernels, and shows the file's."""

import pickle

import numpy as np
import pytest

import pagnp
from pagnp import modelfile, nn
from pagnp.backends.base import HOST, get_backend
from pagnp.modelfile import model_hash

# groups, channels below and above the tiles' 16, 32 and 64, and what few output channels take
SHAPES = [(3, 3, 3, 70), (1, 1, 64, 64), (1, 1, 33, 2), (5, 2, 7, 19), (1, 1, 20, 4), (3, 3, 5, 32), (1, 1, 8, 65)]


@pytest.fixture
def path(tmp_path):
    pool = {"block": "layer4.1", "rates": (0, 1, 2)}
    heads = {"labels": {"task": "segmentation", "classes": 3, "hidden": [8, 8]}}
    graph = nn.pag_resnet(depth=26, width=0.125, multipool=pool, heads=heads)
    modelfile.write(graph, tmp_path / "model.h5")
    return tmp_path / "model.h5"


@pytest.mark.parametrize("backend", HOST)
@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_packed_weight_can_be_had_again(backend, groups, shape):
    weight = np.random.default_rng(0).standard_normal((*shape[:3], shape[3] * groups), np.float32)
    packed = get_backend(backend).pack_conv2d(weight, groups)
    again = packed if isinstance(packed, np.ndarray) else packed.unpacked()
    assert packed.shape == weight.shape
    np.testing.assert_array_equal(again, weight)


def test_a_packed_depthwise_weight_can_be_had_again():
    weight = np.random.default_rng(0).standard_normal((3, 5, 1, 37), np.float32)
    np.testing.assert_array_equal(get_backend("numba").pack_conv2d(weight, 37).unpacked(), weight)


@pytest.mark.parametrize("backend", HOST)
def test_a_loaded_model_shows_the_files_weights(path, backend):
    plain, model = modelfile.read(path), pagnp.load(path, backend=backend)
    assert sorted(model.graph.weights) == sorted(plain.weights)
    assert len(model.graph.weights) == len(plain.weights)
    for key, array in plain.weights.items():
        np.testing.assert_array_equal(model.graph.weights[key], array)
        assert model.graph.weights.shape(key) == array.shape
    assert model_hash(model.graph) == model_hash(plain)
    convs = [node.weights["weight"] for node in plain.nodes.values() if node.op == "conv2d"]
    assert not any(model.graph.weights[key].flags.writeable for key in convs)


def test_a_loaded_model_can_be_pickled_and_changed(path):
    model = pagnp.load(path)
    x = np.random.default_rng(0).standard_normal((1, 16, 24, 3), np.float32)
    want = model.forward(x)
    for output, array in pickle.loads(pickle.dumps(model)).forward(x).items():
        np.testing.assert_array_equal(array, want[output])
    weights = model.graph.weights.copy()
    weights["conv1.weight"] = np.zeros_like(weights["conv1.weight"])
    del weights["layer1.0.conv1.weight"]
    assert not weights["conv1.weight"].any() and model.graph.weights["conv1.weight"].any()
    assert "layer1.0.conv1.weight" not in weights and "layer1.0.conv1.weight" in model.graph.weights
