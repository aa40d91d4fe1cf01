"""A row of the conformance table: an op, its sizes and attributes, a fill and a seed; and what it becomes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pagnp.types import Pair, Sides

DEFAULTS: dict[str, Any] = {"n": 1, "stride": 1, "padding": 0, "dilation": 1, "groups": 1, "layout": "compact"}
_WINDOW = {"k": "k", "stride": "s", "padding": "p", "dilation": "d", "groups": "g"}
_LAST = ("fill", "seed")


@dataclass(frozen=True)
class Arrangement:
    """The arrays of a case.

    args      the kernel's arguments by name and in the kernel's order, without `out`
    shape     of the output, `dtype` likewise
    in_place  the residual is the output's own memory
    returns   the kernel returns its result and takes no `out`
    """

    args: dict[str, Any]
    shape: tuple[int, ...]
    dtype: npt.DTypeLike = np.float32
    in_place: bool = False
    returns: bool = False


def _number(value):
    if isinstance(value, tuple):
        return ".".join(_number(part) for part in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _token(name, value):
    if value is True:
        return name
    return value if isinstance(value, str) else name + _number(value)


def case_id(op: str, params: Mapping[str, Any]) -> str:
    """Return the row's name: only characters that `pytest -k` takes."""
    rest = {name: value for name, value in params.items() if value is not None and value is not False}
    parts = [op]
    if "c_in" in rest:
        head = f"n{rest['n']}-" if rest.get("n", 1) != 1 else ""
        parts.append(f"{head}{rest['c_in']}x{rest['h_in']}x{rest['w_in']}")
    if "c_out" in rest:
        parts.append(f"o{rest['c_out']}")
    window = "".join(
        short + _number(rest[name])
        for name, short in _WINDOW.items()
        if name in rest and rest[name] != DEFAULTS.get(name)
    )
    parts.append(window)
    shown = ("n", "c_in", "h_in", "w_in", "c_out", *_WINDOW, *_LAST)
    parts += [_token(name, value) for name, value in rest.items() if name not in shown and value != DEFAULTS.get(name)]
    if "fill" in rest:
        parts.append(rest["fill"])
    parts.append(f"s{rest['seed']}")
    return "-".join(part for part in parts if part)


class Case:
    """One row; `id` names it, `arrange()` makes its arrays. Equal rows have equal ids."""

    def __init__(self, op: str, **params: Any) -> None:
        self.op = op
        self.params = params
        self.id = case_id(op, params)

    def __repr__(self) -> str:
        return f"Case({self.id})"

    def get(self, name: str, default: Any = None) -> Any:
        """Return a parameter, or its default."""
        return self.params.get(name, DEFAULTS.get(name, default))

    @property
    def x_shape(self) -> tuple[int, int, int, int]:
        """(n, h_in, w_in, c_in)."""
        return self.get("n"), self.params["h_in"], self.params["w_in"], self.params["c_in"]


def pair(value: Pair) -> tuple[int, int]:
    """Return (y, x) of an int or a pair."""
    return value if isinstance(value, tuple) else (value, value)


def sides(value: Sides) -> tuple[int, int, int, int]:
    """Return (top, bottom, left, right) of an int or a four-tuple."""
    return value if isinstance(value, tuple) else (value,) * 4
