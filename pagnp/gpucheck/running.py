"""Run stages as processes, wave by wave: none can harm another, and what one found before it died is kept."""

import contextlib
import itertools
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pagnp.gpucheck.job import AGAIN, NOT_RUN
from pagnp.gpucheck.record import no_problems
from pagnp.gpucheck.stages import Command, Stage
from pagnp.types import Json

PASSED, FAILED, UNRUN, RUNNING = "passed", "failed", "not run", "running"
GRACE = 12  # seconds after its time until a stage is stopped: to start Python, to write, to give memory back
LEAST = 10  # seconds: a stage that would have less is not begun
MOST_PROCESSES = 12  # of a stage whose contenders break the GPU for it, one after the other
TICK = 0.05
LOG_LINES = 15  # of what a stage printed that are kept, where it did not pass


@dataclass
class Outcome:
    """How a stage went. found: what its record says."""

    stage: Stage
    status: str = UNRUN
    reason: str = ""
    seconds: float = 0.0
    found: Json = field(default_factory=dict)
    log: list[str] = field(default_factory=list)

    def as_json(self) -> Json:
        """Return it as a JSON-able dict."""
        about = {"name": self.stage.name, "backend": self.stage.backend, "status": self.status, "reason": self.reason}
        return {**about, "seconds": round(self.seconds, 2), **self.found, "log": self.log}


def run(
    stages: Sequence[Stage],
    command: Command,
    limit: float,
    changed: Callable[[Sequence[Outcome]], object],
    told: Callable[[str], object] = lambda line: None,
) -> list[Outcome]:
    """Run `stages` and return their Outcomes, in order.

    limit    seconds for all of them
    changed  called with all Outcomes whenever one has come to its end
    told     called with a line about each
    A KeyboardInterrupt stops what runs, keeps what is there, and is raised again after `changed`.
    """
    outcomes = [Outcome(stage, reason="not begun") for stage in stages]
    end = time.monotonic() + limit
    with tempfile.TemporaryDirectory(prefix="pagnp-gpucheck-") as folder:
        for _, group in itertools.groupby(outcomes, key=lambda outcome: outcome.stage.wave):
            _run_wave(list(group), command, end, Path(folder), lambda: changed(outcomes), told)
    return outcomes


def _run_wave(outcomes, command, end, folder, changed, told):
    started = []
    try:
        for outcome in outcomes:
            seconds = min(outcome.stage.seconds, end - time.monotonic() - GRACE)
            if seconds < LEAST:
                outcome.reason = "no time was left"
                told(f"{outcome.stage.title}: {outcome.status}, {outcome.reason}")
                continue
            started.append(_Running(outcome, command, seconds, folder))
        while started:
            for running in [running for running in started if running.over()]:
                started.remove(running)
                changed()
                told(line(running.outcome))
            time.sleep(TICK)
    except KeyboardInterrupt:
        for running in started:
            running.stop("stopped by the user")
        changed()
        raise
    finally:
        for running in started:
            running.kill()


class _Running:
    """A stage's process."""

    def __init__(self, outcome: Outcome, command: Command, seconds: float, folder: Path) -> None:
        self.outcome, self.seconds, self.begun = outcome, seconds, time.monotonic()
        name = f"{outcome.stage.name}-{outcome.stage.backend}"
        self.record, self.log = folder / f"{name}.json", folder / f"{name}.log"
        outcome.status, outcome.reason = RUNNING, ""
        self.command, self.processes = command, 1
        self.process = self._start(seconds)

    def _start(self, seconds: float, *more: str) -> "subprocess.Popen[bytes]":
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        with open(self.log, "ab") as file:
            return subprocess.Popen(
                [*self.command(self.outcome.stage, seconds, self.record), *more],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=environment,
            )

    def over(self) -> bool:
        """Return whether it has ended, by itself or because its time is up; then the Outcome is complete."""
        if self.process.poll() is not None:
            self.kill()  # what it may have started itself
            if self.process.returncode == AGAIN and self._go_on():
                return False
            self._conclude()
            return True
        if time.monotonic() - self.begun > self.seconds + GRACE:
            self.stop(f"stopped after {self.seconds + GRACE:.0f} s")
            return True
        return False

    def _go_on(self) -> bool:
        """Start another process where the last one ended; return whether there is time for it."""
        left = self.seconds - (time.monotonic() - self.begun)
        if left < LEAST or self.processes == MOST_PROCESSES:
            return False
        self.processes += 1
        self.process = self._start(left, "again=1")
        return True

    def stop(self, reason: str) -> None:
        """End the process; what it found so far is kept."""
        self.kill()
        self._conclude()
        self.outcome.status, self.outcome.reason = FAILED, reason

    def kill(self) -> None:
        """End the process and all that it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def _conclude(self):
        outcome, code = self.outcome, self.process.returncode
        outcome.seconds, outcome.found = time.monotonic() - self.begun, _read(self.record)
        outcome.status, outcome.reason = verdict(code, outcome.found)
        if outcome.status != PASSED:
            outcome.log = self.log.read_text("utf-8", "replace").splitlines()[-LOG_LINES:]
            if not outcome.found and outcome.log:
                outcome.reason += f": {outcome.log[-1][:300]}"


def _read(path):
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}


def verdict(code: int, found: Json) -> tuple[str, str]:
    """Return (status, reason) of a stage that ended with the exit code `code` and left `found`."""
    skipped = found.get("skipped", {}).get("stage")
    if code == AGAIN and no_problems(found):
        return UNRUN, "another library broke the GPU for the process, and no time was left to go on"
    if no_problems(found) and (code == NOT_RUN or (code == 0 and skipped)):
        return UNRUN, skipped or "it cannot run here"
    if code:
        how = f"exit code {code}" if code > 0 else f"ended by {signal.Signals(-code).name}"
        return FAILED, how + _first_problem(found, ", ")
    if not found.get("finished"):
        return FAILED, "it left no whole record"
    return (PASSED, "") if no_problems(found) else (FAILED, _first_problem(found, ""))


def _first_problem(found, lead):
    for name, check in found.get("checks", {}).items():
        if check["failed"]:
            first = check["first"][0].splitlines()[0] if check["first"] else ""
            return f"{lead}{name}: {check['failed']} of {check['count']} failed; {first}"
    return ""


def line(outcome: Outcome) -> str:
    """Return a line about a stage for the terminal."""
    reason = f": {outcome.reason}" if outcome.reason else ""
    return f"{outcome.stage.title}: {outcome.status}, {outcome.seconds:.0f} s{reason}"
