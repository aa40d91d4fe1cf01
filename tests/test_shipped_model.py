"""The shipped models: their digests on the shipped image by every road, and that they are of use on unseen scenes."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import BACKENDS, load_backend

import pagnp
from pagnp.canonical import canonical
from pagnp.contract import compare
from pagnp.modelfile import model_hash, read
from pagnp.testing.interpret import interpret

EXAMPLES = Path(__file__).parent.parent / "examples"
IMAGE = EXAMPLES / "images/room.png"
MODELS = ("rooms", "rooms-seg")


def weights(name):
    return EXAMPLES / f"models/{name}.h5"


def card(name):
    return json.loads((EXAMPLES / f"models/{name}.json").read_text())


@pytest.fixture(scope="module", params=MODELS)
def shipped(request):
    """A model's name, and its result with every layer."""
    return request.param, pagnp.load(weights(request.param))(IMAGE, trace=True)


def test_digest_is_the_one_on_the_card(shipped):
    name, traced = shipped
    assert model_hash(read(weights(name))) == card(name)["model_hash"]
    assert traced.digest == card(name)["image_digest"]
    assert weights(name).stat().st_size < 10e6


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("options", ({}, {"threads": 1}), ids=("threads", "one-thread"))
def test_every_layer_on_every_backend(shipped, backend, options):
    load_backend(backend)
    if backend == "numpy" and options:
        pytest.skip("the reference has one thread at any rate")
    name, traced = shipped
    result = pagnp.load(weights(name), backend, **options)(IMAGE, trace=True)
    assert list(result.layers) == list(traced.layers)
    for layer, array in result.layers.items():
        assert not (found := compare(array, traced.layers[layer])), f"{layer}: {found}"
    assert result.digest == card(name)["image_digest"]


def test_dense_is_the_same_for_more_work(shipped):
    name, traced = shipped
    dense = pagnp.load(weights(name))(IMAGE, dense=True)
    assert dense.digest == card(name)["image_digest"]
    assert dense.macs["executed"] == dense.macs["dense"] > traced.macs["executed"]


@pytest.mark.parametrize("name", MODELS)
def test_node_by_node_meaning(name):
    model = pagnp.load(weights(name))
    x = np.random.default_rng(2).standard_normal((1, 56, 72, 3)).astype(np.float32)
    graph = canonical(model.graph)
    want = interpret(graph, x)
    for output, array in model.forward(x).items():
        assert not (found := compare(array, want[graph.outputs[output]])), f"{output}: {found}"


@pytest.mark.parametrize("name", MODELS)
def test_useful_on_unseen_scenes_with_gates_that_skip(name, monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    for module in [module for module in sys.modules if module.split(".")[0] == "rooms"]:
        monkeypatch.delitem(sys.modules, module)
    import evaluate_rooms

    from pagnp.evaluate.evaluation import evaluate

    found = evaluate(pagnp.load(weights(name)), evaluate_rooms.rendered(1000, 8, (192, 256)))
    assert found.heads["segmentation"]["pixel_accuracy"] > 0.7
    if name == "rooms":
        assert found.heads["boundary"]["ods"] > 0.6
        assert found.heads["depth"]["abs_rel"] < 0.3
        assert found.heads["normals"]["mean"] < 25
    assert 0.2 < found.work["gated_share"] < 0.9
    assert sum(gate["std"] > 0.01 for gate in found.work["kept"].values()) >= 4  # the masks follow the scene
