"""Checks of arguments that are no arrays (those: call.py), used by every op. A failure says what to do."""

from typing import Any, TypeVar

import numpy as np

from pagnp.errors import ShapeError, UsageError
from pagnp.opset import LIMIT
from pagnp.types import Pair, Sides

Choice = TypeVar("Choice", bound=str)


def integer(op: str, name: str, value: int, low: int, high: float = LIMIT) -> int:
    """Return `value` as an int from `low` to `high`."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)) or value < low:
        raise UsageError(f"{op}: {name} is {value!r}, need an integer of at least {low}")
    if value > high:
        raise UsageError(f"{op}: {name} is {value!r}, need an integer of at most {high}")
    return int(value)


def is_number(value: object) -> bool:
    """Return whether `value` is a real number of Python or NumPy, and no bool."""
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def number(op: str, name: str, value: Any) -> np.float32:
    """Return a real number as the nearest float32; Inf and NaN are for the caller to refuse. Raises UsageError."""
    if not is_number(value):
        raise UsageError(f"{op}: {name} must be a number, not {value!r}")
    try:
        with np.errstate(over="ignore"):
            return np.float32(value)
    except OverflowError as error:
        raise UsageError(f"{op}: {name} is {value!r}, too large for float32") from error


def pair(op: str, name: str, value: Pair, low: int = 1) -> tuple[int, int]:
    """Return (y, x) of an int or a pair of ints."""
    if isinstance(value, (tuple, list)):
        if len(value) != 2:
            raise UsageError(f"{op}: {name} is {value!r}, need an int or a pair (y, x)")
        return integer(op, name, value[0], low), integer(op, name, value[1], low)
    return (integer(op, name, value, low),) * 2


def sides(op: str, value: Sides, low: int = 0) -> tuple[int, int, int, int]:
    """Return (top, bottom, left, right) of an int or a 4-tuple."""
    if isinstance(value, (tuple, list)):
        if len(value) != 4:
            raise UsageError(f"{op}: padding is {value!r}, need an int or (top, bottom, left, right)")
        top, bottom, left, right = (integer(op, "padding", side, low) for side in value)
        return top, bottom, left, right
    return (integer(op, "padding", value, low),) * 4


def choice(op: str, name: str, value: Choice, choices: tuple[str, ...]) -> Choice:
    """Return `value` if it is one of `choices`."""
    if value not in choices:
        raise UsageError(f"{op}: {name} is {value!r}, choose one of {', '.join(choices)}")
    return value


def same_shape(op: str, name: str, value: Any, shape: tuple[int, ...], other: str) -> None:
    """Raise ShapeError unless `value` has `shape`, the shape of `other`."""
    if value.shape != shape:
        raise ShapeError(f"{op}: {name} has shape {value.shape}, {other} has {shape}; they must be equal")
