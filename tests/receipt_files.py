"""What the tests of receipts share: models and images, the commands, a way to change a receipt."""

import functools
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import pagnp
from pagnp import modelfile
from pagnp.backends import numba_cpu, numpy_ref
from pagnp.cli.main import main

SIZE, TALL = (16, 24), (96, 16)
HEADS = {
    "labels": {"task": "segmentation", "classes": ["wall", "floor", "ball"], "hidden": [8]},
    "depth": {"task": "depth", "unit": "m", "hidden": [8]},
}
GATED = ["layer1.0", "layer2.0"]
MULTIPOOL = {"block": "layer4.1", "rates": [0, 1, 2], "mode": "hard", "tied": False, "hidden": [8, 8]}
BRANCH = "layer1.0.relu2"  # a conv in a branch, which no receipt lists
SELECT = "layer1.0.select"  # that stands for it


def network(seed):
    options = {"depth": 26, "width": 0.125, "output_stride": 8, "gate_bias": 0.0}
    return pagnp.nn.pag_resnet(seed=seed, gated=GATED, multipool=MULTIPOOL, heads=HEADS, **options)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A folder with two models and some images; tests only read it."""
    folder = tmp_path_factory.mktemp("receipt")
    modelfile.write(network(1), folder / "model.h5")
    modelfile.write(network(2), folder / "other.h5")
    rng = np.random.default_rng(5)
    (folder / "photos").mkdir()
    for name in ("room.png", "photos/one.png", "photos/two.png", "other.png"):
        Image.fromarray(rng.integers(0, 256, (*SIZE, 3), np.uint8)).save(folder / name)
    Image.fromarray(rng.integers(0, 256, (30, 30, 3), np.uint8)).save(folder / "small.png")
    Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8)).save(folder / "tiny.png")
    Image.fromarray(rng.integers(0, 256, (*TALL, 3), np.uint8)).save(folder / "tall.png")
    Image.open(folder / "room.png").save(folder / "room.jpg", quality=95)
    return folder


RECEIPTS = {}  # what `made` made
parsed = functools.cache(modelfile.read)


def read_once(path, **options):
    """The model files do not change, and reading one takes longer than all else here."""
    return parsed(os.path.realpath(path), **options)


@pytest.fixture
def call(shared, tmp_path, monkeypatch, capsys):
    """Return a function: command line with {d} for the shared folder -> (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(modelfile, "read", read_once)

    def run(line, **names):
        code = main([part.format(d=shared, **names) for part in line.split()])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


@pytest.fixture
def made(call, shared):
    """A function: more options of `run` -> the receipt r.json in the current folder, as a dict.

    Each is made once, unless a kernel was replaced.
    """

    def make(options="{d}/room.png"):
        key = (shared, options, *numba_cpu._TABLE.values(), *numpy_ref._TABLE.values())
        if key not in RECEIPTS:
            code, _, err = call(f"run --weights {{d}}/model.h5 --save ponder --overwrite --receipt r.json {options}")
            assert code == 0, err
            RECEIPTS[key] = Path("r.json").read_text()
        Path("r.json").write_text(RECEIPTS[key])
        return json.loads(RECEIPTS[key])

    return make


def verified(call, line="r.json"):
    """Return the exit code and the JSON of `pagnp verify`."""
    code, out, err = call(f"verify {line} --json")
    assert err == "", err
    return code, json.loads(out)


def changed(document, path, value):
    """Write r.json with one thing changed; `path` leads there."""
    *steps, last = path
    place = document
    for step in steps:
        place = place[step]
    if value is None:
        del place[last]
    else:
        place[last] = value
    json.dump(document, open("r.json", "w"))
