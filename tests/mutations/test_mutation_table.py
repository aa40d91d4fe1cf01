"""The mutation table cannot rot: each edit still fits the sources. `python tests/mutations/run.py` makes them."""

import ast

import pytest
from mutation_table import HERE, ROOT, edits

EDITS = edits()


@pytest.mark.parametrize("edit", EDITS, ids=[edit.name for edit in EDITS])
def test_edit_fits(edit):
    changed = edit.apply((ROOT / edit.path).read_text("utf-8"))
    if edit.file.endswith(".py"):
        ast.parse(changed)
    for command in edit.commands:
        for path in (part for part in command if part.startswith("tests/")):
            assert (ROOT / path).exists(), f"{edit.name}: there is no {path}"


def test_edits_have_names_of_their_own():
    assert len({edit.name for edit in EDITS}) == len(EDITS) >= 60
    assert len({(edit.file, edit.old, edit.new) for edit in EDITS}) == len(EDITS)


def test_a_text_that_is_gone_is_refused():
    with pytest.raises(ValueError, match="0 times"):
        EDITS[0].apply("nothing")
    with pytest.raises(ValueError, match="2 times"):
        EDITS[0].apply(EDITS[0].old * 2)


def test_every_kernel_module_is_edited():
    """No module of kernels, and none of those that make a plan, is without an edit."""
    kernels = {
        f"backends/{folder}/{path.name}"
        for folder in ("numpy_ref", "numba_cpu")
        for path in (ROOT / "pagnp" / "backends" / folder).glob("*.py")
    }
    plans = {"canonical.py", "fuse.py", "perforate.py", "buffers.py", "lower.py", "runner.py", "budget.py", "gating.py"}
    tables = {f"backends/{folder}/__init__.py" for folder in ("numpy_ref", "numba_cpu")}
    chunks_only = {"backends/numba_cpu/grain.py"}  # how work is cut: no bits
    cuda = {f"cuda/{path.name}" for path in (ROOT / "cuda").glob("*.cu*")}
    cuda -= {"cuda/async_copy.cuh", "cuda/warp.cuh"}  # what the CPU does not run; two constants
    assert kernels | plans | cuda <= {edit.file for edit in EDITS} | tables | chunks_only
    assert (HERE / "run.py").exists()
