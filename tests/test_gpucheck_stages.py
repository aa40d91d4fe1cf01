"""What each stage of gpucheck finds, with the shim as its GPU: wrong kernels, networks, digests; the sanitizer."""

# ruff: noqa: F811 - fixtures are imported, and arguments have their names

import contextlib
import ctypes
import dataclasses
import functools
import os
import stat
import sys
from collections import Counter

import gpucheck_on_shim as on_shim
import numpy as np
import pytest
from cuda_shim.device import CudaArray
from gpucheck_job import backend, folder, job  # noqa: F401

import pagnp
from pagnp.bench import gpu_launches, gpu_layers
from pagnp.gpucheck import (
    arrays,
    conformance,
    load,
    networks,
    repetition,
    report,
    sanitized,
    sanitizer,
)
from pagnp.gpucheck.job import Deadline
from pagnp.gpucheck.record import no_problems
from pagnp.testing.cases import CASES

# Conformance


def test_a_wrong_kernel_is_found_with_its_bits(job, backend):
    right = backend.kernels["relu"]

    def relu(x, out):
        right(x, out)
        out.view(np.ndarray).reshape(-1)[-1] = 3

    backend.kernels["relu"] = relu
    relus = [case for op in ("relu", "add") for case in CASES if case.op == op and 0 not in case.x_shape][::20]
    conformance.check_rows(job, "rows", relus, conformance.References(), 0)
    found = job.record.checks["rows"]
    wrong = sum(case.op == "relu" for case in relus)
    assert found["count"] == len(relus) and found["failed"] == wrong > 0
    assert "got 40400000 (3.0)" in found["first"][0] and 'Case("relu"' in found["first"][0]
    assert "pytest" not in found["first"][0]


def test_a_kernel_that_writes_beside_its_array_is_found(job, backend):
    right = backend.kernels["relu"]

    def relu(x, out):
        right(x, out)
        ctypes.memset(out.ctypes.data + out.nbytes, 0, 4)

    backend.kernels["relu"] = relu
    conformance.check_rows(job, "rows", [case for case in CASES if case.op == "relu"][:1], conformance.References(), 0)
    assert "wrote beside an array" in job.record.checks["rows"]["first"][0]


def test_a_device_that_answers_no_more_ends_the_stage(job, backend):
    def broken(*args):
        raise RuntimeError("an illegal memory access was encountered")

    backend.kernels.update(dict.fromkeys(backend.kernels, broken))
    conformance.run(job)
    assert job.record.checks["rows"]["count"] == conformance.STUBBORN
    assert "illegal memory access" in job.record.checks["rows"]["first"][0]


def test_rows_that_there_is_no_time_for_are_a_failure(job):
    job.deadline = Deadline(0)
    conformance.check_rows(job, "rows", CASES[:3], conformance.References(), 0)
    conformance.check_rows(job, "random", CASES[:3], conformance.References(), 0, required=False)
    assert job.record.checks["rows"]["failed"] == 1 and not job.record.checks["random"]["failed"]


def test_every_tile_is_forced(job, backend):
    sets = conformance.tile_sets(backend)
    assert [name for name, _ in sets][1:] == [tile.kernel for tile in backend.arrays.conv_tiles]
    wide = [c for c in CASES if c.op == "conv2d" and c.params["c_in"] % 4 == 0 and c.get("groups") == 1]
    convs, want = [case for case in wide if case.params["c_out"] == 64][:1], conformance.References()
    with gpu_launches.launches(backend.arrays) as outer:
        for name, tiles in sets[1:]:
            with gpu_launches.only(backend.arrays, tiles), gpu_launches.launches(backend.arrays) as counts:
                conformance.check_rows(job, "tiles", convs, want, 0)
            assert set(counts) == {name}
    assert no_problems(vars(job.record)) and len(outer) == len(sets) - 1
    assert "launch" not in vars(backend.arrays)


# Networks


