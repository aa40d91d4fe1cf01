"""The digests of exp, exp10, log and sigmoid over all float32 inputs: some chunks on every backend, and the tools."""

import json
import platform
import re
import shutil
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
from conftest import load_backend

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = json.loads((ROOT / "tests" / "golden" / "transcendentals.json").read_text())

# Chunk n holds the inputs with the bits n * 2^22 and on.
CHUNKS = {
    "exp": {
        0: "+0 and subnormals",
        266: "88.72, overflow",
        778: "-87.3, results become subnormal",
        779: "-103.97, underflow",
        510: "+Inf, signalling NaN",
    },
    "exp10": {264: "38.53, overflow", 772: "C126F431, rounded to the other side", 776: "-45.15, underflow", 511: "NaN"},
    "log": {
        0: "+0 and subnormals",
        241: "3C413D3A, rounded to the other side",
        254: "1",
        510: "+Inf, signalling NaN",
        512: "-0 and below",
    },
    "sigmoid": {
        262: "16.6, the result becomes 1",
        734: "B7838000, rounded to the other side",
        779: "-103.97, underflow",
        1023: "NaN, its sign set",
    },
}
ROWS = [(name, chunk) for name, chunks in CHUNKS.items() for chunk in chunks]


def load_tool():
    """Return tools/sweep_digests.py as a module."""
    spec = spec_from_file_location("sweep_digests", ROOT / "tools" / "sweep_digests.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tool = load_tool()


def golden_chunk(name, chunk):
    """Return the digits of a chunk's digest that the golden file keeps."""
    return " ".join(GOLDEN["functions"][name]["chunks"]).split()[chunk]


@pytest.mark.parametrize(("name", "chunk"), ROWS)
def test_a_chunk(name, chunk, backend_name):
    kernel = load_backend(backend_name).kernels[name]
    got = tool.chunk_digest(kernel, chunk)[: tool.PREFIX]
    what = f"{name}[{backend_name}] chunk {chunk} ({CHUNKS[name][chunk]})"
    assert got == golden_chunk(name, chunk), (
        f"{what} differs: python tools/sweep_digests.py --backend {backend_name} --functions {name} --chunks {chunk}"
    )


def test_the_sweep_in_c_gives_the_same_chunks(tmp_path):
    compiler = shutil.which("g++")
    if compiler is None or platform.machine() != "x86_64":
        pytest.skip("no g++ with an 80-bit long double here")
    sweep = tmp_path / "sweep"
    source = ROOT / "tools" / "sweep_transcendentals.cpp"
    subprocess.run([compiler, "-O2", "-std=c++17", "-ffp-contract=off", str(source), "-o", str(sweep)], check=True)
    for name, chunk in [(name, min(chunks)) for name, chunks in CHUNKS.items()]:
        printed = subprocess.check_output([str(sweep), "digests", name, str(chunk)], text=True)
        assert f"\n{name} {chunk} {golden_chunk(name, chunk)}" in printed


def test_the_page_shows_the_digests():
    page = (ROOT / "docs" / "NUMERICS.md").read_text()
    shown = dict(re.findall(r"^\| (exp|exp10|log|sigmoid) \| `([0-9a-f]{64})` \|$", page, re.MULTILINE))
    assert shown == {name: function["digest"] for name, function in GOLDEN["functions"].items()}
    assert all(len(golden_chunk(name, 1023)) == tool.PREFIX for name in tool.FUNCTIONS)


def test_one_wrong_bit_changes_a_chunk_and_a_nans_bits_do_not():
    def identity(x, out):
        np.copyto(out.view(np.uint32), x.view(np.uint32))

    def wrong(x, out):
        identity(x, out)
        out.view(np.uint32)[12345] ^= 1

    def canonical(x, out):
        identity(x, out)
        out[np.isnan(x)] = np.nan

    assert tool.chunk_digest(wrong, 7) != tool.chunk_digest(identity, 7)
    assert tool.chunk_digest(identity, 1023) == tool.chunk_digest(canonical, 1023) == tool.chunk_digest(wrong, 1023)


def journal(path, chunks, extra=""):
    """Write a journal of exp; return its path as text."""
    path.write_text("# test\n" + "".join(f"exp {chunk} {digest}\n" for chunk, digest in chunks.items()) + extra)
    return str(path)


def test_a_wrong_journal_is_told(tmp_path, capsys):
    good = {chunk: golden_chunk("exp", chunk).ljust(64, "0") for chunk in (0, 266)}
    assert tool.main(["--check", journal(tmp_path / "good.txt", good)]) == 0
    assert "0 of 2 chunks differ" in capsys.readouterr().out
    assert tool.main(["--check", journal(tmp_path / "bad.txt", {**good, 266: "0" * 64})]) == 1
    assert "exp[bad.txt] chunk 266 differs: inputs 42800000 .. 42BFFFFF" in capsys.readouterr().out
    assert tool.main(["--check", journal(tmp_path / "empty.txt", {})]) == 1
    for extra in (f"exp 0 {'1' * 64}\n", f"exp all {'1' * 64}\n", "exp 0 123\n", f"tan 0 {'1' * 64}\n"):
        with pytest.raises(SystemExit, match="line 4 "):
            tool.main(["--check", journal(tmp_path / "torn.txt", good, extra)])


def test_golden_files_are_made_of_whole_and_equal_journals(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(tool, "GOLDEN", tmp_path / "golden.json")
    part = journal(tmp_path / "part.txt", {0: "1" * 64})
    assert tool.main(["--write-golden", part]) == 1
    assert "not complete" in capsys.readouterr().out
    lines = [f"{name} {chunk} {'1' * 64}\n" for name in tool.FUNCTIONS for chunk in range(tool.CHUNKS)]
    (tmp_path / "a.txt").write_text("# a\n" + "".join(lines))
    (tmp_path / "b.txt").write_text("# b\n" + "".join(lines).replace(f"log 1023 {'1' * 64}", f"log 1023 {'2' * 64}"))
    assert tool.main(["--write-golden", str(tmp_path / "a.txt"), str(tmp_path / "b.txt")]) == 1
    assert not tool.GOLDEN.exists()
    assert tool.main(["--write-golden", str(tmp_path / "a.txt")]) == 0
    assert tool.main(["--check", str(tmp_path / "a.txt")]) == 0
    assert tool.main(["--check", str(tmp_path / "b.txt")]) == 1


def test_a_stopped_run_goes_on(tmp_path):
    path = tmp_path / "journal.txt"
    arguments = ["--backend", "numpy", "--functions", "log", "--jobs", "1", "--journal", str(path), "--chunks", "600"]
    digest = tool.chunk_digest(load_backend("numpy").log, 600)
    path.write_text(f"{tool.make_of('numpy')}\nlog 600 {digest}\n")
    command = [sys.executable, str(ROOT / "tools" / "sweep_digests.py"), *arguments, "601"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "# 1 chunks to compute" in done.stderr and "0 of 2 chunks differ" in done.stdout
    assert len(path.read_text().splitlines()) == 3
    path.write_text("# another backend\n")
    with pytest.raises(SystemExit, match="begun by another version"):
        tool.main(arguments)
