"""Hundreds of random graphs: lowered and run in every way, they give the bits of their node-by-node meaning.

PAGNP_RANDOM_GRAPHS=5000 pytest tests/test_random_graphs.py   # more of them, from seed 0 on
"""

import os

import numpy as np
import pytest
from random_graphs import random_graph

from pagnp import runner
from pagnp.backends.base import get_backend
from pagnp.contract import compare
from pagnp.lower import lower
from pagnp.opset import OPS
from pagnp.parameters import prepare
from pagnp.perforate import COMBINING, POINTWISE
from pagnp.runner import Options, execute
from pagnp.testing.interpret import interpret

COUNT = int(os.environ.get("PAGNP_RANDOM_GRAPHS", "240"))
AT_A_TIME = 40
FOREVER = np.float32(3e38)  # a threshold that no pixel passes (all do the negative)


@pytest.fixture(autouse=True)
def poisoned_arena(monkeypatch):
    """Fill the arena with NaN before a run: who reads what nobody wrote, shows."""
    allocate = runner._allocate

    def poisoned(size):
        arena = allocate(size)
        arena[...] = np.nan
        return arena

    monkeypatch.setattr(runner, "_allocate", poisoned)


def run(graph, x, backend, dense=False, options=None):
    """Return the plan, the Run, and what `watch` saw."""
    kernels, seen = get_backend(backend, 2), {}
    plan = lower(graph, *x.shape[1:3], n=x.shape[0], dense=dense)
    watch = lambda name, array: seen.__setitem__(name, array.copy())  # noqa: E731
    return plan, execute(plan, kernels, prepare(graph, kernels), x, options, watch), seen


def check(seed, how, graph, plan, done, seen, want):
    """All outputs, and all layers that are shown, are those wanted."""
    assert set(seen) == set(plan.layers) - set(plan.private), f"seed {seed}, {how}"
    shown = {name: done.value(name) for name in graph.outputs.values()}
    for name, array in (*seen.items(), *shown.items()):
        found = compare(np.ascontiguousarray(array), want[name])
        assert not found, f"seed {seed}, {how}: {name}: {found}"


def branch_only(graph, plan, owner, slot):
    """Return the layers that branch `slot` of `owner` alone needs, found from its end backwards: the rule itself."""
    readers = {name: {l.name for l in plan.layers.values() if name in l.reads} for name in plan.layers}  # noqa: E741
    branches = (
        plan.layers[owner].inputs[1:] if plan.layers[owner].op == "select" else (None, *plan.layers[owner].inputs)
    )
    if list(branches).count(branches[slot]) > 1:
        return set()
    found, todo = set(), [branches[slot]]
    outputs = set(graph.outputs.values())

    def fits(name):
        layer, size = plan.layers[name], plan.values[name]
        met = {"conv2d": (layer.members[0], layer.residual or name)}.get(layer.op, layer.inputs)  # pixel by pixel
        alike = {(plan.values[other].h, plan.values[other].w) for other in met} == {(size.h, size.w)}
        at_sites = layer.op in POINTWISE or (layer.op in ("conv2d", *COMBINING) and alike)
        inside = {owner, *found} if name == branches[slot] else found
        return at_sites and name not in outputs and readers[name] <= inside

    while todo:
        name = todo.pop()
        if name in plan.layers and name not in found and fits(name):
            found.add(name)
            todo.extend(plan.layers[name].reads)
    return found


def check_skipping(seed, graph, x, want_skip, threshold):
    """With all two-way gates on one side, the layers of the other side's branches compute nothing."""
    options = Options(threshold=np.float32(threshold))
    plan, done, seen = run(graph, x, "numba", options=options)
    want = interpret(graph, x, "numba", threshold=np.float32(threshold))
    check(seed, f"threshold {threshold}", graph, plan, done, seen, want)
    for name, place in plan.private.items():
        owner = graph.nodes[place.owner]
        control = graph.nodes[owner.inputs[1 if owner.op == "masked" else 0]]
        is_hard = control.op == "gate" and control.attrs["mode"] == "hard" and not control.attrs.get("rates")
        if is_hard and place.slot == want_skip and (want[control.name] != want_skip).all():
            assert done.counts.get(name, 0) == 0, f"seed {seed}: {name} was computed"


def check_graph(seed):
    graph, h, w = random_graph(seed)
    x = np.random.default_rng(seed).standard_normal((3, h, w, graph.channels)).astype(np.float32)
    want = interpret(graph, x)
    for backend in ("numpy", "numba"):
        for dense in (False, True):
            check(seed, f"{backend}, dense {dense}", graph, *run(graph, x, backend, dense), want)
    for i in range(3):
        one = {name: array[i : i + 1] for name, array in want.items()}
        check(seed, f"image {i} alone", graph, *run(graph, x[i : i + 1], "numba"), one)
    plan = lower(graph, h, w)
    for owner in [layer.name for layer in plan.layers.values() if layer.op in ("select", "masked")]:
        for slot in range(len(plan.layers[owner].inputs) - 1) if plan.layers[owner].op == "select" else (1,):
            private = {name for name, place in plan.private.items() if (place.owner, place.slot) == (owner, slot)}
            assert private == branch_only(graph, plan, owner, slot), f"seed {seed}: {owner} {slot}"
    check_skipping(seed, graph, x, 1, FOREVER)
    check_skipping(seed, graph, x, 0, -FOREVER)
    return graph, plan


@pytest.mark.parametrize("first", range(0, COUNT, AT_A_TIME))
def test_random_graphs(first):
    for seed in range(first, min(first + AT_A_TIME, COUNT)):
        check_graph(seed)


def test_the_generator_covers_the_opset():
    graphs = [random_graph(seed)[0] for seed in range(120)]
    assert {node.op for graph in graphs for node in graph.nodes.values()} == set(OPS)
