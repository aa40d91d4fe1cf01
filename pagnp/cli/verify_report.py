"""What `pagnp verify` says on stdout: a table an image and a verdict, or one JSON document."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from pagnp.cli.streams import emit, printable

SHOWN = 12  # hex digits of a digest in the table


@dataclass
class Outcome:
    """What became of one image: Rows, the first that differs, the Finding that explains it, Spots of --spot."""

    path: str
    rows: list[Any] = field(default_factory=list)
    difference: Any = None
    finding: Any = None
    spots: list[Any] | None = None


class Report:
    """Prints each image as it is done, or collects them for one JSON document."""

    def __init__(self, file, as_json, count, seed):
        self.file, self.as_json, self.count, self.seed = file, as_json, count, seed
        self.entries, self.refusal, self.differing = [], None, 0

    def refuse(self, finding):
        """Report that nothing can be replayed: another contract, another model."""
        self.refusal = finding
        if not self.as_json:
            emit(f"{printable(self.file)}: differs: {printable(finding.text)}")

    def add(self, outcome):
        """Report one image."""
        self.differing += outcome.finding is not None
        if self.as_json:
            self.entries.append(described(outcome))
        else:
            emit("\n".join([*table(outcome), *verdict(outcome, self.count, self.seed)]))

    def finish(self, exit_code):
        """Print what is left to say and return the exit code: `exit_code`, or 1 if anything differs."""
        same = self.refusal is None and not self.differing and not exit_code
        if self.as_json:
            refusal = None if self.refusal is None else asdict(self.refusal)
            document = {"receipt": str(self.file), "same": same, "finding": refusal, "images": self.entries}
            if self.count is not None:
                document["spot"] = {"elements": self.count, "seed": self.seed}
            emit(json.dumps(document, indent=2))
        return exit_code or (0 if same else 1)


def described(outcome):
    """Return the JSON-able description of an Outcome."""
    entry = {
        "path": str(outcome.path),
        "same": outcome.finding is None,
        "first_difference": None if outcome.difference is None else asdict(outcome.difference),
        "finding": None if outcome.finding is None else asdict(outcome.finding),
        "values": [asdict(row) for row in outcome.rows],
    }
    if outcome.spots is not None:
        entry["spots"] = [asdict(spot) for spot in outcome.spots]
    return entry


def table(outcome):
    """Return the lines of the table: digests, or with --spot elements."""
    lines = [f"image {printable(outcome.path)}"]
    if outcome.spots is not None:
        width = max([len(spot.name) for spot in outcome.spots] + [5])
        lines.append(f"{'layer':<{width}}  {'op':<16}  {'elements':>10}  {'recomputed':>10}  {'agree':>6}  worst")
        for spot in outcome.spots:
            worst = "exact" if spot.worst is None else f"{spot.worst:.7f} ulp"
            mark = "" if spot.ok else "  DIFFERS"
            counts = f"{spot.size:>10}  {spot.recomputed:>10}  {spot.agree:>6}"
            lines.append(f"{spot.name:<{width}}  {spot.op:<16}  {counts}  {worst}{mark}")
    elif outcome.rows:
        width = max(len(row.name) for row in outcome.rows)
        lines.append(f"{'value':<{width}}  {'shape':>15}  {'receipt':<{SHOWN}}  here")
        for row in outcome.rows:
            sides = "  ".join((side or "missing")[:SHOWN].ljust(SHOWN) for side in (row.receipt, row.here))
            shape = "x".join(map(str, row.shape))
            lines.append(f"{row.name:<{width}}  {shape:>15}  {sides}{'' if row.same else '  DIFFERS'}".rstrip())
    return lines


def verdict(outcome, count, seed):
    """Return the closing lines of an image."""
    lines = []
    if outcome.spots is not None:
        total, agree = (sum(getattr(spot, key) for spot in outcome.spots) for key in ("recomputed", "agree"))
        lines.append(
            f"exact arithmetic agrees at {agree} of {total} elements of {len(outcome.spots)} layers "
            f"(--spot {count} --seed {seed})"
        )
    if outcome.finding is None:
        return [*lines, f"{len(outcome.rows)} values, the same to the bit as in the receipt"]
    if outcome.difference is not None:
        row = outcome.difference
        sides = [f"  {side:<7} {text or 'missing'}" for side, text in (("receipt", row.receipt), ("here", row.here))]
        lines += [f"first difference: {row.name}", *sides]
    cause = f"cause ({outcome.finding.cause}): {outcome.finding.text}"
    return [printable(line) for line in [*lines, cause, *(f"  {place}" for place in outcome.finding.places)]]
