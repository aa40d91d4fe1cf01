"""Make the tables and the plot of what measure.py measured.

    python examples/tradeoff/report.py examples/tradeoff/camvid.toml camvid.json --title "CamVid, 117 test images" \
        --plot docs/img/tradeoff-camvid.svg --into docs/METHOD.md

The table goes to stdout, or with --into between the lines `<!-- tradeoff camvid -->` and `<!-- end -->` of a file.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # a checkout that is not installed
sys.path.insert(0, str(Path(__file__).resolve().parent))

from chart import Series, chart
from measure import Family, Row, key_of, load_family, load_known, score_of

from pagnp.bench import drawing
from pagnp.errors import PagnpError, UsageError
from pagnp.files import write_atomic
from pagnp.types import Json

NAMES = {"mean_iou": "mean IoU", "ods": "ODS", "ois": "OIS", "ap": "AP"}
PERCENT = {"mean_iou", "pixel_accuracy", "class_accuracy"}


def number(score: str, value: float) -> str:
    """Write a score as its field does: shares in percent, F-measures as they are."""
    return f"{100 * value:.2f} %" if score in PERCENT else f"{value:.4f}"


def measured(family: Family, known: dict[str, Json]) -> dict[str, list[tuple[Row, Json]]]:
    """Return the rows of each series that have been measured; series without any are left out.

    Raises: UsageError where the very first row is not there, which all others are told against.
    """
    first = key_of(next(iter(family.series.values()))[0])
    if first not in known:
        raise UsageError(f"{first} is not measured, against which all others are told; measure it first")
    found = {
        name: [(row, known[key_of(row)]) for row in rows if key_of(row) in known]
        for name, rows in family.series.items()
    }
    return {name: rows for name, rows in found.items() if rows}


def table(family: Family, known: dict[str, Json]) -> str:
    """Return a Markdown table: a line a row, work beside the dense network of the first series."""
    series = measured(family, known)
    first = next(iter(series.values()))[0][1]
    name = NAMES.get(family.score, family.score)
    lines = [
        f"| network | {name} | against the first | GMAC an image | of the first | gated work done |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for title, rows in series.items():
        for row, entry in rows:
            value, gated = score_of(family, entry), entry["work"]["gated_share"]
            gain = value - score_of(family, first)
            off = f"{100 * gain:+.2f}" if family.score in PERCENT else f"{gain:+.4f}"
            cells = (
                f"{title}: `{key_of(row)}`",
                number(family.score, value),
                off,
                f"{_macs(entry) / 1e9:.3f}",
                f"{100 * _macs(entry) / _macs(first):.1f} %",
                "" if gated is None else f"{100 * gated:.1f} %",
            )
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def plotted(family: Family, known: dict[str, Json]) -> list[Series]:
    """Return the series of the plot: work in percent of the first network's against the score, from `plot_from` on.

    Raises: UsageError where no point is that high.
    """
    series = measured(family, known)
    base = _macs(next(iter(series.values()))[0][1])
    scale = 100 if family.score in PERCENT else 1
    found = []
    for name, rows in series.items():
        points = [(100 * _macs(entry) / base, scale * score_of(family, entry)) for _, entry in rows]
        found.append(Series(name, tuple(point for point in points if point[1] >= family.plot_from)))
    if not any(one.points for one in found):
        raise UsageError(f"plot_from = {family.plot_from:g}: every score is lower; correct the family")
    return found


def _macs(entry):
    """Return the executed multiply-adds of an image, on average."""
    return entry["work"]["macs"]["executed"]


def put_between(text: str, mark: str, content: str) -> str:
    """Return `text` with `content` between the lines `<!-- tradeoff mark -->` and the next `<!-- end -->`."""
    start = f"<!-- tradeoff {mark} -->\n"
    before, found, rest = text.partition(start)
    old, end, after = rest.partition("<!-- end -->")
    if not found or not end:
        raise SystemExit(f"report.py: no lines {start.strip()} and <!-- end --> to put the table between")
    return f"{before}{start}{content}{end}{after}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("family", type=Path)
    parser.add_argument("measured", type=Path, help="what measure.py wrote")
    parser.add_argument("--title", required=True)
    parser.add_argument("--plot", type=Path, help="SVG file")
    parser.add_argument("--into", type=Path, help="put the table into this file")
    args = parser.parse_args(arguments)
    try:
        write(args)
    except (PagnpError, OSError) as error:
        raise SystemExit(f"report.py: {error}") from error


def write(args: argparse.Namespace) -> None:
    """Write the table, and the plot if one is asked for."""
    family, known = load_family(args.family), load_known(args.measured)
    lines = table(family, known)
    if args.into:
        text = put_between(args.into.read_text(), args.family.stem, lines)
        write_atomic(str(args.into), text.encode(), overwrite=True)
    else:
        print(lines, end="")
    if args.plot:
        unit = NAMES.get(family.score, family.score) + ", %" * (family.score in PERCENT)
        shapes, width, height = chart(
            args.title, "executed multiply-adds, % of the dense network", unit, plotted(family, known)
        )
        write_atomic(str(args.plot), drawing.svg(shapes, width, height), overwrite=True)


if __name__ == "__main__":
    main()
