"""Bounds of the pointwise ops: arithmetic, relu, exp and log and their kin, norm, and masks as numbers."""

import math
from typing import Any

import numpy as np

from pagnp.errorbound import conv
from pagnp.errorbound.rounding import LARGEST, TINY, Args, Errors, U, Wide, error_of, rounded, wide
from pagnp.types import Mask

VECTOR_ULP = 1.0  # of exp, log and pow: what the library behind PyTorch's vector code documents (SLEEF, "u10")
OUR_ULP = 0.5000001  # CONTRACT: the worst of all float32 inputs
COMPARISONS: dict[str, Any] = {
    **{"gt": np.greater, "ge": np.greater_equal, "lt": np.less, "le": np.less_equal},
    **{"eq": np.equal, "ne": np.not_equal},
}


def _operands(args, errors):
    a, b = wide(args["a"]), wide(args["b"])
    return a, b, error_of(errors, "a"), error_of(errors, "b")


def _overflows(size, error):
    """A bound that is infinite where one side may overflow and the other not."""
    return np.where((error > 0) & (size > LARGEST), np.inf, error)


def add(args: Args, shape: Any, errors: Errors) -> Wide:
    """Both errors and, unless both are zero, the two roundings of the sum."""
    a, b, ea, eb = _operands(args, errors)
    size, moved = np.abs(a + b), ea + eb
    return np.broadcast_to(_overflows(size + moved, rounded(size + moved, moved)), shape)


def sub(args: Args, shape: Any, errors: Errors) -> Wide:
    """As add."""
    return add({"a": args["a"], "b": -wide(args["b"])}, shape, errors)


def mul(args: Args, shape: Any, errors: Errors) -> Wide:
    """|a|eb + |b|ea + ea*eb and, unless that is zero, two roundings."""
    a, b, ea, eb = _operands(args, errors)
    moved = np.abs(a) * eb + np.abs(b) * ea + ea * eb
    size = np.abs(a * b) + moved
    return np.broadcast_to(_overflows(size, rounded(size, moved)), shape)


def div(args: Args, shape: Any, errors: Errors) -> Wide:
    """The quotient's move and two roundings. Infinite where the divisor may be zero.

    With `constant` naming the operand that is a number: PyTorch may multiply by a reciprocal, one rounding more.
    """
    a, b, ea, eb = _operands(args, errors)
    exact, by_reciprocal = np.broadcast_to(ea + eb == 0, shape), not _power_of_two(args)
    a, b = np.abs(a), np.abs(b)
    moved = np.where(b > eb, (a * eb + b * ea) / (b * (b - eb)), np.inf)
    moved = np.where(exact, 0.0, moved)
    size = a / b + moved
    error = moved + (3 if by_reciprocal else 2) * U * size + (2 + a * by_reciprocal) * TINY
    error = np.where(exact & (np.isinf(size) | (not by_reciprocal)), 0.0, error)
    lost = (b - eb < 2.0**-127) & (b > 0) & by_reciprocal  # its reciprocal overflows
    return np.broadcast_to(np.where(lost, np.inf, _overflows(size, error)), shape)


def _power_of_two(args):
    """Tell whether x/2^k, 2^k/x or x/y is at hand: then a reciprocal changes nothing, or is not taken."""
    constant = args.get("constant")
    if constant is None:
        return True
    return abs(math.frexp(float(np.ravel(args[constant])[0]))[0]) == 0.5


def relu(args: Args, shape: Any, errors: Errors) -> Wide:
    """The error, and not more than what of it lies above zero."""
    x, e = wide(args["x"]), error_of(errors, "x")
    return np.broadcast_to(np.where(np.isnan(x), e, np.minimum(e, np.maximum(x + e, 0))), shape)


def norm(args: Args, shape: Any, errors: Errors) -> Wide:
    """x * scale + shift; with `norm` (mean, var, gamma, beta, eps) in their place, PyTorch's own steps."""
    x, e = np.abs(wide(args["x"])), error_of(errors, "x")
    if args.get("norm") is not None:
        size, error = conv.batch_norm(x, e, args["norm"])
    else:
        size, error = conv.scaled(x + e, e, args["scale"], args["shift"])
    return np.where(size > LARGEST, np.inf, error)


