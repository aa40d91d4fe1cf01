"""Run one case on a table of kernels, in guarded memory, and say in words what is wrong.

The same functions judge every backend and, in the tests, kernels that are wrong on purpose.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from pagnp import contract
from pagnp.backends.base import Kernel
from pagnp.testing import fills
from pagnp.testing.case import Arrangement, Case
from pagnp.testing.cases import arrange
from pagnp.testing.oracle import MEASURED, element
from pagnp.testing.oracle_pointwise import true_pointwise
from pagnp.testing.oracle_scalar import ulp_error
from pagnp.types import Array, Mask

Kernels: TypeAlias = Mapping[str, Kernel]
Places: TypeAlias = list[tuple[tuple[int, ...], Any]]  # of an output, with the oracle's values

GUARD_BYTES = 260  # not a multiple of a vector's size: arrays start where no wide load is aligned
GUARD = 0xFF  # a NaN in float32, so that a read beyond an input shows in the result
PREFILLS = (0xFF, 0x3C)  # `out` starts as NaN, then as small numbers: who reads or forgets an element shows
ORACLE_BUDGET = 1500  # fused steps that the oracle spends on a row, about 10 ms


class Guarded:
    """A C-contiguous array inside a larger buffer; `broken()` tells whether anything around it changed."""

    def __init__(self, shape, dtype, prefill=None):
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        self._raw = np.full(size + 2 * GUARD_BYTES, GUARD, dtype=np.uint8)
        self._inside = self._raw[GUARD_BYTES : GUARD_BYTES + size]
        if prefill is not None:
            self._inside[...] = prefill
        self.array = self._inside.view(dtype).reshape(shape)

    @classmethod
    def holding(cls, array):
        """Return a guarded copy of `array`."""
        guarded = cls(array.shape, array.dtype)
        guarded.array[...] = array
        return guarded

    def broken(self):
        """Tell whether a guard byte changed."""
        before, after = self._raw[:GUARD_BYTES], self._raw[len(self._raw) - GUARD_BYTES :]
        return bool((before != GUARD).any() or (after != GUARD).any())


def _guard_args(args):
    """Return (args with every array guarded, list of (name, Guarded, bytes before))."""
    watched, guarded_args = [], {}

    def guard(name, array):
        guarded = Guarded.holding(array)
        watched.append((name, guarded, guarded.array.tobytes()))
        return guarded.array

    for name, value in args.items():
        if isinstance(value, list):
            value = [guard(f"{name}[{i}]", part) for i, part in enumerate(value)]
        elif isinstance(value, np.ndarray):
            value = guard(name, value)
        guarded_args[name] = value
    return guarded_args, watched


def call_kernel(case, kernels, arrangement, args, out):
    """Call the kernel with `out` last; return its result for kernels that return one."""
    if case.op == "conv2d":
        args = {"packed" if k == "weight" else k: v for k, v in args.items()}
        args["packed"] = kernels["pack_conv2d"](args["packed"], args["groups"])
    with np.errstate(all="ignore"):
        returned = kernels[case.op](*args.values(), *(() if arrangement.returns else (out,)))
    return returned if arrangement.returns else out


def run(case: Case, kernels: Kernels, prefill: int = PREFILLS[0]) -> tuple[Array, list[str]]:
    """Return (out, problems) of one call: the output and a list of broken promises about memory."""
    arrangement = arrange(case)
    out = Guarded(arrangement.shape, arrangement.dtype, prefill)
    plain = dict(arrangement.args)
    if arrangement.in_place:
        out.array[...] = plain.pop("residual")
    args, watched = _guard_args(plain)
    if arrangement.in_place:
        args = {name: out.array if name == "residual" else args[name] for name in arrangement.args}
    got = call_kernel(case, kernels, arrangement, args, out.array)
    problems = [f"{name}: input changed" for name, guarded, before in watched if guarded.array.tobytes() != before]
    problems += [f"{name}: bytes around the input changed" for name, guarded, _ in watched if guarded.broken()]
    if out.broken():
        problems.append("out: written beyond its end or before its start")
    if not isinstance(got, np.ndarray) or got.shape != arrangement.shape or got.dtype != np.dtype(arrangement.dtype):
        problems.append(f"returned {describe(got)}, want {np.dtype(arrangement.dtype)} {arrangement.shape}")
    return np.array(got), problems


def describe(value: object) -> str:
    """Return dtype and shape of an array, or the type's name."""
    return f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__


def written(case: Case, arrangement: Arrangement) -> Mask:
    """Return a bool array over the output: which elements the op writes."""
    everything = np.ones(arrangement.shape, dtype=bool)
    args = arrangement.args
    scattered = case.op == "scatter" or (
        case.op == "conv2d" and args["sites"] is not None and len(arrangement.shape) == 4
    )
    if scattered:
        everything[...] = False
        everything.reshape(-1, arrangement.shape[-1])[args["sites"]] = True
    return everything


def _as_numbers(array):
    """Return the array with bool as its bytes, so that an unwritten bool is not read as True."""
    return np.ascontiguousarray(array).view(np.uint8) if array.dtype == bool else array


def _untouched(case, arrangement, out, prefill, place):
    """Return a problem if an element that is no site lost its former value."""
    before = np.full(arrangement.shape, 0, dtype=arrangement.dtype)
    before.view(np.uint8)[...] = prefill
    if arrangement.in_place:
        before = arrangement.args["residual"]
    same = out.view(np.uint32) == np.ascontiguousarray(before).view(np.uint32)
    return [] if same[~place].all() else ["out: rows that are no sites were written"]


