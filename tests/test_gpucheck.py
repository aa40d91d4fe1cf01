"""`python -m pagnp.gpucheck` with the shim as its GPU: stages that pass, fail, crash and hang; what it writes."""

import argparse
import contextlib
import ctypes
import functools
import json
import os
import stat
import sys
from collections import Counter

import gpucheck_on_shim as on_shim
import numpy as np
import pytest
from cuda_shim import build
from cuda_shim.device import CudaArray

import pagnp
from pagnp.backends.gpu import driver
from pagnp.bench import gpu_launches, gpu_layers
from pagnp.gpucheck import (
    __main__,
    arrays,
    conformance,
    environment,
    load,
    networks,
    repetition,
    report,
    running,
    sanitized,
    sanitizer,
    stages,
)
from pagnp.gpucheck.job import Deadline, Job
from pagnp.gpucheck.record import Record, no_problems
from pagnp.gpucheck.stages import Stage
from pagnp.testing.cases import CASES


@pytest.fixture(scope="module")
def folder():
    if build.compiler() is None:
        assert not os.environ.get("CI"), "CI has a C++ compiler"
        pytest.skip("no g++: the CUDA sources cannot be run on the CPU")
    return on_shim.shim_folder()


@pytest.fixture
def backend(folder):
    return on_shim.shim_backend_of(folder)("cupy")


@pytest.fixture
def job(backend):
    return Job(backend, Record(), Deadline(1000), on_shim.WEIGHTS, on_shim.IMAGE, every=8)


@pytest.fixture
def options(tmp_path):
    return argparse.Namespace(only=[], backend=[], minutes=1.0, out=tmp_path / "out")


# Processes


def child(code, record):
    return [sys.executable, "-c", code, str(record)]


def of_stage(codes):
    """Return the Command that runs codes[stage name], in which `record` is a Record."""
    start = "import sys, pathlib, os, time\nfrom pagnp.gpucheck.record import Record\n"
    start += "record = Record(pathlib.Path(sys.argv[1]))\n"
    return lambda stage, seconds, path: child(start + codes[stage.name], path)


def staged(names, wave=1):
    return [Stage(name, "cupy", 20, wave, "conformance") for name in names]


CODES = {
    "good": "record.check('a', count=3); record.put('kernels', {'relu_f32': 2}); record.finish()",
    "wrong": "record.check('bits', ['got 1 want 2\\nline']); record.check('bits'); record.finish()",
    "crash": "record.check('before', count=7); os.kill(os.getpid(), 11)",
    "raises": "print('some output'); raise SystemError('no such thing')",
    "unable": "record.skip('stage', 'no such package'); sys.exit(5)",
    "without": "record.skip('stage', 'no such program'); record.finish()",
    "unfinished": "record.check('a')",
    "hangs": "record.check('begun'); time.sleep(60)",
}


@pytest.fixture
def patience(monkeypatch):
    monkeypatch.setattr(running, "GRACE", 0.5)
    monkeypatch.setattr(running, "LEAST", 0.1)


def test_no_stage_harms_another(options, patience, capsys):
    wanted = [*staged(name for name in CODES if name != "hangs"), Stage("hangs", "cupy", 1.5, 1, "conformance")]
    document = __main__.Document(options.out, on_shim.ABOUT)
    outcomes = running.run(wanted, of_stage(CODES), 60, document.write)
    found = {outcome.stage.name: outcome for outcome in outcomes}
    assert {name: outcome.status for name, outcome in found.items()} == {
        **{"good": "passed", "wrong": "failed", "crash": "failed", "raises": "failed"},
        **{"unable": "not run", "without": "not run", "unfinished": "failed", "hangs": "failed"},
    }
    assert found["wrong"].reason == "bits: 1 of 2 failed; got 1 want 2"
    assert found["crash"].reason == "ended by SIGSEGV" and found["crash"].found["checks"]["before"]["count"] == 7
    assert "SystemError: no such thing" in found["raises"].reason and "some output" in found["raises"].log
    assert (found["unable"].reason, found["without"].reason) == ("no such package", "no such program")
    assert found["hangs"].reason == "stopped after 2 s" and found["hangs"].found["checks"]["begun"]["count"] == 1
    written = json.loads((options.out / "gpucheck.json").read_bytes())
    assert [stage["status"] for stage in written["stages"]] == [outcome.status for outcome in outcomes]
    text = (options.out / "gpucheck.md").read_text()
    assert "| wrong | cupy | failed |" in text and "    got 1 want 2\n    line\n" in text
    assert "Kernels of cupy: 1 of" in text and "SystemError: no such thing" in text and "no such package" in text


