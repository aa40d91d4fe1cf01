"""The command line for tests, as fixtures: a model of all four tasks, a folder of images good and bad, a call."""

import numpy as np
import pytest
from PIL import Image

import pagnp
from pagnp import modelfile
from pagnp.cli.main import main

SIZE = (24, 40)
GATES = ("layer1.0", "layer2.0")
HEADS = {
    "labels": {"task": "segmentation", "classes": ["wall", "floor", "ball"], "hidden": [8]},
    "depth": {"task": "depth", "unit": "m", "hidden": [8]},
    "normals": {"task": "normals", "hidden": [8]},
    "boundary": {"task": "boundary", "hidden": [8]},
}
MULTIPOOL = {"block": "layer4.1", "rates": [0, 1, 2], "mode": "hard", "tied": False, "hidden": [8, 8]}


@pytest.fixture(scope="module")
def graph():
    options = {"depth": 26, "width": 0.125, "output_stride": 8, "gate_bias": 0.0}
    return pagnp.nn.pag_resnet(seed=1, gated=list(GATES), multipool=MULTIPOOL, heads=HEADS, **options)


@pytest.fixture(scope="module")
def shared(graph, tmp_path_factory):
    """A folder with a model, good images and bad ones; tests only read it."""
    folder = tmp_path_factory.mktemp("cli")
    modelfile.write(graph, folder / "model.h5")
    plain = pagnp.Graph(3)
    plain.add("relu", "input", "out")
    plain.outputs = {"y": "out"}
    modelfile.write(plain, folder / "tensor.h5")
    rng = np.random.default_rng(5)
    for name in ("room.png", "a/room.png", "b/room.png", "b/room.jpg", "photos/one.png", "photos/two.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (*SIZE, 3), np.uint8)).save(folder / name)
    Image.open(folder / "room.png").save(folder / ("a" * 245 + ".png"))
    (folder / "empty").mkdir()
    (folder / "broken.png").write_bytes((folder / "room.png").read_bytes()[:200])
    (folder / "text.png").write_text("no image")
    (folder / "text.h5").write_text("no model")
    return folder


@pytest.fixture
def call(shared, tmp_path, monkeypatch, capsys):
    """Return a function: command line with {d} for the shared folder -> (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(line):
        code = main([part.replace("{d}", str(shared)) for part in line.split()])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


RUN = "run --weights {d}/model.h5 --backend numpy"


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
