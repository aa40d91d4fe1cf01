"""The small cases that compute-sanitizer looks at: python -m pagnp.gpucheck.sanitized BACKEND SECONDS

Every array has memory of its own, exactly as long as it is: what goes beyond it is seen.
"""

import sys
import time
from collections.abc import Callable, Iterator

import numpy as np

from pagnp.backends.base import Backend, get_backend
from pagnp.backends.gpu.conv_tiles import Tile
from pagnp.bench.gpu_launches import only
from pagnp.contract import compare
from pagnp.gpucheck.conformance import device_kernels, tile_sets
from pagnp.gpucheck.sanitizer import CASES_DONE
from pagnp.testing import runcase, sample
from pagnp.testing.case import Case
from pagnp.testing.cases import ARRANGE, arrange, rows_of

FIRST = 4  # rows of each op
LARGEST = 6000  # elements of an output
TILED = 3  # conv2d rows for each tile kernel
TICK = 8  # cases after which it says how far it is


def main(arguments: list[str]) -> int:
    """Run the cases until all are done or the time is up; what they give is looked at, too."""
    name, seconds = arguments[0], float(arguments[1])
    if name == "cupy":
        import cupy

        cupy.cuda.set_allocator(None)  # no pool: the checker must see where an array ends
    end = time.monotonic() + seconds
    check(get_backend(name), lambda: time.monotonic() < end)
    return 0


def check(backend: Backend, goes_on: Callable[[], bool]) -> int:
    """Run the cases and tell how far it is; return how many. Raises AssertionError if one has wrong bits."""
    done, reference, chosen = 0, get_backend("numpy").kernels, list(cases(backend))
    kernels, wanted = device_kernels(backend, margin=0), len(chosen) + 1  # with the network
    for case, tiles in chosen:
        if not goes_on():
            _tell(done, wanted)
            return done
        want, _ = runcase.run(case, reference)
        with only(backend.arrays, tiles):
            out, problems = runcase.run(case, kernels)
        place = runcase.written(case, arrange(case))
        assert not problems and compare(out[place], want[place]).count == 0, f"{case}: {problems}"
        done += 1
        if done % TICK == 0:
            _tell(done, wanted)
    assert not (wrong := sample.differing(backend)), wrong
    _tell(wanted, wanted)
    return wanted


def _tell(done, wanted):
    print(f"{CASES_DONE}{done} of {wanted}", flush=True)


def cases(backend: Backend) -> Iterator[tuple[Case, tuple[Tile, ...]]]:
    """Yield (case, tile kernels that conv2d may take): first every tile kernel, then a few rows of every op."""
    all_tiles = backend.arrays.conv_tiles
    convs = [case for case in small_rows("conv2d") if case.params["c_out"] >= 8]
    for _, tiles in tile_sets(backend):
        for case in convs[:: max(1, len(convs) // TILED)][:TILED]:
            yield case, tiles
    for op in sorted(ARRANGE):
        if op != "bilinear_deconv":
            for case in small_rows(op)[:FIRST]:
                yield case, all_tiles


def small_rows(op: str) -> list[Case]:
    """Return the rows of an op whose outputs are small."""
    return [case for case in rows_of(op) if np.prod(arrange(case).shape, dtype=np.int64) <= LARGEST]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
