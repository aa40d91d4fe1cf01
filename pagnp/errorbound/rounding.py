"""Unit roundoff, n roundings in any order, and what overflow and underflow add. No number here is fitted.

u = 2^-24 bounds the relative error of one rounding, gamma(n) = n*u / (1 - n*u) that of n (Higham 2002, section 3.1).
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from pagnp.contract import BLOCK

Wide: TypeAlias = npt.NDArray[np.float64]
Args: TypeAlias = Mapping[str, Any]  # a kernel's arguments by name (docs/ARCHITECTURE.md)
Errors: TypeAlias = Mapping[str, Any]  # the same names -> how far that input may be off; absent or None: exact

U = 2.0**-24
TINY = 2.0**-149  # the spacing of subnormals: one rounding there on each of two sides
LARGEST = float(np.finfo(np.float32).max)
ANYTHING = 1e100  # an infinite error inside a formula: times a weight of zero it is zero, and no NaN


def gamma(n: int) -> float:
    """Return the relative error of n roundings."""
    return n * U / (1 - n * U)


def wide(array: npt.ArrayLike) -> Wide:
    """Return the array in float64."""
    return np.asarray(array, np.float64)


def error_of(errors: Errors, name: str) -> Any:
    """Return the error of the input `name`: a float64 array, or 0.0 where it is exact."""
    return _finite(errors.get(name))


def errors_of(errors: Errors, name: str, count: int) -> list[Any]:
    """Return `count` errors as `error_of` does, of an input that is a list."""
    return [_finite(error) for error in errors.get(name) or [None] * count]


def _finite(error):
    return 0.0 if error is None else np.minimum(wide(error), ANYTHING)


def chained(n: int) -> int:
    """Return the most roundings that a term of our dot-product rule goes through: its block's chain and the totals."""
    return min(n, BLOCK) + -(-n // BLOCK) - 1


def accumulated(n: int, spread: Any, moved: Any, own: int | None = None) -> Any:
    """Return how far two float32 sums of n products may lie apart: theirs in any order, fused or not, and ours.

    spread   sum of |a||b| over the terms; moved: how far the exact sum may move with its inputs
    own      roundings that a term of our sum goes through at most; None: n
    Where a partial sum could overflow in one order and not in another, the bound is infinite; NaN with infinite terms.
    """
    error = moved + gamma(n) * (spread + moved) + gamma(n if own is None else own) * spread + n * TINY
    error = np.where((spread + moved) * (1 + gamma(n)) > LARGEST, np.inf, error)
    return np.where(np.isinf(spread), np.nan, error)


def averaged(n: int, spread: Any, moved: Any, count: Any, own: int) -> Any:
    """Return the same of a sum of n values divided by `count`, perhaps by way of a reciprocal."""
    error = accumulated(n + 1, spread / count, moved / count, own)
    return np.where(np.isfinite(spread) & (spread + moved > LARGEST), np.inf, error)


def rounded(size: Any, error: Any, roundings: int = 2) -> Any:
    """Return `error` and `roundings`, those of both sides, of a value of at most `size`.

    Zero where the error is zero: one IEEE operation on equal numbers gives equal bits.
    """
    return np.where(error == 0, 0.0, error + roundings * U * size + TINY)
