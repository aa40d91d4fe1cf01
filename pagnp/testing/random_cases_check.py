"""Everything that must hold of one case: oracle, other backends, memory, place in the batch, sites against dense.

`runcase` judges the case as a row of the table; the relations between calls are judged here.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from pagnp import contract, ops
from pagnp.backends.base import Backend
from pagnp.shapes import conv2d_size
from pagnp.testing import runcase
from pagnp.testing.case import Arrangement, Case
from pagnp.testing.cases import COMPOSITES, arrange
from pagnp.testing.random_cases import case_line
from pagnp.types import Array

ORACLE_STEPS = 300  # fused steps that the oracle spends on a case, about 2 ms; long reductions take more
BY_IMAGE = ("x", "z", "a", "b", "mask", "control", "p", "noise", "residual", "xs", "branches")  # may have a batch axis


def kernels_of(backend: Backend) -> dict[str, Any]:
    """Return the backend's kernels and, in the same form, the ops that are composed of them."""
    composites = {
        "bilinear_deconv": lambda x, factor, out: np.copyto(out, ops.bilinear_deconv(x, factor, backend=backend))
    }
    assert set(composites) == set(COMPOSITES)
    return {**backend.kernels, **composites}


def repeat_line(case: Case) -> str:
    """Return the command that runs this case alone."""
    return f"  pytest tests/test_random_cases.py --conformance-case '{case_line(case)}'"


def check_case(case: Case, reference: Backend, others: Mapping[str, Backend], steps: int = ORACLE_STEPS) -> list[str]:
    """Return the list of problems of a case, in words; empty when all is well.

    reference  held against the oracle (`steps` of it); `others`, by a name to print, are held against the reference
    """
    kernels, found = kernels_of(reference), []
    arrangement = arrange(case)
    want, problems = runcase.run(case, kernels)
    if not problems:
        found += runcase.check_oracle(case, reference.name, want, runcase.oracle_values(case, kernels, steps))
        found += runcase.check_same(case, reference.name, kernels, want, other="its own first run")
        found += _check_relations(case, reference.name, kernels, arrangement, want)
    for name, backend in others.items():
        kernels = kernels_of(backend)
        found += runcase.check_same(case, name, kernels, want)
        found += _check_relations(case, name, kernels, arrangement, want)
    names = (reference.name, *others)
    return problems + [_with_own_way_back(case, names, problem) for problem in found]


def _with_own_way_back(case, names, problem):
    """Return the problem without the command for a row of the table: a random case has a line of its own."""
    for name in names:
        problem = problem.replace("\n" + runcase.way_back(case, name), "")
    return problem


def _check_relations(case, backend, kernels, arrangement, want):
    """Return the problems of the calls that must give the same bits as a part of `want`."""
    found = []
    for what, other, place, part in _relations(case, arrangement, want):
        got = _run(case, kernels, other)[place]
        difference = contract.compare(np.ascontiguousarray(got), np.ascontiguousarray(part))
        if difference:
            found.append(runcase.difference_message(case, backend, f"numpy's, {what}", difference))
    return found


def _relations(case, arrangement, want) -> Iterator[tuple[str, Arrangement, Any, Array]]:
    """Yield (in words, another call's Arrangement, a place in its output, what must be there)."""
    n = case.get("n")
    if n > 1 and case.op != "gumbel_noise":
        i = case.get("seed") % n
        alone, part = image_alone(case, arrangement, want, i)
        written = runcase.written(case, alone)
        yield f"image {i} alone", alone, written, part[written]
    if case.op == "conv2d" and arrangement.args["sites"] is not None:
        sites, dense = arrangement.args["sites"], dense_conv(case, arrangement)
        rows = want if want.ndim == 2 else want.reshape(-1, want.shape[3])[sites]
        yield "dense", dense, np.unravel_index(sites, dense.shape[:3]), rows


def _run(case, kernels, arrangement):
    """Return the output of one call of the kernel in ordinary memory."""
    args, out = dict(arrangement.args), np.full(arrangement.shape, 0, arrangement.dtype)
    if arrangement.in_place:
        out[...] = args["residual"]
        args["residual"] = out
    return runcase.call_kernel(case, kernels, arrangement, args, out)


def image_alone(case: Case, arrangement: Arrangement, out: Array, i: int) -> tuple[Arrangement, Array]:
    """Return the Arrangement of image `i` of a batch alone, and the part of the batch's output `out` that is its."""
    n, args = case.get("n"), {}
    for name, value in arrangement.args.items():
        args[name] = _of_image(name, value, i, n) if name in BY_IMAGE else value
    shape: tuple[int, ...] = (1, *arrangement.shape[1:])
    sites = arrangement.args.get("sites", out if case.op == "mask_to_sites" else None)
    if sites is None:
        return Arrangement(args, shape, arrangement.dtype, arrangement.in_place), out[i : i + 1]
    h, w = _conv_size(arrangement.args) if case.op == "conv2d" else case.x_shape[1:3]
    pixels = h * w  # of the map that the sites point into
    first, last = np.searchsorted(sites, (i * pixels, (i + 1) * pixels))
    own = (sites[first:last] - i * pixels).astype(np.int32)
    part: Array = out[i : i + 1] if out.ndim == 4 else out[first:last]
    if case.op == "mask_to_sites":
        return Arrangement(args, own.shape, np.int32, returns=True), own
    if out.ndim == 2:
        shape = (len(own), out.shape[1])
    for name in ("residual", "values"):  # compact rows, one a site
        rows = arrangement.args.get(name)
        if rows is not None and rows.ndim == 2:
            args[name] = rows[first:last]
    return Arrangement({**args, "sites": own}, shape, np.float32, arrangement.in_place), part


def _of_image(name, value, i, n):
    """Return the part of an argument that belongs to image `i` of `n`; what has no batch axis as it is."""
    if isinstance(value, list):
        return [_of_image(name, part, i, n) for part in value]
    if value is None or (name == "noise" and value.ndim == 3) or value.shape[0] != n:
        return value
    return value[i : i + 1]


def _conv_size(args):
    """Return (h_out, w_out) of a conv2d's arguments."""
    (_, h_in, w_in, _), (k_h, k_w, _, _) = args["x"].shape, args["weight"].shape
    return conv2d_size(h_in, w_in, (k_h, k_w), args["stride"], args["padding"], args["dilation"])


def dense_conv(case: Case, arrangement: Arrangement) -> Arrangement:
    """Return the Arrangement of a conv2d without its sites: every pixel is computed."""
    args = arrangement.args
    shape, residual = (case.get("n"), *_conv_size(args), args["weight"].shape[3]), args["residual"]
    if residual is not None and residual.ndim == 2:
        residual = np.zeros(shape, np.float32)
        residual.reshape(-1, shape[3])[args["sites"]] = args["residual"]
    return Arrangement({**args, "sites": None, "residual": residual}, shape)
