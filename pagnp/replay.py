"""Replay an image of a receipt and hold every digest against it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np

from pagnp import receipt
from pagnp.canonical import canonical
from pagnp.model import Model
from pagnp.types import Json, Pixels

LAYERS = "layers/"  # names of rows: layers/<layer>, logits/<head>, outputs/<head>, masks/<gate>
THRESHOLDS, WHOLE = "thresholds", "digest"
BESIDE = (
    "beside/"  # what a receipt says beside a digest, and the digest decides: beside/size, beside/layers/<layer>, ...
)
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Row:
    """One line of the comparison: what the receipt says and what came out here; None where one side has none.

    shape   of a layer: here, or where it is not known here as the receipt has it
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
    return given | {
        name: int(given[name]) for name in ("seed", "tile") if name in given
    }  # JSON's 7.0 is a whole number


def replay(
    model: Model, pixels: Pixels, entry: Json, progress: Callable[[float], object] | None = None
) -> tuple[Json, list[Row]]:
    """Run `model` on `pixels` as the receipt's `entry` says; return the entry of this run and the Rows, layers first.

    progress   called with the share of the work that is done
    A budget is searched again. Where the search ends elsewhere, the layers are compared at the receipt's threshold.
    Raises: as Model(...); ContractError if a thread flushes subnormals.
    """
    options = call_options(entry)
    result = model(pixels, trace="digests", progress=progress, **options)
    searched = Row(THRESHOLDS, spoken(entry["thresholds"]), spoken(result.thresholds))
    if not searched.same and fixed_threshold(entry) is not None:
        result = model(pixels, trace="digests", **at_threshold(entry))
    here = receipt.image_entry(canonical(model.graph), entry["path"], result, entry["options"])
    return here, rows(entry, here, searched)


def fixed_threshold(entry: Json) -> float | None:
    """Return the threshold that the entry's budget led to; None without a budget, or if the entry has no single one."""
    values = set(entry["thresholds"].values())
    usable = entry["options"]["budget"] is not None and len(values) == 1
    threshold = float(values.pop()) if usable else None
    return threshold if threshold is not None and abs(threshold) <= _LARGEST else None


def at_threshold(entry: Json) -> dict[str, Any]:
    """Return `call_options` with the threshold that a budget led to in place of the budget, if the entry tells it."""
    options, fixed = call_options(entry), fixed_threshold(entry)
    if fixed is None:
        return options
    return {name: value for name, value in options.items() if name != "budget"} | {"threshold": fixed}


def spoken(thresholds: Mapping[str, float]) -> str:
    """Return thresholds as one comparable line."""
    return ", ".join(f"{float(value)!r} at {name}" for name, value in sorted(thresholds.items()))


def rows(entry: Json, here: Json, searched: Row, unlisted: frozenset[str] = frozenset()) -> list[Row]:
    """Return the Rows of a receipt's `entry` against `here`, the entry of a run: everything but path and options.

    First the layers in order, thresholds, logits, outputs, masks, the digest; then what stands beside equal digests
    (size, order of the layers, shapes, dtypes, probes), only where it differs.

    unlisted   layers that the receipt need not list: private ones, where only this run was dense
    """
    theirs = {layer["name"]: layer for layer in entry["layers"]}
    ours = {
        layer["name"]: layer for layer in here["layers"] if layer["name"] in theirs or layer["name"] not in unlisted
    }
    found = []
    for name, layer in {**theirs, **ours}.items():
        there, now = (side[name]["digest"] if name in side else None for side in (theirs, ours))
        found.append(Row(LAYERS + name, there, now, tuple(map(int, layer["shape"]))))
    found.append(searched)
    for name in dict.fromkeys([*here["digests"], *entry["digests"]]):
        found.append(Row(name, entry["digests"].get(name), here["digests"].get(name)))
    found.append(Row(WHOLE, entry["digest"], here["digest"]))
    agreed = {row.name for row in found if row.same}
    return found + [row for row in _beside(entry, here, theirs, ours, agreed) if not row.same]


def _beside(entry, here, theirs, ours, agreed):
    """Yield Rows of what follows from the digests; those of layers and values whose digests are `agreed`."""
    yield Row(BESIDE + "size", *("x".join(str(int(side)) for side in one["size"]) for one in (entry, here)))
    names = [layer["name"] for layer in entry["layers"]]
    if theirs.keys() == ours.keys():
        for place, pair in enumerate(zip_longest(names, ours)):
            yield Row(BESIDE + "order", *(f"layer {place} is {name}" for name in pair))
    for name in theirs:
        if LAYERS + name in agreed:
            yield Row(BESIDE + LAYERS + name, *(_line(side[name]) for side in (theirs, ours)))
    for name in {**here["probes"], **entry["probes"]}:
        if name in agreed or name not in here["probes"]:
            yield Row(BESIDE + name, entry["probes"].get(name), here["probes"].get(name))


def _line(layer):
    """What a layer's line says beside its digest."""
    return f"{'x'.join(str(int(size)) for size in layer['shape'])} {layer['dtype']} {layer['probes']}"


def first_difference(found: list[Row]) -> Row | None:
    """Return the first Row whose sides differ, or None."""
    return next((row for row in found if not row.same), None)
