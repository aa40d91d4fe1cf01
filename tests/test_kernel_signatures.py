"""The kernels of whole runs: for how many signatures each is compiled, that they load, and what the user hears."""

import importlib
import json
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numba")

from numba.core.dispatcher import Dispatcher

import pagnp
from pagnp import ops
from pagnp.backends import numba_cpu
from pagnp.backends.numba_cpu import kernelcache
from pagnp.backends.numba_cpu.threads import parallel

ROOT = Path(__file__).resolve().parents[1]
MODEL, PICTURE = ROOT / "examples" / "models" / "rooms-seg.h5", ROOT / "examples" / "images" / "room.png"


def command(*arguments, **variables):
    """Run the command line in a new process; return (stdout, stderr)."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), **variables}
    done = subprocess.run(
        [sys.executable, "-m", "pagnp", *map(str, arguments)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def test_the_command_line_says_once_that_kernels_are_compiled(tmp_path):
    run = ("run", "--weights", MODEL, PICTURE, "--out", tmp_path / "out", "--overwrite", "--json")
    cold, warm = (command(*run, PAGNP_CACHE_DIR=str(tmp_path / "cache")) for _ in range(2))
    assert cold[1].count("\n") == 1 and cold[1].startswith("pagnp: note: compiling kernels for this machine")
    assert str(tmp_path / "cache") in cold[1] and not warm[1]
    digests = {json.loads(out)["images"][0]["digest"] for out, _ in (cold, warm)}
    assert len(digests) == 1


def test_all_kernels_load_into_a_process_that_compiles_nothing():
    """Loading leaves out most of what Numba does first (kernelcache.py); `doctor` runs every node's kernel."""
    command("doctor")
    out, err = command("doctor")
    assert "FAIL" not in out and "compiling" not in err


def signatures():
    """Return name -> number of compiled signatures, of the kernels that are called from Python."""
    found = {}
    for info in pkgutil.iter_modules(numba_cpu.__path__, f"{numba_cpu.__name__}."):
        for value in vars(importlib.import_module(info.name)).values():
            if isinstance(value, Dispatcher) and isinstance(value._cache, kernelcache.KernelCache):
                found[f"{value.py_func.__module__.rpartition('.')[2]}.{value.__name__}"] = len(value.signatures)
    return {name: count for name, count in found.items() if count}


def use_everything():
    """Run the shipped model in every way, and convolutions with every epilogue; print the signatures as JSON."""
    model = pagnp.load(MODEL, threads=2)
    model(PICTURE)
    plain = signatures()
    image = np.random.default_rng(2).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    modes = [{"gate_mode": mode} for mode in ("soft", "gumbel_soft", "gumbel_hard")]
    for options in ({"dense": True}, {"flip": True}, {"tile": 16}, {"budget": 0.5}, {"trace": True}, *modes):
        model(image, **options)
    x, weight = np.ones((1, 8, 9, 20), np.float32), np.ones((3, 3, 20, 24), np.float32)
    row, out = np.ones(24, np.float32), np.ones((1, 6, 7, 24), np.float32)
    affine = ({}, {"scale": row, "shift": row}, {"bias": row})
    for number in range(24):
        options = {**affine[number % 3], "relu": number % 2 == 0, "stride": 1}
        options |= {"residual": out} if number % 4 < 2 else {}
        options |= {} if number < 12 else {"sites": np.arange(3, dtype=np.int32), "residual": None}
        x.flags.writeable = weight.flags.writeable = number % 8 < 4
        ops.conv2d(x, weight, backend="numba", **options)
    for a in (x, x.copy()):
        for b in (x, x.copy()):
            ops.add(a, b, backend="numba")
    print(json.dumps([plain, signatures()]))


def test_no_kernel_is_compiled_for_more_than_one_signature():
    """Epilogues, sites and strides are run-time flags, read-only arrays are taken as others."""
    code = "import test_kernel_signatures as t; t.use_everything()"
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), *sys.path])
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    plain, everything = json.loads(done.stdout)
    assert len(plain) <= 8 and "conv_tiles.conv2d_f32_tiles" in plain
    assert set(everything.values()) == {1}, everything


def test_a_read_only_array_is_the_same_memory():
    seen = []
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    array.flags.writeable = False
    parallel(lambda start, stop, x: seen.append(x), 1, 1, array)
    assert seen[0].ctypes.data == array.ctypes.data and seen[0].flags.writeable and not array.flags.writeable
    assert (seen[0] == array).all()
