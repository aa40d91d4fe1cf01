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

TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
OTHER = "numba-cuda"  # which is looked at by two of the tools
OTHER_TOOLS = ("memcheck", "racecheck")
PROGRAM = "compute-sanitizer"
FOLDERS = ("/usr/local/cuda/bin", "/usr/local/cuda/compute-sanitizer", "/opt/cuda/bin")
ERRORS = 9  # the exit code that it is told to give
STARTS = 12.0  # seconds until the cases begin, at most
RESERVE = 3.0
SUMMARY = re.compile(r"========= (?:ERROR|RACECHECK) SUMMARY: (\d+)")
UNUSABLE = re.compile(r"not supported|Unable to|Failed to|could not be|Internal error", re.IGNORECASE)
CASES_DONE = "cases: "  # what the checked program prints at its end
KEPT = 12  # lines of a tool's report


def run(job: Job) -> None:
    """Run every tool over pagnp.gpucheck.sanitized; where the program is missing, say so."""
    program = find_program()
    if program is None:
        job.record.skip("stage", f"{PROGRAM} is neither on PATH nor in {', '.join(FOLDERS)}")
        for tool in TOOLS:
            job.record.skip(tool, f"{PROGRAM} is not there")
        return
    work = [(tool, job.backend.name) for tool in TOOLS] + [(tool, OTHER) for tool in OTHER_TOOLS]
    for done, (tool, backend) in enumerate(work):
        seconds = (job.deadline.left - RESERVE) / (len(work) - done)
        name = f"{tool}, {backend}"
        with job.record.attempt(name):
            _one(job.record, name, command(program, tool, backend, max(2.0, seconds - STARTS)), seconds)


def find_program() -> str | None:
    """Return where compute-sanitizer is, or None."""
    homes = [os.environ.get(name) for name in ("CUDA_HOME", "CUDA_PATH")]
    folders = [f"{home}/{part}" for home in homes if home for part in ("bin", "compute-sanitizer")]
    return shutil.which(PROGRAM, path=os.pathsep.join([os.environ.get("PATH", ""), *folders, *FOLDERS]))


def command(program: str, tool: str, backend: str, seconds: float) -> list[str]:
    """Return the command line of one tool."""
    options = ["--tool", tool, "--error-exitcode", str(ERRORS), "--print-limit", "20"]
    return [program, *options, sys.executable, "-m", "pagnp.gpucheck.sanitized", backend, f"{seconds:.1f}"]


def _one(record, name, words, seconds):
    code, text = _output(words, seconds)
    cases = cases_done(text)
    problems, reason = judge(code, text)
    if reason:
        record.skip(name, reason)
    else:
        record.check(name, problems, cases)


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


def cases_done(text: str) -> int:
    """Return how many cases the checked program says it ran; what it last said, if it was stopped."""
    found = re.findall(rf"{CASES_DONE}(\d+)", text)
    return int(found[-1]) if found else 0


def judge(code: int | None, text: str) -> tuple[list[str], str]:
    """Return (problems, why the tool said nothing) of one run."""
    lines = [line for line in text.splitlines() if line.strip()]
    told = [line for line in lines if line.startswith("=========")]
    summary = SUMMARY.search(text)
    if summary and int(summary.group(1)):
        return ["\n".join(told[:KEPT])], ""
    if code == ERRORS:
        return ["\n".join(told[:KEPT]) or "errors without a report"], ""
    if code is None:
        return [], f"stopped; no error until then, after {cases_done(text)} cases" if cases_done(text) else "too slow"
    if code == 0 and summary:
        return [], ""
    unusable = next((line for line in told if UNUSABLE.search(line)), None)
    if unusable:
        return [], unusable.strip("= ")
    return [f"exit code {code}: {lines[-1] if lines else 'nothing printed'}"], ""
