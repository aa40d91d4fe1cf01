"""Wrong ways to multiply and add, or to add up: what the arithmetic of a careless kernel does to single numbers.

A *step* is a function (w, x, s) in place of fma(w, x, s); `totals` and `chains` are wrong orders of a sum.
"""

import numpy as np

from pagnp.backends.numpy_ref.fma import fma_f32

F32 = np.float32
TINY = F32(2.0**-126)


def flushed(values):
    """Return the values with subnormals as zeros of their sign: FTZ for a result, DAZ for an input."""
    return np.where(np.abs(values) < TINY, np.copysign(F32(0), values), values)


def sum_to_odd(a, b):
    """Return a + b of float64 arrays; an inexact sum gets an odd last bit, so that it is no midpoint of float32."""
    total = a + b
    b_part = total - a
    error = (a - (total - b_part)) + (b - b_part)  # TwoSum (Knuth): total + error is exact
    outwards = (error > 0) == (total > 0)
    bits = total.view(np.int64)
    inexact = np.isfinite(total) & (error != 0) & (bits & 1 == 0)
    return (bits + np.where(inexact, np.where(outwards, 1, -1), 0)).view(np.float64)


def rounded(exact, rule):
    """Return the numbers of `sum_to_odd` as float32. Where a tie goes: "even" (right), "away", "up"; "zero" cuts."""
    nearest = exact.astype(F32)
    if rule == "even":
        return nearest
    if rule == "zero":
        too_far = np.isfinite(exact) & (np.abs(nearest) > np.abs(exact))
        return np.where(too_far, np.nextafter(nearest, F32(0)), nearest)
    other = np.nextafter(nearest, np.where(nearest < exact, F32(np.inf), F32(-np.inf)))
    tie = (nearest != exact) & (np.abs(exact - nearest) == np.abs(other.astype(np.float64) - exact))
    chosen = np.abs(other) > np.abs(nearest) if rule == "away" else other > nearest
    return np.where(tie & chosen, other, nearest)


def by_rule(rule):
    """Return the step that is fused but rounds by `rule`."""

    def step(w, x, s):
        w, x, s = (np.asarray(v, F32).astype(np.float64) for v in (w, x, s))
        return rounded(sum_to_odd(w * x, np.broadcast_to(s, np.broadcast_shapes(w.shape, x.shape, s.shape))), rule)

    return step


def unfused(w, x, s):
    """Multiply, round, add, round: what a compiler without -mfma makes of it."""
    return w * x + s


def through_float64(w, x, s):
    """A fused step that rounds twice: wrong on near-ties only."""
    return (w.astype(np.float64) * x.astype(np.float64) + s.astype(np.float64)).astype(F32)


def flushed_results(w, x, s):
    """A fused step with subnormals flushed to zero."""
    return flushed(fma_f32(w, x, s))


def flushed_inputs(w, x, s):
    """A fused step that takes subnormals for zero."""
    return fma_f32(flushed(w), flushed(x), flushed(s))


WRONG_STEPS = {
    "unfused": unfused,
    "rounded twice through float64": through_float64,
    "subnormal results flushed": flushed_results,
    "subnormal inputs flushed": flushed_inputs,
    "ties away from zero": by_rule("away"),
    "ties upwards": by_rule("up"),
    "truncated": by_rule("zero"),
}


def in_order(totals):
    """Add the blocks' totals in order."""
    total = totals[0]
    for part in totals[1:]:
        total = total + part
    return total


def backwards(totals):
    """Add the blocks' totals from the last to the first."""
    return in_order(totals[::-1])


def in_pairs(totals):
    """Add the blocks' totals as a tree."""
    while len(totals) > 1:
        totals = [in_order(totals[i : i + 2]) for i in range(0, len(totals), 2)]
    return totals[0]


def chains(terms_w, terms_x, step=fma_f32, block=128, totals=in_order, reverse=False):
    """Return the sum over the first axis of terms_w * terms_x, float32 arrays whose items broadcast together."""
    order = range(len(terms_w))[::-1] if reverse else range(len(terms_w))
    parts = []
    for start in range(0, len(order), block):
        s = np.zeros(np.broadcast_shapes(terms_w.shape[1:], terms_x.shape[1:]), F32)
        for k in order[start : start + block]:
            s = step(terms_w[k], terms_x[k], s)
        parts.append(s)
    return totals(parts)


WRONG_SUMS = {
    **{name: {"step": step} for name, step in WRONG_STEPS.items()},
    "order reversed": {"reverse": True},
    "blocks of 64": {"block": 64},
    "blocks of 127": {"block": 127},
    "blocks of 129": {"block": 129},
    "blocks of 256": {"block": 256},
    "one chain": {"block": 1 << 30},
    "totals backwards": {"totals": backwards},
    "totals in pairs": {"totals": in_pairs},
}
