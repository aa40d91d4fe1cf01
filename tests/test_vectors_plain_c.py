"""Golden vectors at work: the kernels of examples/plain_c have the bits, and a mistake in them is found."""

import shutil
import subprocess
from pathlib import Path

import pytest
from vectors_files import call

from pagnp.cli.vectors import MAX_ELEMENTS
from pagnp.testing import vectors_check, vectors_write

ROOT = Path(__file__).resolve().parent.parent
PLAIN_C = ROOT / "examples" / "plain_c"
C_OPS = ("conv2d", "max_pool2d", "bilinear", "exp", "softmax", "gate")
SOURCES = ("main.c", "kernels.c", "vectors.c")
COMPILER = next((name for name in ("cc", "gcc", "clang") if shutil.which(name)), None)
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler here (cc, gcc or clang)")


def without_oracle(folder, rows):
    """Write vectors quickly: the conformance suite holds the same rows against the oracle."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vectors_write.runcase, "oracle_values", lambda row, kernels: [])
        return folder, vectors_write.write(folder, rows, storage="raw")


@pytest.fixture(scope="module")
def c_vectors(tmp_path_factory):
    """(folder, index) of all cases of the ops that examples/plain_c has."""
    folder = tmp_path_factory.mktemp("plain_c") / "vectors"
    return without_oracle(folder, vectors_write.chosen_rows(C_OPS, 0, MAX_ELEMENTS))


@pytest.fixture(scope="module")
def few_c_vectors(tmp_path_factory):
    """The same of every third case of up to 4000 elements: enough to find a mistake."""
    folder = tmp_path_factory.mktemp("plain_c_few") / "vectors"
    return without_oracle(folder, vectors_write.chosen_rows(C_OPS, 0, 4000)[::3])


def compiler(folder, *arguments):
    """Run the compiler in `folder`, with all warnings as errors."""
    command = [COMPILER, "-std=c11", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", f"-I{PLAIN_C}", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def frame(tmp_path_factory):
    """The object files of all but kernels.c."""
    folder = tmp_path_factory.mktemp("frame")
    compiler(folder, "-c", *(PLAIN_C / name for name in SOURCES if name != "kernels.c"))
    return sorted(folder.glob("*.o"))


def compiled(folder, frame, flags=("-O0",), mistake=None):
    """Compile examples/plain_c, with one piece of kernels.c replaced, and return the program."""
    source = (PLAIN_C / "kernels.c").read_text()
    if mistake is not None:
        right, wrong = mistake
        assert source.count(right) == 1, f"kernels.c no longer has {right!r} once"
        source = source.replace(right, wrong)
    (folder / "kernels.c").write_text(source)
    compiler(folder, *flags, "-o", "plain", "kernels.c", *frame, "-lm")
    return folder / "plain"


def outputs_of(program, folder, out):
    """Let the program compute all cases of `folder` into `out`."""
    out.mkdir()
    done = subprocess.run([program, folder, out], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_compiler
def test_plain_c_has_the_bits(c_vectors, frame, tmp_path, capsys):
    folder, index = c_vectors
    said = outputs_of(compiled(tmp_path, frame, ["-O2"]), folder, tmp_path / "got")
    assert said == f"{len(index.cases)} cases computed, 0 of other ops\n"
    code, out, _ = call(capsys, "check", folder, "--got", tmp_path / "got")
    assert code == 0, out
    assert out.endswith(f"{len(index.cases)} cases, all the same to the bit\n")


MISTAKES = {
    "unfused": ("d->chain = fmaf(weight, x, d->chain)", "d->chain = weight * x + d->chain", "conv2d"),
    "cut at 64": ("BLOCK = 128", "BLOCK = 64", "conv2d"),
    "reversed": ("ci = 0; ci < c_group; ci++", "ci = c_group - 1; ci >= 0; ci--", "conv2d"),
    "fmaxf": ("return v < 0.0f ? 0.0f : v;", "return fmaxf(v, 0.0f);", "conv2d"),
    "skipped padding": (
        "add_term(&d, row[(size_t)ci * v.c_out], inside ? pixel[ci] : 0.0f);",
        "if (inside) add_term(&d, row[(size_t)ci * v.c_out], pixel[ci]);",
        "conv2d",
    ),
    "bottom for top": (
        "ky * v.dilation[0];\n            int ix",
        "ky * v.dilation[0] + 1;\n            int ix",
        "conv2d",
    ),
    "unfused norm": (
        "acc = fmaf(acc, e.scale[co], e.shift[co])",
        "acc = acc * e.scale[co] + e.shift[co]",
        "conv2d",
    ),
    "first NaN lost": ("a > best || isnan(a)", "a > best", "max_pool2d"),
    "float positions": (
        "(float)((double)(num % den) / (double)den)",
        "align_corners ? (float)(num % den) / (float)den : fmaxf((o + 0.5f) * ((float)in / out) - 0.5f, 0) - i0",
        "bilinear",
    ),
    "unfused bilinear": ("fmaf(sy.w, u - t, t)", "sy.w * (u - t) + t", "bilinear"),
    "expf": ("out[i] = (float)exp64(x[i])", "out[i] = expf(x[i]) * 1.0000001f", "exp"),
    "ties compute": ("y[1] > y[0];", "y[1] >= y[0];", "gate"),
}


@needs_compiler
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_c_is_found(mistake, few_c_vectors, frame, tmp_path):
    folder, index = few_c_vectors
    right, wrong, op = MISTAKES[mistake]
    outputs_of(compiled(tmp_path, frame, mistake=(right, wrong)), folder, tmp_path / "got")
    report = vectors_check.check(folder, index, tmp_path / "got", C_OPS)
    assert report.counts[op]["differs"] > 0
    assert {finding.op for finding in report.findings} == {op}, "the mistake is in one op"


@needs_compiler
def test_fast_math_is_found(few_c_vectors, frame, tmp_path, capsys):
    folder, _ = few_c_vectors
    outputs_of(compiled(tmp_path, frame, ["-O1", "-ffast-math"]), folder, tmp_path / "got")
    code, out, _ = call(capsys, "check", folder, "--got", tmp_path / "got", "--ops", "conv2d")
    assert code == 1 and "elements differ" in out


def test_examples_readme_types_the_commands_that_work():
    text = (PLAIN_C / "README.md").read_text()
    for part in ("-ffp-contract=off", "--format raw", f"--ops {','.join(C_OPS)}", "pagnp vectors check", *SOURCES):
        assert part in text, part