def test_the_networks(job, backend, monkeypatch):
    device = backend.arrays
    shim = arrays.Library(
        lambda a: CudaArray(device.to_device(a)), lambda a: a.array.ctypes.data, contextlib.nullcontext, int
    )
    loads = {"shim": lambda: shim, "absent": functools.partial(__import__, "no_such_library")}
    monkeypatch.setattr(arrays, "check", functools.partial(arrays.check, libraries=loads))
    monkeypatch.setattr(arrays, "_kind", lambda array: "the same")
    monkeypatch.setattr(
        arrays.gpuarrays, "to_host", lambda a: np.array(a.view(np.ndarray)) if hasattr(a, "view") else a
    )
    networks.run(job)
    found = job.record.checks
    assert no_problems(vars(job.record)), found
    runs = 2 * len(networks.RUNS)
    assert found["shipped model, plain"]["count"] == runs and found["shipped model, plain, layers"]["count"] > 40
    assert found["places in a batch"]["count"] == runs * networks.BATCH
    assert found["receipt, numba to cupy"]["count"] == found["receipt, cupy to numba"]["count"] == 1
    assert found["arrays of shim"]["count"] == found["arrays of shim, own stream"]["count"] == 1
    assert "no_such_library" in job.record.skipped["arrays of absent"]
    assert job.record.values["kernels"] and backend.arrays.can_record


def test_a_network_with_other_bits_is_found(job, backend, monkeypatch):
    right = backend.kernels["relu"]

    def relu(x, out):
        right(x, out)
        backend.arrays.zero(out)

    monkeypatch.setitem(backend.kernels, "relu", relu)
    job.weights = None
    networks.run(job)
    assert job.record.checks["sample network"]["failed"] == 1
    assert job.record.skipped["shipped model"] == networks.NO_MODEL


def test_a_forged_receipt_is_found(backend):
    host, device = networks.receipt_pairs(backend, pagnp.load(on_shim.WEIGHTS).graph)["numba to cupy"]
    pixels = pagnp.image.load_image(on_shim.IMAGE).pixels[60:76, 90:106]
    other = pagnp.Model(host.graph, "numba")
    result = other(np.ascontiguousarray(pixels[::-1]), trace="digests", budget=0.4, flip=True)
    wrong = lambda *args, **options: result  # noqa: E731
    wrong.graph, wrong.backend = host.graph, host.backend
    assert networks.across(wrong, device, on_shim.WEIGHTS, np.ascontiguousarray(pixels))


# Repetition


def test_repetition(job, monkeypatch):
    monkeypatch.setattr(repetition, "RUNS", 40)
    monkeypatch.setattr(repetition, "own_stream", contextlib.nullcontext)
    loading = [sys.executable, "-c", f"import time; print('{repetition.LOADED}', flush=True); time.sleep(60)"]
    monkeypatch.setattr(repetition, "loading_process", functools.partial(repetition.loading_process, command=loading))
    repetition.run(job)
    found = job.record.values["repetition"]
    assert found["runs"] == 5 and list(found["digests"]) == [found["digest"]]
    assert found["loading process"] == {"began": True, "to the end": True}
    assert no_problems(vars(job.record)) and found["runs on another stream"] > 0
    text = report.markdown(
        {"environment": on_shim.ABOUT, "stages": [on_shim.staged_json("repetition", job)], "targets": []}
    )
    assert "| cupy | 5 of 40 | 1 | to the end |" in text


def test_a_digest_that_changes_is_told():
    digests = Counter({"a" * 64: 998, "b" * 64: 2})
    assert repetition.wrong_digests(digests, "a" * 64) == [f"2 runs gave {'b' * 16}, not {'a' * 16}"]
    assert repetition.wrong_digests(Counter(), "a" * 64) == ["no run came to its end"]


def test_a_loading_process_that_does_not_begin_is_told():
    skipped = []
    with repetition.loading_process("cupy", 1, lambda *told: skipped.append(told), [sys.executable, "-c", ""]) as found:
        pass
    assert not found["began"] and skipped == [("loading process", "it did not begin (nothing printed)")]


def test_the_load(backend, capsys, monkeypatch):
    monkeypatch.setattr(load, "AT_ONCE", 1)
    monkeypatch.setattr(load, "COPIED", 64)
    assert load.load(backend, 0.01, gpu_layers.Layer(4, 4, 8, 8, 1, 1, 0, 1)) >= 1
    assert capsys.readouterr().out == "loading\n"


# Sanitizer

CLEAN = "========= COMPUTE-SANITIZER\ncases: 8 of 139\ncases: 139 of 139\n========= ERROR SUMMARY: 0 errors\n"
FOUND = "========= COMPUTE-SANITIZER\n========= Invalid __global__ write\n========= ERROR SUMMARY: 3 errors\n"
RACE = "========= COMPUTE-SANITIZER\n========= RACECHECK SUMMARY: 1 hazard displayed (1 error, 0 warnings)\n"
UNSUPPORTED = "========= COMPUTE-SANITIZER\n========= Error: Device not supported. Please refer to the documentation\n"
NO_RACE = "========= RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)\n"
DIED = f"========= COMPUTE-SANITIZER\nTraceback\nAttributeError: no such thing\n{NO_RACE}"


