"""`pagnp.torch.to_module`: a graph as a torch module, every node within its running error bound."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from random_graphs import random_graph  # noqa: E402
from torch import fx  # noqa: E402

import pagnp  # noqa: E402
from pagnp import modelfile  # noqa: E402
from pagnp.backends.base import get_backend  # noqa: E402
from pagnp.canonical import canonical  # noqa: E402
from pagnp.errorbound import network  # noqa: E402
from pagnp.gating import with_gate_mode  # noqa: E402
from pagnp.opset import GATE_MODES, OPS  # noqa: E402
from pagnp.torch import to_module  # noqa: E402

SHIPPED = Path(__file__).resolve().parent.parent / "examples" / "models" / "rooms-seg.h5"
SMALL = {"depth": 26, "width": 0.125, "output_stride": 8, "gate_bias": 0.0}
HEADS = {"labels": {"task": "segmentation", "classes": 5, "hidden": [8]}, "depth": {"task": "depth", "hidden": [8]}}
POOL = {"block": "layer4.1", "rates": [0, 1, 2], "hidden": [8, 8]}


class Recorder(fx.Interpreter):
    """Runs a module and keeps what it computes for each node of the graph."""

    def run_node(self, node):
        result = super().run_node(node)
        if "pagnp" in node.meta:
            self.kept[node.meta["pagnp"]] = result
        return result


def values(graph, x):
    """Return node name -> array in our layout of every node of the canonical graph, computed by torch."""
    module = to_module(graph)
    recorder = Recorder(module, garbage_collect_values=False)
    recorder.kept = {}
    with torch.no_grad():
        recorder.run(torch.from_numpy(x).permute(0, 3, 1, 2))
    found = {}
    for name, value in canonical(graph).infer(*x.shape[1:3]).items():
        array = recorder.kept[name].numpy().transpose(0, 2, 3, 1)
        assert array.shape == (1, value.h, value.w, value.c), name
        found[name] = np.ascontiguousarray(array if value.kind == "tensor" else array[..., 0])
    return {
        n: array.astype(np.int32) if array.dtype == np.int64 else array for n, array in found.items() if n != "input"
    }


def check(graph, x):
    report = network.check(graph, x, values(graph, x), get_backend("numba", 1))
    assert report.first is None, str(report.first)
    return report


def noise(shape, seed=3):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def test_the_shipped_model():
    graph = modelfile.read(SHIPPED)
    report = check(graph, noise((1, 48, 64, 3)))
    assert len(report.rows) > 30 and not report.missing


@pytest.mark.parametrize("mode", GATE_MODES)
@pytest.mark.parametrize("form", ("kong2018", "torch"))
def test_every_gate_mode(mode, form):
    gated = ["layer1.0", "layer2.1", "layer3.0"]
    options = {"gate_form": form, "gate_blur": form == "torch", "multipool": {**POOL, "mode": mode}}
    graph = pagnp.nn.pag_resnet(**SMALL, seed=2, gated=gated, heads=HEADS, gate_mode=mode, **options)
    report = check(graph, noise((1, 24, 40, 3)))
    assert not report.missing and any(row.difference > 0 for row in report.rows if row.kind == "tensor")


def test_random_graphs_over_all_ops():
    seen = set()
    for seed in range(90):
        graph, h, w = random_graph(seed)
        check(graph, noise((1, h, w, graph.channels), seed))
        seen |= {node.op for node in graph.nodes.values()}
    assert seen == set(OPS)


def test_the_module_is_what_forward_gives_and_in_any_batch_and_memory_order():
    graph = pagnp.nn.pag_resnet(**SMALL, gated="all", heads=HEADS)
    x = noise((2, 24, 32, 3))
    want = pagnp.Model(graph, threads=1).forward(x)
    module = to_module(graph)
    for layout in (torch.contiguous_format, torch.channels_last):
        with torch.inference_mode():
            got = module.to(memory_format=layout)(torch.from_numpy(x).permute(0, 3, 1, 2).to(memory_format=layout))
        assert set(got) == set(want)
        for name, array in want.items():
            np.testing.assert_allclose(got[name].permute(0, 2, 3, 1).numpy(), array, rtol=1e-4, atol=1e-4)
    assert not any(p.requires_grad for p in module.parameters()) and not module.training


def test_gate_modes_may_be_changed_before():
    graph = with_gate_mode(canonical(pagnp.nn.pag_resnet(**SMALL, gated="all", heads=HEADS)), "soft")
    assert check(graph, noise((1, 24, 32, 3))).rows
