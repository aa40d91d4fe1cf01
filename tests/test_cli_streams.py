"""The command line as a process: Ctrl-C, pipes, terminals, full disks, and names that no encoding holds."""

# ruff: noqa: F811 - fixtures are imported, and arguments have their names

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from cli_folder import GATES, HEADS, MULTIPOOL, RUN, call, graph, names, shared  # noqa: F401
from PIL import Image

import pagnp
from pagnp import outputs
from pagnp.cli import streams


def spawn(*arguments, cwd, stderr=subprocess.PIPE):
    environment = {"TERM": "xterm", **os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "pagnp", *map(str, arguments)]
    heed = _heed_ctrl_c if os.name == "posix" else None
    pipes = {"stdout": subprocess.PIPE, "stderr": stderr}
    return subprocess.Popen(command, cwd=cwd, env=environment, text=True, preexec_fn=heed, **pipes)


def _heed_ctrl_c():
    """A shell's background jobs, such as a test run started with `&`, ignore Ctrl-C, and so would their children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_python_m_pagnp(tmp_path):
    process = spawn("--version", cwd=tmp_path)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, f"pagnp, version {pagnp.__version__}\n", "")


def test_ctrl_c(shared, tmp_path):
    large = tmp_path / "zlarge.png"
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (1500, 1500, 3), np.uint8)).save(large)
    options = ("--weights", shared / "model.h5", "--backend", "numpy", "--save", "labels", "--out", "out")
    process = spawn("run", *options, shared / "room.png", large, cwd=tmp_path)
    for _ in range(3):  # the head of the table, the first image, its gates: now the large one is under way
        process.stdout.readline()
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (130, "pagnp: interrupted\n")
    assert names(tmp_path / "out") == ["room.labels.png"]


def test_a_closed_pipe_is_no_error(shared, tmp_path):
    process = spawn("info", shared / "model.h5", "--json", cwd=tmp_path)
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert (process.wait(timeout=60), err) == (141, "")


@pytest.mark.parametrize("term, name", [("xterm", "one.png"), ("xterm", "[red]\x1b[2J.png"), ("dumb", "one.png")])
def test_progress_on_a_terminal_leaves_stdout_alone(shared, tmp_path, monkeypatch, term, name):
    monkeypatch.setenv("TERM", term)
    ours, theirs = pytest.importorskip("pty").openpty()
    (tmp_path / "photos").mkdir()
    for target in ("two.png", name):
        (tmp_path / "photos" / target).write_bytes((shared / "room.png").read_bytes())
    options = ("--weights", shared / "model.h5", "--backend", "numpy", "--save", "labels", "--json")
    process = spawn("run", *options, "photos", cwd=tmp_path, stderr=theirs)
    out, _ = process.communicate(timeout=120)
    os.write(theirs, b"end")
    os.close(theirs)
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert process.returncode == 0, shown
    assert len(json.loads(out)["images"]) == 2
    if term == "dumb":
        assert shown == "end"
    else:
        assert streams.printable(name) in shown and "digest" not in shown and "\x1b[2J" not in shown


ODD_NAMES = ["line\nbreak", "\x1b[31mred", "snow\u2603man", "bytes\udcff"]


@pytest.mark.skipif(sys.platform != "linux", reason="other file systems do not take these names")
@pytest.mark.parametrize("encoding", ["utf-8:strict", "ascii"])
def test_any_file_name_can_be_told(shared, tmp_path, monkeypatch, encoding):
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    (tmp_path / "in").mkdir()
    for name in ODD_NAMES:
        (tmp_path / "in" / f"{name}.png").write_bytes((shared / "room.png").read_bytes())
        (tmp_path / "in" / f"{name}-bad.png").write_bytes(b"no image")
    process = spawn(
        "run", "--weights", shared / "model.h5", "--backend", "numpy", "--save", "labels", "in", cwd=tmp_path
    )
    out, err = process.communicate(timeout=120)
    assert process.returncode == 4
    assert len(err.splitlines()) == len(ODD_NAMES) and "unexpected" not in err
    assert [line.split()[0] for line in out.splitlines()].count("kept") == len(ODD_NAMES)
    assert "line\\nbreak.png" in out and "\\x1b[31mred.png" in out and "\x1b" not in out + err
    assert len(names(tmp_path / "pagnp-out")) == len(ODD_NAMES)


def shell(line, shared, tmp_path):
    """Run `pagnp {line}` in a shell, for its redirections; return (exit code, stdout, stderr)."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "D": str(shared)}
    command = f"'{sys.executable}' -m pagnp {line}"
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, env=environment, text=True, capture_output=True)
    return done.returncode, done.stdout, done.stderr


STREAMS = [
    ("info $D/model.h5 >/dev/full", 2, "stdout: cannot be written"),
    ("info $D/model.h5 --json >/dev/full", 2, "stdout: cannot be written"),
    ("info $D/model.h5 >&-", 0, ""),
    ("info $D/none.h5 2>&-", 3, ""),
    ("info $D/none.h5 2>/dev/full", 3, ""),
    ("run --weights $D/model.h5 --backend numpy $D/room.png $D/text.png --save labels 2>&-", 4, ""),
    ("run --weights $D/model.h5 --backend numpy $D/text.png $D/room.png --save labels 2>/dev/full", 4, ""),
]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("line, code, message", STREAMS)
def test_closed_and_full_streams(shared, tmp_path, line, code, message):
    got, out, err = shell(line, shared, tmp_path)
    assert got == code
    assert message in err and "Traceback" not in err and len(err.splitlines()) == bool(message)
    assert ("run" in line) == bool(out)
    if "run" in line:
        assert names(tmp_path / "pagnp-out") == ["room.labels.png"]


@pytest.mark.skipif(os.name != "posix", reason="needs ulimit")
def test_convert_on_a_full_disk_leaves_nothing(graph, tmp_path):
    np.savez(tmp_path / "plain.npz", **graph.weights)
    options = {"depth": 26, "width": 0.125, "output_stride": 8, "gated": list(GATES), "multipool": MULTIPOOL}
    (tmp_path / "config.json").write_text(json.dumps({**options, "heads": HEADS}))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = f"ulimit -f 20; '{sys.executable}' -m pagnp convert plain.npz --arch config.json -o m.h5"
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, env=environment, text=True, capture_output=True)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("pagnp: error: m.h5: cannot be written (File too large)")
    assert done.stderr.count("\n") == 1 and names(tmp_path) == ["config.json", "plain.npz"]


def test_json_tells_what_was_done_before_a_full_disk(call, monkeypatch):
    from pagnp.errors import UsageError

    write, calls = outputs.write, []

    def full(*args):
        calls.append(args)
        if len(calls) == 2:
            raise UsageError("disk full")
        return write(*args)

    monkeypatch.setattr(outputs, "write", full)
    code, out, err = call(RUN + " {d}/photos --json --save labels")
    assert (code, err) == (2, "pagnp: error: disk full\n")
    assert [Path(entry["path"]).name for entry in json.loads(out)["images"]] == ["one.png"]


def test_warnings_are_notices_of_one_line(capsys):
    before = warnings.showwarning
    with streams.prepared():
        warnings.warn("pagnp: the cache\ncannot be written", RuntimeWarning, stacklevel=2)
    assert capsys.readouterr() == ("", "pagnp: note: the cache cannot be written\n")
    assert warnings.showwarning is before
