"""What `Model.plan` says of memory holds, measured in fresh processes; too much is refused beforehand."""

import os

import numpy as np
import pytest
from measured_call import check_memory, needs_proc

import pagnp
from pagnp import memory, nn
from pagnp.errors import MemoryLimitError, ShapeError
from pagnp.graph import INPUT, Graph
from pagnp.lower import lower
from pagnp.shapes import pool2d_size

CONV = {"stride": (1, 1), "padding": (0,) * 4, "dilation": (1, 1), "groups": 1}
HEADS = {
    "labels": {"task": "segmentation", "classes": 13},
    "normals": {"task": "normals"},
    "depth": {"task": "depth", "upsample": {"op": "bilinear_deconv", "factor": 8}},
}


def network():
    return nn.pag_resnet(depth=26, width=0.25, gated="all", heads=HEADS, gate_bias=0.0)


@needs_proc
@pytest.mark.parametrize("options", [(), ("dense",), ("flip",), ("trace",), ("trace", "flip")], ids="-".join)
def test_a_call_takes_what_the_planner_said(options):
    check_memory(381, 507, *options)


def one_node(op, weights=None, **attrs):
    graph = Graph(3, weights=dict(weights or {}))
    graph.add(op, INPUT, "bomb", {role: role for role in graph.weights}, **attrs)
    window = {"kernel": (2, 2), "stride": (2, 2), "padding": (0,) * 4, "dilation": (1, 1), "ceil_mode": False}
    graph.add("max_pool2d", "bomb", "pool", **window)
    graph.outputs = {"out": "pool"}
    return graph


BOMBS = [
    (one_node("bilinear", scale=(1000000, 1000000), align_corners=False), ShapeError),
    (one_node("nearest", size=(1 << 20, 1 << 20)), ShapeError),
    (one_node("pad", padding=(1 << 20,) * 4), ShapeError),
    (one_node("pad", padding=(0, 0, 1 << 20, 0)), ShapeError),
    (one_node("nearest", size=(1 << 15, 1 << 15)), MemoryLimitError),
    (one_node("conv2d", {"weight": np.ones((1 << 20, 3, 1, 1), "f4")}, **CONV), MemoryLimitError),
]


@pytest.mark.parametrize(("graph", "error"), BOMBS)
@pytest.mark.parametrize("backend", ("numpy", "numba"))
def test_bombs_are_refused_before_work_with_the_nodes_name(graph, error, backend, monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 2 << 30)
    model = pagnp.Model(graph, backend)
    with pytest.raises(error, match="bomb"):
        model.forward(np.ones((1, 60, 60, 3), np.float32))


def test_an_image_beyond_the_memory_is_refused(monkeypatch):
    model = pagnp.Model(network(), "numpy")
    needed = model.plan((64, 64)).bytes
    monkeypatch.setattr(memory, "LITTLE", 0)
    monkeypatch.setattr(memory, "available", lambda: needed // 2)
    with pytest.raises(MemoryLimitError, match="MiB are free.*use a smaller image"):
        model(np.zeros((64, 64, 3), np.uint8))
    monkeypatch.setattr(memory, "available", lambda: 2 * needed)
    assert model(np.zeros((64, 64, 3), np.uint8)).tile is None


def test_a_batch_of_more_pixels_than_int32_is_refused():
    graph = one_node("nearest", size=(1 << 14, 1 << 14))
    with pytest.raises(ShapeError, match=r"bomb.*9 maps"):
        lower(graph, 4, 4, n=9)


def test_a_huge_window_is_measured_without_trying_its_taps():
    size = pool2d_size("pool", 1 << 20, 1, (1 << 19, 1), (1, 1), (0, 0, 0, 0), (1, 1), False)
    assert size == ((1 << 20) - (1 << 19) + 1, 1)


def test_an_answer_for_the_whole_image_takes_no_picture():
    graph = one_node("conv2d", {"weight": np.ones((300, 3, 1, 1), "f4")}, **CONV)
    graph.add("global_mean", "pool", "mean")
    graph.outputs = {"out": "mean"}
    head = {"name": "class", "task": "classification", "output": "out", "upsample": {"op": "none"}, "decode": "argmax"}
    graph.heads, graph.preprocess = [head], {"kind": "caffe", "mean": [0, 0, 0], "pad_multiple": 1}
    model = pagnp.Model(graph, "numpy")
    few, many = (lower(graph, 100, 100).bytes, model.plan((100, 100)).bytes)
    assert few < many < few + 100 * 100 * 40
    assert model(np.zeros((8, 8, 3), np.uint8)).outputs["class"].shape == (1, 1)


def control_group(root, path, limit, used, version):
    """A folder as the kernel shows a control group: version 1 or 2."""
    folder = root.joinpath("memory" if version == 1 else "", path)
    folder.mkdir(parents=True, exist_ok=True)
    names = memory.CGROUP_V1 if version == 1 else memory.CGROUP_V2
    for name, value in zip((*names[:2], "memory.stat"), (limit, used, f"anon 5\n{names[2]} 30"), strict=True):
        (folder / name).write_text(f"{value}\n")


GROUPS = [  # (lines of /proc/self/cgroup, [(path, limit, used, version)], what is left)
    ("0::/", [("", 1000, 600, 2)], 430),
    ("0::/", [("", "max", 600, 2)], None),
    ("0::/job/step", [("job/step", "max", 1, 2), ("job", 1000, 900, 2)], 130),
    ("0::/job/step", [("job/step", 700, 600, 2), ("job", 1000, 900, 2)], 130),
    ("0::/not/seen/here", [("", 1000, 600, 2)], 430),
    ("4:memory:/job\n3:cpu,cpuacct:/\n0::/", [("job", 1000, 600, 1), ("", 2**63 - 4096, 10**9, 1)], 430),
    ("4:memory:/elsewhere\n0::/", [("", 1000, 2000, 1)], 0),
    ("nonsense", [("", 1000, 600, 2)], 430),
]


@pytest.mark.parametrize(("lines", "groups", "left"), GROUPS)
def test_limits_of_control_groups(lines, groups, left, tmp_path, monkeypatch):
    (tmp_path / "own").write_text(lines + "\n")
    for group in groups:
        control_group(tmp_path / "groups", *group)
    monkeypatch.setattr(memory, "PROCESS_CGROUP", tmp_path / "own")
    monkeypatch.setattr(memory, "CGROUPS", tmp_path / "groups")
    assert memory._from_cgroup() == left


def test_a_limit_of_the_address_space(monkeypatch):
    resource = pytest.importorskip("resource")
    if not os.path.exists("/proc/self/statm"):
        pytest.skip("what is mapped is known as Linux tells it")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1 << 40, resource.RLIM_INFINITY))
    mapped = (1 << 40) - memory.BESIDE - memory._from_rlimit()
    assert 1 << 20 < mapped < 1 << 36
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1 << 20, resource.RLIM_INFINITY))
    assert memory._from_rlimit() == 0
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY,) * 2)
    assert memory._from_rlimit() is None


def test_the_free_memory_is_known_here():
    assert memory.available() is None or memory.available() > 1 << 20