def test_ctrl_c_keeps_what_is_there(options, patience):
    wanted = [*staged(["good", "hangs"]), *staged(["wrong"], wave=2)]
    seen, document = [], __main__.Document(options.out, on_shim.ABOUT)

    def told(line):
        seen.append(line)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        running.run(wanted, of_stage(CODES), 60, document.write, told)
    assert len(seen) == 1 and seen[0].startswith("good, cupy: passed")
    written = json.loads((options.out / "gpucheck.json").read_bytes())["stages"]
    assert [(stage["status"], stage["reason"]) for stage in written] == [
        ("passed", ""),
        ("failed", "stopped by the user"),
        ("not run", "not begun"),
    ]


def test_a_stage_without_time_is_not_begun(options):
    outcomes = running.run(staged(["good"]), of_stage(CODES), 5, lambda outcomes: None)
    assert (outcomes[0].status, outcomes[0].reason) == ("not run", "no time was left")


def test_waves_and_choices():
    assert [stage.wave for stage in stages.STAGES] == sorted(stage.wave for stage in stages.STAGES)
    assert {stage.group for stage in stages.STAGES} == set(stages.GROUPS)
    assert {stage.title for stage in stages.chosen(["conformance"], ["cupy"])} == {"conformance, cupy"}
    assert stages.chosen([], []) == list(stages.STAGES)
    alone = [stage for stage in stages.STAGES if stage.group == "speed"]
    assert len({stage.wave for stage in alone}) == len(alone), "times are taken with nobody beside"
    waves = {stage.wave: 0.0 for stage in stages.STAGES}
    for stage in stages.STAGES:
        waves[stage.wave] = max(waves[stage.wave], stage.seconds)
    *others, last = waves.values()
    assert sum(others) + 100 <= 60 * __main__.MINUTES <= 480 and last > 100, "the last stage takes what is left"


# The command


def no_gpu(problem="no CUDA driver (libcuda.so.1 not found)"):
    def gpus():
        raise driver.DriverProblem(problem)

    return gpus


