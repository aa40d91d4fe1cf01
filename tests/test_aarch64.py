"""The vector code of the Numba backend on AArch64: what LLVM makes of it, and its bits under emulation.

Needs no ARM machine: llvmlite compiles for it, qemu-user runs what comes out. See tests/aarch64.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("numba")

import llvmlite.binding as llvm
from aarch64.assembly import STACK, VECTOR_FMA, calls, count, functions, innermost_loops

from pagnp.backends.numba_cpu import microkernel, vectorcode

HERE = Path(__file__).resolve().parent / "aarch64"
TOOLS = ("qemu-aarch64", "aarch64-linux-gnu-gcc")  # Debian: qemu-user, gcc-aarch64-linux-gnu
CPUS = ("generic", "cortex-a76", "neoverse-n1")
EVERY = 12  # of the conformance table's convolutions; `python tests/aarch64/check.py` takes all
SHAPES = ("wide", "slim", "rows", "narrow 2", "narrow 4")


def run(script, folder, *arguments):
    """Run a script of tests/aarch64, in a process of its own: it makes the kernel modules believe in another CPU."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parent.parent), *sys.path])}
    environment["PAGNP_CACHE_DIR"] = str(folder)
    command = [sys.executable, HERE / script, folder, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def emitted(tmp_path_factory):
    """The folder with what emit.py writes."""
    if llvm.llvm_version_info < (20,):
        pytest.skip("LLVM 15 loses the sign of -0 on AArch64: there the backend refuses it (numba_cpu.make)")
    llvm.initialize_all_targets()
    try:
        llvm.Target.from_triple("aarch64-unknown-linux-gnu")
    except RuntimeError as error:
        pytest.skip(f"this llvmlite does not compile for AArch64: {error}")
    folder = tmp_path_factory.mktemp("aarch64")
    run("emit.py", folder)
    return folder


@pytest.fixture(scope="module")
def shapes(emitted):
    return json.loads((emitted / "shapes.json").read_text())


def spills(emitted, name, shapes):
    """Return {function: loads and stores of the stack in its inner loops with vector fmas}."""
    code, found = functions((emitted / f"{name}.s").read_text()), {}
    for function in shapes:
        loops = [loop for loop in innermost_loops(code[function]) if count(VECTOR_FMA, loop)]
        found[function] = sum(count(STACK, loop) for loop in loops)
    return found


def test_the_shapes_are_those_for_four_lanes(shapes, monkeypatch):
    monkeypatch.setattr(vectorcode, "cpu_triple", lambda: "aarch64-unknown-linux-gnu")
    monkeypatch.setattr(microkernel, "cpu_features", lambda: frozenset({"neon"}))
    tiles = [f"pagnp_tile_steps_{pixels}x{width}" for pixels, width, _ in microkernel._tiles()]
    assert set(tiles) < set(shapes)
    assert {lanes for _, _, lanes in shapes.values()} == {4}


@pytest.mark.parametrize("cpu", CPUS)
def test_a_step_is_one_fma_an_accumulator(emitted, shapes, cpu):
    code = functions((emitted / f"{cpu}.s").read_text())
    for function, (pixels, width, lanes) in shapes.items():
        fmas = [n for loop in innermost_loops(code[function]) if (n := count(VECTOR_FMA, loop))]
        assert fmas and not any(n % (pixels * width // lanes) for n in fmas), (function, fmas)


@pytest.mark.parametrize("cpu", CPUS)
def test_no_tile_leaves_its_registers(emitted, shapes, cpu):
    assert spills(emitted, cpu, shapes) == dict.fromkeys(shapes, 0)


def test_a_tile_that_is_too_large_shows(emitted, shapes):
    assert spills(emitted, "tile too large", shapes)["pagnp_row_steps"] > 0


@pytest.mark.parametrize("cpu", CPUS)
def test_nothing_is_called_that_is_not_here(emitted, cpu):
    """Where a CPU lacks an instruction, LLVM calls the C library: fmaf, one element at a time."""
    code = functions((emitted / f"{cpu}.s").read_text())
    assert {name for lines in code.values() for name in calls(lines)} <= set(code)


@pytest.fixture(scope="module")
def findings(emitted):
    """What check.py found, by mistake: differences from the reference, by shape of tile and by loop of fmas."""
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        pytest.skip(f"not installed: {', '.join(missing)}")
    return json.loads(run("check.py", emitted, EVERY))


@pytest.mark.parametrize("shape", SHAPES)
def test_convolutions_have_the_reference_bits(findings, shape):
    calls, problems = findings["none"]["convolutions"][shape]
    assert calls > 0 and not problems, "\n".join(problems[:3])


def test_the_fma_has_the_reference_bits(findings):
    assert set(findings["none"]["fma"].values()) == {""}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("mistake", ["unfused", "chains of 129"])
def test_a_mistake_is_found(findings, mistake, shape):
    calls, problems = findings[mistake]["convolutions"][shape]
    assert calls > 0 and problems


def test_an_unfused_loop_is_found(findings):
    assert [loop for loop, difference in findings["unfused"]["fma"].items() if difference] == ["fma_1", "fma_4"]
