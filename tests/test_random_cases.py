"""Random rows of the conformance table, judged as the written ones are, and the shrinking of one that fails.

pytest --conformance 20000                            # that many configurations, and 500 random graphs
pytest --conformance 20000 --conformance-seed 20000   # the next ones
python tools/conformance.py 20000                     # on every code path of this CPU
"""

import numpy as np
import pytest
from conftest import BACKENDS, TALLY, load_backend, seeds
from front_door import call_front_door

from pagnp.backends.base import Backend, get_backend
from pagnp.contract import compare
from pagnp.errors import UsageError
from pagnp.testing import runcase
from pagnp.testing.case import Case, pair
from pagnp.testing.cases import ARRANGE, COMPOSITES, arrange
from pagnp.testing.random_cases import case_line, is_valid, parse_case, random_case
from pagnp.testing.random_cases_check import check_case, kernels_of, repeat_line
from pagnp.testing.random_cases_draw import FILLS, Draw
from pagnp.testing.random_cases_shrink import shrink

SHORT, AT_A_TIME = 240, 40
MOST_SHRUNK = 3  # of a run: where everything fails, shrinking all of it takes hours
SECONDS = 30.0  # of shrinking a case


def pytest_generate_tests(metafunc):
    if "batch" in metafunc.fixturenames:
        batches = seeds(metafunc.config, SHORT, 1, AT_A_TIME)
        metafunc.parametrize("batch", batches, ids=[f"{first}..{stop - 1}" for first, stop in batches])


@pytest.fixture
def problems_of(fine_chunks):
    """Return case -> list of problems, on every backend with 1 and with 2 threads; an exception is a problem."""
    others = {f"{name}, {n} threads": load_backend(name, n) for name in BACKENDS if name != "numpy" for n in (1, 2)}
    return lambda case: problems(case, get_backend("numpy"), others)


def problems(case, reference, others):
    try:
        return check_case(case, reference, others)
    except Exception as error:  # whatever a kernel raises belongs to the case that made it
        return [f"{case.op}: {type(error).__name__}: {error}"]


def explain(case, found, problems_of):
    """Return the failure in words: the case, a smaller one that fails too, its problems and the way back to it."""
    TALLY["failing"] += 1
    lines = [f"{case_line(case)} fails:", found[0], repeat_line(case)]
    if TALLY["failing"] <= MOST_SHRUNK:
        small = shrink(case, lambda candidate: bool(problems_of(candidate)), SECONDS)
        lines += ["", "shrunk to", case_line(small), *problems_of(small)[:3], repeat_line(small)]
    return "\n".join(lines)


def test_random_cases(batch, problems_of):
    failures = []
    for case in map(random_case, range(*batch)):
        TALLY.update(("cases", f"op {case.op}", f"fill {case.get('fill', 'none')}"))
        found = problems_of(case)
        if found:
            failures.append(explain(case, found, problems_of))
    if failures:
        pytest.fail("\n\n".join(failures), pytrace=False)


def test_the_case_of_the_option(request, problems_of):
    line = request.config.getoption("conformance_case")
    if not line:
        pytest.skip("for --conformance-case LINE")
    found = problems_of(parse_case(line))
    if found:
        pytest.fail("\n".join(found), pytrace=False)


def test_random_cases_are_what_the_public_functions_take():
    for case in map(random_case, range(150)):
        if case.op == "scatter" or case.get("layout") == "scattered":
            continue  # no public function does quite that
        want, _ = runcase.run(case, kernels_of(get_backend("numpy")))
        assert not compare(call_front_door(case, arrange(case), "numpy"), want), case_line(case)