def _units(y, ulp):
    """Return `ulp` units in the last place of y; infinite at the edge of float32, where one side may overflow."""
    error = ulp * (2 * U * y + TINY)
    at_edge = (y + error > LARGEST) & (y - error <= LARGEST)
    return np.where(at_edge, np.inf, np.where(y > LARGEST, 0.0, error))


def _exponential(x, e):
    y = np.exp(x)
    moved = np.where(e < 1, y * np.expm1(e), np.exp(x + e))
    error = moved + _units(y + moved, VECTOR_ULP + OUR_ULP)
    return np.where((moved > 0) & (y + moved > LARGEST), np.inf, error)


def exp(args: Args, shape: Any, errors: Errors) -> Wide:
    """exp(x) (exp(e) - 1) and the units of both routines."""
    return _exponential(wide(args["x"]), error_of(errors, "x") + np.zeros(shape))


def exp10(args: Args, shape: Any, errors: Errors) -> Wide:
    """As exp."""
    return _exponential(wide(args["x"]) * math.log(10), error_of(errors, "x") * math.log(10) + np.zeros(shape))


def log(args: Args, shape: Any, errors: Errors) -> Wide:
    """log(x) - log(x - e), infinite where x - e is no positive number, and the units of both routines."""
    return log_of(wide(args["x"]), error_of(errors, "x") + np.zeros(shape))


def log_of(x: Any, e: Any) -> Any:
    """Return the bound of log for float64 x > 0 that may be off by e; nothing is said of log(x <= 0)."""
    y = np.abs(np.log(x))
    moved = np.where(e == 0, 0.0, np.where(x > e, -np.log1p(-e / x), np.inf))
    finite = np.where(np.isfinite(y), y, 0.0)
    return moved + (VECTOR_ULP + OUR_ULP) * 2 * U * (finite + np.where(np.isinf(moved), 0, moved)) + TINY


def sigmoid(args: Args, shape: Any, errors: Errors) -> Wide:
    """At most e/4 and y (exp(e) - 1); 3.5 units: PyTorch takes exp, a sum and a quotient in float32.

    Where its exp overflows it gives 0, and we a subnormal.
    """
    x, e = wide(args["x"]), error_of(errors, "x") + np.zeros(shape)
    y = 1 / (1 + np.exp(-x))
    moved = np.minimum(e / 4, np.where(e < 1, y * np.expm1(e), 1.0))
    lost = np.where(np.exp(-x + e) >= 2.0**127, y + moved, 0)
    return lost + moved + 3.5 * 2 * U * (y + moved) + TINY


def compare(args: Args, shape: Any, errors: Errors) -> Mask:
    """True where the answer may fall differently: where a and b are no further apart than their errors.

    An input that is an index has for its error the values that it may have (see reduce.possible_maxima).
    """
    a, b = np.asarray(args["a"]), np.asarray(args["b"])
    if a.dtype.kind in "iu":
        return np.broadcast_to(_answers_vary(args["op"], a, b, errors.get("a"), errors.get("b")), shape)
    error = error_of(errors, "a") + error_of(errors, "b") + np.zeros(np.broadcast_shapes(a.shape, b.shape))
    found = (error > 0) & ~(np.abs(wide(a) - wide(b)) > error)
    return found.reshape(shape)


def _answers_vary(op, a, b, of_a, of_b):
    """Tell where an index compared with a fixed one may be either; with two open ones, wherever one is open."""
    if of_a is None and of_b is None:
        return np.bool_(False)
    if of_a is not None and of_b is not None:
        return (of_a.sum(axis=-1) > 1) | (of_b.sum(axis=-1) > 1)
    values = np.arange((of_b if of_a is None else of_a).shape[-1])
    compared = COMPARISONS[op]
    answers = compared(values, b[..., None]) if of_b is None else compared(a[..., None], values)
    possible = of_b if of_a is None else of_a
    return (possible & answers).any(axis=-1) & (possible & ~answers).any(axis=-1)


def logical_not(args: Args, shape: Any, errors: Errors) -> Mask:
    """Undecided where the mask is."""
    found = errors.get("m")
    return np.zeros(shape, bool) if found is None else found


def to_float(args: Args, shape: Any, errors: Errors) -> Wide:
    """1 where the mask is undecided."""
    found = errors.get("m")
    return np.zeros(shape) if found is None else found[..., None].astype(np.float64)
