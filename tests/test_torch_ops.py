"""Every op that PyTorch has, against PyTorch: within a bound computed from the data, to the bit where sums are exact.

The golden file lets it run without torch (golden/make_torch_ops.py writes it); where torch is installed its answers
are also computed anew.
"""

import functools
import json
from pathlib import Path

import numpy as np
import pytest
import torch_norms
import torch_rows
from front_door import call_front_door

from pagnp.contract import compare
from pagnp.errorbound.conv import conv64
from pagnp.testing.cases import arrange

GOLDEN = Path(__file__).parent / "golden" / "torch_ops.npz"
MAKE = "python tests/golden/make_torch_ops.py"


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as archive:
        return {name: archive[name] for name in archive.files}


def too_far(got, want, bound):
    """Return a message where |got - want| is not within the bound (NaN and unequal infinities are not)."""
    if got.shape != want.shape or got.dtype != want.dtype:
        return f"got {got.dtype} {got.shape}, torch has {want.dtype} {want.shape}"
    if got.dtype != np.float32:
        return str(compare(got, want)) if compare(got, want) else ""
    same = (got == want) | (np.isnan(got) & np.isnan(want))
    with np.errstate(invalid="ignore"):
        near = np.abs(got.astype(np.float64) - want) <= bound
    if (same | near).all():
        return ""
    place = tuple(int(i) for i in np.argwhere(~(same | near))[0])
    allowed = np.broadcast_to(bound, got.shape)[place]
    return f"out{list(place)}  got {got[place]!r}  torch {want[place]!r}  allowed {allowed:.3g}"


@functools.cache
def computed(index):
    """Return (our result, its bound) of a row, the same for the golden file and for torch as installed."""
    case = torch_rows.ROWS[index]
    return call_front_door(case, arrange(case), "numpy"), torch_rows.bound(case)


def check(case, want):
    got, bound = computed(torch_rows.ROWS.index(case))
    problem = too_far(got, want, bound)
    if not problem and case.get("fill") == "integers" and case.op in torch_rows.EXACT_ON_INTEGERS:
        # A sum of zero has no sign of its own in PyTorch: it may start from the first product, ours starts from +0.
        difference = compare(got + np.float32(0), want + np.float32(0))
        problem = str(difference) if difference else ""
    assert not problem, f'{case.op}: {problem}\n  pytest -k "{case.id}"'


@pytest.mark.parametrize("case", torch_rows.ROWS, ids=[case.id for case in torch_rows.ROWS])
def test_agrees_with_the_golden_file(case, golden):
    assert case.id in golden, f"the golden file lacks {case.id}; run {MAKE}"
    check(case, golden[case.id])


def test_agrees_with_torch_as_installed():
    torch = pytest.importorskip("torch", reason="torch is not installed: the golden file was used")
    for case in torch_rows.ROWS:
        check(case, torch_rows.answer(torch, case))


@pytest.mark.parametrize("row", torch_norms.ROWS, ids=[row.id for row in torch_norms.ROWS])
def test_batch_norm(row, golden, backend_name):
    problem = too_far(torch_norms.ours(row, backend_name), golden[row.id], torch_norms.bound(row))
    assert not problem, f"{row.id}: {problem}"


def test_every_op_of_torch_has_rows():
    assert {case.op for case in torch_rows.ROWS} == set(torch_rows.TORCH)


def test_bounds_are_tight_enough_to_see_a_missing_term():
    """A bound that allows anything checks nothing: dropping one term of 27 must show on most elements."""
    case = next(case for case in torch_rows.ROWS if case.op == "conv2d" and case.get("fill") == "normal")
    args = arrange(case).args
    lesser = args["weight"].copy()
    lesser[0, 1, 0] = 0
    full, less = (
        conv64(args["x"], w, *(args[n] for n in ("stride", "padding", "dilation", "groups")))
        for w in (args["weight"], lesser)
    )
    seen = np.abs(full - less) > torch_rows.bound(case)
    assert seen.mean() > 0.3


def test_golden_file_says_where_it_comes_from(golden):
    about = json.loads(golden["about"].tobytes())
    assert about["command"] == MAKE and about["torch"]
    assert GOLDEN.stat().st_size < 3 << 19
    known = {case.id for case in torch_rows.ROWS} | {row.id for row in torch_norms.ROWS} | {"about"}
    assert set(golden) == known, f"the golden file is of other rows; run {MAKE}"
