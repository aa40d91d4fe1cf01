"""Every fault of lowering that is made on purpose is seen by the checks of networks, by its bits or its places."""

import known_bad_plans
import numpy as np
import pytest
import test_lower
import test_random_graphs
import test_survivors
from random_graphs import random_graph

from pagnp.contract import compare
from pagnp.testing.interpret import interpret

poisoned_arena = test_random_graphs.poisoned_arena  # a fixture: the arena starts as NaN
SEEDS = range(120)
RARE = {"a residual's own pixels are not in the set"}  # needs a conv with no tap at its own pixel: residual_beside
# "numba" where the reference is blind: it computes a small map whole before it writes.
BACKENDS = {"a conv adds in place to what it convolves": "numba"}


@pytest.mark.parametrize("fault", known_bad_plans.FAULTS)
def test_fault_is_seen_by_a_written_graph(fault, monkeypatch):
    known_bad_plans.FAULTS[fault](monkeypatch)
    for make in (*test_lower.GRAPHS, *test_survivors.GRAPHS):
        try:
            test_lower.check_lowered(make(), 3, False, BACKENDS.get(fault, "numpy"), perforated=True)
        except (AssertionError, KeyError, ValueError) as error:
            if "elements differ" in str(error) or not isinstance(error, AssertionError):
                return
    pytest.fail("every written graph has the right bits")


def has_other_bits(seed, backend):
    """Tell whether a random graph has other bits than node by node, or cannot be run."""
    graph, h, w = random_graph(seed)
    x = np.random.default_rng(seed).standard_normal((3, h, w, graph.channels)).astype(np.float32)
    want = interpret(graph, x)
    try:
        _, done, seen = test_random_graphs.run(graph, x, backend)
    except (KeyError, ValueError):
        return True
    shown = {name: done.value(name) for name in graph.outputs.values()}
    return any(compare(np.ascontiguousarray(array), want[name]) for name, array in (*seen.items(), *shown.items()))


@pytest.mark.parametrize("fault", [fault for fault in known_bad_plans.FAULTS if fault not in RARE])
def test_fault_is_seen_by_a_random_graph(fault, monkeypatch):
    known_bad_plans.FAULTS[fault](monkeypatch)
    assert any(has_other_bits(seed, BACKENDS.get(fault, "numpy")) for seed in SEEDS)


def test_without_a_fault_nothing_is_seen():
    assert not any(has_other_bits(seed, "numpy") for seed in SEEDS[:12])
