"""Digests of exp, exp10, log and sigmoid over all 2^32 float32 inputs: what every backend must reproduce.

    python tools/sweep_digests.py --backend numba --journal numba.txt      compute, hold against the golden file
    python tools/sweep_digests.py --check cpp.txt                          hold the digests of any program against it
    python tools/sweep_digests.py --write-golden cpp.txt numba.txt numpy.txt

Outputs in the order of the inputs' bit patterns, float32 little-endian, every NaN as 7FC00000, cut into 1024 chunks of
2^22; the digest of a function is the SHA-256 of the 1024 chunks' SHA-256 (docs/NUMERICS.md). A journal is text, a line
`function chunk sha256` each; a stopped run goes on where its journal ends. tools/sweep_transcendentals.cpp prints the
same lines. The exit status is 1 if any digest differs from the golden file's or between the files given.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import platform
import re
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from pagnp.backends.base import MODULES, get_backend

FUNCTIONS = ("exp", "exp10", "log", "sigmoid")
CHUNKS, CHUNK_SIZE = 1024, 1 << 22
PREFIX = 16  # hex digits of a chunk's digest that the golden file keeps
PER_ROW = 8  # chunks in a row of the golden file
GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "golden" / "transcendentals.json"


def chunk_digest(kernel, chunk):
    """Return the SHA-256, as hex, of kernel(x, out) over the inputs with the bit patterns of chunk 0 .. 1023."""
    first = chunk * CHUNK_SIZE
    x = np.arange(first, first + CHUNK_SIZE, dtype=np.uint32).view(np.float32)
    out = np.empty_like(x)
    with np.errstate(all="ignore"):
        kernel(x, out)
    words = out.view(np.uint32)
    words[np.isnan(out)] = 0x7FC00000
    return hashlib.sha256(words.astype("<u4", copy=False)).hexdigest()


def function_digest(chunks):
    """Return the SHA-256 of the raw digests of all chunks, given as hex by number, or None if one is missing."""
    if any(chunk not in chunks for chunk in range(CHUNKS)):
        return None
    return hashlib.sha256(b"".join(bytes.fromhex(chunks[chunk]) for chunk in range(CHUNKS))).hexdigest()


def read_journal(path):
    """Return {function: {chunk: hex}} of a journal. A line `function all digest` must be the digest of its chunks.

    Raises: SystemExit where a line is none of a journal's, or two lines disagree.
    """
    found = {name: {} for name in FUNCTIONS}
    for number, line in enumerate(Path(path).read_text().splitlines(), 1):
        if line.startswith("#"):
            continue
        match = re.fullmatch(rf"({'|'.join(FUNCTIONS)}) (\d{{1,4}}|all) ([0-9a-f]{{64}})", line)
        if match is None:
            raise SystemExit(f"{path}: line {number} is not 'function chunk sha256': {line!r}")
        name, chunk, digest = match.groups()
        before = function_digest(found[name]) if chunk == "all" else found[name].setdefault(int(chunk), digest)
        if before != digest:
            raise SystemExit(f"{path}: line {number} contradicts the lines before it: {name} {chunk}")
    return found


def make_of(backend):
    """Return in one line what computes: the backend and the versions that could change a bit."""
    packages = ("pagnp", "numpy") if backend == "numpy" else ("pagnp", "numpy", "numba", "llvmlite")
    parts = []
    for package in packages:
        try:
            parts.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            parts.append(f"{package} of this folder")
    return f"# {backend}: {', '.join(parts)}, python {platform.python_version()}, {platform.machine()}"


def _work(task):
    backend, name, chunk = task
    return name, chunk, chunk_digest(getattr(get_backend(backend, threads=1), name), chunk)


def compute(backend, functions, chunks, jobs, journal):
    """Return {function: {chunk: hex}}, with what `journal` (a path or None) already holds."""
    make, found = make_of(backend), {name: {} for name in FUNCTIONS}
    if journal and journal.exists() and journal.stat().st_size:
        if journal.read_text().splitlines()[0] != make:
            raise SystemExit(f"{journal}: begun by another version (its first line); name another file\n  now: {make}")
        found = read_journal(journal)
    elif journal:
        journal.write_text(make + "\n")
    tasks = [(backend, name, chunk) for name in functions for chunk in chunks if chunk not in found[name]]
    print(f"{make}\n# {len(tasks)} chunks to compute, {jobs} processes", file=sys.stderr)
    start = shown = time.monotonic()
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        for done, (name, chunk, digest) in enumerate(pool.imap_unordered(_work, tasks), 1):
            found[name][chunk] = digest
            if journal:
                with journal.open("a") as file:
                    file.write(f"{name} {chunk} {digest}\n")
            now = time.monotonic()
            if now - shown > 10 or done == len(tasks):
                shown, left = now, (now - start) / done * (len(tasks) - done)
                print(f"{done}/{len(tasks)} chunks ({name}), {now - start:.0f} s, {left:.0f} s left", file=sys.stderr)
    return found


def compare(found, golden, what):
    """Print how the digests `found` stand against the golden file; return the number that differ."""
    wrong = 0
    for name in FUNCTIONS:
        want = golden["functions"][name]
        prefixes = " ".join(want["chunks"]).split()
        bad = sorted(c for c, digest in found[name].items() if c >= CHUNKS or digest[:PREFIX] != prefixes[c])
        for chunk in bad[:5]:
            first = chunk * CHUNK_SIZE
            print(f"{name}[{what}] chunk {chunk} differs: inputs {first:08X} .. {first + CHUNK_SIZE - 1:08X}")
        digest = function_digest(found[name])
        differs = digest is not None and digest != want["digest"]
        wrong += len(bad) + differs
        if found[name]:
            verdict = f"{len(bad)} of {len(found[name])} chunks differ"
            print(f"{name:8s} {digest or '(not all chunks)'}  {what}: {verdict}{', the digest differs' * differs}")
    return wrong


def write_golden(paths):
    """Write the golden file from complete journals that agree; return 1 if they do not."""
    journals = {path.name: read_journal(path) for path in paths}
    functions = {}
    for name in FUNCTIONS:
        digests = {file: function_digest(journal[name]) for file, journal in journals.items()}
        if len(set(digests.values())) != 1 or None in digests.values():
            print(f"{name}: not complete or not the same everywhere: {digests}")
            return 1
        prefixes = [next(iter(journals.values()))[name][chunk][:PREFIX] for chunk in range(CHUNKS)]
        rows = [" ".join(prefixes[i : i + PER_ROW]) for i in range(0, CHUNKS, PER_ROW)]
        functions[name] = {"digest": next(iter(digests.values())), "chunks": rows}
    golden = {
        "about": "SHA-256 of exp, exp10, log, sigmoid over all 2^32 float32 inputs; the definition: docs/NUMERICS.md",
        "chunks": f"{CHUNKS} of {CHUNK_SIZE} inputs, {PER_ROW} a row, the first {PREFIX} hex digits of each SHA-256",
        "command": "python tools/sweep_digests.py --write-golden " + " ".join(path.name for path in paths),
        "computed_by": [path.read_text().splitlines()[0].removeprefix("# ") for path in paths],
        "functions": functions,
    }
    GOLDEN.write_text(json.dumps(golden, indent=1) + "\n")
    print(f"{GOLDEN.name}: written from {len(paths)} files that agree")
    return 0


def parse(arguments):
    """Return the command line as a namespace."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--backend", choices=tuple(MODULES))
    parser.add_argument("--functions", nargs="+", choices=FUNCTIONS, default=FUNCTIONS)
    parser.add_argument("--chunks", nargs="+", type=int, default=range(CHUNKS), help="0 .. 1023; all unless given")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes")
    parser.add_argument("--journal", type=Path, metavar="FILE", help="goes on where FILE ends")
    parser.add_argument(
        "--check", nargs="+", type=Path, metavar="FILE", help="journals to hold against the golden file"
    )
    parser.add_argument("--write-golden", nargs="+", type=Path, metavar="FILE", help="complete journals that agree")
    options = parser.parse_args(arguments)
    if sum(map(bool, (options.backend, options.check, options.write_golden))) != 1:
        parser.error("give one of --backend, --check, --write-golden")
    if any(chunk not in range(CHUNKS) for chunk in options.chunks):
        parser.error(f"--chunks are 0 .. {CHUNKS - 1}")
    return options


def main(arguments=None):
    """Run one of the three commands; return the exit status."""
    options = parse(arguments)
    if options.write_golden:
        return write_golden(options.write_golden)
    if options.check:
        results = {path.name: read_journal(path) for path in options.check}
    else:
        run = compute(options.backend, options.functions, options.chunks, options.jobs, options.journal)
        results = {options.backend: run}
    if not GOLDEN.exists():
        raise SystemExit(f"{GOLDEN}: not there; --write-golden makes it")
    golden = json.loads(GOLDEN.read_text())
    wrong = sum(compare(found, golden, what) for what, found in results.items())
    return 1 if wrong or not any(found[name] for found in results.values() for name in FUNCTIONS) else 0


if __name__ == "__main__":
    sys.exit(main())
