"""docs/NUMERICS.md against the code: its constants and its table of worst errors, and the tool that measures them."""

import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pagnp.backends import constants
from pagnp.contract import CONTRACT

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "NUMERICS.md").read_text()
TOOL = ROOT / "tools" / "sweep_transcendentals.cpp"
SCALARS = ("INV_LN2", "LN2_HI", "LN2_LO", "LN10", "SQRT2")
HEX = r"0x1[.0-9a-f]*p[+-]\d+"


def table(start):
    """Return index -> float of the table of the page whose header begins with `start`."""
    text = PAGE[PAGE.index(start) :].split("\n\n")[0]
    return {int(i): float.fromhex(value) for i, value in re.findall(rf"\| (\d+) \| `({HEX})`", text)}


@pytest.mark.parametrize(("start", "polynomial"), [("| i | E[i]", "EXP_POLY"), ("| i | L[i]", "LOG_POLY")])
def test_polynomials_on_the_page(start, polynomial):
    found = table(start)
    assert tuple(found[i] for i in sorted(found, reverse=True)) == getattr(constants, polynomial)


@pytest.mark.parametrize("name", SCALARS)
def test_constants_on_the_page(name):
    assert float.fromhex(re.search(rf"\| {name} \| `({HEX})`", PAGE)[1]) == getattr(constants, name)


@pytest.mark.parametrize("name", ["NOISE_OFFSET_2018", "NOISE_DIVISOR_2018", "PROBABILITY_OFFSET_2018"])
def test_gumbel_constants_on_the_page(name):
    assert getattr(constants, name) in {float.fromhex(value) for value in re.findall(HEX, PAGE)}


@pytest.mark.parametrize("op", ["exp", "exp10", "log", "sigmoid"])
def test_worst_error_on_the_page(op):
    assert float(re.search(rf"\| {op} \| .* \| ([.0-9]+) ulp", PAGE)[1]) <= CONTRACT[op][1]


@pytest.mark.parametrize("name", SCALARS)
def test_constants_of_the_sweep(name):
    assert float.fromhex(re.search(rf"\b{name} = ({HEX})", TOOL.read_text())[1]) == getattr(constants, name)


@pytest.mark.parametrize(("array", "polynomial"), [("E", "EXP_POLY"), ("L", "LOG_POLY")])
def test_polynomials_of_the_sweep(array, polynomial):
    text = re.search(rf"\b{array}\[\d+\] = {{(.*?)}}", TOOL.read_text(), re.DOTALL)[1]
    assert tuple(map(float.fromhex, reversed(re.findall(HEX, text)))) == getattr(constants, polynomial)


def test_the_sweep_passes_on_a_sample(tmp_path):
    compiler = shutil.which("g++")
    if compiler is None or platform.machine() != "x86_64":
        pytest.skip("no g++ with an 80-bit long double here")
    sweep = tmp_path / "sweep"
    command = [compiler, "-O2", "-std=c++17", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", str(TOOL)]
    subprocess.run([*command, "-o", str(sweep)], check=True)
    done = subprocess.run([str(sweep), "20011"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert re.findall(r"^(\w+) .* 0 wrong ends$", done.stdout, re.MULTILINE) == ["exp", "exp10", "log", "sigmoid"]
