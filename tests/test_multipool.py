"""ops.multipool: hard as conv2d everywhere and select, soft as blend; in the hard form one branch a pixel."""

import numpy as np
import pytest
from conftest import BACKENDS

from pagnp import ops
from pagnp.backends.base import Backend, get_backend
from pagnp.contract import compare
from pagnp.errors import DtypeError, ShapeError

RATES = [0, 1, 2, 4]


@pytest.fixture
def parts():
    rng = np.random.default_rng(31)
    x = rng.standard_normal((2, 9, 11, 5)).astype("f4")
    weights = [None, *rng.standard_normal((3, 3, 3, 5, 5)).astype("f4")]
    scales, shifts = ([None, *rng.standard_normal((3, 5)).astype("f4")] for _ in range(2))
    return x, weights, {"scales": scales, "shifts": shifts, "relu": True}


def everywhere(x, weights, norms):
    """Each branch computed at every pixel."""
    branches = [x]
    for k in (1, 2, 3):
        norm = {"scale": norms["scales"][k], "shift": norms["shifts"][k]}
        branches.append(ops.conv2d(x, weights[k], **norm, relu=True, padding=RATES[k], dilation=RATES[k]))
    return branches


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("choice", ("mixed", "one"))
def test_hard(parts, backend, choice):
    x, weights, norms = parts
    control = np.random.default_rng(2).integers(0, 4, x.shape[:3], np.int32) if choice == "mixed" else None
    control = np.full(x.shape[:3], 2, np.int32) if control is None else control
    got = ops.multipool(x, control, RATES, weights, **norms, backend=backend)
    assert not (found := compare(got, ops.select(control, everywhere(x, weights, norms)))), str(found)


@pytest.mark.parametrize("backend", BACKENDS)
def test_soft(parts, backend):
    x, weights, norms = parts
    p = ops.softmax(np.random.default_rng(3).standard_normal((*x.shape[:3], 4)).astype("f4"))
    got = ops.multipool(x, p, RATES, weights, **norms, backend=backend)
    assert not (found := compare(got, ops.blend(p, everywhere(x, weights, norms)))), str(found)


def test_hard_computes_one_branch_a_pixel(parts):
    x, weights, norms = parts
    reference = get_backend("numpy")
    computed = []

    def counting(*arguments):
        computed.append(len(arguments[7]))  # sites
        reference.conv2d(*arguments)

    control = np.random.default_rng(2).integers(0, 4, x.shape[:3], np.int32)
    backend = Backend("counting", {**reference.kernels, "conv2d": counting})
    ops.multipool(x, control, RATES, weights, **norms, backend=backend)
    assert sum(computed) == np.count_nonzero(control)  # rate 0 costs no conv


BAD = [
    (lambda x, w: (x, np.zeros((2, 9, 11)), RATES, w), DtypeError, "float64"),
    (lambda x, w: (x, np.zeros((2, 9, 10), "i4"), RATES, w), ShapeError, r"need \(2, 9, 11\)"),
    (lambda x, w: (x, np.full((2, 9, 11), 4, "i4"), RATES, w), ShapeError, "there are 4 branches"),
    (lambda x, w: (x, np.zeros((2, 9, 11), "i4"), RATES[:3], w), ShapeError, "lengths 3, 4"),
    (lambda x, w: (x, np.zeros((2, 9, 11), "i4"), [1, 1, 2, 4], w), ShapeError, "rate 1 needs a weight"),
    (lambda x, w: (x, np.zeros((2, 9, 11), "i4"), RATES, [None, *(v[:2] for v in w[1:])]), ShapeError, "odd k"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), BAD, ids=[message for _, _, message in BAD])
def test_bad_calls(parts, arguments, error, message):
    x, weights, _ = parts
    with pytest.raises(error, match=f"multipool: .*{message}"):
        ops.multipool(*arguments(x, weights))
