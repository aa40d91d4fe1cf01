"""`pagnp vectors`: cases with their expected bits for people who write kernels, and a check of what those give."""

import json
import time
from pathlib import Path

import click

from pagnp.cli.options import debug_option, json_option
from pagnp.cli.progress import progress
from pagnp.cli.streams import emit, printable
from pagnp.errors import UsageError

MAX_ELEMENTS = 40_000  # leaves out what is there for many threads alone: 3 % of the cases, 80 % of the bytes
SHOWN = 10  # findings printed an op, unless --all


@click.group("vectors", no_args_is_help=False)
@debug_option
def command():
    """Write golden vectors (inputs, attributes, expected bits), or check outputs against them. See docs/VECTORS.md."""


def parse_ops(text):
    """Return the ops of "a,b", None for None. Raises UsageError if none is named."""
    if text is None:
        return None
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise UsageError("vectors: --ops names no op; leave it out for all of them")
    return names


@command.command("write")
@click.argument("folder", metavar="DIR")
@click.option("--ops", metavar="LIST", help="Only these ops, with commas between; default: all.")
@click.option(
    "--seed",
    type=click.IntRange(0, 999_999),
    default=0,
    show_default=True,
    metavar="N",
    help="Other values in the same cases; 0 is what everybody has.",
)
@click.option(
    "--max-elements",
    type=click.IntRange(1),
    default=MAX_ELEMENTS,
    show_default=True,
    metavar="N",
    help="Leave out cases that have a larger array.",
)
@click.option(
    "--format",
    "storage",
    type=click.Choice(["npz", "raw"]),
    default="npz",
    show_default=True,
    help="npz: one NPZ file an op; raw: one little-endian binary file an array, and vectors.txt.",
)
@click.option("--overwrite", is_flag=True, help="Replace the vectors in DIR.")
@debug_option
def write_command(folder, ops, seed, max_elements, storage, overwrite):
    """Write a folder of vectors: inputs, attributes and expected bits of many cases of every op."""
    from pagnp.testing import vectors_write

    begun = time.perf_counter()
    rows = vectors_write.chosen_rows(parse_ops(ops), seed, max_elements)
    with progress(len(rows)) as shown:
        index = vectors_write.write(folder, rows, seed=seed, storage=storage, overwrite=overwrite, begin=shown.advance)
    size = sum(file.stat().st_size for file in Path(folder).iterdir() if file.is_file())
    count = len({case.op for case in index.cases})
    ops_text = "1 op" if count == 1 else f"{count} ops"
    seconds = time.perf_counter() - begun
    emit(f"{len(index.cases)} cases of {ops_text}, {size / 1e6:.1f} MB, {seconds:.1f} s, in {printable(folder)}")
    emit(f"digest {index.digest}")
    return 0


@command.command("check")
@click.argument("folder", metavar="DIR")
@click.option("--got", metavar="PATH", help="Your outputs: a folder or an NPZ file; default: DIR/got.")
@click.option("--ops", metavar="LIST", help="Only these ops, with commas between; default: all in DIR.")
@click.option("--all", "show_all", is_flag=True, help=f"Print every case that is wrong, not the first {SHOWN} an op.")
@json_option
@debug_option
def check_command(folder, got, ops, show_all, as_json):
    """Compare your outputs with the expected bits in DIR; exit code 1 if any bit differs or an output is missing."""
    from pagnp.testing import vectors, vectors_check

    index = vectors.read_index(folder)
    place = Path(folder) / vectors.GOT if got is None else Path(got)
    with progress(len(index.cases)) as shown:
        report = vectors_check.check(folder, index, place, parse_ops(ops), shown.advance)
    if as_json:
        emit(json.dumps(as_document(index, report), indent=2))
    else:
        emit("\n".join(printable(line) for line in lines(report, show_all)))
    return 0 if report.ok else 1


def as_document(index, report):
    """Return the JSON-able form of a report; the words of `first` are those of the table."""
    findings = []
    for finding in report.findings:
        entry = {"id": finding.id, "op": finding.op, "state": finding.state, "problem": finding.problem}
        if finding.difference is not None:
            d = finding.difference
            places = [{"index": list(p.index), "got": p.got_bits, "want": p.want_bits, "ulp": p.ulp} for p in d.first]
            entry.update({"differing": d.count, "elements": d.size, "first": places})
        findings.append(entry)
    return {
        "ok": report.ok,
        "producer": index.producer,
        "digest": index.digest,
        "ops": report.counts,
        "findings": findings,
        "unknown": report.unknown,
    }


def lines(report, show_all):
    """Return the findings op by op, then the table and the verdict."""
    found = []
    for op, states in report.counts.items():
        ours = [finding for finding in report.findings if finding.op == op]
        if states["missing"] == sum(states.values()):
            found.append(f"{op}: there is no output for any of its {len(ours)} cases")
            continue
        for finding in ours if show_all else ours[:SHOWN]:
            found += str(finding).splitlines()
        if len(ours) > SHOWN and not show_all:
            found.append(f"... and {len(ours) - SHOWN} more cases of {op}; --all prints them")
    if report.unknown:
        more = f" and {len(report.unknown) - SHOWN} more" if len(report.unknown) > SHOWN else ""
        found.append(f"of no case: {', '.join(report.unknown[:SHOWN])}{more}")
    return [*found, *([""] if found else []), *table(report), verdict(report)]


def table(report):
    """Return the lines of the table of ops."""
    width = max(len(op) for op in report.counts)
    titles = ("cases", "same", "differ", "missing", "unreadable")
    found = [f"{'op':<{width}}  " + "  ".join(f"{title:>{max(5, len(title))}}" for title in titles)]
    for op, states in report.counts.items():
        numbers = (sum(states.values()), *states.values())
        cells = (f"{number:>{max(5, len(title))}}" for number, title in zip(numbers, titles, strict=True))
        found.append(f"{op:<{width}}  " + "  ".join(cells))
    return found


def verdict(report):
    """Return the last line."""
    total = sum(sum(states.values()) for states in report.counts.values())
    if report.ok:
        return f"{total} cases, all the same to the bit"
    kinds = {"differs": "differ", "missing": "are missing", "unreadable": "cannot be read"}
    parts = [f"{report.total(state)} {words}" for state, words in kinds.items() if report.total(state)]
    return f"{total} cases: {report.total('same')} the same, {', '.join(parts)}"
