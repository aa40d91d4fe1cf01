"""What a stage found so far, as JSON in a file: it is whole at any time, so a stage that dies has left it."""

import contextlib
import json
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pagnp.files import write_atomic

FIRST = 5  # problems of a check that are kept in words
LONGEST = 1500  # characters of one
OFTEN = 1.0  # seconds between two writings, unless it matters


class Record:
    """checks  name -> {"count", "failed", "first"};  skipped  what -> reason;  values  name -> anything of JSON."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.checks: dict[str, dict[str, Any]] = {}
        self.skipped: dict[str, str] = {}
        self.values: dict[str, Any] = {}
        self.finished = False
        self._written = 0.0

    @classmethod
    def going_on(cls, path: Path) -> "Record":
        """Return the record that a process before this one left in the file."""
        record, found = cls(path), json.loads(path.read_bytes())
        record.checks, record.skipped, record.values = (found[name] for name in ("checks", "skipped", "values"))
        return record

    def check(self, name: str, problems: Sequence[str] = (), count: int = 1) -> None:
        """Add `count` things that were looked at under `name`, and what was wrong with one of them."""
        found = self.checks.setdefault(name, {"count": 0, "failed": 0, "first": []})
        found["count"] += count
        found["failed"] += bool(problems)
        found["count"] = max(found["count"], found["failed"])  # what died before its first case was looked at, too
        found["first"] += [problem[:LONGEST] for problem in problems[: FIRST - len(found["first"])]]
        self.save(now=bool(problems))

    def skip(self, what: str, reason: str) -> None:
        """Say that something was not looked at, and why."""
        self.skipped[what] = reason
        self.save()

    def put(self, name: str, value: Any) -> None:
        """Keep a value."""
        self.values[name] = value
        self.save()

    @contextlib.contextmanager
    def attempt(self, name: str, but: type[Exception] | tuple[()] = ()) -> Iterator[None]:
        """An exception inside the block, `but` for those, is a failed check of that name, and not the end."""
        try:
            yield
        except but:
            raise
        except Exception as error:
            self.check(name, [failure(error)])

    def finish(self) -> None:
        """Say that the stage came to its end."""
        self.finished = True
        self.save(now=True)

    def save(self, now: bool = True) -> None:
        """Write the file; with `now` false only if it is older than a second."""
        if self.path is None or (not now and time.monotonic() - self._written < OFTEN):
            return
        parts = ("checks", "skipped", "values", "finished")
        write_atomic(self.path, json.dumps({name: getattr(self, name) for name in parts}, default=str).encode())
        self._written = time.monotonic()


def failure(error: BaseException) -> str:
    """Return an exception as one line, with the place in our code where it came from."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "pagnp" in frame.filename]
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())}{place}"


def no_problems(found: dict[str, Any]) -> bool:
    """Return whether no check of a record's content failed."""
    return not any(check["failed"] for check in found.get("checks", {}).values())
