"""One stage in a process of its own: python -m pagnp.gpucheck.job STAGE BACKEND SECONDS RECORD [key=value ...]"""

import importlib
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pagnp.backends.base import Backend, get_backend
from pagnp.errors import BackendError
from pagnp.gpucheck.record import Record, failure

MODULES = {name: f"pagnp.gpucheck.{name}" for name in ("conformance", "networks", "repetition", "sanitizer")}
MODULES |= {"speed-convs": "pagnp.gpucheck.speed_convs", "speed-network": "pagnp.gpucheck.speed_network"}
NOT_RUN = 5  # the exit code of a stage that cannot run here: its record says why
AGAIN = 6  # that of a stage that another process can go on with, at the end of its record, given "again=1"


class AgainError(Exception):
    """The GPU answers this process no more, as after an illegal access; the record says what is not to be repeated."""


class Deadline:
    """So many seconds from now."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._end = clock, clock() + seconds

    @property
    def left(self) -> float:
        """Seconds until it is reached, negative after it."""
        return self._end - self._clock()

    @property
    def passed(self) -> bool:
        """Whether it is reached."""
        return self.left <= 0


@dataclass
class Job:
    """What a stage works with.

    weights, image  the shipped model and its picture, where they are there
    every           take every so-manieth row of the table and size of the benchmark: a try, no proof
    """

    backend: Backend
    record: Record
    deadline: Deadline
    weights: Path | None = None
    image: Path | None = None
    every: int = 1


def main(arguments: Sequence[str], backend_of: Callable[[str], Backend] = get_backend) -> int:
    """Run a stage and return the exit code."""
    name, backend, seconds, path, *pairs = arguments
    given = dict(pair.split("=", 1) for pair in pairs)
    deadline = Deadline(float(seconds))
    record = Record.going_on(Path(path)) if "again" in given else Record(Path(path))
    files = {key: Path(given[key]) for key in ("weights", "image") if key in given}
    try:
        stage = importlib.import_module(MODULES[name])
        job = Job(backend_of(backend), record, deadline, **files, every=int(given.get("every", 1)))
    except (ImportError, BackendError) as error:
        record.skip("stage", failure(error))
        return NOT_RUN
    try:
        stage.run(job)
    except AgainError as error:
        print(error, flush=True)
        return AGAIN
    except Exception as error:  # a BackendError, too: a launch that fails is no reason not to have run
        record.check("stage", [failure(error)])
        raise
    record.finish()
    return 0


def leave(code: int) -> None:
    """End the process. With AGAIN at once: what libraries give back at their end, they no longer can."""
    if code == AGAIN:
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    leave(main(sys.argv[1:]))
