"""Fuzz pagnp's readers: `python tests/fuzz/run.py models|images|states N [--seed S] [--workers K] [--corpus DIR]`.

Files are mutated by their structure in memory, and read by long-lived workers with a memory limit; this process
watches the time of each file and starts a worker anew when it dies. Exit code 1 if anything was found: an exception
of the wrong class, a crash, a hang, memory over the limit, a line on stderr. The files found are kept in --keep.
"""

import argparse
import collections
import functools
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent.parent), str(HERE)]

import journal  # noqa: E402
import worker as work  # noqa: E402

WORKER = str(HERE / "worker.py")
WAIT = 6  # times the limit, for a process that gets no processor
BATCH = 20_000  # cases of one process: what a library leaks by refusing files does not pile up for ever


class Lane:
    """One worker process after another, on the cases number, number + step, ..."""

    def __init__(self, number, options, book, folder):
        self.number, self.options, self.book, self.folder = number, options, book, folder
        self.next, self.process, self.said = number, None, folder / f"said-{number}"
        self.found = []
        self.watched = (journal.IDLE, 0.0, 0.0)  # case, seconds seen at it, CPU seconds of the process before it
        self.looked = time.monotonic()

    def start(self):
        """Start a process on the next batch."""
        o, step = self.options, self.options.workers
        self.stop = min(self.next + BATCH * step, o.count)
        self.book.begin(self.number, journal.IDLE)
        arguments = [o.kind, o.seed, self.next, self.stop, step, self.number, self.book.path, o.count, step]
        arguments += [self.folder, o.memory, o.corpus or ""]
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
        with open(self.said, "wb") as out, open(self.folder / f"stderr-{self.number}", "wb") as err:
            command = [sys.executable, WORKER, *map(str, arguments)]
            self.process = subprocess.Popen(command, stdout=out, stderr=err, env=environment, cwd=self.folder)

    def look(self):
        """Look after the process; return False when all cases of the lane are done."""
        code = self.process.poll()
        if code is None and self._hangs():
            self.process.kill()
            self.process.wait()
            code = "hang"
        if code is None:
            return True
        self.found += [json.loads(line) for line in self.said.read_text("utf-8").splitlines()]
        if code == 0 and self.book.at_work(self.number) == journal.IDLE:
            self.next = self.stop + (self.number - self.stop) % self.options.workers
        else:
            self._died(code, self.book.at_work(self.number))
        if self.next >= self.options.count:
            return False
        self.start()
        return True

    def _hangs(self):
        """Whether the process is at one case for too long. A pause of the machine counts as one look."""
        now, case = time.monotonic(), self.book.at_work(self.number)
        passed, self.looked = min(now - self.looked, 0.1), now
        if case == journal.IDLE or case != self.watched[0]:
            self.watched = (case, 0.0, cpu_seconds(self.process.pid))
            return False
        self.watched = (case, self.watched[1] + passed, self.watched[2])
        if self.watched[1] < self.options.limit:
            return False
        busy = cpu_seconds(self.process.pid) - self.watched[2]  # else it only waits for a processor
        return busy > self.options.limit / 2 or self.watched[1] > WAIT * self.options.limit

    def _died(self, code, case):
        said = (self.folder / f"stderr-{self.number}").read_text("utf-8", "replace")[-2000:]
        if case == journal.IDLE:  # not by a file: a mistake of the fuzzer
            raise SystemExit(f"worker {self.number} ended with {code}:\n{said}")
        outcome = journal.HANG if code == "hang" else journal.CRASH
        self.book.end(case, make(self.options, case)[0], outcome)
        self.found.append({"case": case, "outcome": outcome, "detail": f"exit code {code}\n{said}"})
        self.next = case + self.options.workers


