"""Every op has all its parts (the table "To add an op" of CONTRIBUTING.md): fails for the one that was forgotten."""

import re
from pathlib import Path

import pytest

from pagnp import ops, opset
from pagnp.backends.base import HOST, INTERNAL, KERNELS, get_backend
from pagnp.contract import CONTRACT
from pagnp.testing import cases

ROOT = Path(__file__).resolve().parent.parent

OPS = sorted(KERNELS) + list(cases.COMPOSITES)


def mentions(page, op):
    return re.search(rf"\b{re.escape(op)}\b", (ROOT / "docs" / page).read_text())


@pytest.mark.parametrize("op", OPS)
def test_an_op_has_all_its_parts(op):
    assert op in CONTRACT, "no rule in contract.py"
    assert callable(getattr(ops, op, None)), "no public function in pagnp.ops"
    assert cases.rows_of(op), "no rows in pagnp/testing/cases_*.py"
    assert mentions("NUMERICS.md", op), "no rule in docs/NUMERICS.md"
    assert mentions("ARCHITECTURE.md", op), "no signature in docs/ARCHITECTURE.md"


def test_rules_and_rows_belong_to_ops():
    assert sorted(CONTRACT) == sorted(OPS)
    assert sorted(cases.ARRANGE) == sorted(OPS)


@pytest.mark.parametrize("backend", HOST)
def test_a_backend_has_all_kernels(backend):
    assert sorted(get_backend(backend).kernels) == sorted((*KERNELS, *INTERNAL))


@pytest.mark.parametrize("op", opset.OPS)
def test_a_graph_op_is_documented(op):
    assert mentions("ARCHITECTURE.md", op)
    assert mentions("MODEL_FORMAT.md", op)
