"""What the benchmark's documents look like as plots."""

from pagnp.bench import drawing
from pagnp.bench.opcases import PERFORATED
from pagnp.bench.plot import Panel, Series, page
from pagnp.errors import UsageError
from pagnp.files import write_atomic
from pagnp.types import Json

FORMATS = {".svg": drawing.svg, ".png": drawing.png}


def check(path: str) -> None:
    """Raise UsageError unless the name says a format that can be drawn."""
    if not path.lower().endswith(tuple(FORMATS)):
        raise UsageError(f"bench: --plot {path}: need a name that ends in {' or '.join(FORMATS)}")


def save(path: str, title: str, panels: list[Panel]) -> None:
    """Write the panels as an SVG or PNG file, whole or not at all."""
    check(path)
    shapes, width, height = page(title, panels)
    draw = next(draw for ending, draw in FORMATS.items() if path.lower().endswith(ending))
    write_atomic(path, draw(shapes, width, height))


def network_panels(document: Json) -> list[Panel]:
    """Return a panel for each number of threads of a `pagnp bench` document: milliseconds against the keep rate."""
    network = document["network"]
    fixed = 1 - network["gated_macs"] / network["macs"]
    found = []
    for section in document["sections"]:
        ours = [row for row in section["rows"] if "kept" in row]
        dense = ours[0]["seconds"]["median"] * 1e3
        kinds = dict.fromkeys(row["masks"] for row in ours if row["masks"])
        series = [
            Series(f"pagnp, {MASKS[kind]}", tuple(map(_point, [ours[0], *(r for r in ours if r["masks"] == kind)])))
            for kind in kinds
        ]
        levels = [(row["name"], row["seconds"]["median"] * 1e3) for row in section["rows"] if "kept" not in row]
        ideal = ((0.0, dense * fixed), (1.0, dense))
        title = f"{section['threads']} thread{'s' if section['threads'] > 1 else ''}"
        found.append(Panel(title, "milliseconds", tuple(series), ideal, tuple(levels)))
    return found


MASKS = {"gates": "its own gates", "blobs": "blobs", "random": "random pixels"}


def _point(row):
    return (row["kept"], *(row["seconds"][name] * 1e3 for name in ("median", "least", "most")))


def ops_panels(document: Json) -> list[Panel]:
    """Return a panel for each perforated layer and number of threads of a `pagnp bench ops` document: time / dense."""
    panels: dict[tuple[str, int], Panel] = {}
    for section in document["sections"]:
        for group in section["groups"]:
            if group["op"] != PERFORATED:
                continue
            layer, _, kind = group["title"].partition(", masks: ")
            rows = [row for row in group["rows"] if row.get("keep") is not None]
            series = Series(f"pagnp, {MASKS[kind]}", tuple(map(_relative, rows)))
            dense = group["rows"][0]["seconds"]["median"]
            others = [row for row in group["rows"] if "ratios" not in row]
            levels = [(row["name"], row["seconds"]["median"] / dense) for row in others]
            threads = section["threads"]
            known = panels.get((layer, threads))
            title = f"{layer}, {threads} thread{'s' if threads > 1 else ''}"
            panels[layer, threads] = Panel(
                title,
                "time / time of the dense conv",
                (*(known.series if known else ()), series),
                ((0.0, 0.0), (1.0, 1.0)),
                known.levels if known else tuple(levels),
            )
    return list(panels.values())


def _relative(row):
    found = row["ratios"]["dense"]
    return row["keep"], found["median"], found["least"], found["most"]
