"""The conformance table: every row of every op, by family (cases_*.py), and the arrays that a row stands for."""

from pagnp.testing import cases_conv, cases_gate, cases_pointwise, cases_spatial
from pagnp.testing.case import Arrangement, Case

ARRANGE = {**cases_conv.ARRANGE, **cases_spatial.ARRANGE, **cases_pointwise.ARRANGE, **cases_gate.ARRANGE}
CASES = [*cases_conv.ROWS, *cases_spatial.ROWS, *cases_pointwise.ROWS, *cases_gate.ROWS]
COMPOSITES = ("bilinear_deconv",)  # made of kernels by `pagnp.ops`; no kernel of their own


def arrange(case: Case) -> Arrangement:
    """Return the Arrangement of a case: its input arrays (new ones at each call), the output's shape and dtype."""
    return ARRANGE[case.op](case)


def rows_of(op: str) -> list[Case]:
    """Return the rows of one op."""
    return [case for case in CASES if case.op == op]
