"""Put each mistake of the table into a copy of the project and see whether the tests notice.

    python tests/mutations/run.py                    all edits, about an hour of one core
    python tests/mutations/run.py np-relu 'nb-*'     some of them
    python tests/mutations/run.py --list

An edit is `killed` by the first test that fails (or by a crash, or by taking forever), or it `survived` all of them.
The end is a table by file and a line for each survivor; the exit status is 1 if one survived that is not explained, or
if one was killed that is said to change nothing.

The copy is in a temporary folder, with a kernel cache of its own; nothing here changes the project. First the tests run
without an edit: what fails then is left out.
"""

import argparse
import fnmatch
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from mutation_table import ROOT, Edit, edits

COPIED = ("pagnp", "tests", "docs", "examples", "cuda", "tools", "pyproject.toml", "README.md", "CHANGELOG.md")
# All that an edit of kernels, plans or networks can break; not files, images, the command line, torch's modules.
EVERYTHING = (
    *(
        "conformance",
        "tiles",
        "arenas",
        "lower",
        "survivors",
        "survivors_rules",
        "shapes",
        "random_graphs",
        "numba_backend",
        "fma",
    ),
    *("contract", "graph", "known_answers", "numerics_page", "model", "nn", "multipool", "memory", "rooms"),
    *("shipped_model", "ops_errors", "torch_ops", "transcendental_digests", "bands", "oracle"),
)
CUDA = ("cuda_contract", "cuda_kernels", "gpu_runs")  # the same for an edit of GPU kernels
SECONDS = 900  # that one command of pytest may take
WHERE = "import pagnp, pagnp.backends.numba_cpu.cachefolder as c; print(pagnp.__file__); print(c.cache_folder())"