@pytest.mark.parametrize(
    ("code", "text", "problem", "reason"),
    (
        (0, CLEAN, "", ""),
        (9, FOUND, "Invalid __global__ write", ""),
        (9, RACE, "RACECHECK SUMMARY: 1", ""),
        (1, UNSUPPORTED, "", "Error: Device not supported"),
        (9, FOUND + "cases: 3 of 9\nAssertionError: x\n", "the program said: AssertionError: x", ""),
        (1, "Traceback\nAssertionError: Case(x)\n", "exit code 1: AssertionError: Case(x)", ""),
        (1, DIED, "the program ended with exit code 1: AttributeError: no such thing", ""),
        (1, NO_RACE, "exit code 1: ========= RACECHECK SUMMARY: 0 hazards", ""),
        (None, "cases: 16 of 139\n", "", "stopped after 16 of 139 cases, which have no error"),
        (None, "cases: 16 of 139\n========= Invalid __global__ write\n", "Invalid __global__ write", ""),
        (None, "", "", "too slow"),
        (0, "nothing of the tool", "exit code 0", ""),
    ),
)
def test_what_the_sanitizer_says(code, text, problem, reason):
    problems, why = sanitizer.judge(code, text)
    assert (problem in problems[0]) if problem else not problems
    assert (why.startswith(reason)) if reason else not why


@pytest.fixture
def program(monkeypatch, tmp_path):
    """text -> a compute-sanitizer that notes how it was called, and prints the text."""
    path = tmp_path / "compute-sanitizer"
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    def install(text):
        path.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\ncat <<END\n{text}END\n')
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return tmp_path / "asked"

    return install


@pytest.mark.parametrize("name", ["cupy", "numba-cuda"])
def test_the_sanitizer_is_run(job, program, name):
    asked, job.backend = program(CLEAN), dataclasses.replace(job.backend, name=name)
    sanitizer.run(job)
    assert no_problems(vars(job.record)) and not job.record.skipped
    assert list(job.record.checks) == list(sanitizer.TOOLS[name]) and "memcheck" in job.record.checks
    assert all(check["count"] == 139 for check in job.record.checks.values())
    assert [line.split()[1] for line in asked.read_text().splitlines()] == list(job.record.checks)
    assert all(f"pagnp.gpucheck.sanitized {name} " in line for line in asked.read_text().splitlines())


def test_cases_that_there_is_no_time_for_are_told(job, program):
    program(CLEAN.replace("139 of 139", "35 of 139"))
    sanitizer.run(job)
    assert no_problems(vars(job.record)) and job.record.checks["memcheck"]["count"] == 35
    assert job.record.skipped["memcheck"] == "the time was over after 35 of 139 cases, which have no error"


def test_what_dies_before_its_first_case_was_looked_at(job, program):
    program(FOUND)
    sanitizer.run(job)
    assert job.record.checks["memcheck"] == {"count": 1, "failed": 1, "first": ["\n".join(FOUND.splitlines()[1:])]}


def test_how_the_tools_are_called():
    """Errors of the API that a library provokes while it starts are no errors of memory."""
    words = sanitizer.command("compute-sanitizer", "memcheck", "cupy", 5)
    assert words[:7] == ["compute-sanitizer", "--tool", "memcheck", "--error-exitcode", "9", "--print-limit", "20"]
    assert words[7:9] == ["--report-api-errors", "no"]
    assert words[9:] == [sys.executable, "-m", "pagnp.gpucheck.sanitized", "cupy", "5.0"]
    assert "--report-api-errors" not in sanitizer.command("compute-sanitizer", "racecheck", "cupy", 5)


def test_without_the_sanitizer_it_says_so(job, monkeypatch):
    monkeypatch.setattr(sanitizer, "find_program", lambda: None)
    sanitizer.run(job)
    assert set(job.record.skipped) == {"stage", *sanitizer.TOOLS["cupy"]}


def test_the_cases_of_the_sanitizer(backend):
    chosen = list(sanitized.cases(backend))
    assert {case.op for case, _ in chosen} == {case.op for case in CASES} - {"bilinear_deconv"}
    assert {tiles for _, tiles in chosen} >= {(tile,) for tile in backend.arrays.conv_tiles}
    turns = iter(range(3))
    assert sanitized.check(backend, lambda: next(turns, 3) < 2) == 2