def cpu_seconds(process):
    """Return the CPU seconds of a process."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text("ascii").rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def options(arguments):
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=list(work.targets.CASES))
    parser.add_argument("count", type=int)
    parser.add_argument("--seed", default="1", help="of all random choices; printed")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--corpus", help="folder of files to mutate besides the built-in ones")
    parser.add_argument("--keep", help="folder for the files that found something (default: a new one)")
    parser.add_argument("--limit", type=float, default=10.0, help="seconds for one file")
    parser.add_argument("--memory", type=int, default=2048, help="MiB of address space of a worker")
    parser.add_argument("--only", type=int, help="write this one case into --keep and show what comes of it")
    return parser.parse_args(arguments)


@functools.cache
def prepare(kind, corpus):
    """Make the seeds in this process, which needs them only for what was found."""
    work.targets.CASES[kind].prepare(corpus)


def make(o, case):
    """Return (number of the mutator, content) of a case."""
    prepare(o.kind, o.corpus or "")
    return work.make(o.kind, o.seed, case)


def write_case(o, case, folder):
    """Write the file of a case into `folder`; return its path and the mutator's name."""
    number, content = make(o, case)
    os.makedirs(folder, exist_ok=True)
    path = Path(folder, f"{o.kind}-{o.seed}-{case}.bin")
    path.write_bytes(content)
    return path, work.targets.CASES[o.kind].MUTATORS[number].__name__


def report(o, book, found, seconds):
    """Print what came of all cases, by mutator, and each finding; return how many there are."""
    names = [mutator.__name__ for mutator in work.targets.CASES[o.kind].MUTATORS]
    mutators, outcomes = book.results()
    table = collections.Counter(zip(mutators, outcomes, strict=True))
    used = [number for number in range(len(journal.OUTCOMES)) if number in outcomes]
    print(f"{'mutator':24}" + "".join(f"{journal.OUTCOMES[number]:>28}" for number in used))
    for i, name in [*enumerate(names), (None, "all")]:
        cells = (sum(n for (m, k), n in table.items() if k == number and i in (None, m)) for number in used)
        print(f"{name:24}" + "".join(f"{cell:28}" for cell in cells))
    if found:
        o.keep = o.keep or tempfile.mkdtemp(prefix="pagnp-fuzz-")
        os.makedirs(o.keep, exist_ok=True)
    for finding in sorted(found, key=lambda item: item["case"])[:200]:
        path, name = write_case(o, finding["case"], o.keep)
        last = finding["detail"].strip().splitlines() or [""]
        path.with_suffix(".txt").write_text(finding["detail"], "utf-8")
        print(f"FOUND {journal.OUTCOMES[finding['outcome']]} case {finding['case']} ({name}): {last[-1][:200]}; {path}")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("h5py", "pillow", "numpy"))
    import h5py

    print(
        f"{o.kind}: {o.count} files, seed {o.seed}, {len(found)} findings, {seconds:.0f} s, {o.count / seconds:.0f}/s"
    )
    print(f"{versions}, HDF5 {h5py.version.hdf5_version}, {time.strftime('%Y-%m-%d')}")
    return len(found)


def main(arguments=None):
    """Run the command line; return the exit code."""
    o = options(arguments)
    if o.only is not None:
        path, name = write_case(o, o.only, o.keep or tempfile.mkdtemp(prefix="pagnp-fuzz-"))
        print(f"{path} ({name})", flush=True)
        print(work.targets.TARGETS[o.kind](str(path)) and "no exception")
        return 0
    shared = "/dev/shm" if os.path.isdir("/dev/shm") else None
    folder = Path(tempfile.mkdtemp(prefix="pagnp-fuzz-", dir=shared))
    lanes = []
    try:
        book = journal.Journal(str(folder / "journal"), o.count, o.workers)
        lanes = [Lane(number, o, book, folder) for number in range(min(o.workers, o.count))]
        begun = told = time.monotonic()
        for lane in lanes:
            lane.start()
        busy = lanes
        while busy:
            time.sleep(0.02)
            busy = [lane for lane in busy if lane.look()]
            if time.monotonic() - told > 60:
                told = time.monotonic()
                done = o.count - book.results()[1].count(0)
                print(f"{o.kind}: {done} of {o.count}, {done / (told - begun):.0f}/s", flush=True)
        found = [finding for lane in lanes for finding in lane.found]
        return 1 if report(o, book, found, time.monotonic() - begun) else 0
    finally:
        for lane in lanes:
            if lane.process and lane.process.poll() is None:
                lane.process.kill()
                lane.process.wait()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