def difference_message(case: Case, backend: str, other: str, difference: contract.Difference) -> str:
    """Return the house's form of a failure: bits, place and the way back."""
    kind = "" if difference.reason else "EXACT, "
    return f"{case.op}[{backend}] differs from {other}: {kind}{difference}\n{way_back(case, backend)}"


def way_back(case: Case, backend: str) -> str:
    """Return the command that runs this row alone."""
    return f'  pytest -k "{case.id} and {backend}"'


def check_same(case: Case, backend: str, kernels: Kernels, want: Array, other: str = "numpy") -> list[str]:
    """Return the list of problems of a backend on a row, whose right output is `want`; empty when all is well.

    Two calls on differently filled memory must both give `want`; nothing else may change.
    """
    arrangement, found = arrange(case), []
    place = written(case, arrangement)
    for prefill in PREFILLS:
        out, problems = run(case, kernels, prefill)
        found += [f"{case.op}[{backend}] {problem}\n{way_back(case, backend)}" for problem in problems]
        if out.shape != want.shape or out.dtype != want.dtype:
            continue  # already told by `run`
        if not place.all():
            found += [
                f"{case.op}[{backend}] {problem}\n{way_back(case, backend)}"
                for problem in _untouched(case, arrangement, out, prefill, place)
            ]
        got_numbers, want_numbers = _as_numbers(out).copy(), _as_numbers(want).copy()
        got_numbers[~place] = want_numbers[~place] = 0
        difference = contract.compare(got_numbers, want_numbers)
        if difference:
            found.append(difference_message(case, backend, other, difference))
    return found


def _cost(case, arrangement):
    """Return about how many oracle steps one element takes."""
    args = arrangement.args
    if case.op in ("conv2d", "conv_transpose2d"):
        weight = args["weight"].shape
        groups = args["groups"] if case.op == "conv_transpose2d" else 1
        return weight[0] * weight[1] * weight[2] // groups + 4
    x = args.get("x", args.get("z"))
    if case.op == "global_mean":
        return x.shape[1] * x.shape[2]
    if case.op in ("softmax", "l2_normalize", "argmax", "gate"):
        return 6 * x.shape[3]
    if case.op in ("max_pool2d", "avg_pool2d"):
        return args["kernel"][0] * args["kernel"][1]
    return {"gumbel_noise": 40, "philox4x32": 20, "mask_to_sites": 40, "bilinear_deconv": 8, "grow_mask": 5}.get(
        case.op, 8
    )


def sample_places(case, arrangement, budget=ORACLE_BUDGET):
    """Return the output places that the oracle looks at: all if the budget allows, else the ends and a random draw."""
    size = int(np.prod(arrangement.shape, dtype=np.int64))
    count = max(4, budget // _cost(case, arrangement))
    if size <= count:
        flat = range(size)
    else:
        drawn = fills.whole(case.get("seed"), 500, (count - 2,), size)
        flat = sorted({0, size - 1, *(int(i) for i in drawn)})
    return [tuple(int(i) for i in np.unravel_index(i, arrangement.shape)) for i in flat]


def engine_routines(kernels: Kernels) -> dict[str, Callable[[float], float]]:
    """Return the engine's exp and log as functions of one float, for the oracle."""

    def scalar(name):
        def routine(value):
            out = np.empty((1, 1, 1, 1), dtype=np.float32)
            with np.errstate(all="ignore"):
                kernels[name](np.full((1, 1, 1, 1), value, dtype=np.float32), out)
            return float(out[0, 0, 0, 0])

        return routine

    return {"exp": scalar("exp"), "log": scalar("log")}


def oracle_values(case: Case, kernels: Kernels, budget: int = ORACLE_BUDGET) -> Places:
    """Return [(place, value)] from the oracle at sampled places that the op writes, with exp and log of `kernels`."""
    arrangement, routines = arrange(case), engine_routines(kernels)
    places = sample_places(case, arrangement, budget)
    values = [(p, element(case.op, p, arrangement.shape, arrangement.args, routines)) for p in places]
    return [(place, value) for place, value in values if value is not None]


def check_oracle(case: Case, backend: str, out: Array, values: Places) -> list[str]:
    """Return the list of problems of the output `out` against `values` of the oracle."""
    if case.op in MEASURED:
        x = arrange(case).args.get("x")
        return [problem for place, value in values for problem in _measured(case, backend, x, place, out[place], value)]
    want = out.copy()
    for place, value in values:
        want[place] = value
    difference = contract.compare(_as_numbers(out), _as_numbers(want))
    if not difference:
        return []
    sampled = replace(difference, size=len(values)) if difference.count else difference
    return [difference_message(case, backend, "oracle", sampled)]


def _measured(case, backend, x, place, got, rounded):
    """Return a problem where exp, log and their kin are more than one ULP off, or worse than the contract says."""
    one = np.full(1, got, dtype=np.float32)
    difference = contract.compare(one, np.full(1, rounded, dtype=np.float32))
    special = math.isnan(rounded) or math.isinf(rounded) or rounded == 0
    if difference and (special or difference.first[0].ulp is None or difference.first[0].ulp > 1):
        return [difference_message(case, backend, "oracle", difference)]
    bound = contract.CONTRACT[case.op][1]
    true = true_pointwise(case.op, float(x[place])) if bound is not None else None
    if true is None or not math.isfinite(got):
        return []
    error = ulp_error(float(got), true)
    if error <= bound:
        return []
    claim = f"{float(error):.9f} ulp off the true value, CONTRACT says {bound}"
    return [f"{case.op}[{backend}] is {claim}\n  x = {x[place]!r}\n{way_back(case, backend)}"]
