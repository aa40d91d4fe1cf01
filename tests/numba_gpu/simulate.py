"""Small rows of the conformance table on the backend numba-cuda, in Numba's simulator. Prints JSON: what was launched,
how many rows ran, what is wrong with them.

    python tests/numba_gpu/simulate.py [--fma unfused|twice] ops plain tiles between front network

The simulator does some hundred thousand operations a second. So rows are taken from the cheapest up, as long as they
show something new, a fill or an option, to some kernel.
"""

import contextlib
import json
import math
import os
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ["NUMBA_ENABLE_CUDASIM"] = "1"  # before Numba is imported

from conv_tile_rows import ROWS as TILE_ROWS  # noqa: E402
from conv_tile_rows import takes  # noqa: E402
from device_rows import CAPACITY, counted_rows, flow_rows, masks, sited  # noqa: E402

from pagnp import ops as public  # noqa: E402
from pagnp.backends.base import get_backend  # noqa: E402
from pagnp.backends.gpu.conv_tiles import NUMBA_CUDA  # noqa: E402
from pagnp.backends.gpu.device import Sites  # noqa: E402
from pagnp.backends.numba_cuda import simulated  # noqa: E402
from pagnp.contract import BLOCK, compare  # noqa: E402
from pagnp.testing import runcase, sample  # noqa: E402
from pagnp.testing.case import pair  # noqa: E402
from pagnp.testing.cases import CASES, COMPOSITES, arrange  # noqa: E402
from pagnp.testing.devicecase import on_host_arrays  # noqa: E402

FMA = {  # wrong on purpose
    "unfused": lambda a, b, c: np.float32(a) * np.float32(b) + np.float32(c),
    "twice": lambda a, b, c: np.float32(float(a) * float(b) + float(c)),
}
NUMPY = get_backend("numpy").kernels
SIZES = ("h_in", "w_in", "c_in", "h_out", "w_out", "m")
LARGEST = 300  # elements of an output, convolutions aside
MULTIPLY_ADDS = {
    None: 120_000,
    32: 600_000,
    64: 900_000,
    128: 700_000,
}  # of all rows of a tile kernel with so many rows


class Simulation:
    """The backend in the simulator, and what was found."""

    def __init__(self):
        self.backend = get_backend("numba-cuda")
        self.device, self.rows, self.problems, self.launches = self.backend.arrays, 0, [], Counter()
        self.long = set()  # tile kernels that added up more than one chain
        self.kernels = on_host_arrays(self.backend, offset=4)
        self._launch, self.device.launch = self.device.launch, self.launch

    def launch(self, kernel, *args, **options):
        """Launch and count."""
        self.launches[kernel] += 1
        self._launch(kernel, *args, **options)

    @contextlib.contextmanager
    def dry(self):
        """Inside the block kernels are counted in the Counter that this yields, and do not run."""
        counted = Counter()
        self.device.launch = lambda kernel, *args, **options: counted.update([kernel])
        try:
            yield counted
        finally:
            self.device.launch = self.launch

    def check(self, case):
        """Run a row and note what is wrong."""
        want, _ = runcase.run(case, NUMPY)
        self.rows += 1
        self.problems += runcase.check_same(case, "numba-cuda", self.kernels, want)

    def compare(self, what, got, want):
        """Note a difference."""
        self.rows += 1
        difference = compare(got, want)
        if difference:
            self.problems.append(f"{what}: {difference}")


def ops(simulation):
    """Every op but conv2d: for each kernel the cheapest row of each fill and option."""
    shown = set()
    for case in sorted((case for case in CASES if case.op not in (*COMPOSITES, "conv2d")), key=_size):
        with simulation.dry() as kernels:
            runcase.run(case, simulation.kernels)
        options = {(name, value) for name, value in case.params.items() if name not in ("seed", *SIZES)}
        new = {(kernel, *option) for kernel in kernels for option in options} - shown
        if new and _size(case) <= LARGEST:
            shown |= new
            simulation.check(case)