def test_without_a_gpu_it_says_so_in_one_line(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(driver, "gpus", no_gpu())
    assert __main__.main(["--out", str(tmp_path / "out")]) == 5
    out, err = capsys.readouterr()
    assert err == "gpucheck: no CUDA driver (libcuda.so.1 not found); there is nothing to check\n" and not out
    assert not (tmp_path / "out").exists()


def test_wrong_options_are_one_line(monkeypatch, capsys, tmp_path):
    assert __main__.main(["--only", "speed,nonsense"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_whole_command_on_the_shim(monkeypatch, folder, tmp_path, capsys):
    """Conformance of the shim passes in a process of its own, Numba-CUDA is not there, and both files say it."""
    monkeypatch.setattr(environment, "environment", lambda commit: {**on_shim.ABOUT, "commit": commit})
    monkeypatch.setitem(
        os.environ, "PYTHONPATH", os.pathsep.join([str(on_shim.ROOT), str(on_shim.ROOT / "tests"), *sys.path])
    )
    script, files = on_shim.ROOT / "tests/gpucheck_on_shim.py", ["every=200"]

    def command(stage, seconds, record):
        return [sys.executable, str(script), str(folder), stage.name, stage.backend, str(seconds), str(record), *files]

    out = tmp_path / "out"
    assert __main__.main(["--only", "conformance", "--out", str(out), "--commit", "c0ffee"], command) == 0
    document = json.loads((out / "gpucheck.json").read_bytes())
    assert document["format"] == "pagnp-gpucheck" and document["environment"]["commit"] == "c0ffee"
    one, two = document["stages"]
    assert one["status"] == "passed" and one["checks"]["rows"] == {
        "count": -(-len(CASES) // 200),
        "failed": 0,
        "first": [],
    }
    assert two["status"] == "not run" and "not on the shim" in two["reason"]
    assert {target["verdict"] for target in document["targets"]} == {"not measured"}
    text = (out / "gpucheck.md").read_text()
    assert "commit c0ffee" in text and "| conformance | cupy | passed |" in text
    assert "stage   passed        conformance, cupy" in capsys.readouterr().out


def test_what_is_told_of_the_machine(monkeypatch):
    monkeypatch.setattr(driver, "gpus", lambda: [driver.Gpu("Fake GPU", (9, 0), 1 << 36)])
    monkeypatch.setattr(driver, "cuda_version", lambda: (13, 0))
    answers = {"nvidia-smi": "Fake GPU, 580.1, 80 GiB\n", "git": "abc\n"}
    monkeypatch.setattr(environment, "_output", lambda words: answers[words[0]])
    found = environment.environment()
    assert found["gpus"] == [on_shim.GPU] and found["cuda"] == "13.0" and found["commit"] == "abc\n".strip() + "+"
    assert found["nvidia-smi"]["driver_version"] == "580.1" and "numpy" in found["packages"]
    assert not any("set" in option or option.startswith("-") for option in environment.SMI), "it reads only"


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

CLEAN = "========= COMPUTE-SANITIZER\ncases: 8\ncases: 139\n========= ERROR SUMMARY: 0 errors\n"
FOUND = "========= COMPUTE-SANITIZER\n========= Invalid __global__ write\n========= ERROR SUMMARY: 3 errors\n"
RACE = "========= COMPUTE-SANITIZER\n========= RACECHECK SUMMARY: 1 hazard displayed (1 error, 0 warnings)\n"
UNSUPPORTED = "========= COMPUTE-SANITIZER\n========= Error: Device not supported. Please refer to the documentation\n"


@pytest.mark.parametrize(
    ("code", "text", "problem", "reason"),
    (
        (0, CLEAN, "", ""),
        (9, FOUND, "Invalid __global__ write", ""),
        (9, RACE, "RACECHECK SUMMARY: 1", ""),
        (1, UNSUPPORTED, "", "Error: Device not supported"),
        (1, "Traceback\nAssertionError: Case(x)\n", "exit code 1: AssertionError: Case(x)", ""),
        (None, "cases: 16\n", "", "stopped; no error until then, after 16 cases"),
        (None, "", "", "too slow"),
        (0, "nothing of the tool", "exit code 0", ""),
    ),
)
def test_what_the_sanitizer_says(code, text, problem, reason):
    problems, why = sanitizer.judge(code, text)
    assert (problem in problems[0]) if problem else not problems
    assert (why.startswith(reason)) if reason else not why


def test_the_sanitizer_is_run(job, monkeypatch, tmp_path):
    program = tmp_path / "compute-sanitizer"
    program.write_text("#!/bin/sh\necho $2 ${10} >> " + f"{tmp_path}/asked\ncat <<END\n{CLEAN}END\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    sanitizer.run(job)
    assert no_problems(vars(job.record)) and not job.record.skipped
    assert set(job.record.checks) == {
        *(f"{tool}, cupy" for tool in sanitizer.TOOLS),
        *(f"{tool}, numba-cuda" for tool in sanitizer.OTHER_TOOLS),
    }
    assert all(check["count"] == 139 for check in job.record.checks.values())
    assert (tmp_path / "asked").read_text().split("\n")[0] == "memcheck cupy"


def test_without_the_sanitizer_it_says_so(job, monkeypatch):
    monkeypatch.setattr(sanitizer, "find_program", lambda: None)
    sanitizer.run(job)
    assert set(job.record.skipped) == {"stage", *sanitizer.TOOLS}


def test_the_cases_of_the_sanitizer(backend):
    chosen = list(sanitized.cases(backend))
    assert {case.op for case, _ in chosen} == {case.op for case in CASES} - {"bilinear_deconv"}
    assert {tiles for _, tiles in chosen} >= {(tile,) for tile in backend.arrays.conv_tiles}
    turns = iter(range(3))
    assert sanitized.check(backend, lambda: next(turns, 3) < 2) == 2
