"""NVIDIA's compute-sanitizer over small cases: memory, races, uninitialised reads, barriers."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pagnp.gpucheck.job import Job

# Each has an equal share of the time that is left: the last, which finds the most, has what the others did not need.
TOOLS = {
    "cupy": ("racecheck", "initcheck", "synccheck", "memcheck"),
    "numba-cuda": ("racecheck", "memcheck"),
}
# A library that asks the driver for functions which it may not have gets errors of the API; no memory is wrong.
OPTIONS = {"memcheck": ("--report-api-errors", "no")}
PROGRAM = "compute-sanitizer"
FOLDERS = ("/usr/local/cuda/bin", "/usr/local/cuda/compute-sanitizer", "/opt/cuda/bin")
ERRORS = 9  # the exit code that it is told to give
STARTS = 12.0  # seconds until the cases begin, at most
RESERVE = 3.0
SUMMARY = re.compile(r"========= (?:ERROR|RACECHECK) SUMMARY: (\d+)")
HEADER = "========= COMPUTE-SANITIZER"
ERROR = re.compile(r"Invalid|Uninitialized|Barrier error|hazard|Race reported|Program hit")  # told before the summary
UNUSABLE = re.compile(r"not supported|Unable to|Failed to|could not be|Internal error", re.IGNORECASE)
CASES_DONE = "cases: "  # what the checked program prints now and then, and at its end: cases: 8 of 168
KEPT = 12  # lines of a tool's report


def run(job: Job) -> None:
    """Run the backend's tools over pagnp.gpucheck.sanitized; where the program is missing, say so."""
    program, backend = find_program(), job.backend.name
    if program is None:
        job.record.skip("stage", f"{PROGRAM} is neither on PATH nor in {', '.join(FOLDERS)}")
        for tool in TOOLS[backend]:
            job.record.skip(tool, f"{PROGRAM} is not there")
        return
    for done, tool in enumerate(TOOLS[backend]):
        seconds = (job.deadline.left - RESERVE) / (len(TOOLS[backend]) - done)
        with job.record.attempt(tool):
            _one(job.record, tool, command(program, tool, backend, max(2.0, seconds - STARTS)), seconds)


def find_program() -> str | None:
    """Return where compute-sanitizer is, or None."""
    homes = [os.environ.get(name) for name in ("CUDA_HOME", "CUDA_PATH")]
    folders = [f"{home}/{part}" for home in homes if home for part in ("bin", "compute-sanitizer")]
    return shutil.which(PROGRAM, path=os.pathsep.join([os.environ.get("PATH", ""), *folders, *FOLDERS]))


def command(program: str, tool: str, backend: str, seconds: float) -> list[str]:
    """Return the command line of one tool."""
    options = ["--tool", tool, "--error-exitcode", str(ERRORS), "--print-limit", "20", *OPTIONS.get(tool, ())]
    return [program, *options, sys.executable, "-m", "pagnp.gpucheck.sanitized", backend, f"{seconds:.1f}"]


def _one(record, name, words, seconds):
    code, text = _output(words, seconds)
    done, wanted = cases_done(text)
    problems, reason = judge(code, text)
    if not reason and not problems and done < wanted:
        reason = f"the time was over after {done} of {wanted} cases, which have no error"
    if reason:
        record.skip(name, reason)
    if problems or done:
        record.check(name, problems, done)


def _output(words: Sequence[str], seconds: float) -> tuple[int | None, str]:
    """Return (exit code or None if it was stopped, all that was printed)."""
    with tempfile.TemporaryDirectory(prefix="pagnp-") as folder:
        path = Path(folder) / "output"
        with open(path, "wb") as file:
            process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT)
            try:
                code: int | None = process.wait(seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                code = None
        return code, path.read_text("utf-8", "replace")


def cases_done(text: str) -> tuple[int, int]:
    """Return (how many cases the checked program last said it ran, how many there are)."""
    found = re.findall(rf"{CASES_DONE}(\d+) of (\d+)", text)
    return (int(found[-1][0]), int(found[-1][1])) if found else (0, 0)


def judge(code: int | None, text: str) -> tuple[list[str], str]:
    """Return (problems, why the tool said nothing) of one run.

    A checked program that ends by itself with an exit code is a problem with its own last words: the tool saw no error.
    """
    lines = [line for line in text.splitlines() if line.strip()]
    told = [line for line in lines if line.startswith("=========")]
    said = [line for line in lines if line not in told and not line.startswith(CASES_DONE)]
    report = [line for line in told if line != HEADER][:KEPT]
    summary = SUMMARY.search(text)
    stopped_with_errors = code is None and any(ERROR.search(line) for line in report)
    if code == ERRORS or (summary and int(summary.group(1))) or stopped_with_errors:
        last = [f"the program said: {line}" for line in said[-1:]]
        return ["\n".join([*(report or ["errors without a report"]), *last])], ""
    if code is None:
        done, wanted = cases_done(text)
        return [], f"stopped after {done} of {wanted} cases, which have no error" if done else "too slow"
    if code == 0 and summary:
        return [], ""
    unusable = next((line for line in told if UNUSABLE.search(line)), None)
    if unusable:
        return [], unusable.strip("= ")
    last = (said or told)[-1:]
    return [f"the program ended with exit code {code}: {last[0] if last else 'nothing printed'}"], ""
