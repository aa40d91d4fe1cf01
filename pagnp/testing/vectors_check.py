"""Hold a folder of somebody's outputs against golden vectors, bit by bit."""

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from pagnp.contract import Difference, compare
from pagnp.errors import UsageError
from pagnp.testing.vectors import FIX, GOT, INDEX, TEXT_INDEX, Index, Stored, VectorCase
from pagnp.testing.vectors_arrays import Archive, read_npy, read_raw, to_bytes
from pagnp.types import Array, FilePath

READERS = {".bin": read_raw, ".npy": read_npy}
STATES = ("same", "differs", "missing", "unreadable")


@dataclass(frozen=True)
class Finding:
    """What is wrong with one case: it differs, is missing, or cannot be read (or has another size or dtype)."""

    id: str
    op: str
    state: str
    problem: str
    difference: Difference | None = None

    def __str__(self) -> str:
        return f"{self.id}: {self.problem}"


@dataclass
class Report:
    """The outcome of a check.

    counts    op -> state -> number of cases; the states are same, differs, missing, unreadable
    findings  the cases that are not the same, in the index's order
    unknown   names of outputs that belong to no case
    """

    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether every case is there and the same."""
        return not self.findings

    def total(self, state: str) -> int:
        """Number of cases in a state, over all ops."""
        return sum(states[state] for states in self.counts.values())


class Vectors:
    """The arrays of a folder of vectors, read as they are asked for; use it in a `with` statement."""

    def __init__(self, folder: FilePath, index: Index) -> None:
        self.folder = Path(folder)
        self.index = index
        self._open = ExitStack()
        self._archives: dict[str, Archive] = {}

    def read(self, stored: Stored) -> Array:
        """Return one array (bool as uint8). Raises UsageError if its file is missing, damaged or was changed."""
        path = self.folder / stored.file
        if stored.key is None:
            array = read_raw(path, stored)
        else:
            if stored.file not in self._archives:
                self._archives[stored.file] = self._open.enter_context(Archive(path))
            array = self._archives[stored.file].read(stored.key, stored)
        if sha256(to_bytes(array)).hexdigest() != stored.sha256:
            place = f"{path}: {stored.key}" if stored.key else str(path)
            raise UsageError(f"{place}: was changed after it was written (its SHA-256 differs); {FIX}")
        return array

    def __enter__(self) -> "Vectors":
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()


class Answers:
    """Somebody's outputs: a folder with <id>.bin or <id>.npy, or an NPZ file with the ids as keys.

    Raises: UsageError if there is no such folder or file.
    """

    def __init__(self, place: FilePath) -> None:
        self.place = Path(place)
        self._archive = None
        if self.place.is_dir():
            self.names = {name for name in os.listdir(self.place) if not name.startswith(".")}
        elif self.place.suffix == ".npz":
            self._archive = Archive(self.place)
            self.names = set(self._archive.keys)
        else:
            hint = "write your outputs there, <id>.bin or <id>.npy, or name a folder or an NPZ file with --got"
            raise UsageError(f"{self.place}: no such folder; {hint}")

    def read(self, case: VectorCase) -> Array | None:
        """Return the output of a case, None if there is none. Raises UsageError if it is not what is expected."""
        stored = case.expected
        if self._archive is not None:
            return self._archive.read(case.id, stored) if case.id in self.names else None
        present = [case.id + suffix for suffix in READERS if case.id + suffix in self.names]
        if len(present) > 1:
            raise UsageError(f"{self.place}: has both {' and '.join(present)}; keep one")
        if not present:
            return None
        path = self.place / present[0]
        return READERS[path.suffix](path, stored)

    def unknown(self, index: Index) -> list[str]:
        """Return the names of outputs that belong to no case, sorted."""
        endings = READERS if self._archive is None else ("",)
        known = {case.id + ending for case in index.cases for ending in endings}
        known |= {array.file for case in index.cases for array in case.arrays}  # they may put theirs beside ours
        return sorted(self.names - known - {INDEX, TEXT_INDEX, GOT})

    def __enter__(self) -> "Answers":
        return self

    def __exit__(self, *_: object) -> None:
        if self._archive is not None:
            self._archive.__exit__()


def check(
    folder: FilePath,
    index: Index,
    got: FilePath,
    names: Sequence[str] | None = None,
    begin: Callable[[str], object] = lambda name: None,
) -> Report:
    """Compare the outputs in `got` with the cases of `index`, which is that of `folder`.

    names    the ops to look at; default: all. A case of theirs without an output is a finding.
    begin    called with each case's id before its work

    Numerics: EXACT: every element is compared, any NaN equals any NaN, -0 differs from +0.
    Raises:   UsageError if an op is not in the index, `got` is not there, or the vectors themselves are damaged.
    """
    present = list(dict.fromkeys(case.op for case in index.cases))
    unknown = [name for name in names or () if name not in present]
    if unknown:
        raise UsageError(f"vectors: {folder} has no op {', '.join(unknown)}; it has {', '.join(present)}")
    report = Report()
    with Vectors(folder, index) as expected, Answers(got) as answers:
        for case in index.cases:
            if names is not None and case.op not in names:
                continue
            begin(case.id)
            finding = _judge(case, expected.read(case.expected), answers)
            states = report.counts.setdefault(case.op, dict.fromkeys(STATES, 0))
            states[finding.state if finding else "same"] += 1
            report.findings += [finding] if finding else []
        report.unknown = answers.unknown(index)
    return report


def _judge(case, want, answers):
    """Return the Finding of one case, or None where the output has the expected bits."""
    try:
        got = answers.read(case)
    except UsageError as error:
        return Finding(case.id, case.op, "unreadable", str(error))
    if got is None:
        return Finding(case.id, case.op, "missing", "there is no output")
    difference = compare(got, want)
    if not difference:
        return None
    return Finding(case.id, case.op, "differs", str(difference), difference)