def test_the_draw_covers_ops_fills_and_kinds():
    cases = [random_case(seed) for seed in range(4000)]
    assert {case.op for case in cases} == set(ARRANGE)
    for name, every in {
        "fill": {*FILLS, None},
        "sites": {"none", "one", "all", "random", "blobby", None},
        "layout": {"compact", "scattered"},
        "epilogue": {"bias", "norm", None},
        "residual": {"residual", "in_place", None},
        "mode": {"hard", "soft", "gumbel_hard", "gumbel_soft", None},
    }.items():
        assert {case.get(name) for case in cases} == every, name
    convs = [case for case in cases if case.op == "conv2d"]
    lengths = {np.prod(pair(case.get("k"))) * case.get("c_in") // case.get("groups") for case in convs}
    assert {126, 127, 128, 129, 130, 255, 256, 257, 258} <= lengths
    assert sum(case.get("groups") == case.get("c_in") > 1 for case in convs) > 50  # depthwise
    assert len({case.get("padding") for case in convs}) > 100


@pytest.mark.parametrize("seed", range(0, 400, 7))
def test_a_line_makes_the_case_again(seed):
    case = random_case(seed)
    again = parse_case(case_line(case))
    assert again.id == case.id and again.params == case.params and is_valid(case)
    assert repeat_line(case).count("'") == 2  # one argument for a shell


@pytest.mark.parametrize(
    "line",
    [
        "conv2d",
        "Case()",
        'Case("conv3d", seed=1)',
        'Case("relu", c_in=3, h_in=0, w_in=2, fill="normal", seed=1)',
        'Case("relu", c_in=3, h_in=2, fill="normal", seed=1)',
        'Case("conv2d", c_in=3, h_in=2, w_in=2, c_out=2, k=3, fill="normal", seed=1)',
        'Case("conv2d", c_in=3, h_in=4, w_in=4, c_out=2, k=3, groups=2, fill="normal", seed=1)',
        'Case("relu", c_in=__import__("os").getpid(), h_in=2, w_in=2, fill="normal", seed=1)',
    ],
)
def test_a_line_that_is_no_case_is_refused(line):
    with pytest.raises(UsageError):
        parse_case(line)


def test_the_draw_is_the_same_everywhere():
    draw = Draw(12)
    assert [draw.number(0, 999) for _ in range(6)] == [122, 732, 993, 591, 626, 191]


def backend_with(op, wrong):
    """Return the reference with one kernel replaced by wrong(reference kernel, *args)."""
    kernels = get_backend("numpy").kernels
    return Backend("wrong", {**kernels, op: lambda *args: wrong(kernels[op], *args)})


def spoiled_from_channel_17_on(kernel, *args):
    kernel(*args)
    args[-1][..., 16:] = 7


def spoiled_where_alone(kernel, *args):
    kernel(*args)
    if args[0].shape[0] == 1:
        args[-1][...] = 7


def spoiled_without_sites(kernel, *args):
    kernel(*args)
    if args[7] is None:
        args[-1][...] = 7


def refusing_wide_maps(kernel, *args):
    if args[0].shape[2] > 5:
        raise ValueError("too wide")
    kernel(*args)


@pytest.mark.parametrize(
    ("op", "wrong", "smallest"),
    [
        ("conv2d", spoiled_from_channel_17_on, {"c_out": 17, "c_in": 1, "h_in": 1, "w_in": 1, "k": 1}),
        ("conv_transpose2d", spoiled_from_channel_17_on, {"c_out": 17, "c_in": 1, "h_in": 1, "w_in": 1}),
        ("relu", spoiled_from_channel_17_on, {"c_in": 17, "h_in": 1, "w_in": 1}),
        ("concat", spoiled_from_channel_17_on, {"parts": (17,), "c_in": 17}),
        ("max_pool2d", spoiled_where_alone, {"n": 1, "c_in": 1, "h_in": 1, "w_in": 1}),
        ("softmax", refusing_wide_maps, {"c_in": 1, "h_in": 1, "w_in": 6}),
        ("conv2d", spoiled_without_sites, {"c_out": 1, "c_in": 1, "sites": None}),
    ],
)
def test_a_failing_case_shrinks(op, wrong, smallest):
    reference, others = get_backend("numpy"), {"wrong": backend_with(op, wrong)}
    fails = lambda case: bool(problems(case, reference, others))  # noqa: E731
    failing = [case for case in (random_case(seed, op) for seed in range(12)) if fails(case)]
    assert failing, f"12 random cases of {op} do not show the mistake"
    small = shrink(failing[0], fails, SECONDS)
    assert fails(small) and fails(parse_case(case_line(small)))
    assert {name: small.get(name) for name in smallest} == smallest, case_line(small)
    assert small.get("seed") == 0 and small.get("relu") is None and small.get("epilogue") is None


def test_shrinking_stops_when_its_time_is_up():
    times = iter(range(1000))
    case = random_case(0, "conv2d")
    assert shrink(case, lambda candidate: True, 0.5, lambda: next(times)).id == case.id


def test_the_relations_alone_reject():
    """Mistakes that no call of the case itself shows: in an image alone, in the dense convolution beside sites."""
    sites = {"sites": "random", "fill": "normal", "seed": 3}
    case = Case("conv2d", c_in=3, h_in=5, w_in=6, c_out=4, k=3, padding=1, **sites)
    found = check_case(case, get_backend("numpy"), {"wrong": backend_with("conv2d", spoiled_without_sites)})
    assert len(found) == 1 and "dense" in found[0] and "pytest -k" not in found[0]
    for op in ("relu", "scatter", "gather", "max_pool2d", "argmax"):
        where = {"sites": "all"} if op in ("scatter", "gather") else {"k": 2} if op == "max_pool2d" else {}
        case = Case(op, n=2, c_in=3, h_in=4, w_in=5, **where, fill="normal", seed=3)
        spoil = spoiled_scatter_of_one if op == "scatter" else spoiled_where_alone
        found = check_case(case, get_backend("numpy"), {"wrong": backend_with(op, spoil)})
        assert found and all("alone" in problem for problem in found), (case_line(case), found)


def spoiled_scatter_of_one(kernel, *args):
    kernel(*args)
    if args[-1].shape[0] == 1:
        args[-1][...] = 7


def test_composites_have_a_kernel_here():
    kernels = kernels_of(get_backend("numpy"))
    assert set(kernels) == {*get_backend("numpy").kernels, *COMPOSITES}
    assert np.isfinite(runcase.run(random_case(1, "bilinear_deconv"), kernels)[0]).any()
