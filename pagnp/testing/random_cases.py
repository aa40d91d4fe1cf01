"""Random rows of the conformance table: `random_case(seed)` draws any op, sized around tile edges, in any fill.

A random case is a plain Case, so `runcase` judges it as it judges a written row; `case_line` prints it, `parse_case`
reads it back, and the line may be pasted into a cases_*.py.
"""

import ast
import json
from collections.abc import Callable
from typing import Any

import numpy as np

from pagnp.errors import PagnpError, UsageError
from pagnp.testing import random_cases_conv, random_cases_other
from pagnp.testing.case import Case
from pagnp.testing.cases import ARRANGE, arrange
from pagnp.testing.random_cases_draw import Draw

_MAKERS = {**random_cases_conv.MAKERS, **random_cases_other.MAKERS}
_TICKETS = {**random_cases_conv.TICKETS, **random_cases_other.TICKETS}  # shares of the draw
_BAG = [op for op, count in _TICKETS.items() for _ in range(count)]


def random_case(seed: int, op: str | None = None) -> Case:
    """Return the case of a seed: of `op`, or of an op drawn too; the same everywhere, and valid."""
    draw = Draw(seed)
    drawn = draw.pick(_BAG)
    op = op or drawn
    large = draw.one_in(100)  # large enough for several threads
    while (params := _MAKERS[op](draw, large)) is None:  # sizes that do not fit together, or cost too much
        pass
    return Case(op, **params, seed=seed)


def case_line(case: Case) -> str:
    """Return the case as the call that makes it: `Case("conv2d", c_in=3, ..., fill="normal", seed=11)`."""
    values = [f"{name}={json.dumps(v) if isinstance(v, str) else repr(v)}" for name, v in case.params.items()]
    return f"Case({', '.join([json.dumps(case.op), *values])})"


def parse_call(line: str, name: str) -> tuple[list[Any], dict[str, Any]]:
    """Return (positional, named) arguments of the call `name(...)` that `line` spells in literals.

    Raises: UsageError if it is anything else; nothing is evaluated.
    """
    try:
        call = ast.parse(line.strip(), mode="eval").body
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == name:
            named = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
            return [ast.literal_eval(value) for value in call.args], named
    except (SyntaxError, ValueError) as error:
        raise UsageError(f"'{line}' is not a line of literals: {error}; paste {name}(...) as it was printed") from error
    raise UsageError(f"'{line}' is not a call of {name}; paste {name}(...) as it was printed")


def parse_case(line: str) -> Case:
    """Return the Case of a line of `case_line`.

    Raises: UsageError if the line is none, or if its sizes do not fit together.
    """
    positional, named = parse_call(line, "Case")
    if len(positional) != 1 or positional[0] not in ARRANGE:
        raise UsageError(f"'{line}' names no op of the conformance table")
    try:
        case = Case(positional[0], **named)
    except (KeyError, TypeError) as error:
        raise UsageError(f"'{line}': a parameter is missing or wrong ({error})") from error
    if not is_valid(case):
        raise UsageError(f"'{line}': the parameters do not fit together")
    return case


def is_valid(case: Case) -> bool:
    """Tell whether the sizes of a case fit together: kernels check nothing, so no other case may reach them."""
    p = {"n": 1, "stride": 1, "dilation": 1, "groups": 1, **case.params}
    ones = ("n", "c_in", "h_in", "w_in", "c_out", "k", "stride", "dilation", "groups", "size", "counters", "parts")
    if any(np.min(p[name]) < 1 for name in ones if name in p):
        return False
    try:
        if not _RULES.get(case.op, lambda p: True)(p):
            return False
        return 0 not in arrange(case).shape[1:]
    except (PagnpError, KeyError, TypeError, ValueError, ZeroDivisionError):
        return False


def _groups_fit(p):
    return p["c_in"] % p["groups"] == 0 and p["c_out"] % p["groups"] == 0 and np.min(p.get("padding", 0)) >= 0


def _crop_fits(p):
    return p["c_in"] % p["groups"] == 0 and p["c_out"] % p["groups"] == 0


def _gate_fits(p):
    mask = p["mode"].endswith("hard") and not p.get("index")
    threshold = p.get("threshold") is None or (p["mode"] == "hard" and p["c_in"] == 2 and mask)
    return p["c_in"] >= 2 and (p["c_in"] == 2 or p["mode"].endswith("soft") or bool(p.get("index"))) and threshold


def _select_fits(p):
    return p["branches"] >= 2 and (p["control"] == "index" or p["branches"] == 2)


_RULES: dict[str, Callable[[dict[str, Any]], bool]] = {
    "conv2d": _groups_fit,
    "conv_transpose2d": _crop_fits,
    "bilinear_deconv": lambda p: p["factor"] >= 2 and p["factor"] % 2 == 0,
    "grow_mask": lambda p: np.min(p.get("padding", 0)) >= 0,
    "pad": lambda p: np.min(p.get("padding", 0)) >= 0,
    "concat": lambda p: sum(p["parts"]) == p["c_in"],
    "slice_channels": lambda p: 0 <= p["part"][0] < p["part"][1] <= p["c_in"],
    "compare": lambda p: p["c_in"] == 1,
    "gate": _gate_fits,
    "select": _select_fits,
    "blend": lambda p: p["branches"] >= 2,
}
