"""The fuzzer of tests/fuzz: a short run of each kind with a fixed seed, its corpus, and that it sees what it should."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

FUZZ = Path(__file__).parent / "fuzz"


def fuzz(*arguments):
    """Run the fuzzer; return (exit code, what it said)."""
    command = [sys.executable, str(FUZZ / "run.py"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(("kind", "count"), [("models", 300), ("images", 500), ("states", 100)])
def test_a_short_run_finds_nothing(kind, count, tmp_path):
    code, said = fuzz(kind, count, "--seed", 20, "--keep", tmp_path / "found")
    assert code == 0, said
    assert f"{kind}: {count} files, seed 20, 0 findings" in said and "HDF5" in said
    assert not (tmp_path / "found").exists()


def test_the_corpus():
    """Files that crashed, hung or filled the memory before they were refused; in a process of their own."""
    command = [sys.executable, str(FUZZ / "replay.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    index = json.loads((FUZZ / "corpus/index.json").read_text("utf-8"))
    assert {path.name for path in (FUZZ / "corpus").glob("*.bin")} == set(index)


MISTAKES = (  # of a reader, one after another, and what the fuzzer must call each
    ("pass", ""),
    ("raise TypeError('ours')", "WRONG EXCEPTION"),
    ("os.kill(os.getpid(), signal.SIGSEGV)", "CRASH"),
    ("os._exit(0)", "CRASH"),
    ("time.sleep(60)", "HANG"),
    ("print('a warning', file=sys.stderr, flush=True)", "STDERR"),
    ("bytearray(1 << 40)", "MEMORY"),
    ("bytearray(b'x') * (160 << 20)", "MEMORY"),
    ("load_image(__file__)", ""),
    ("raise BaseException('a panic')", "WRONG EXCEPTION"),
)
BROKEN = f"""
import os, signal, sys, time
sys.path[:0] = [{str(FUZZ)!r}, {str(FUZZ.parents[1])!r}]
import journal, targets, run, worker
from pagnp.errors import ImageError
from pagnp.image import load_image
MISTAKES = {[mistake for mistake, _ in MISTAKES]!r}

def broken(path):
    with open(__file__ + ".calls", "a+") as calls:  # workers die and are followed by others
        calls.write("x")
        number = calls.tell() - 1
    try:
        exec(MISTAKES[number])
    except ImageError:
        pass
    return journal.REFUSED

targets.TARGETS["images"] = broken
if len(sys.argv) > 9:
    worker.main(*sys.argv[1:])
else:
    run.WORKER, run.WAIT = __file__, 1
    sys.exit(run.main(sys.argv[1:]))
"""


def test_the_fuzzer_sees_what_it_looks_for(tmp_path):
    """A reader that does wrong in every way: each is found and named, its file is kept, and the run goes on."""
    script, count = tmp_path / "broken.py", len(MISTAKES)
    script.write_text(BROKEN)
    arguments = ["images", count, "--limit", "1.5", "--keep", tmp_path / "found"]
    command = [sys.executable, str(script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 1 and "not run" not in said, said
    for case, (_, word) in enumerate(MISTAKES):
        assert (f"FOUND {word} case {case} " in said) if word else (f" case {case} " not in said), said
        assert (tmp_path / f"found/images-1-{case}.bin").exists() == bool(word)
