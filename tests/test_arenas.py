"""The memory that a model keeps from run to run: taken again only when nobody sees it any more."""

import copy
import pickle
import threading

import numpy as np
import pytest

import pagnp
from pagnp import arenas, nn
from pagnp.arenas import Arenas
from pagnp.errors import MemoryLimitError


def test_an_arena_is_taken_again():
    store = Arenas()
    first = store.take(4096)
    assert first.nbytes == 4096 and first.dtype == np.float32 and first.ctypes.data % 64 == 0
    place = first.ctypes.data
    del first
    assert store.take(4096).ctypes.data == place


def test_an_arena_in_which_an_array_lies_is_not_taken():
    store = Arenas()
    layer = store.take(4096)[16:32].reshape(4, 4)
    layer[...] = 7
    store.take(4096)[...] = 0
    assert (layer == 7).all()


def test_another_size_takes_the_place_of_the_last():
    store = Arenas()
    for size in (4096, 8192, 4096):
        assert store.take(size).nbytes == size
        assert [raw.nbytes for raw in store._kept] == [size + 64]


def test_a_large_arena_is_not_kept(monkeypatch):
    monkeypatch.setattr(arenas, "MOST_KEPT", 1000)
    store = Arenas()
    store.take(1024)
    assert store._kept == []


def test_no_memory_is_one_line(monkeypatch):
    def refuse(*_):
        raise MemoryError

    monkeypatch.setattr(arenas.np, "empty", refuse)
    with pytest.raises(MemoryLimitError, match="the run needs 4096 MiB for feature maps"):
        Arenas().take(4096 << 20)


def test_copies_are_empty():
    store = Arenas()
    store.take(64)
    for remade in (copy.deepcopy(store), pickle.loads(pickle.dumps(store))):
        assert remade._kept == []


def test_runs_at_once_and_runs_that_are_held_keep_their_maps():
    heads = {"labels": {"task": "segmentation", "classes": 3, "hidden": [8, 8]}}
    model = pagnp.Model(nn.pag_resnet(depth=26, width=0.125, gated="all", heads=heads, gate_bias=0))
    images = [np.random.default_rng(i).standard_normal((1, 32, 40, 3), np.float32) for i in range(4)]
    node = next(iter(model.graph.outputs.values()))
    want = [model.forward(x)["labels"] for x in images]
    held, wrong = [model.run(x) for x in images], []

    def repeat(x, value):
        for _ in range(20):
            if not np.array_equal(model.run(x).value(node), value):
                wrong.append(value)

    threads = [threading.Thread(target=repeat, args=pair) for pair in zip(images, want, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    for run, value in zip(held, want, strict=True):
        np.testing.assert_array_equal(run.value(node), value)
