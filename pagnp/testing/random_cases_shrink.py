"""Make a failing case smaller while it still fails: greedily, one parameter or a few that belong together at a time."""

import time
from collections.abc import Callable, Iterator
from typing import Any

from pagnp.testing.case import Case, pair, sides
from pagnp.testing.random_cases import is_valid
from pagnp.testing.random_cases_draw import compact

SIMPLEST = {  # what a word becomes first, and then
    "epilogue": (None, "bias"),
    "residual": (None, "residual"),
    "sites": (None, "all", "random"),
    "layout": ("compact",),
    "fill": ("integers", "normal", "signed_zeros", "specials"),
    "control": ("all", "random"),
    "mode": ("hard", "soft"),
    "form": ("kong2018",),
    "other": (None,),
    "relation": ("gt",),
}
NEEDED = {"control", "relation", "mode", "form"}  # words that an op cannot do without


def shrink(
    case: Case, fails: Callable[[Case], bool], seconds: float = 20.0, clock: Callable[[], float] = time.monotonic
) -> Case:
    """Return a case that still fails and is as small as the time allows; the case itself if nothing smaller fails.

    fails  tells whether a (valid) case fails; it may be slow
    """
    end, tried = clock() + seconds, {case.id}
    smaller: Case | None = case
    while smaller is not None:
        case, smaller = smaller, None
        for candidate in candidates(case):
            if clock() > end:
                return case
            if candidate.id not in tried and is_valid(candidate):
                tried.add(candidate.id)
                if fails(candidate):
                    smaller = candidate
                    break
    return case


def candidates(case: Case) -> Iterator[Case]:
    """Yield simpler cases of the same op, the boldest steps first; some of them may not be valid."""
    for change in (*_together(case.params), *_one_by_one(case)):
        kept = compact({**case.params, **change})
        yield Case(case.op, **kept)


def _together(p: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield changes of parameters that are bound to each other."""
    yield {"epilogue": None, "residual": None, "relu": None}
    groups = p.get("groups", 1)
    if groups > 1:
        c_in, c_out = p["c_in"] // groups, p["c_out"] // groups
        yield from ({"groups": 1, "c_in": c_in, "c_out": c_out * part} for part in (1, groups))
        for fewer in _smaller(groups, 2):
            yield {"groups": fewer, "c_in": c_in * fewer, "c_out": c_out * fewer}
        for each in _smaller(c_in, 1):
            yield {"c_in": each * groups}
        for each in _smaller(c_out, 1):
            yield {"c_out": each * groups}
    if len(p.get("parts", ())) > 1:
        yield from _with_parts(p["parts"][:1], p["parts"][1:], p["parts"][:-1])
    for i, part in enumerate(p.get("parts", ())):
        yield from _with_parts(*((*p["parts"][:i], less, *p["parts"][i + 1 :]) for less in _smaller(part, 1)))
    if "part" in p:
        start, stop = p["part"]
        yield from ({"c_in": length, "part": (0, length)} for length in _smaller(stop - start, 1))
        yield {"c_in": stop - start, "part": (0, stop - start)}


def _with_parts(*choices):
    return ({"parts": parts, "c_in": sum(parts)} for parts in choices)


def _one_by_one(case: Case) -> Iterator[dict[str, Any]]:
    """Yield changes of one parameter, in the order that helps a reader most: sizes, then window, then words."""
    p: dict[str, Any] = case.params
    for name in ("n", "h_in", "w_in", "c_in", "c_out", "counters", "branches", "factor"):
        if name in p:
            for less in _smaller(p[name], 1):
                yield {name: less}
    for name, least in (("k", 1), ("stride", 1), ("dilation", 1), ("padding", 0), ("output_padding", 0), ("size", 1)):
        if name in p:
            whole = sides(p[name]) if name == "padding" else pair(p[name])
            yield from ({name: less} for less in _smaller_tuples(whole, least))
    for name, value in p.items():
        if value is True or name in ("temperature", "threshold"):
            yield {name: None}
        elif name in SIMPLEST:
            words = SIMPLEST[name]
            before = words[: words.index(value)] if value in words else words
            yield from ({name: word} for word in before if word is not None or name not in NEEDED)
        elif name in ("key", "gate_index", "seed"):
            yield from ({name: less} for less in (0, 1) if less < value)
        elif name == "origin":
            yield {name: (0, 0)}


def _smaller(value: int, least: int) -> Iterator[int]:
    """Yield whole numbers below `value`, from far to near."""
    yield from (v for v in dict.fromkeys((least, value // 4, value // 2, value - 8, value - 1)) if least <= v < value)


def _smaller_tuples(whole: tuple[int, ...], least: int) -> Iterator[tuple[int, ...]]:
    """Yield tuples with one or all entries smaller."""
    if max(whole) > least:
        yield (least,) * len(whole)
    for i in sorted(range(len(whole)), key=lambda i: -whole[i]):
        for less in _smaller(whole[i], least):
            yield (*whole[:i], less, *whole[i + 1 :])
