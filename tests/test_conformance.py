"""One suite, every row of the table on every backend: bits, shape, dtype, memory, repetition, threads.

numpy is held against the oracle, every other backend against numpy. A failure prints the way back to its row.
"""

import functools

import numpy as np
import pytest
from conftest import BACKENDS, load_backend
from front_door import call_front_door

from pagnp import ops
from pagnp.backends.base import INTERNAL, KERNELS, get_backend
from pagnp.contract import CONTRACT, compare
from pagnp.testing import runcase
from pagnp.testing.cases import CASES, COMPOSITES, arrange, rows_of
from pagnp.testing.oracle import ORACLE

KERNEL_CASES = [case for case in CASES if case.op not in COMPOSITES]
OTHERS = [name for name in BACKENDS if name != "numpy"]
THREADS = (1, 2)


@functools.cache
def reference(case):
    """Return (out, problems) of the numpy backend."""
    return runcase.run(case, get_backend("numpy").kernels)


def fail_on(problems):
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)


@pytest.mark.parametrize("case", KERNEL_CASES, ids=[f"{case.id}-numpy" for case in KERNEL_CASES])
def test_numpy_agrees_with_the_oracle(case):
    kernels = get_backend("numpy").kernels
    out, _ = reference(case)
    fail_on(runcase.check_same(case, "numpy", kernels, out, other="its own first run"))
    fail_on(runcase.check_oracle(case, "numpy", out, runcase.oracle_values(case, kernels)))


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("case", KERNEL_CASES, ids=[case.id for case in KERNEL_CASES])
def test_backend_agrees_with_numpy(case, name, fine_chunks):
    want, _ = reference(case)
    for threads in THREADS:
        kernels = load_backend(name, threads).kernels
        problems = runcase.check_same(case, name, kernels, want)
        fail_on([f"{threads} threads: {problem}" for problem in problems])


# scatter's front door returns a copy of a map, a scattered conv2d is the runner's alone.
FRONT_CASES = [case for case in CASES if case.op != "scatter" and case.get("layout") != "scattered"]


@pytest.mark.parametrize("case", FRONT_CASES, ids=[f"{case.id}-front" for case in FRONT_CASES])
def test_front_door_gives_what_the_kernel_gives(case):
    arrangement = arrange(case)
    got = call_front_door(case, arrangement, "numpy")
    if case.op in COMPOSITES:
        values = runcase.oracle_values(case, get_backend("numpy").kernels)
        assert got.shape == arrangement.shape
        fail_on(runcase.check_oracle(case, "numpy", got, values))
    else:
        assert not compare(got, reference(case)[0])


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("op", COMPOSITES)
def test_composite_is_the_same_on_every_backend(op, name):
    load_backend(name)
    for case in rows_of(op):
        arrangement = arrange(case)
        want = call_front_door(case, arrangement, "numpy")
        assert not compare(call_front_door(case, arrangement, name), want), case.id


def test_scatter_front_door_keeps_the_other_pixels():
    for case in rows_of("scatter"):
        args = arrange(case).args
        x = np.full(arrange(case).shape, 7, dtype=np.float32)
        got = ops.scatter(args["values"], args["sites"], x)
        want = x.copy()
        want.reshape(-1, x.shape[3])[args["sites"]] = args["values"]
        assert not compare(got, want), case.id


@pytest.mark.parametrize("op", [*KERNELS, *COMPOSITES])
def test_nothing_was_forgotten_for(op):
    assert op in CONTRACT, f"add the rule of {op} to pagnp/contract.py CONTRACT"
    assert op in ORACLE, f"add {op} to pagnp/testing/oracle.py and its family's module"
    assert rows_of(op), f"add rows of {op} to pagnp/testing/cases_<family>.py"
    assert callable(getattr(ops, op, None)), f"add {op} to pagnp/ops/<family>.py and pagnp/ops/__init__.py"


def test_contract_names_no_op_that_does_not_exist():
    assert set(CONTRACT) == set(KERNELS) | set(COMPOSITES)


def test_rows_have_names_of_their_own():
    assert len({case.id for case in CASES}) == len(CASES)


@pytest.mark.parametrize("name", BACKENDS)
def test_backend_has_every_kernel(name):
    assert set(load_backend(name).kernels) == {*KERNELS, *INTERNAL}
