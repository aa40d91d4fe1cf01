"""`python -m pagnp.gpucheck` with the shim as its GPU: stages that pass, fail, crash and hang; what it writes."""

# ruff: noqa: F811 - fixtures are imported, and arguments have their names

import argparse
import json
import os
import sys

import gpucheck_on_shim as on_shim
import pytest
from gpucheck_job import folder  # noqa: F401

from pagnp.backends.gpu import driver
from pagnp.gpucheck import (
    __main__,
    environment,
    report,
    running,
    stages,
)
from pagnp.gpucheck.stages import Stage
from pagnp.testing.cases import CASES


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
    assert stages.chosen(["speed"], []) == stages.chosen(["speed-convs", "speed-network"], [])
    assert [stage.title for stage in stages.chosen(["speed-convs"], [])] == ["speed-convs, cupy"]
    split = [*stages.chosen([group for group in stages.GROUPS if group != "speed"], []), *stages.chosen(["speed"], [])]
    assert split == list(stages.STAGES)
    alone = [stage for stage in stages.STAGES if stage.group == "speed"]
    assert len({stage.wave for stage in alone}) == len(alone), "times are taken with nobody beside"
    waves = {stage.wave: 0.0 for stage in stages.STAGES}
    for stage in stages.STAGES:
        waves[stage.wave] = max(waves[stage.wave], stage.seconds)
    *others, last = waves.values()
    assert sum(others) + 100 <= 60 * __main__.MINUTES <= 480 and last > 100, "the last stage takes what is left"


# Several runs put together


def run_of(folder, words, **stage_codes):
    """Write the files of a run of these stages; return the path of gpucheck.json."""
    about = on_shim.ABOUT | {"command": f"python -m pagnp.gpucheck {words}", "when": words, "seconds": 1}
    document = __main__.Document(folder, about)
    wanted = [Stage(name.replace("_", "-"), "cupy", 20, 1, "") for name in stage_codes]
    codes = {stage.name: code for stage, code in zip(wanted, stage_codes.values(), strict=True)}
    document.write(running.run(wanted, of_stage(codes), 60, document.write))
    return folder / "gpucheck.json"


def test_runs_are_put_together(tmp_path, patience, capsys):
    speed = run_of(tmp_path / "a", "--only speed", speed_network=CODES["good"], networks=CODES["wrong"])
    bits = run_of(tmp_path / "b", "--only networks", networks=CODES["good"], conformance=CODES["good"])
    last = run_of(tmp_path / "c", "--only conformance", conformance=CODES["unable"])
    out = tmp_path / "all"
    words = ["--merge", str(speed), str(bits), str(last), "--out", str(out)]
    assert __main__.main(words) == 0
    document = json.loads((out / "gpucheck.json").read_bytes())
    assert [(stage["name"], stage["status"]) for stage in document["stages"]] == [
        ("conformance", "passed"),  # the last run could not
        ("networks", "passed"),  # the last that ran counts
        ("speed-network", "passed"),
    ]
    assert len(document["targets"]) == 10 and "stage   passed        networks, cupy" in capsys.readouterr().out
    text = (out / "gpucheck.md").read_text()
    assert text.startswith("# The GPU backends on Fake GPU\n") and "* Stages: 3 passed." in text
    assert "| --only speed, 1 s; --only networks, 1 s; --only conformance, 1 s |" in text.replace("0 s", "1 s")
    assert text.count("sm_90") == 1, "what all runs share stands there once"
    assert __main__.main(["--merge", str(out / "gpucheck.json"), "--out", str(tmp_path / "again")]) == 0
    assert (tmp_path / "again/gpucheck.md").read_text() == text


def test_what_cannot_be_put_together_is_one_line(tmp_path, patience, capsys):
    one = run_of(tmp_path / "a", "", networks=CODES["good"])
    other = json.loads(one.read_bytes())
    other["environment"]["gpus"][0]["name"] = "Another GPU"
    (tmp_path / "other.json").write_text(json.dumps(other))
    (tmp_path / "none.json").write_text("{}")
    for path, complaint in (
        ("other.json", "the runs are of different GPUs: Fake GPU, Another GPU"),
        ("none.json", "none.json is not pagnp-gpucheck of version 1"),
        ("nowhere.json", "No such file"),
    ):
        assert __main__.main(["--merge", str(one), str(tmp_path / path), "--out", str(tmp_path / "out")]) == 2
        assert complaint in (told := capsys.readouterr().err) and told.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_report_says_nothing_of_where_it_was_made(tmp_path):
    options = __main__.parse(["--only", "speed-convs", "--out", "/somewhere/else", "--commit", "abc", "--every", "9"])
    assert __main__.command_line(options) == "python -m pagnp.gpucheck --only speed-convs --every 9"
    assert __main__.command_line(__main__.parse([])) == "python -m pagnp.gpucheck"
    stage = {"name": "networks", "backend": "cupy", "status": "failed", "seconds": 1, "reason": "exit code 1"}
    stage["log"] = ['  File "/somewhere/lib/python3.12/site-packages/numpy/a.py", line 7']
    text = report.markdown({"environment": on_shim.ABOUT | {"every": 9}, "stages": [stage], "targets": []})
    assert 'File "numpy/a.py", line 7' in text and "somewhere" not in text
    assert "**A quick try**: every 9th row" in text


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
