"""Lines of progress with the time that is left, and the same numbers as CSV."""

import csv
import io
import math
from pathlib import Path

from torch import Tensor

from pagnp.files import write_atomic

from .dataset import DataError


class Log:
    """A CSV file with the columns of its first row; rows after the checkpoint that was gone back to are cut off.

    Raises: DataError where the file is not a log of a course.
    """

    def __init__(self, path: Path, step: int) -> None:
        self.path, self.columns = path, None
        rows = []
        if path.exists():
            with open(path, newline="") as file:
                rows = [row for row in csv.reader(file) if row]
        if rows:
            if not "step".startswith(rows[0][0]):  # a full disk may have cut even that off
                raise DataError(f"{path}: is no log of train.py; move it away, or choose another --work")
            self.columns = rows[0]
            whole = [row for row in rows[1:] if len(row) == len(rows[0]) and row[0].isdecimal()]
            kept = [row for row in whole if int(row[0]) <= step]
            if not kept:  # perhaps of another course, which had other columns
                self.columns = None
                path.unlink()
                return
            text = io.StringIO()
            csv.writer(text).writerows([rows[0], *kept])
            write_atomic(path, text.getvalue().encode())

    def add(self, row: dict[str, float]) -> None:
        """Append one row; the first key is the step."""
        with open(self.path, "a", newline="") as file:
            writer = csv.writer(file)
            if self.columns is None or not set(row) <= set(self.columns):  # scores of old had other names
                self.columns = list(row)
                writer.writerow(self.columns)
            writer.writerow([_short(row.get(name, "")) for name in self.columns])


class Window:
    """Means over the steps since the last line, and the pace of late."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Tensor | float]] = []
        self.pace: float | None = None

    def add(self, row: dict[str, Tensor | float], seconds: float) -> None:
        self.rows.append(row)
        # A mean over some hundred steps: other work on the machine comes and goes.
        self.pace = seconds if self.pace is None else self.pace + 0.01 * (seconds - self.pace)

    def take(self) -> dict[str, float]:
        """Return the means and start afresh; a GPU that is behind is waited for here."""
        means = {name: float(sum(row[name] for row in self.rows)) / len(self.rows) for name in self.rows[0]}
        self.rows = []
        return means


def line(step: int, steps: int, pace: float, means: dict[str, float]) -> str:
    """Format a line of progress."""
    left = (steps - step) * pace
    numbers = "  ".join(f"{name.removeprefix('loss.')} {_short(value)}" for name, value in means.items())
    return f"step {step}/{steps}  {100 * step / steps:.1f} %  {duration(left)} left  {numbers}"


def duration(seconds: float) -> str:
    """Write a duration as 2h05 or 7m30."""
    minutes, rest = divmod(math.ceil(seconds), 60)
    return f"{minutes // 60}h{minutes % 60:02d}" if minutes >= 60 else f"{minutes}m{rest:02d}"


def _short(value):
    return f"{value:.5g}" if isinstance(value, float) else value
