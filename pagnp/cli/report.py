"""What `pagnp run` says on stdout: a row an image, or one JSON document."""

import json
import textwrap

import numpy as np

from pagnp.cli.streams import emit, printable

GIGA = 1e9
WIDTH = 110
WIDEST_PATH = 60  # a longer one shifts its own row only


def describe(path, image, seconds, result, files):
    """Return the JSON-able description of one finished image.

    size   [height, width]
    kept   "overall": share of the dense MACs of the gated convs; "gates": share of the pixels of each gate
    """
    return {
        "path": str(path),
        "size": [int(side) for side in image.shape[:2]],
        "seconds": round(seconds, 4),
        "macs": {k: int(result.macs[k]) for k in ("dense", "executed", "gated_dense", "gated_executed")},
        "kept": kept(result),
        "digest": result.digest,
        "files": [str(file) for file in files],
    }


def kept(result):
    """Return {"overall": share or None without gates, "gates": {name: share of its pixels}}."""
    gated = result.macs["gated_dense"]
    return {
        "overall": round(result.macs["gated_executed"] / gated, 6) if gated else None,
        "gates": {name: round(float(np.mean(mask)), 6) for name, mask in result.masks.items()},
    }


class TableReport:
    """Prints each image as soon as it is done; the widths are fixed by the longest path."""

    def __init__(self, paths):
        self.width = min(max([len(printable(path)) for path in paths] + [5]), WIDEST_PATH)
        self.begun = False

    def add(self, entry):
        if not self.begun:
            emit(
                f"{'image':<{self.width}}  {'h x w':>11}  {'seconds':>8}  {'GMAC':>8}  {'done':>8}  {'kept':>6}  digest"
            )
            self.begun = True
        share, path = entry["kept"]["overall"], printable(entry["path"])
        emit(
            f"{path:<{self.width}}  {'x'.join(map(str, entry['size'])):>11}  {entry['seconds']:>8.3f}"
            f"  {entry['macs']['dense'] / GIGA:>8.3f}  {entry['macs']['executed'] / GIGA:>8.3f}"
            f"  {'-' if share is None else f'{100 * share:.1f} %':>6}  {entry['digest'][:16]}",
        )
        gates = entry["kept"]["gates"].items()
        if gates:
            text = "kept by gate: " + ", ".join(f"{name}\xa0{100 * share:.1f}\xa0%" for name, share in gates)
            lines = textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent="    ")
            emit("\n".join(lines).replace("\xa0", " "))

    def finish(self):
        """Everything is printed already."""


class JsonReport:
    """Collects the entries and prints one document at the end."""

    def __init__(self):
        self.entries = []

    def add(self, entry):
        self.entries.append(entry)

    def finish(self):
        emit(json.dumps({"images": self.entries}, indent=2))
