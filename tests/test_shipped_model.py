"""The shipped model: its digest on the shipped image by every road, and that it is of use on scenes nobody has seen."""

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
WEIGHTS, IMAGE = EXAMPLES / "models/rooms-seg.h5", EXAMPLES / "images/room.png"
CARD = json.loads((EXAMPLES / "models/rooms-seg.json").read_text())


@pytest.fixture(scope="module")
def traced():
    return pagnp.load(WEIGHTS)(IMAGE, trace=True)


def test_digest_is_the_one_on_the_card(traced):
    assert model_hash(read(WEIGHTS)) == CARD["model_hash"]
    assert traced.digest == CARD["image_digest"]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("options", ({}, {"threads": 1}), ids=("threads", "one-thread"))
def test_every_layer_on_every_backend(traced, backend, options):
    load_backend(backend)
    result = pagnp.load(WEIGHTS, backend, **options)(IMAGE, trace=True)
    assert list(result.layers) == list(traced.layers)
    for name, array in result.layers.items():
        assert not (found := compare(array, traced.layers[name])), f"{name}: {found}"
    assert result.digest == CARD["image_digest"]


def test_dense_is_the_same_for_more_work(traced):
    dense = pagnp.load(WEIGHTS)(IMAGE, dense=True)
    assert dense.digest == CARD["image_digest"]
    assert dense.macs["executed"] == dense.macs["dense"] > traced.macs["executed"]


def test_node_by_node_meaning():
    model = pagnp.load(WEIGHTS)
    x = np.random.default_rng(2).standard_normal((1, 56, 72, 3)).astype(np.float32)
    graph = canonical(model.graph)
    want = interpret(graph, x)
    for output, array in model.forward(x).items():
        assert not (found := compare(array, want[graph.outputs[output]])), f"{output}: {found}"


def test_useful_on_unseen_scenes_with_gates_that_skip(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    for name in [name for name in sys.modules if name.split(".")[0] == "rooms"]:
        monkeypatch.delitem(sys.modules, name)
    import evaluate_rooms
    from pagnp.evaluate.evaluation import evaluate

    found = evaluate(pagnp.load(WEIGHTS), evaluate_rooms.rendered(1000, 8, (192, 256)))
    assert found.heads["segmentation"]["pixel_accuracy"] > 0.7
    assert 0.2 < found.work["gated_share"] < 0.8
    assert sum(gate["std"] > 0.01 for gate in found.work["kept"].values()) >= 4  # the masks follow the scene
