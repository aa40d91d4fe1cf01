"""A small model file, changes of its entries and its JSON, and the check that reading one is refused in one line."""

import h5py
import numpy as np
import pytest

from pagnp import modelfile
from pagnp.errors import ModelFileError
from pagnp.graph import Graph

BIAS = "head.bias"  # a weight of shape (2,): easy to damage


def small_graph():
    """Return a graph with a norm, a gate, a select and a head; weights from a literal seed."""
    random = np.random.default_rng(7)
    graph = Graph(3, preprocess={"kind": "caffe", "mean": [123.68, 116.779, 103.939], "pad_multiple": 1})

    def conv(name, source, c_in, c_out, k):
        graph.weights[f"{name}.weight"] = random.standard_normal((c_out, c_in, k, k)).astype(np.float32)
        graph.weights[f"{name}.bias"] = random.standard_normal(c_out).astype(np.float32)
        roles = {"weight": f"{name}.weight", "bias": f"{name}.bias"}
        return graph.add("conv2d", source, name, roles, stride=(1, 1), padding=(k // 2,) * 4, dilation=(1, 1), groups=1)

    conv("conv1", "input", 3, 4, 1)
    for key in ("weight", "bias", "running_mean"):
        graph.weights[f"bn1.{key}"] = random.standard_normal(4).astype(np.float32)
    graph.weights["bn1.running_var"] = np.float32([0, 0.5, 1, 2])
    roles = {"gamma": "bn1.weight", "beta": "bn1.bias", "mean": "bn1.running_mean", "var": "bn1.running_var"}
    graph.add("norm", "conv1", "bn1", roles, eps=1e-5)
    conv("gate_logits", "bn1", 4, 2, 1)
    graph.add("gate", "gate_logits", "gate", mode="hard", form="kong2018", temperature=1.0, gate_index=0)
    conv("conv2", "bn1", 4, 4, 3)
    graph.add("select", ("gate", "bn1", "conv2"), "selected")
    conv("head", "selected", 4, 2, 1)
    graph.outputs["labels"] = "head"
    upsample = {"op": "bilinear", "align_corners": False}
    head = {"name": "labels", "task": "segmentation", "output": "labels", "upsample": upsample, "decode": "argmax"}
    graph.heads.append({**head, "classes": ["wall", "Fußboden"], "palette": [[0, 0, 0], [255, 128, 0]]})
    graph.producer = "pagnp test"
    return graph


@pytest.fixture
def model(tmp_path):
    """The file of small_graph, for a test to damage."""
    path = tmp_path / "m.h5"
    modelfile.write(small_graph(), path)
    return path


def refused(path, *fragments, **options):
    """Check that reading `path` fails with one line that begins with the file and has every fragment."""
    with pytest.raises(ModelFileError) as caught:
        modelfile.read(path, **options)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message and len(message) < 600
    for fragment in fragments:
        assert fragment in message, message
    return caught.value


def swap(file, *args, **kwargs):
    """Replace the dataset of BIAS in the open file by another, keeping its SHA-256."""
    sha = file["weights"][BIAS].attrs["sha256"]
    del file["weights"][BIAS]
    file["weights"].create_dataset(BIAS, *args, **kwargs).attrs["sha256"] = np.bytes_(sha)


def rewrite(path, text):
    """Put other bytes into the dataset `graph`, with the right SHA-256."""
    array = np.frombuffer(text if isinstance(text, bytes) else text.encode(), np.uint8)
    with h5py.File(path, "r+") as file:
        del file["graph"]
        file.create_dataset("graph", data=array).attrs["sha256"] = np.bytes_(modelfile._sha256(array))


def edit(*steps, value=None, delete=False):
    """Return a change of the JSON document at the path `steps`."""

    def change(document):
        for step in steps[:-1]:
            document = document[step]
        if delete:
            del document[steps[-1]]
        else:
            document[steps[-1]] = value
        return None

    return change
