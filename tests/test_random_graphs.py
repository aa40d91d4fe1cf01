"""Random graphs: lowered and run in every way, they give the bits of their node-by-node meaning.

pytest tests/test_random_graphs.py --conformance 200000   # 5000 of them, from seed 0 on
"""

import numpy as np
import pytest
from conftest import TALLY, seeds
from random_graphs import random_graph
from random_graphs_recipe import Recipe, parse_recipe
from random_graphs_shrink import shrink, upstream
from test_bands import check_in_bands

from pagnp import runner
from pagnp.arenas import Arenas
from pagnp.backends.base import get_backend
from pagnp.contract import compare
from pagnp.dispatch import Options
from pagnp.errors import UsageError
from pagnp.lower import lower
from pagnp.opset import OPS
from pagnp.parameters import prepare
from pagnp.perforate import COMBINING, POINTWISE
from pagnp.runner import execute
from pagnp.testing import fills
from pagnp.testing.interpret import interpret
from pagnp.testing.random_cases_draw import Draw

SHORT, AT_A_TIME, GRAPH_SHARE = 120, 40, 40  # without --conformance; in a test; one graph for 40 configurations
BATCH = 3
MOST_SHRUNK, SECONDS = 3, 60.0  # of a run; of shrinking a graph
INPUT_FILLS = (*["normal"] * 6, "relu", "integers", "signed_zeros", "subnormal", "cancelling", "huge")
FOREVER = np.float32(3e38)  # a threshold that no pixel passes (all do the negative)


@pytest.fixture(autouse=True)
def poisoned_arena(monkeypatch):
    """Fill the arena with NaN before a run: who reads what nobody wrote, shows."""
    take = Arenas.take

    def poisoned(self, size):
        arena = take(self, size)
        arena[...] = np.nan
        return arena

    monkeypatch.setattr(Arenas, "take", poisoned)


def run(graph, x, backend, dense=False, options=None, threads=2):
    """Return the plan, the Run, and what `watch` saw."""
    kernels, seen = get_backend(backend, threads), {}
    plan = lower(graph, *x.shape[1:3], n=x.shape[0], dense=dense)
    watch = lambda name, array: seen.__setitem__(name, array.copy())  # noqa: E731
    return plan, execute(plan, kernels, prepare(graph, kernels), x, options, watch), seen


def check(recipe, how, graph, plan, done, seen, want):
    """All outputs, and all layers that are shown, are those wanted."""
    assert set(seen) == set(plan.layers) - set(plan.private), f"{recipe}, {how}"
    shown = {name: done.value(name) for name in graph.outputs.values()}
    for name, array in (*seen.items(), *shown.items()):
        found = compare(np.ascontiguousarray(array), want[name])
        assert not found, f"{recipe}, {how}: {name}: {found}"


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


def check_skipping(recipe, graph, x, want_skip, threshold):
    """With all two-way gates on one side, the layers of the other side's branches compute nothing."""
    options = Options(threshold=np.float32(threshold))
    plan, done, seen = run(graph, x, "numba", options=options)
    want = interpret(graph, x, "numba", threshold=np.float32(threshold))
    check(recipe, f"threshold {threshold}", graph, plan, done, seen, want)
    for name, place in plan.private.items():
        owner = graph.nodes[place.owner]
        control = graph.nodes[owner.inputs[1 if owner.op == "masked" else 0]]
        is_hard = control.op == "gate" and control.attrs["mode"] == "hard" and not control.attrs.get("rates")
        if is_hard and place.slot == want_skip and (want[control.name] != want_skip).all():
            assert done.counts.get(name, 0) == 0, f"{recipe}: {name} was computed"


def input_of(seed, h, w, channels):
    """Return a batch for a graph: ordinary numbers, or for every other graph a fill that breaks kernels."""
    return fills.fill(Draw(seed, 1).pick(INPUT_FILLS), seed, 0, (BATCH, h, w, channels))


def check_lowered(recipe, graph, x, want):
    """Both backends, perforated and dense, one and two threads; each image of the batch alone."""
    for backend, threads in (("numpy", 1), ("numba", 1), ("numba", 2)):
        for dense in (False, True):
            how = f"{backend}, {threads} threads, dense {dense}"
            check(recipe, how, graph, *run(graph, x, backend, dense, threads=threads), want)
    for i in range(BATCH):
        one = {name: array[i : i + 1] for name, array in want.items()}
        check(recipe, f"image {i} alone", graph, *run(graph, x[i : i + 1], "numba"), one)


def check_bands(recipe, graph, x, want):
    """The first image in bands of a few rows."""
    one, first = x[:1], {name: array[:1] for name, array in want.items()}
    for tile in (1, 2, 5):
        check_in_bands(recipe, graph, one, "numba", tile == 2, tile, first)
    check_in_bands(recipe, graph, one, "numpy", False, 1 + recipe.seed % 4, first)


