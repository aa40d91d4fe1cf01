"""Tables in Markdown."""

from collections.abc import Iterable, Sequence
from typing import Any


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    """Return the lines of a Markdown table, with an empty one behind it."""
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(cell(value) for value in line)} |" for line in lines] + [""]


def cell(value: Any) -> str:
    """Return a value as one line without what would end a cell."""
    return "" if value is None else " ".join(str(value).split()).replace("|", "/")
