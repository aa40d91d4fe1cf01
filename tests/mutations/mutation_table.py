"""The mutation table: every *.toml here, read into Edits.

A table `[name]` of a file holds
    file        which source, below pagnp/; or one of cuda/
    old, new    what is replaced and by what; `old` must occur exactly once
    why         what is wrong then
    first       what ought to notice, in turn: arguments of pytest that begin with tests/, or rows of
                tests/test_conformance.py as `pytest -k` takes them
    equivalent  why nothing can notice; only for an edit that changes nothing the contract speaks of
"""

import shlex
import tomllib
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


@dataclass(frozen=True)
class Edit:
    """One mistake to put into the sources; see above."""

    name: str
    file: str
    old: str
    new: str
    why: str
    first: tuple[str, ...]
    equivalent: str = ""

    def apply(self, text: str) -> str:
        """Return the source with the mistake in it, or raise ValueError if `old` is not there exactly once."""
        if text.count(self.old) != 1:
            raise ValueError(f"{self.name}: {self.file} has the old text {text.count(self.old)} times, need it once")
        return text.replace(self.old, self.new)

    @property
    def path(self) -> str:
        """Where the source lies in the project."""
        return self.file if self.file.startswith("cuda/") else f"pagnp/{self.file}"

    @property
    def commands(self) -> list[list[str]]:
        """The arguments of pytest in `first`."""
        rows = ["tests/test_conformance.py", "-k"]
        return [shlex.split(one) if one.startswith("tests/") else [*rows, one] for one in self.first]

    @property
    def is_compiled(self) -> bool:
        """True if kernels must be compiled anew: the file is among those that name their cache."""
        return Path(self.file).parent.as_posix() in ("backends", "backends/numba_cpu") or self.name == "contract-block"


def edits() -> list[Edit]:
    """Return all Edits, file by file."""
    found = []
    for path in sorted(HERE.glob("*.toml")):
        for name, entry in tomllib.loads(path.read_text("utf-8")).items():
            found.append(Edit(name, **{**entry, "first": tuple(entry["first"])}))
    return found
