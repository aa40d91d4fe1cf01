"""What `python -m pagnp.gpucheck` answers where it can do little: wrong words, no stage that ran, failed launches."""

import json

import gpucheck_on_shim as on_shim
import pytest

from pagnp.errors import BackendError
from pagnp.gpucheck import __main__, environment, job, networks, repetition, running
from pagnp.gpucheck.stages import Stage


@pytest.mark.parametrize(
    "words", [["--every", "0"], ["--minutes", "-1"], ["--minutes", "x"], ["--nonsense"], ["--weights", "nowhere.h5"]]
)
def test_wrong_words_are_one_line(words, capsys):
    assert __main__.main(words) == 2
    out, err = capsys.readouterr()
    assert err.startswith("gpucheck: ") and err.count("\n") == 1 and not out


def stage_that(raises):
    def run(job):
        job.record.check("before")
        raise raises

    return run


def test_a_launch_that_fails_fails_the_stage(monkeypatch, tmp_path):
    monkeypatch.setattr(networks, "run", stage_that(BackendError("backend 'cupy': relu_f32: illegal address")))
    record = tmp_path / "record.json"
    with pytest.raises(BackendError):
        job.main(["networks", "cupy", "10", str(record)], lambda name: None)
    found = json.loads(record.read_bytes())
    assert found["checks"]["stage"]["failed"] == 1 and "illegal address" in found["checks"]["stage"]["first"][0]
    assert running.verdict(1, found)[0] == running.verdict(job.NOT_RUN, found)[0] == running.FAILED


def test_a_backend_that_does_not_load_is_a_stage_that_did_not_run(monkeypatch, tmp_path):
    def backend_of(name):
        raise BackendError(f"backend '{name}': no such thing")

    monkeypatch.setattr(repetition, "run", stage_that(AssertionError))
    record = tmp_path / "record.json"
    assert job.main(["repetition", "cupy", "10", str(record)], backend_of) == job.NOT_RUN
    status, reason = running.verdict(job.NOT_RUN, json.loads(record.read_bytes()))
    assert status == running.UNRUN and "no such thing" in reason


def test_where_no_stage_ran_nothing_was_checked(monkeypatch, tmp_path, capsys):
    unrun = [running.Outcome(Stage("networks", "cupy", 20, 1, "networks"), reason="no such package")]
    monkeypatch.setattr(environment, "environment", lambda commit: dict(on_shim.ABOUT))
    monkeypatch.setattr(running, "run", lambda *args: unrun)
    assert __main__.main(["--out", str(tmp_path / "out")]) == 5
    assert capsys.readouterr().err == "gpucheck: no stage could run, nothing was checked\n"
