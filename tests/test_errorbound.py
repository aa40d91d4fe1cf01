"""The error bounds of every op, without torch: inputs that are off by a known error move no result out of its bound."""

from dataclasses import replace

import numpy as np
import pytest
from front_door import call_front_door

from pagnp import errorbound, opset
from pagnp.errorbound.rounding import ANYTHING, chained, gamma
from pagnp.testing.cases import CASES, arrange

ROWS_PER_OP = 5
TENSORS = ("x", "a", "b", "z", "p", "residual")
LISTS = ("xs", "branches")


def _chosen():
    """A few finite rows of each op, spread over what its table has."""
    found = {}
    for case in CASES:
        fits = (
            case.op in errorbound.OPS and case.get("fill") in ("normal", "relu") and case.get("layout") != "scattered"
        )
        if fits and 0 < np.prod(arrange(case).shape) <= 2000:
            found.setdefault(case.op, []).append(case)
    return [case for cases in found.values() for case in cases[:: -(-len(cases) // ROWS_PER_OP)]]


ROWS = _chosen()


def nudged(array, rng, size):
    """Return (array moved by up to `size` of itself and of one, how far each element went)."""
    move = rng.uniform(-size, size, array.shape) * (np.abs(array) + rng.integers(0, 2, array.shape))
    other = (array + move).astype(np.float32)
    return other, np.abs(other.astype(np.float64) - array)


def flipped(control, rng, branches):
    """Return (a mask or index that is another one at some places, its error in the form of `errorbound.bound`)."""
    open_ = rng.integers(0, 4, control.shape) == 0
    if control.dtype == bool:
        return control ^ (open_ & (rng.integers(0, 2, control.shape) == 0)), open_
    other = np.where(open_, rng.integers(0, branches, control.shape), control).astype(np.int32)
    possible = (np.arange(branches) == control[..., None]) | (np.arange(branches) == other[..., None])
    return other, possible


def moved(args, rng, size):
    """Return (args with every input off by a little, the errors)."""
    other, errors = dict(args), {}
    for name, value in args.items():
        if name in TENSORS and isinstance(value, np.ndarray) and value.dtype == np.float32:
            other[name], errors[name] = nudged(value, rng, size)
        elif name in LISTS:
            pairs = [nudged(part, rng, size) for part in value]
            other[name], errors[name] = [p[0] for p in pairs], [p[1] for p in pairs]
        elif name in ("control", "mask"):
            other[name], errors[name] = flipped(value, rng, len(args.get("branches", ())))
    return other, errors


def outside(ours, other, bound):
    """Return where two results are further apart than the bound, or decided differently where nothing was open."""
    if ours.dtype == np.int32:
        return ~np.take_along_axis(bound, other.astype(np.int64)[..., None], axis=-1)[..., 0]
    if ours.dtype == bool:
        return (ours != other) & ~np.broadcast_to(bound, ours.shape)
    with np.errstate(invalid="ignore"):
        same = (ours == other) | (np.isnan(ours) & np.isnan(other)) | np.isinf(bound)
        return ~(same | (np.abs(ours.astype(np.float64) - other) <= bound))


def test_every_op_of_the_graph_has_a_bound():
    assert set(errorbound.OPS) == set(opset.OPS)
    tested = {case.op for case in ROWS} | {"logical_not", "to_float"}
    assert tested == set(opset.OPS)


@pytest.mark.parametrize("case", ROWS, ids=[case.id for case in ROWS])
def test_inputs_that_are_off(case):
    arrangement = arrange(case)
    ours = call_front_door(case, arrangement, "numpy")
    for seed, size in ((1, 2.0**-20), (2, 2.0**-8), (3, 0.3)):
        rng = np.random.default_rng(seed)
        args, errors = moved(arrangement.args, rng, size)
        other = call_front_door(case, replace(arrangement, args=args), "numpy")
        given = dict(arrangement.args) | ({"index": case.get("index")} if case.op == "gate" else {})
        bound = errorbound.bound(case.op, given, arrangement.shape, errors)
        wrong = outside(ours, other, bound)
        assert not wrong.any(), f"seed {seed}, size {size}: {np.argwhere(wrong)[:3].tolist()}"
        if ours.dtype == np.float32 and size == 2.0**-20 and np.isfinite(bound).any():
            usual, largest = np.median(bound[np.isfinite(bound)]), np.nanmax(np.abs(ours))
            assert usual < 0.02 * (1 + largest), "a bound that allows anything"


MOVING = ("max_pool2d", "nearest", "relu", "concat", "pad", "slice_channels", "select", "masked", "compare", "argmax")


@pytest.mark.parametrize("op", (*MOVING, "add", "sub", "mul", "div"))
def test_exact_inputs_of_exact_ops_leave_nothing_open(op):
    for case in (case for case in ROWS if case.op == op):
        args, shape = arrange(case).args, arrange(case).shape
        bound = errorbound.bound(op, args, shape)
        if op == "argmax":
            assert (bound.sum(axis=-1) == 1).all()
        else:
            assert not np.any(bound)


def test_masks():
    mask = np.array([[[True, False, True]]])
    open_ = np.array([[[True, True, False]]])
    for errors, want in (({}, np.zeros_like(mask)), ({"m": open_}, open_)):
        np.testing.assert_array_equal(errorbound.bound("logical_not", {"m": mask}, mask.shape, errors), want)
        found = errorbound.bound("to_float", {"m": mask}, (*mask.shape, 1), errors)
        np.testing.assert_allclose(found[..., 0], want, rtol=1e-6)


def test_decisions_are_open_only_inside_their_margins():
    z = np.array([[[[0.0, 1.0], [0.0, 1e-3], [0.0, -1e-3], [0.0, 0.0]]]], np.float32)
    args = {"z": z, "mode": "hard", "form": "torch", "temperature": 1, "noise": None, "threshold": None}
    for error, want in ((None, [0, 0, 0, 0]), (1e-4, [0, 0, 0, 1]), (1e-3, [0, 1, 1, 1]), (0.6, [1, 1, 1, 1])):
        errors = {} if error is None else {"z": np.full(z.shape, error)}
        assert errorbound.bound("gate", args, (1, 1, 4), errors)[0, 0].tolist() == [bool(w) for w in want]
    # By a threshold the margin is another.
    errors = {"z": np.full(z.shape, 1e-4)}
    found = errorbound.bound("gate", args | {"threshold": np.float32(1)}, (1, 1, 4), errors)
    assert found[0, 0].tolist() == [True, False, False, False]
    possible = errorbound.bound("gate", args | {"index": True}, (1, 1, 4), errors)
    assert possible[0, 0].tolist() == [[False, True], [False, True], [True, False], [True, True]]


def test_an_open_index_leaves_open_what_is_asked_of_it():
    index, possible = np.array([[[0, 2]]], np.int32), np.array([[[[1, 1, 0], [0, 0, 1]]]], bool)
    answers = {
        op: errorbound.bound(
            "compare", {"a": index, "b": np.full((1, 1, 1), 1, np.int32), "op": op}, (1, 1, 2), {"a": possible}
        )[0, 0].tolist()
        for op in opset.COMPARISONS
    }
    assert answers == {
        **{"gt": [False, False], "ge": [True, False], "lt": [True, False]},
        **{"le": [False, False], "eq": [True, False], "ne": [True, False]},
    }


def test_an_open_branch_counts_with_its_distance():
    branches = [np.zeros((1, 1, 2, 1), np.float32), np.full((1, 1, 2, 1), 5, np.float32)]
    args = {"control": np.array([[[False, True]]]), "branches": branches}
    errors = {"control": np.array([[[True, False]]]), "branches": [np.full((1, 1, 2, 1), 0.5), None]}
    found = errorbound.bound("select", args, (1, 1, 2, 1), errors)
    np.testing.assert_allclose(found[0, 0, :, 0], [5, 0], rtol=1e-6)


def test_what_overflows_or_is_unknown_has_no_bound():
    huge = np.full((1, 1, 1, 2), 3e38, np.float32)
    place = {"stride": (1, 1), "padding": (0,) * 4, "dilation": (1, 1), "groups": 1}
    weight = np.array([1, -1], np.float32).reshape(1, 1, 2, 1)
    assert np.isinf(errorbound.bound("conv2d", {"x": huge, "weight": weight, **place}, (1, 1, 1, 1)))
    unknown = {"x": np.full(huge.shape, np.inf)}
    half = np.array([1, 0], np.float32).reshape(1, 1, 2, 1)
    assert np.isinf(errorbound.bound("conv2d", {"x": huge / 4, "weight": half, **place}, (1, 1, 1, 1), unknown))
    nothing = errorbound.bound("conv2d", {"x": huge / 4, "weight": half * 0, **place}, (1, 1, 1, 1), unknown)
    assert nothing < 1e-30 and ANYTHING > 1e77  # a weight of zero reads nothing
    for op in ("log", "div"):
        x = np.full((1, 1, 1, 1), 0.1, np.float32)
        args, errors = ({"x": x}, {"x": x}) if op == "log" else ({"a": x, "b": x}, {"b": x})
        assert np.isinf(errorbound.bound(op, args, x.shape, errors))


def test_a_number_to_divide_by_may_become_a_reciprocal():
    x = np.full((1, 1, 1, 1), 7, np.float32)

    def bound(number, side):
        args = {"a": x, "b": x} | {side: np.full((1, 1, 1, 1), number, np.float32)}
        return float(errorbound.bound("div", args | {"constant": side}, x.shape)[0, 0, 0, 0])

    assert bound(4, "b") == bound(1, "a") == 0 < bound(3, "b") < 7 / 3 * 2**-22


def test_our_own_sums_have_fewer_roundings():
    assert [chained(n) for n in (1, 128, 129, 576, 4608)] == [1, 128, 129, 132, 163]
    assert gamma(chained(576)) < gamma(576) / 4


def _summed(rng, terms, start):
    """Return float32 sums (c_out,) of terms (K, c_out) in a random order, each step rounded, begun with `start`."""
    total = start
    for term in terms[rng.permutation(len(terms))]:
        total = total + term
    return total


@pytest.mark.parametrize("epilogue", ["bias", "norm", "bias and norm"])
@pytest.mark.parametrize("begun", [False, True], ids=["added at the end", "begun with"])
def test_sums_in_any_order_with_the_bias_at_either_end(epilogue, begun):
    """oneDNN begins some sums with the bias; ONNX Runtime folds norms into weights. Large ones cost the most."""
    rng, k, c = np.random.default_rng(7), 300, 40
    x = rng.standard_normal((1, 1, 1, k)).astype(np.float32)
    weight = (rng.standard_normal((1, 1, k, c)) / 1024).astype(np.float32)
    bias, beta = (rng.standard_normal(c).astype(np.float32) * np.float32(1000) for _ in range(2))
    vectors = {"mean": bias[::-1].copy(), "var": rng.random(c).astype(np.float32) + np.float32(0.1), "beta": beta}
    place = {"stride": (1, 1), "padding": (0,) * 4, "dilation": (1, 1), "groups": 1}
    args, shift = {"x": x, "weight": weight, **place}, bias if "bias" in epilogue else np.zeros(c, np.float32)
    part = {"bias": bias}
    if "norm" in epilogue:
        part = {"norm": vectors | {"eps": 1e-5} | ({"bias": bias} if "bias" in epilogue else {})}
        scale = 1 / np.sqrt(vectors["var"] + np.float32(1e-5))
        shift = beta + (shift - vectors["mean"]) * scale
        folded = weight[0, 0] * scale if begun else weight[0, 0]
    terms = x[0, 0, 0][:, None] * (folded if "norm" in epilogue else weight[0, 0])
    exact = x[0, 0, 0].astype(np.float64) @ weight[0, 0].astype(np.float64)
    if "norm" in epilogue:
        offset = (bias.astype(np.float64) if "bias" in epilogue else 0.0) - vectors["mean"]
        exact = (exact + offset) / np.sqrt(vectors["var"].astype(np.float64) + 1e-5) + beta
    else:
        exact = exact + bias
    bound = errorbound.bound("conv2d", args | part, (1, 1, 1, c))[0, 0, 0]
    assert bound.max() < 0.2, "a bound that allows anything"
    for _ in range(20):
        if begun:
            theirs = _summed(rng, terms, shift)
        else:
            theirs = _summed(rng, terms, np.zeros(c, np.float32))
            theirs = theirs * scale + shift if "norm" in epilogue else theirs + shift
        assert theirs.dtype == np.float32 and not (np.abs(theirs - exact) > bound).any()


def test_one_percent_is_seen():
    """An error of 1 % of the largest value is out of the bound of every op, several times over."""
    for case in ROWS:
        ours = call_front_door(case, arrange(case), "numpy")
        if ours.dtype == np.float32 and np.any(ours):
            place = np.unravel_index(int(np.nanargmax(np.abs(ours))), ours.shape)
            bound = errorbound.bound(case.op, dict(arrange(case).args), ours.shape)
            assert np.broadcast_to(bound, ours.shape)[place] < 0.003 * np.abs(ours[place]), case.id


def test_subnormal_results_have_units_of_their_own():
    """Two routines that are right to an ULP and to half of one may be one and a half of the spacing apart."""
    x = np.full((1, 1, 1, 1), -100, np.float32)
    assert errorbound.bound("exp", {"x": x}, x.shape) >= 1.5 * 2.0**-149
    pair = np.array([0, -100], np.float32).reshape(1, 1, 1, 2)
    assert errorbound.bound("softmax", {"x": pair}, pair.shape)[..., 1] >= 2.5 * 2.0**-149


def test_means_whose_sums_may_overflow_have_no_bound():
    x = np.array([3e38, 3e38, -3e38, -3e38], np.float32).reshape(1, 2, 2, 1)
    window = {"kernel": (2, 2), "stride": (2, 2), "padding": (0,) * 4, "count_include_pad": True}
    for op, args in (("avg_pool2d", window), ("global_mean", {})):
        assert np.isinf(errorbound.bound(op, {"x": x, **args}, (1, 1, 1, 1)))
    errors = {"x": np.full(x.shape, 3e38)}
    assert np.isinf(errorbound.bound("global_mean", {"x": x * 0}, (1, 1, 1, 1), errors))


def test_a_sum_that_may_overflow_times_zero_is_unknown():
    x = np.full((1, 1, 1, 2), 3e38, np.float32)
    norm = {"mean": np.zeros(1), "var": np.ones(1), "gamma": np.zeros(1), "beta": np.ones(1), "eps": 1e-5}
    place = {"stride": (1, 1), "padding": (0,) * 4, "dilation": (1, 1), "groups": 1}
    args = {"x": x, "weight": np.ones((1, 1, 2, 1), np.float32), "norm": norm, **place}
    assert np.isinf(errorbound.bound("conv2d", args, (1, 1, 1, 1)))
