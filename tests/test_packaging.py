"""What a user gets installed, and what an import must not drag in."""

import importlib.metadata
import re
import subprocess
import sys
import tomllib
from importlib import resources
from pathlib import Path

import pytest

import pagnp

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = ("examples/run.sh", "tests/run.sh", "tools/venv.sh", ".ci/run")


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)


@pytest.mark.parametrize("module", ["pagnp", "pagnp.cli.main", "pagnp.errors", "pagnp.contract"])
def test_import_is_light(module):
    heavy = ("torch", "onnx", "numba", "cupy", "h5py", "llvmlite")
    done = python(f"import sys, {module}; print([m for m in {heavy!r} if m in sys.modules])")
    assert done.stdout.strip() == "[]", done.stderr


def test_help_and_version_do_not_load_numpy():
    code = "import sys; from pagnp.cli.main import main; main(['{}']); print('numpy' in sys.modules, file=sys.stderr)"
    for argument in ("--help", "--version"):
        assert python(code.format(argument)).stderr.strip() == "False"


def test_cuda_sources_are_no_package():
    assert not list((ROOT / "cuda").rglob("__init__.py"))
    assert not list((ROOT / "cuda").rglob("*.py"))


def test_typed_and_schema_are_shipped():
    files = resources.files("pagnp")
    assert (files / "py.typed").is_file()
    assert (files / "schema" / "graph.json").is_file()


def test_version_is_said_once():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "version" in project["dynamic"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", pagnp.__version__)


def installed_files():
    """The RECORD of the installed pagnp; skip where pagnp runs from its sources."""
    try:
        files = importlib.metadata.files("pagnp") or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("pagnp is not installed here")
    names = [str(file) for file in files]
    if "pagnp/__init__.py" not in names:
        pytest.skip("pagnp is installed in editable mode: there is no wheel's content to look at")
    return names


def test_the_wheel_holds_the_package_and_the_cuda_sources_inside_it():
    names = installed_files()
    tops = {name.split("/")[0] for name in names if not name.startswith("..")}
    assert tops <= {"pagnp", f"pagnp-{pagnp.__version__}.dist-info"}
    assert {f"pagnp/_cuda/{path.name}" for path in (ROOT / "cuda").glob("*.cu*")} <= set(names)
    for name in ("pagnp/py.typed", "pagnp/schema/graph.json", "pagnp/cli/main.py"):
        assert name in names
    assert not [name for name in names if name.endswith((".so", ".pyd", ".dll"))]


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_parse(script):
    shell = "bash" if script == ".ci/run" else "sh"
    done = subprocess.run([shell, "-n", str(ROOT / script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_readmes_two_commands_exist_and_ci_types_them():
    readme = (ROOT / "README.md").read_text()
    commands = re.findall(r"^(sh \S+)", readme, flags=re.MULTILINE)
    assert commands == ["sh examples/run.sh", "sh tests/run.sh"]
    ci = (ROOT / ".ci" / "run").read_text()
    for command in commands:
        assert (ROOT / command.split()[1]).is_file()
        assert f"\n{command}" in ci


def test_links_of_the_documents_exist():
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", ROOT / "cuda" / "README.md"]
    missing = []
    for page in pages:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if "://" not in target and not (page.parent / target).exists():
                missing.append(f"{page.name}: {target}")
    assert not missing


def test_files_named_in_contributing_exist():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    named = re.findall(r"`((?:pagnp|docs|tests)/[\w./<>*]+)`", text)
    plain = {name for name in named if "<" not in name}
    assert plain
    assert not [name for name in sorted(plain) if not list(ROOT.glob(name.rstrip("/")))]
