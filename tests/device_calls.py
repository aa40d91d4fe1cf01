"""Calls of every op for tests with arrays on a GPU: name -> f(move, backend), where `move` gets every NumPy array."""

import dataclasses

import numpy as np
from front_door import call_front_door

from pagnp import ops
from pagnp.testing.cases import CASES, arrange


def moved(value, move):
    """Return `value` with move(array) in place of every NumPy array in it."""
    if isinstance(value, (list, tuple)):
        return type(value)(moved(part, move) for part in value)
    if isinstance(value, dict):
        return {name: moved(part, move) for name, part in value.items()}
    return move(value) if type(value) is np.ndarray else value


def count_arrays(call):
    """Return how many arrays a call takes."""
    found = []
    call(lambda array: found.append(array) or array, "numpy")
    return len(found)


def _arrays(case):
    """Return (names of the arguments that are arrays, whether one is empty)."""
    found, names = [], []
    for name, value in arrange(case).args.items():
        before = len(found)
        moved(value, found.append)
        names += [name] * (len(found) > before)
    return tuple(names), any(array.size == 0 for array in found)


def _row(case):
    def call(move, backend):
        arrangement = arrange(case)
        return call_front_door(case, dataclasses.replace(arrangement, args=moved(arrangement.args, move)), backend)

    return call


def _rows():
    """Return the first row of the conformance table for every op and choice of array arguments."""
    found = {}
    for case in CASES:
        names, empty = _arrays(case)
        if names and not empty and case.op != "scatter" and case.get("layout") != "scattered":
            found.setdefault(" ".join((case.op, *names)), _row(case))
    return found


def tensor(*shape):
    return np.random.default_rng(shape).standard_normal(shape).astype("f4")


X, W, RESIDUAL, C = tensor(2, 5, 4, 3), tensor(3, 3, 3, 8), tensor(2, 5, 4, 8), tensor(3)
SITES = np.array([0, 7, 19, 20, 39], "i4")
CONTROL = np.arange(40, dtype="i4").reshape(2, 5, 4) % 3
PIXELS = np.arange(60, dtype="u1").reshape(4, 5, 3)
WEIGHTS = [None, tensor(3, 3, 3, 3), tensor(5, 5, 3, 3)]
NORMS = {"scales": [None, C, C + 1], "shifts": [None, C - 1, C]}


def _multipool(control):
    return lambda m, b: ops.multipool(
        m(X), m(control), [0, 1, 2], moved(WEIGHTS, m), **moved(NORMS, m), relu=True, backend=b
    )


CALLS = {
    **_rows(),
    "conv2d full residual at sites": lambda m, b: ops.conv2d(
        m(X), m(W), residual=m(RESIDUAL), sites=m(SITES), padding=1, backend=b
    ),
    "scatter": lambda m, b: ops.scatter(m(X.reshape(-1, 3)[:5]), m(SITES), m(X), backend=b),
    "fma": lambda m, b: ops.fma(m(X), m(X[::-1].copy()), m(X + 1), backend=b),
    "fma spread": lambda m, b: ops.fma(m(X[:1]), -0.0, m(tensor(2, 1, 4, 3)), backend=b),
    "normalize_image": lambda m, b: ops.normalize_image(m(PIXELS), m(C), m(C + 1), backend=b),
    "multipool hard": _multipool(CONTROL),
    "multipool soft": _multipool(tensor(2, 5, 4, 3)),
    "relu of a number": lambda m, b: ops.relu(m(np.full((), -1, "f4")), backend=b),
    "compare channels": lambda m, b: ops.compare(m(X), m(C), "gt", backend=b),
    "compare an index with a number": lambda m, b: ops.compare(m(CONTROL), 1, "ge", backend=b),
}
# Calls for which the host needs values from the device: it checks sites and indices, and has to know how many sites.
WAITING = {name for name in CALLS if "sites" in name or "scatter" in name or "hard" in name}
WAITING |= {name for name in CALLS if name.startswith("select") or name.startswith("mask_to_sites")}
# Calls for which the host makes arrays: bilinear weights, numbers.
MAKING = {name: 1 for name in CALLS if name.startswith("bilinear_deconv") or "number" in name or "spread" in name}
