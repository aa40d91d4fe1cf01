"""Random graphs over all ops, computed by PyTorch node by node: every layer within its running bound.

Checked with all values of torch known, with a third of them, and with the outputs alone, where bounds run through all.
"""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the bounds are tested in test_errorbound.py")

from random_graphs import random_graph  # noqa: E402
from torch_graph import evaluate  # noqa: E402

from pagnp.backends.base import get_backend  # noqa: E402
from pagnp.errorbound import network  # noqa: E402
from pagnp.errorbound.rows import Row  # noqa: E402

SEEDS = range(25)  # python tests/test_torch_random.py FIRST LAST runs others


def check(seed, backend="numba"):
    """Return the rows of three checks of a seed's graph; AssertionError names the seed and the layer."""
    graph, h, w = random_graph(seed)
    kernels, rng = get_backend(backend, 1), np.random.default_rng(seed)
    x = rng.standard_normal((1, h, w, graph.channels)).astype(np.float32)

    def noise(node, shape):
        out = np.empty(shape, np.float32)
        kernels.gumbel_noise(0, node.attrs["gate_index"], node.attrs["form"], 0, 0, out)
        return out

    values = evaluate(graph, graph, x, noise)
    rows: list[Row] = []
    for kind in ("all", "a third", "outputs"):
        known = {
            "all": values,
            "a third": {name: array for name, array in values.items() if rng.integers(3) == 0},
            "outputs": {name: values[name] for name in graph.outputs.values()},
        }[kind]
        report = network.check(graph, x, known, kernels)
        assert report.first is None, f"seed {seed}, {kind} known: {report.first}"
        rows += report.rows
    return rows


def test_random_graphs():
    rows = [row for seed in SEEDS for row in check(seed)]
    assert len(rows) > 300 and sum(row.decisions for row in rows) > 500
    apart = [row for row in rows if row.kind == "tensor" and row.difference > 0]
    assert len(apart) > 50 and max(row.ratio for row in apart) < 1
    # Bounds that say nothing are those of values that may overflow, or be divided by what may be zero.
    assert sum(np.isinf(row.bound) for row in rows) < len(rows) / 50


def main():
    """Check the graphs of a range of seeds and print what there was."""
    import sys

    rows = [row for seed in range(int(sys.argv[1]), int(sys.argv[2])) for row in check(seed)]
    flips, decisions = sum(row.flips for row in rows), sum(row.decisions for row in rows)
    print(f"{len(rows)} layers within their bounds; {flips} of {decisions} decisions fell differently, all in margin")


if __name__ == "__main__":
    main()