def check_private(recipe, graph, h, w):
    """Exactly the layers that a branch alone needs are computed at its sites."""
    plan = lower(graph, h, w)
    for owner in [layer.name for layer in plan.layers.values() if layer.op in ("select", "masked")]:
        for slot in range(len(plan.layers[owner].inputs) - 1) if plan.layers[owner].op == "select" else (1,):
            private = {name for name, place in plan.private.items() if (place.owner, place.slot) == (owner, slot)}
            assert private == branch_only(graph, plan, owner, slot), f"{recipe}: {owner} {slot}"


def check_graph(recipe):
    """Raise AssertionError if anything is wrong with the graph of a Recipe."""
    graph, h, w = random_graph(recipe)
    x = input_of(recipe.seed, h, w, graph.channels)
    want = interpret(graph, x)
    check_lowered(recipe, graph, x, want)
    check_bands(recipe, graph, x, want)
    check_private(recipe, graph, h, w)
    check_skipping(recipe, graph, x, 1, FOREVER)
    check_skipping(recipe, graph, x, 0, -FOREVER)
    return graph


def problem_of(recipe):
    """Return what is wrong with a graph, in words, or None; whatever is raised belongs to the graph."""
    try:
        check_graph(recipe)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def repeat_line(recipe):
    return f"  pytest tests/test_random_graphs.py --conformance-graph '{recipe}'"


def explain(recipe, problem):
    """Return the failure in words: the graph, a smaller one that fails too, its nodes and the way back to it."""
    TALLY["failing"] += 1
    lines = [f"{recipe} fails:", problem, repeat_line(recipe)]
    if TALLY["failing"] <= MOST_SHRUNK:
        small = shrink(recipe, lambda candidate: problem_of(candidate) is not None, SECONDS)
        graph, h, w = random_graph(small)
        lines += ["", f"shrunk to {len(graph.nodes)} nodes, input {h}x{w}x{graph.channels}", problem_of(small)]
        lines += [f"  {node.name} = {node.op}({', '.join(node.inputs)}) {node.attrs}" for node in graph.nodes.values()]
        lines += [repeat_line(small)]
    return "\n".join(lines)


def pytest_generate_tests(metafunc):
    if "batch" in metafunc.fixturenames:
        batches = seeds(metafunc.config, SHORT, GRAPH_SHARE, AT_A_TIME)
        metafunc.parametrize("batch", batches, ids=[f"{first}..{stop - 1}" for first, stop in batches])


def test_random_graphs(batch, fine_chunks):
    failures = []
    for recipe in map(Recipe, range(*batch)):
        TALLY.update(("graphs", *(f"node {node.op}" for node in random_graph(recipe)[0].nodes.values())))
        problem = problem_of(recipe)
        if problem:
            failures.append(explain(recipe, problem))
    if failures:
        pytest.fail("\n\n".join(failures), pytrace=False)


def test_the_graph_of_the_option(request, fine_chunks):
    line = request.config.getoption("conformance_graph")
    if not line:
        pytest.skip("for --conformance-graph LINE")
    check_graph(parse_recipe(line))


def test_the_generator_covers_the_opset():
    graphs = [random_graph(seed)[0] for seed in range(120)]
    assert {node.op for graph in graphs for node in graph.nodes.values()} == set(OPS)


@pytest.mark.parametrize("op", ["max_pool2d", "bilinear_deconv", "select", "gate"])
def test_a_failing_graph_shrinks(op):
    """What fails as soon as it has a node of `op` shrinks to little more than that node."""

    def fails(recipe):
        return any(node.op == op for node in random_graph(recipe)[0].nodes.values())

    failing = [recipe for recipe in map(Recipe, range(60)) if fails(recipe)]
    sizes = []
    for recipe in failing[:2]:
        small = shrink(recipe, fails, SECONDS)
        again = parse_recipe(str(small))
        assert again == small and fails(again)
        graph, _, _ = random_graph(small)
        assert len(graph.outputs) == 1 and upstream(graph, *graph.outputs.values()) == set(graph.nodes)
        sizes.append(len(graph.nodes))
    assert max(sizes) <= 6 + 4 * (op in ("select", "gate")), sizes


def test_a_fault_of_the_engine_is_found_and_shrunk(monkeypatch):
    poisoned = runner.STEPS["zero"]
    monkeypatch.setitem(runner.STEPS, "zero", lambda run, step: None)
    failing = next(recipe for recipe in map(Recipe, range(200)) if problem_of(recipe))
    small = shrink(failing, lambda candidate: problem_of(candidate) is not None, SECONDS)
    graph, _, _ = random_graph(small)
    assert problem_of(small) and any(node.op == "masked" for node in graph.nodes.values()) and len(graph.nodes) <= 8
    monkeypatch.setitem(runner.STEPS, "zero", poisoned)
    assert not problem_of(small)


@pytest.mark.parametrize("line", ["", "Recipe(", "Recipe(sead=3)", 'Case("relu")', "Recipe(seed=f())"])
def test_a_line_that_is_no_recipe_is_refused(line):
    with pytest.raises(UsageError):
        parse_recipe(line)
