"""A long-lived worker: makes case after case, writes it down, gives it to pagnp, and says what came of it.

Started by run.py as `python worker.py KIND SEED START STOP STEP WORKER JOURNAL COUNT WORKERS FOLDER MEMORY CORPUS`.
Its stderr is a file: what a C library prints there is seen after each case.
"""

import json
import os
import random
import re
import resource
import sys
import traceback
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parent)]

import journal  # noqa: E402
import targets  # noqa: E402

LIBTIFF = re.compile(r"[\w.]+: .*\.")  # says this of damaged pixels, and Pillow has no switch for it

RESIDENT = 128 << 10  # KiB more than ever before: no file here needs that


def make(kind, seed, case):
    """Return (number of the mutator, content) of a case: it follows from kind, seed and number alone."""
    rng = random.Random(f"{kind}/{seed}/{case}")
    cases = targets.CASES[kind]
    number = rng.choices(range(len(cases.MUTATORS)), cases.WEIGHTS)[0]
    return number, bytes(cases.MUTATORS[number](rng))


def judge(kind, path):
    """Return (outcome, detail) of giving the file at `path` to pagnp."""
    said = os.fstat(2).st_size
    try:
        outcome, detail = targets.TARGETS[kind](path), ""
    except (KeyboardInterrupt, SystemExit):
        raise
    except MemoryError:
        outcome, detail = journal.MEMORY, traceback.format_exc()
    except BaseException:  # a panic in Rust is a BaseException
        outcome, detail = journal.WRONG, traceback.format_exc()
    if outcome not in journal.FINDINGS and os.fstat(2).st_size > said:
        with open("/proc/self/fd/2", "rb") as file:
            file.seek(said)
            lines = file.read(1 << 16).decode("utf-8", "replace").split("\n")[:-1]
        strange = [line for line in lines if kind != "images" or not LIBTIFF.fullmatch(line)]
        if strange:
            outcome, detail = journal.STDERR, "\n".join(strange)
    return outcome, detail


def peak():
    """Return the most KiB of memory this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main(kind, seed, start, stop, step, worker, book, count, workers, folder, memory, corpus):
    """Work on the cases start, start + step, ... below stop; exit 0."""
    start, stop, step, worker = int(start), int(stop), int(step), int(worker)
    book = journal.Journal(book, int(count), int(workers))
    targets.CASES[kind].prepare(corpus)
    path = os.path.join(folder, f"case-{worker}")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (int(memory) << 20, int(memory) << 20))
    parent = os.getppid()
    for case in range(start, stop, step):
        if os.getppid() != parent:  # it was killed
            return
        mutator, content = make(kind, seed, case)
        with open(path, "wb") as file:
            file.write(content)
        book.begin(worker, case)
        before = peak()
        outcome, detail = judge(kind, path)
        if peak() > before + RESIDENT:  # the libraries turn a refused allocation into an error of their own
            outcome, detail = journal.MEMORY, f"{peak()} KiB resident\n{detail}"
        book.end(case, mutator, outcome)
        book.begin(worker, journal.IDLE)
        if outcome in journal.FINDINGS:
            print(json.dumps({"case": case, "outcome": outcome, "detail": detail}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
