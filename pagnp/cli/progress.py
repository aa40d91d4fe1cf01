"""Progress on stderr, only where a person looks at it."""

import os
import sys
import time
from contextlib import contextmanager, nullcontext

from pagnp.cli.streams import printable

PATIENCE = 0.5  # seconds that a single item takes before it gets a bar


@contextmanager
def progress(total):
    """Yield an object with `advance(name)` and `share(part)`, and `pause()`, a context.

    advance  is called before each of `total` items, share with the part of the item that is done, 0 to 1. A bar is
             shown if stderr is a terminal and there are several items, or the one takes a while.
    pause    what is printed on stdout meanwhile belongs inside it, so that bar and text do not mix
    """
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield _Silent()
        return
    bar = _Bar(total)
    try:
        yield bar
    finally:
        bar.stop()


class _Silent:
    def advance(self, name):
        """Show nothing."""

    def share(self, part):
        """Show nothing."""

    def pause(self):
        return nullcontext()


class _Bar:
    """A rich progress bar that vanishes at the end."""

    def __init__(self, total):
        self.total, self.begun, self.part, self.name = total, 0, 0.0, ""
        self.started, self.live, self.task = time.monotonic(), None, None

    def advance(self, name):
        """Say that the item `name` begins, and that all before it are done."""
        self.name, self.begun, self.part = name, self.begun + 1, 0.0
        self._show()

    def share(self, part):
        """Say how much of the item is done."""
        self.part = part
        self._show()

    def _show(self):
        if self.live is None and (self.total > 1 or time.monotonic() - self.started > PATIENCE):
            self._open()
        if self.live is not None:
            name = printable(self.name) if self.total == 1 else f"{self.begun}/{self.total}  {printable(self.name)}"
            self.live.update(self.task, description=name, completed=self.begun - 1 + self.part)

    def _open(self):
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            Progress,
            SpinnerColumn,
            TaskProgressColumn,
            TextColumn,
            TimeRemainingColumn,
        )

        columns = (
            SpinnerColumn(),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}", markup=False),
        )
        # Without redirect_stdout=False rich would send our data to stderr, wrapped at the terminal's width.
        self.live = Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False)
        self.task = self.live.add_task("", total=self.total)
        self.live.start()

    def stop(self):
        """Take the bar away."""
        if self.live is not None:
            self.live.stop()

    @contextmanager
    def pause(self):
        """Take the bar away while the caller prints."""
        self.stop()
        yield
        if self.live is not None:
            self.live.start()
