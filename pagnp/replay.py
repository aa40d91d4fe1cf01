"""Replay an image of a receipt and hold every digest against it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pagnp import contract, receipt
from pagnp.model import Model
from pagnp.result import Result
from pagnp.types import Json, Pixels

LAYERS = "layers/"  # names of rows: layers/<layer>, logits/<head>, outputs/<head>, masks/<gate>
THRESHOLDS, WHOLE = "thresholds", "digest"
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Row:
    """One line of the comparison: what the receipt says and what came out here; None where one side has none.

    shape   of the layer, where the receipt knows it
    """

    name: str
    receipt: str | None
    here: str | None
    shape: tuple[int, ...] = ()

    @property
    def same(self) -> bool:
        """True if both sides say the same."""
        return self.receipt == self.here


def call_options(entry: Json) -> dict[str, Any]:
    """Return the keyword arguments of Model(...) that an image's entry stands for, without those at their default."""
    options = entry["options"]
    given = {name: options[name] for name, default in receipt.OPTIONS.items() if options[name] != default}
    return given | ({"seed": int(given["seed"])} if "seed" in given else {})


def replay(
    model: Model, pixels: Pixels, entry: Json, progress: Callable[[float], object] | None = None
) -> tuple[Result, list[Row]]:
    """Run `model` on `pixels` as the receipt's `entry` says; return the Result and the Rows, layers first.

    progress   called with the share of the work that is done
    A budget is searched again. Where the search ends elsewhere, the layers are compared at the receipt's threshold.
    Raises: as Model(...); ContractError if a thread flushes subnormals.
    """
    options = call_options(entry)
    result = model(pixels, trace="digests", progress=progress, **options)
    searched = Row(THRESHOLDS, spoken(entry["thresholds"]), spoken(result.thresholds))
    fixed = fixed_threshold(entry)
    if not searched.same and fixed is not None:
        result = model(pixels, trace="digests", **(without_budget(options) | {"threshold": fixed}))
    return result, rows(entry, result, searched)


def fixed_threshold(entry: Json) -> float | None:
    """Return the threshold that the entry's budget led to; None without a budget, or if the entry has no single one."""
    values = set(entry["thresholds"].values())
    usable = entry["options"]["budget"] is not None and len(values) == 1
    threshold = float(values.pop()) if usable else None
    return threshold if threshold is not None and abs(threshold) <= _LARGEST else None


def without_budget(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return `options` without the budget, so that a threshold can take its place."""
    return {name: value for name, value in options.items() if name != "budget"}


def spoken(thresholds: Mapping[str, float]) -> str:
    """Return thresholds as one comparable line."""
    return ", ".join(f"{name} {float(value)!r}" for name, value in sorted(thresholds.items()))


def rows(entry: Json, result: Result, searched: Row, unlisted: frozenset[str] = frozenset()) -> list[Row]:
    """Return the Rows of an entry against a Result: layers in order, thresholds, logits, outputs, masks, the digest.

    unlisted   layers that the receipt need not list: private ones, where only this run was dense
    """
    here = result.layer_digests
    found = [
        Row(LAYERS + layer["name"], layer["digest"], here.get(layer["name"]), tuple(map(int, layer["shape"])))
        for layer in entry["layers"]
    ]
    known = {layer["name"] for layer in entry["layers"]}
    found += [Row(LAYERS + name, None, digest) for name, digest in here.items() if name not in known | unlisted]
    found.append(searched)
    digests = result.digests
    for name in dict.fromkeys([*digests, *entry["digests"]]):
        found.append(Row(name, entry["digests"].get(name), digests.get(name)))
    found.append(Row(WHOLE, entry["digest"], contract.combined_digest(digests)))
    return found


def first_difference(found: list[Row]) -> Row | None:
    """Return the first Row whose sides differ, or None."""
    return next((row for row in found if not row.same), None)
