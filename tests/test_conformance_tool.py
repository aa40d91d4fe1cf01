"""tools/conformance.py: what it forces Numba to compile for, what it refuses, and that a failure is its exit code."""

import importlib.util
import platform
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("numba")
PATH = Path(__file__).resolve().parents[1] / "tools" / "conformance.py"


@pytest.fixture
def tool():
    spec = importlib.util.spec_from_file_location("conformance_tool", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="features of x86")
@pytest.mark.parametrize("path", ["avx2", "no-fma"])
def test_a_path_is_what_numba_compiles_for(tool, path, tmp_path):
    variables = tool.environment(path, tmp_path)
    assert variables["PAGNP_CACHE_DIR"] == str(tmp_path / path)
    reason = tool.refusal(path, variables)
    assert reason is None or reason.startswith("this CPU has no")
    other = tool.environment("no-fma" if path == "avx2" else "avx2", tmp_path)
    assert tool.refusal(path, other)  # compiled for something else than the path's name says


def test_unknown_paths_and_missing_counts_are_refused(tool, capsys):
    for arguments in (["10", "--paths", "avx2,avx3"], []):
        with pytest.raises(SystemExit) as error:
            tool.main(arguments)
        assert error.value.code == 2
    assert "no such path: avx3" in capsys.readouterr().err


@pytest.mark.parametrize("code", [0, 1])
def test_a_failure_is_the_exit_code_and_the_log_has_all(tool, tmp_path, monkeypatch, capsys, code):
    started = []

    def start(command, **options):
        if "pytest" not in command:  # Python's own: platform asks uname
            return real(command, **options)
        started.append((command, options["env"]))
        script = f"echo conformance: 80 random cases; echo code path: x; exit {code}"
        return real(["sh", "-c", script], stdout=subprocess.PIPE, text=True)

    real = subprocess.Popen
    monkeypatch.setattr(tool, "refusal", lambda path, variables: None)
    monkeypatch.setattr(tool.subprocess, "Popen", start)
    log = tmp_path / "log"
    assert tool.main(["80", "--seed", "5", "--paths", "avx2,native", "--log", str(log)]) == code
    assert [command[command.index("--conformance") + 1 :] for command, _ in started] == [
        ["80", "--conformance-seed", "5"]
    ] * 2
    assert "NUMBA_CPU_NAME" in started[0][1] and "NUMBA_CPU_NAME" not in started[1][1]
    told = "all bits agree" if code == 0 else "FAILED"
    assert log.read_text().count(f"avx2: {told}") == 1 and capsys.readouterr().out.count(told) == 2
