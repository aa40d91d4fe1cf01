"""Progress on stderr, only where a person looks at it."""

import os
import sys
from contextlib import contextmanager, nullcontext

from pagnp.cli.streams import printable


@contextmanager
def progress(total, long_run=False):
    """Yield an object with `advance(name)`, to be called before each of `total` items, and `pause()`, a context.

    A bar is shown if stderr is a terminal and there are several items or each takes long; else nothing.
    What is printed on stdout meanwhile belongs inside `with shown.pause()`, so that bar and text do not mix.
    """
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb" or (total < 2 and not long_run):
        yield _Silent()
        return
    bar = _Bar(total)
    try:
        yield bar
    finally:
        bar.live.stop()


class _Silent:
    def advance(self, name):
        """Show nothing."""

    def pause(self):
        return nullcontext()


class _Bar:
    """A rich progress bar that vanishes at the end."""

    def __init__(self, total):
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        columns = (
            SpinnerColumn(),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}", markup=False),
        )
        # Without redirect_stdout=False rich would send our data to stderr, wrapped at the terminal's width.
        self.live = Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False)
        self.task = self.live.add_task("", total=total)
        self.begun = 0
        self.live.start()

    def advance(self, name):
        """Say that the item `name` begins, and that all before it are done."""
        self.live.update(self.task, description=printable(name), completed=self.begun)
        self.begun += 1

    @contextmanager
    def pause(self):
        """Take the bar away while the caller prints."""
        self.live.stop()
        yield
        self.live.start()
