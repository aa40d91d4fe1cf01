"""Find the gate threshold that brings the executed share of the gated convs nearest to a budget."""

from collections.abc import Callable

import numpy as np

from pagnp.errors import UsageError
from pagnp.graph import Graph

STEPS = 128  # thresholds are k / 16 for k in -128..128
SCALE = 16
PASSES = 8


def check(budget: float | None, threshold: float | None, graph: Graph) -> None:
    """Raise UsageError unless budget (0..1) and threshold (finite) make sense for `graph`."""
    if budget is None and threshold is None:
        return
    if budget is not None and threshold is not None:
        raise UsageError("budget and threshold exclude each other; give one")
    for name, value in (("budget", budget), ("threshold", threshold)):
        if value is not None and not isinstance(value, (int, float, np.integer, np.floating)):
            raise UsageError(f"{name} is a number, got {value!r}")
    if budget is not None and not 0 <= budget <= 1:
        raise UsageError(f"budget is a share between 0 and 1, got {budget}")
    if threshold is not None and not abs(threshold) <= float(np.finfo(np.float32).max):
        raise UsageError(f"threshold is a finite number, got {threshold}")
    gates = [node for node in graph.nodes.values() if node.op == "gate" and not node.attrs.get("rates")]
    if not gates:
        raise UsageError("the model has no two-way gates; budget and threshold need them")
    wrong = [node.name for node in gates if node.attrs["mode"] != "hard"]
    if wrong:
        raise UsageError(f"budget and threshold need hard gates; {wrong[0]} is {graph.nodes[wrong[0]].attrs['mode']}")


def search(budget: float, share_at: Callable[[np.float32], float]) -> np.float32:
    """Return the threshold whose share is nearest `budget`.

    share_at  function threshold (np.float32) -> executed share of the gated convs, at most 8 calls
    Bisection over k/16, k = -128..128, assuming that the share falls with t; of all tried thresholds the
    nearest wins, of equals the larger.
    """
    low, high, tried = -STEPS, STEPS, []
    for _ in range(PASSES):
        if low > high:
            break
        k = (low + high) // 2
        share = share_at(np.float32(k / SCALE))
        tried.append((abs(share - budget), -k))
        if share > budget:
            low = k + 1
        else:
            high = k - 1
    return np.float32(-min(tried)[1] / SCALE)