class Copy:
    """A copy of the project that edits are made in, one at a time, and the environment in which it is tested."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "project"
        for name in COPIED:
            source, target = ROOT / name, self.root / name
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", ".*_cache"))
            elif source.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PAGNP_", "NUMBA_"))}
        # An edit may be as long as what it replaces and as quick as the clock: no bytecode, which is told by both.
        own = {"PYTHONPATH": str(self.root), "PYTHONDONTWRITEBYTECODE": "1", "PAGNP_CACHE_DIR": str(folder / "cache")}
        self.environment = {**kept, **own, "CI": "1"}
        self.broken: list[str] = []
        self.clean_cache = self.where()

    def where(self) -> str:
        """Return the folder of compiled kernels; raise RuntimeError if it is not the copy that is imported."""
        lines = self.python("-c", WHERE, limit=120).stdout.split("\n")
        if not lines[0].startswith(str(self.root)):
            raise RuntimeError(f"{lines[0]} is imported, not the copy in {self.root}")
        return lines[1]

    def python(self, *arguments: str, limit: int = SECONDS) -> subprocess.CompletedProcess[str]:
        """Run Python in the copy; after `limit` seconds end it and all that it started."""
        command, streams = [sys.executable, *arguments], {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        where = {"cwd": self.root, "env": self.environment, "start_new_session": True}
        with subprocess.Popen(command, **where, **streams, text=True) as process:
            try:
                output, errors = process.communicate(timeout=limit)
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)
                raise
        return subprocess.CompletedProcess(command, process.returncode, output, errors)

    def pytest(self, arguments: list[str], *more: str) -> list[str]:
        """Return the names of what failed, or of what ended the tests; raise RuntimeError if nothing was tested."""
        left_out = [part for name in self.broken for part in ("--deselect", name)]
        options = ["-q", "-p", "no:cacheprovider", "--no-header", "--tb=no", "-rfE", *more]
        try:
            done = self.python("-m", "pytest", *options, *arguments, *left_out)
        except subprocess.TimeoutExpired:
            return [f"more than {SECONDS} s"]
        failed = re.findall(r"^(?:FAILED|ERROR) (\S+\[.*?\]|\S+)(?: - .*)?$", done.stdout, re.MULTILINE)
        if failed or done.returncode == 0:
            return failed
        if done.returncode < 0 or done.returncode > 5:
            return [f"a crash (exit {done.returncode})"]
        told = f"{done.stdout[-2000:]}{done.stderr[-2000:]}"
        raise RuntimeError(f"pytest {' '.join(arguments)}: exit {done.returncode}\n{told}")

    def find_broken(self) -> None:
        """Run the tests without an edit and leave out from now on what fails."""
        self.broken = self.pytest(everything())
        if any("::" not in name for name in self.broken):
            raise RuntimeError(f"without an edit: {', '.join(self.broken)}")
        for name in self.broken:
            print(f"fails without an edit, left out: {name}", flush=True)

    def judge(self, edit: Edit, quick: bool) -> str:
        """Return what killed the edit, or "". `quick`: ask only those that ought to notice."""
        path = self.root / edit.path
        before = path.read_bytes()
        path.write_text(edit.apply(before.decode("utf-8")), encoding="utf-8")
        try:
            if edit.is_compiled and self.where() == self.clean_cache:
                raise RuntimeError(f"{edit.name}: the kernels would not be compiled anew")
            for command in (*edit.commands, *([] if quick else [everything(edit)])):
                if killers := self.pytest(command, "-x"):
                    return killers[0]
            return ""
        finally:
            path.write_bytes(before)
            self.forget_kernels()

    def forget_kernels(self) -> None:
        """Remove the kernels compiled for an edit."""
        for folder in Path(self.clean_cache).parent.glob("numba-*"):
            if str(folder) != self.clean_cache:
                shutil.rmtree(folder)


def everything(edit: Edit | None = None) -> list[str]:
    """Return the arguments of pytest for all that is worth asking."""
    names = CUDA if edit and "cuda" in edit.commands[0][0] else EVERYTHING
    return [str(path) for name in names if (ROOT / (path := f"tests/test_{name}.py")).exists()]


def report(edit: Edit, killer: str, seconds: float) -> str:
    """Return the line of one edit."""
    verdict = f"killed   {killer}" if killer else "survived " + (f"({edit.equivalent})" if edit.equivalent else "!")
    return f"{edit.name:28} {seconds:5.0f} s  {verdict}"


def summary(results: dict[Edit, str]) -> str:
    """Return the table by file and the survivors."""
    made = Counter(edit.file for edit in results)
    killed = Counter(edit.file for edit, killer in results.items() if killer)
    lines = [f"{'file':44} edits killed survived"]
    lines += [f"{file:44} {made[file]:5} {killed[file]:6} {made[file] - killed[file]:8}" for file in sorted(made)]
    lines.append(f"{'all':44} {made.total():5} {killed.total():6} {made.total() - killed.total():8}")
    for edit, killer in results.items():
        if not killer:
            lines.append(f"survived: {edit.name}: {edit.equivalent or 'NOT EXPLAINED: ' + edit.why}")
        elif edit.equivalent:
            lines.append(f"killed although it is said to change nothing: {edit.name}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="edits to make, with * and ?; all if none is given")
    parser.add_argument("--list", action="store_true", help="print the edits and do nothing")
    parser.add_argument("--quick", action="store_true", help="ask only the tests that ought to notice an edit")
    options = parser.parse_args()
    chosen = [e for e in edits() if not options.names or any(fnmatch.fnmatch(e.name, name) for name in options.names)]
    if options.list or not chosen:
        print("\n".join(f"{e.name:28} {e.file:44} {e.why}" for e in chosen) or "no edit has such a name")
        return 0 if chosen else 2
    results: dict[Edit, str] = {}
    with tempfile.TemporaryDirectory(prefix="pagnp-mutations-") as folder:
        copy = Copy(Path(folder))
        if not options.quick:
            copy.find_broken()
        for edit in chosen:
            start = time.perf_counter()
            results[edit] = copy.judge(edit, options.quick)
            print(report(edit, results[edit], time.perf_counter() - start), flush=True)
    print(summary(results))
    return int(any(bool(killer) == bool(edit.equivalent) for edit, killer in results.items()))


if __name__ == "__main__":
    sys.exit(main())
