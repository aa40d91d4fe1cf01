"""The oracle and every backend against answers worked out by hand (answers_by_hand.py); sizes by hand."""

import inspect

import numpy as np
import pytest
from answers_by_hand import KNOWN
from conftest import load_backend

from pagnp import ops
from pagnp.contract import CONTRACT, compare
from pagnp.shapes import conv2d_size, conv_transpose2d_size, pool2d_size
from pagnp.testing.oracle import MEASURED, ORACLE, element


def as_numbers(array):
    """Return bool as uint8: `compare` then names the place."""
    return array.view(np.uint8) if array.dtype == bool else array


@pytest.mark.parametrize("name", KNOWN)
def test_the_oracle(name):
    (op, args), want = KNOWN[name]
    got = np.empty_like(want)
    for index in np.ndindex(*want.shape):
        got[index] = element(op, index, want.shape, args)
    difference = compare(as_numbers(got), as_numbers(want))
    assert not difference, f"{op}[oracle] {difference}"


def run_kernel(op, args, like, backend_name):
    """Return the output of a backend's kernel, from memory that held other bytes."""
    kernels = load_backend(backend_name).kernels
    if op == "bilinear_deconv":  # a composite: it has no kernel
        return ops.bilinear_deconv(*args.values(), backend=backend_name)
    values = list(args.values())
    if op == "conv2d":
        values[1] = kernels["pack_conv2d"](args["weight"], args["groups"])
    if op == "mask_to_sites":
        return kernels[op](*values)
    out = np.empty_like(like)
    out.view(np.uint8)[...] = 0xA5
    kernels[op](*values, out)
    return out


@pytest.mark.parametrize("name", KNOWN)
def test_the_backends(name, backend_name):
    (op, args), want = KNOWN[name]
    with np.errstate(all="ignore"):
        got = run_kernel(op, args, want, backend_name)
    difference = compare(as_numbers(got), as_numbers(want))
    assert not difference, f"{op}[{backend_name}] {difference}"


def test_every_op_has_an_oracle_and_an_answer_by_hand():
    assert set(ORACLE) == set(CONTRACT)
    assert set(ORACLE) == {op for (op, _), _ in KNOWN.values()}
    for (op, args), _ in KNOWN.values():  # the kernels take them by position
        assert list(inspect.signature(ORACLE[op]).parameters)[2 : 2 + len(args)] == list(args), op
    assert set(MEASURED) == {op for op, (_, worst) in CONTRACT.items() if worst is not None}


@pytest.mark.parametrize(
    ("got", "want"),
    [
        (conv2d_size(3, 3, (2, 2), (1, 2), (1, 0, 0, 1), (2, 1)), (2, 2)),
        (conv_transpose2d_size(1, 3, (1, 3), (1, 2), (0, 0, 1, 1), (0, 1), (1, 1)), (1, 6)),
        (conv_transpose2d_size(2, 1, (2, 1), (1, 1), (2, 0, 0, 0), (0, 0), (3, 1)), (3, 1)),
        (pool2d_size("pool", 1, 5, (1, 2), (1, 2), (0, 0, 0, 0), (1, 1), True), (1, 3)),
        (pool2d_size("pool", 1, 5, (1, 2), (1, 2), (0, 0, 0, 0), (1, 1), False), (1, 2)),
        (pool2d_size("pool", 1, 5, (1, 4), (1, 2), (0, 0, 1, 1), (1, 1), True), (1, 3)),
        # A second window would start at 2 - 1 = 1, behind the only pixel: PyTorch leaves it out.
        (pool2d_size("pool", 1, 1, (1, 2), (1, 2), (0, 0, 1, 1), (1, 1), True), (1, 1)),
    ],
)
def test_sizes(got, want):
    assert got == want