def _size(case):
    return math.prod(arrange(case).shape) * max(1, runcase._cost(case, arrange(case)) // 20)


def plain(simulation):
    """conv2d by its plain kernel."""
    _convs(simulation, None)


def tiles(simulation):
    """conv2d by each of its tile kernels."""
    for tile in NUMBA_CUDA:
        _convs(simulation, tile)


def _convs(simulation, tile):
    """A sum of more than one chain and rows of every fill and option, as far as the budget goes."""
    simulation.device.conv_tiles = (tile,) if tile else ()
    left, shown = MULTIPLY_ADDS[tile and tile.rows], set()
    rows = [case for case in (*CASES, *TILE_ROWS) if case.op == "conv2d" and (tile is None or takes(tile, case))]
    works = sorted((_work(case, tile), case.id, case) for case in rows)
    long = next(row for row in works if _terms(row[2]) > BLOCK)
    for work, _, case in (long, *works):
        if work <= left and (new := _options(case) - shown):
            shown, left = shown | new, left - work
            simulation.check(case)
            if tile and _terms(case) > BLOCK:
                simulation.long.add(tile.kernel)


def _terms(case):
    k_h, k_w = pair(case.get("k"))
    return k_h * k_w * case.get("c_in") // case.get("groups")


def _work(case, tile):
    """Return the multiply-adds that a row takes, with those of the unused parts of tiles."""
    size, groups, c_out = math.prod(arrange(case).shape), case.get("groups"), case.get("c_out")
    if tile is None:
        return size * _terms(case)
    tiles = -(-size // c_out // tile.rows) * -(-c_out // groups // tile.columns) * groups
    return tiles * tile.rows * tile.columns * _terms(case)


def _options(case):
    named = ("fill", "epilogue", "residual", "relu", "sites", "layout", "groups", "stride", "dilation", "padding", "n")
    return {(name, case.get(name)) for name in named} | {("chains", -(-_terms(case) // BLOCK))}


def between(simulation):
    """What a run does between its ops, and ops of which the host does not know how many rows are wanted."""
    device, kernels = simulation.device, simulation.backend.kernels
    device.conv_tiles = ()
    for row in flow_rows():
        if row.out.size <= LARGEST:
            want, got = row.out.copy(), row.out.copy()
            with np.errstate(all="ignore"):
                NUMPY[row.op](*row.args, want)
            simulation.kernels[row.op](*row.args, got)
            simulation.compare(row.id, got, want)
    for row in counted_rows():
        if row.out.shape[3] <= 3:
            want, out = row.out.copy(), row.out.copy()
            NUMPY[row.op](*row.args, want)
            want[:, :, 23:] = row.out[:, :, 23:]
            with device.limited(Sites(device.empty(CAPACITY, np.int32), np.array([23], np.int32))):
                kernels[row.op](*row.args, out)
            simulation.compare(f"{row.id} counted", out, want)
    for mask in (mask for mask in masks() if mask.size in (1, 1025)):
        sites = kernels["list_sites"](mask)
        want = np.flatnonzero(mask).astype(np.int32)
        simulation.compare(f"list_sites {mask.shape}", sites.indices[: int(sites.count[0])], want)
    counted_sites(simulation)


def counted_sites(simulation):
    """Convolutions, gathers and scatters at the first 7 of a list of sites."""
    listed, arrays, calls = sited(3)
    sites = Sites(listed, np.array([7], np.int32))
    here = arrays | {"rows": arrays["rows"][:7]}
    for tile in (None, NUMBA_CUDA[-1]):
        simulation.device.conv_tiles = (tile,) if tile else ()
        for call, start in calls:
            want, out = start.copy(), start.copy()
            call(NUMPY, here, listed[:7], want if start.ndim == 4 else want[:7])
            call(simulation.backend.kernels, arrays, sites, out)
            simulation.compare(f"{call.__name__} at counted sites", out, want)


def front(simulation):
    """Calls as a user writes them: `pagnp.ops` makes the arrays of results itself."""
    simulation.device.conv_tiles = ()
    x = np.array([-1, 2, -3, 0.5], np.float32).reshape(1, 2, 2, 1)
    index = np.array([[[0, 1], [1, 0]]], np.int32)
    calls = {
        "relu": lambda on: public.relu(x, backend=on),
        "add": lambda on: public.add(x, 3.0, backend=on),
        "select": lambda on: public.select(index, [x, 2 * x], backend=on),
        "select of one": lambda on: public.select(0 * index, [x], backend=on),
        "compare": lambda on: public.compare(index, 1, "ge", backend=on),
        "masked": lambda on: public.masked(x, index > 0, backend=on),
        "conv2d": lambda on: public.conv2d(x, np.ones((1, 1, 1, 2), np.float32), backend=on),
    }
    for name, call in calls.items():
        simulation.compare(f"ops.{name}", call(simulation.backend), call("numpy"))


def network(simulation):
    """The sample of `pagnp doctor`: all ops of opset.py, a perforated branch, heads."""
    simulation.device.conv_tiles = ()
    simulation.rows += 1
    simulation.problems += [f"network: {name} has another digest" for name in sample.differing(simulation.backend)]


def main(argv):
    """Run parts and print what was found."""
    runcase.PREFILLS = runcase.PREFILLS[:1]
    if argv[0] == "--fma":
        simulated.fmaf_rn = FMA[argv[1]]  # before the kernels are imported
        argv = argv[2:]
    start, simulation = time.monotonic(), Simulation()
    for part in argv:
        {"ops": ops, "plain": plain, "tiles": tiles, "between": between, "front": front, "network": network}[part](
            simulation
        )
    found = {name: getattr(simulation, name) for name in ("launches", "rows", "problems")}
    found |= {"long": sorted(simulation.long), "seconds": round(time.monotonic() - start, 1)}
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
