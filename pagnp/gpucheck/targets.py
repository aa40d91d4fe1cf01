"""What was to be reached on an H200, and whether it was: from the JSON of the speed stages alone."""

import statistics
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pagnp.gpucheck.speed_network import COMPILED, EAGER, GRAPHS, REDUCED, SIZE
from pagnp.types import Json

REACHED, MISSED, OPEN = "reached", "missed", "not measured"
PEAK_SHARE, CUDNN, DENSE, HALF, IDEAL, NUMBA = 0.75, 0.9, 1.0, 0.78, 1.08, 0.4
INDIRECT = ("winograd", "fft")  # in the names of kernels that compute another sum
BIG = ("3x3 256-256", "3x3 512-512")


@dataclass(frozen=True)
class Target:
    """name, what is wanted, what was measured (None: nothing), and whether that is enough."""

    name: str
    wanted: str
    measured: float | None
    reached: bool = False
    detail: str = ""

    @property
    def verdict(self) -> str:
        """REACHED, MISSED or OPEN."""
        if self.measured is None:
            return OPEN
        return REACHED if self.reached else MISSED

    def as_json(self) -> Json:
        """Return it as a JSON-able dict."""
        return {**vars(self), "verdict": self.verdict}


def targets(values: Mapping[str, Any]) -> list[Target]:
    """Return all targets; `values` has "convs", "cudnn kernels", "network" of the stages, where they were measured."""
    convs = values.get("convs") or []
    sections = [section for section in values.get("network") or [] if tuple(section["size"]) == SIZE]  # no quick try's
    return [
        *_peak_shares(convs),
        _cudnn(convs, values.get("cudnn kernels") or {}),
        *_batch_of_eight(sections),
        _single(sections),
        _numba(convs),
    ]


def _peak_shares(convs: Iterable[Json]) -> Iterator[Target]:
    wanted = f"at least {PEAK_SHARE:.0%} of the fp32 peak"
    for name in BIG:
        found = {row["batch"]: row["share_of_peak"] for row in convs if row["layer"].startswith(name)}
        found = {batch: share for batch, share in found.items() if batch >= 8}
        least = min(found.values()) if 8 in found else None  # a larger batch alone reaches nothing
        detail = ", ".join(f"batch {batch}: {share:.1%}" for batch, share in sorted(found.items()))
        yield Target(f"conv {name}, batch 8 and more", wanted, least, least is not None and least >= PEAK_SHARE, detail)


def _cudnn(convs: Iterable[Json], kernels: Mapping[str, list[str]]) -> Target:
    """Our speed against cuDNN's best float32 algorithm that is a convolution proper, the worst layer."""
    name, wanted = "conv layers, batch 8, speed / cuDNN's best direct algorithm", f"never under {CUDNN}"
    found = {}
    for row in convs:
        best = direct_seconds(row, kernels.get(row["layer"], []))
        if row["batch"] == 8 and best is not None:
            found[row["layer"]] = best / row["seconds"]["median"]
    if not found:
        return Target(name, wanted, None)
    worst = min(found, key=lambda layer: found[layer])
    under = [layer for layer in found if not found[layer] >= CUDNN]
    detail = f"worst: {worst}; {len(under)} of {len(found)} layers under it"
    return Target(name, wanted, found[worst], not under, detail)


def direct_seconds(row: Json, kernels: list[str]) -> float | None:
    """Return the seconds of cuDNN's best direct algorithm for a row, None where it is not known.

    kernels  those that cuDNN's own choice launched; without them that choice may be any algorithm
    """
    known = []
    if "cudnn-direct" in row["peers"]:
        known.append(row["peers"]["cudnn-direct"]["seconds"]["median"])
    if "torch" in row["peers"] and kernels and not any(word in k.lower() for k in kernels for word in INDIRECT):
        known.append(row["peers"]["torch"]["seconds"]["median"])
    return min(known) if known else None


def _rows(sections: Iterable[Json], batch: int, name: str, mode: str | None = None) -> list[tuple[Json, Json]]:
    """Return [(section, row)] of ours at a batch size; mode None: the fastest mode of each section."""
    found = []
    for section in sections:
        rows = [row for row in section["rows"] if row["name"] == name and mode in (None, row["mode"])]
        if section["batch"] == batch and rows:
            found.append((section, min(rows, key=lambda row: row["seconds"]["median"])))
    return found


def _ratio_to_best(sections: Iterable[Json], batch: int, name: str, peers: tuple[str, ...]) -> tuple[float | None, str]:
    """Return our median / that of the fastest of `peers`, each pair from rounds of its own, and the details."""
    ratios = {
        peer: row["ratios"][peer]["of_medians"]
        for _, row in _rows(sections, batch, name)
        for peer in peers
        if peer in row["ratios"]
    }
    if not ratios:
        return None, ""
    return max(ratios.values()), ", ".join(f"/ {peer} {value:.3f}" for peer, value in ratios.items())


def _batch_of_eight(sections: list[Json]) -> Iterator[Target]:
    against = (EAGER, GRAPHS, COMPILED)
    value, detail = _ratio_to_best(sections, 8, "dense", against)
    yield _at_most("batch 8, dense / torch's fastest", DENSE, value, detail)
    for kind in ("random", "blobs"):
        name = f"keep 0.5 {kind}"
        value, detail = _half(sections, name)
        yield _at_most(f"batch 8, {name} / torch's fastest", HALF, value, detail)
        pairs = _rows(sections, 8, name)
        own = [row["ratios"]["dense"]["of_medians"] / row["macs_share"] for _, row in pairs]
        yield _at_most(f"batch 8, {name} / own dense / its share of the MACs", IDEAL, min(own) if own else None, "")


def _half(sections: list[Json], name: str) -> tuple[float | None, str]:
    """Return a keep rate's ratio to torch's fastest; torch.compile was timed beside our dense run alone."""
    value, detail = _ratio_to_best(sections, 8, name, (EAGER, GRAPHS))
    compiled, _ = _ratio_to_best(sections, 8, "dense", (COMPILED,))
    pairs = _rows(sections, 8, name)
    if value is None or compiled is None or not pairs:
        return value, detail
    through = compiled * pairs[0][1]["ratios"]["dense"]["of_medians"]
    return max(value, through), f"{detail}, / {COMPILED} {through:.3f} through our dense time"


def _single(sections: list[Json]) -> Target:
    value, detail = _ratio_to_best(sections, 1, "dense", (GRAPHS, REDUCED))
    return _at_most("batch 1, dense / torch with CUDA graphs", DENSE, value, detail)


def _at_most(name: str, limit: float, value: float | None, detail: str) -> Target:
    return Target(name, f"at most {limit:g}", value, value is not None and value <= limit, detail)


def _numba(convs: Iterable[Json]) -> Target:
    """The Numba-CUDA backend's speed against CuPy's: the median of the layers that both were timed on."""
    found = [
        row["seconds"]["median"] / row["peers"]["numba-cuda"]["seconds"]["median"]
        for row in convs
        if "numba-cuda" in row["peers"]
    ]
    name, wanted = "numba-cuda's conv speed / cupy's", f"at least {NUMBA}"
    if not found:
        return Target(name, wanted, None)
    value = statistics.median(found)
    return Target(name, wanted, value, value >= NUMBA, f"least {min(found):.2f}, most {max(found):.2f}")
