"""A check that cannot fail is a defect: every kernel that is wrong on purpose must be rejected, for its mistake."""

import functools

import known_bad
import known_bad_conv
import numpy as np
import pytest

from pagnp.backends.base import KERNELS
from pagnp.testing import fills, runcase
from pagnp.testing.cases import arrange, rows_of

# What is said of a mistake that does not show in the values; all others must differ in bits.
SAID = {
    "writes beyond out": "written beyond its end",
    "input spoilt": "input changed",
    "scattered writes everywhere": "rows that are no sites were written",
    "the rest zeroed": "rows that are no sites were written",
    "int64": "returned int64",
    "last missing": "returned int32",
}
PAIRS = [(op, mistake) for op, mistakes in known_bad.WRONG.items() for mistake in mistakes]
VISIBLE = [pair for pair in PAIRS if pair[1] not in SAID]
# Mistakes of rounding and order only: where every sum is a small integer they must be accepted.
ROUNDING = {*known_bad_conv.WRONG_SUMS, "order reversed"}
ROUNDED_PAIRS = [(op, m) for op, m in PAIRS if op in known_bad_conv.WRONG_CONVS and m in ROUNDING]
LARGEST = 20_000  # steps of a row that the slow wrong convolutions are tried on


def names(pairs):
    return [f"{op}-{mistake}" for op, mistake in pairs]


@functools.cache
def small_rows(op):
    """Return the rows of an op that are quick, sharp fills first: they are what most mistakes fail on."""
    arranged = [(case, arrange(case)) for case in rows_of(op)]
    weights = {case: arrangement.args.get("weight") for case, arrangement in arranged}
    steps = {
        case: np.prod(arrangement.shape) * (1 if weights[case] is None else weights[case].size / weights[case].shape[3])
        for case, arrangement in arranged
    }
    rows = [case for case, _ in arranged if steps[case] <= LARGEST]
    return sorted(rows, key=lambda case: (case.get("fill") not in fills.SHARP, case.get("fill") == "normal"))


@functools.cache
def wanted(case):
    return runcase.run(case, known_bad.REFERENCE)[0]


@functools.cache
def oracle_values(case):
    return runcase.oracle_values(case, known_bad.REFERENCE)


def table_with(op, kernel):
    """Return the reference's kernels with one replaced."""
    packed = {"pack_conv2d": known_bad_conv.pack} if op == "conv2d" else {}
    return {**known_bad.REFERENCE, **packed, op: kernel}


@pytest.mark.parametrize(("op", "mistake"), PAIRS, ids=names(PAIRS))
def test_backend_with_a_mistake_is_rejected(op, mistake):
    kernels = table_with(op, known_bad.WRONG[op][mistake])
    for case in small_rows(op):
        problems = runcase.check_same(case, "wrong", kernels, wanted(case))
        if problems:
            want = SAID.get(mistake, "differs from numpy: EXACT")
            assert any(want in problem for problem in problems), problems
            return
    pytest.fail(f"{op}: every row accepts '{mistake}'")


@pytest.mark.parametrize(("op", "mistake"), VISIBLE, ids=names(VISIBLE))
def test_reference_with_a_mistake_is_rejected_by_the_oracle(op, mistake):
    kernels = table_with(op, known_bad.WRONG[op][mistake])
    for case in small_rows(op):
        out, _ = runcase.run(case, kernels, runcase.PREFILLS[1])
        if runcase.check_oracle(case, "wrong", out, oracle_values(case)):
            return
    pytest.fail(f"{op}: the oracle accepts '{mistake}'")


@pytest.mark.parametrize("op", known_bad.RIGHT)
def test_scaffold_without_a_mistake_is_accepted(op):
    for i, kernel in enumerate(known_bad.RIGHT[op]):
        kernels = table_with(op, kernel)
        for case in small_rows(op):
            if i == 0 or case.get("fill") in fills.SHARP:
                assert not runcase.check_same(case, "scaffold", kernels, wanted(case))


@pytest.mark.parametrize(("op", "mistake"), ROUNDED_PAIRS, ids=names(ROUNDED_PAIRS))
def test_mistake_of_rounding_is_accepted_where_sums_are_exact(op, mistake):
    kernels = table_with(op, known_bad.WRONG[op][mistake])
    rows = [case for case in small_rows(op) if case.get("fill") == "integers"]
    assert rows
    for case in rows:
        assert not runcase.check_same(case, "wrong", kernels, wanted(case))


def test_every_kernel_has_a_wrong_one():
    assert set(known_bad.WRONG) == set(KERNELS)
    assert all(known_bad.WRONG.values())
