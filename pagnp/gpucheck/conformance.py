"""The rows of the conformance table on a GPU backend, bit for bit against the NumPy reference; then random ones."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pagnp import ops
from pagnp.backends.base import Backend, get_backend
from pagnp.bench.gpu_launches import launches, only
from pagnp.gpucheck.job import Job
from pagnp.gpucheck.record import failure
from pagnp.testing import runcase
from pagnp.testing.case import Case
from pagnp.testing.cases import CASES
from pagnp.testing.devicecase import OFFSET, on_host_arrays
from pagnp.testing.random_cases import case_line, random_case
from pagnp.testing.random_cases_check import kernels_of
from pagnp.types import Array

STUBBORN = 3  # rows in a row that raise: the GPU answers no more, as after a fault
RESERVE = 3.0  # seconds that are left for the record
RANDOM_SEEDS = range(100_000_000, 200_000_000)  # none that the tests on CPUs take
RANDOM_ENOUGH = 3000


class BrokenDeviceError(Exception):
    """The device raises whatever it is asked."""


def run(job: Job) -> None:
    """Check rows at both alignments, each tile kernel, composites, and random cases as long as there is time."""
    table = CASES[:: job.every]
    with launches(job.backend.arrays) as counts:
        with contextlib.suppress(BrokenDeviceError):
            _run_parts(job, table)
        job.record.put("kernels", dict(counts))
    job.record.put("reference", "numpy, computed in the same process")


def _run_parts(job, table):
    want = References()
    check_rows(job, "rows", table, want, 0)
    for name, tiles in tile_sets(job.backend):
        with only(job.backend.arrays, tiles), launches(job.backend.arrays) as counts:
            convs = [case for case in table if case.op == "conv2d"]
            check_rows(job, f"conv2d rows, {name} alone", convs, want, 0)
        if tiles and not counts[name]:
            job.record.check(f"conv2d rows, {name} alone", [f"{name} took none of the rows"], 0)
    check_rows(job, f"rows {OFFSET} bytes off", table[::2], want, OFFSET)
    check_rows(job, "random cases", _random_cases(job), want, 0, required=False)


def tile_sets(backend: Backend) -> list[tuple[str, tuple[Any, ...]]]:
    """Return [(name, tiles)]: each tile kernel of the backend alone, and none: the plain kernel."""
    return [("the plain kernel", ()), *((tile.kernel, (tile,)) for tile in backend.arrays.conv_tiles)]


def _random_cases(job: Job) -> Iterator[Case]:
    for seed in RANDOM_SEEDS[: RANDOM_ENOUGH // job.every]:
        yield random_case(seed)


class References:
    """Outputs of the NumPy reference, each computed once."""

    def __init__(self) -> None:
        self._kernels, self._known = kernels_of(get_backend("numpy")), dict[str, Array]()

    def __call__(self, case: Case, keep: bool = True) -> Array:
        if case.id in self._known:
            return self._known[case.id]
        want, problems = runcase.run(case, self._kernels)
        assert not problems, problems
        if keep:
            self._known[case.id] = want
        return want


def device_kernels(backend: Backend, offset: int = 0, margin: int | None = None) -> dict[str, Callable[..., Any]]:
    """Return op -> kernel on NumPy arrays, that copies them to the device and back; with the composites."""
    return kernels_of_moved(backend, on_host_arrays(backend, offset, **({} if margin is None else {"margin": margin})))


def kernels_of_moved(backend: Backend, moved: dict[str, Callable[..., Any]]) -> dict[str, Callable[..., Any]]:
    """Return `moved` with the ops that are made of kernels, on NumPy arrays, too."""

    def bilinear_deconv(x: Array, factor: int, out: Array) -> None:
        out[...] = ops.bilinear_deconv(x, factor, backend=backend)

    return {**moved, "bilinear_deconv": bilinear_deconv}


def check_rows(
    job: Job,
    name: str,
    cases: Sequence[Case] | Iterator[Case],
    want: References,
    offset: int,
    required: bool = True,
) -> None:
    """Hold each case on the device against the reference; what there is no time for is a failure if `required`."""
    kernels, backend, stubborn = device_kernels(job.backend, offset), job.backend.name, 0
    for done, case in enumerate(cases):
        if job.deadline.left < RESERVE:
            problems = [f"only {done} rows were done in the time that there was"] if required else []
            job.record.check(name, problems, 0)
            return
        try:
            problems = runcase.check_same(case, backend, kernels, want(case, required))
            stubborn = 0
        except Exception as error:
            problems, stubborn = [f"{case.op}[{backend}] raised {failure(error)}"], stubborn + 1
        job.record.check(name, [_named(problem, case) for problem in problems])
        if stubborn == STUBBORN:
            raise BrokenDeviceError


def _named(problem, case):
    """Return the problem with the row's line in place of the command that repeats it on a CPU."""
    lines = [line for line in problem.splitlines() if not line.startswith("  pytest")]
    return "\n".join([*lines, f"  {case_line(case)}"])
