"""Every kernel of cuda/*.cu, run on the CPU, gives the bits of the NumPy backend on every row of the conformance table,
in several orders of threads, with asynchronous copies at once or as late as allowed, from aligned and other memory.
"""

import contextlib
import functools
import itertools
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import SUMMARY, seeds
from conv_tile_rows import ROWS as TILE_ROWS
from conv_tile_rows import takes
from cuda_shim import build, declarations
from cuda_shim.device import compiled, shim_backend
from cuda_shim.library import KernelError
from device_rows import CAPACITY, COUNTS, counted_rows, flow_rows, masks, sited

from pagnp.backends.base import get_backend
from pagnp.backends.gpu import SIGNATURES
from pagnp.backends.gpu.conv_tiles import CUDA
from pagnp.backends.gpu.device import Sites
from pagnp.backends.gpu.signature import CUPY
from pagnp.contract import compare
from pagnp.testing import runcase
from pagnp.testing.cases import CASES, COMPOSITES
from pagnp.testing.devicecase import on_host_arrays
from pagnp.testing.random_cases import case_line, random_case

if build.compiler() is None and not os.environ.get("CI"):
    pytest.skip("no g++: the CUDA sources cannot be run on the CPU", allow_module_level=True)

NUMPY = get_backend("numpy").kernels
ROWS = [case for case in CASES if case.op not in COMPOSITES]
SOURCES = sorted(path.stem for path in build.SOURCES.glob("*.cu"))
NAMES = {name for name, signature in SIGNATURES.items() if CUPY in signature.backends}
# How the threads of a block take turns, when copies happen, and where arrays start.
WAYS = (
    {"order": "ascending", "deferred": False, "offset": 0},
    {"order": "descending", "deferred": True, "offset": 4},
    {"order": "shuffled", "deferred": True, "offset": 0},
)
CHECKED = {"order": "shuffled", "deferred": True, "offset": 4, "checked": True}  # every access to memory is looked at
IN_WAYS = pytest.mark.parametrize("way", (*WAYS, CHECKED), ids=[*(way["order"] for way in WAYS), "checked"])
RANDOM = 240  # cases of a run without --conformance
launches = Counter()  # kernel -> how often it ran
finished = set()  # the tests that ran to their end


@pytest.fixture(scope="session")
def backend(shim_folder):
    """way -> Backend; all count their launches together."""
    build.machine(shim_folder)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:  # g++, on all cores
        list(pool.map(lambda chosen: compiled(shim_folder, *chosen), itertools.product(SOURCES, (False, True))))

    @functools.cache
    def make(order, deferred, checked):
        made = shim_backend(shim_folder, order=order, deferred=deferred, checked=checked, seed=5)
        made.arrays.launches = launches
        return made

    return lambda way: make(way["order"], way["deferred"], way.get("checked", False))


@functools.cache
def numpys(case):
    """Return what the NumPy backend makes of a row."""
    return runcase.run(case, NUMPY)[0]


@pytest.mark.parametrize("case", ROWS, ids=[f"{case.id}-shim" for case in ROWS])
def test_kernel_agrees_with_numpy(case, backend):
    way = {**WAYS[len(case.id) % len(WAYS)], "checked": True}
    runcase.run(case, on_host_arrays(backend(way), way["offset"]))  # first: unchecked it might end the process
    for way in WAYS:
        kernels = on_host_arrays(backend(way), way["offset"])
        problems = runcase.check_same(case, "shim", kernels, numpys(case))
        if problems:
            pytest.fail("\n".join([str(way), *problems]), pytrace=False)
    finished.add(case.id)


def pytest_generate_tests(metafunc):
    if "batch" in metafunc.fixturenames:
        batches = seeds(metafunc.config, RANDOM, 4, 60)
        metafunc.parametrize("batch", batches, ids=[f"{first}..{stop - 1}" for first, stop in batches])


def test_random_cases_agree_with_numpy(batch, backend):
    """What the rows do not think of: cases as test_random_cases.py draws them."""
    failures = []
    for case in map(random_case, range(*batch)):
        if case.op in COMPOSITES:
            continue
        want = runcase.run(case, NUMPY)[0]
        for way in (CHECKED, WAYS[case.get("seed") % len(WAYS)]):
            try:
                problems = runcase.check_same(case, "shim", on_host_arrays(backend(way), way["offset"]), want)
            except KernelError as error:
                problems = [f"{case.op}[shim] {error}"]
            if problems:
                failures.append("\n".join([str(way), *problems, case_line(case)]))
                break
    if failures:
        pytest.fail("\n\n".join(failures), pytrace=False)


@contextlib.contextmanager
def only(device, *tiles):
    """Inside the block, convolutions use one of these tile kernels, or none."""
    before, device.conv_tiles = device.conv_tiles, tiles
    try:
        yield
    finally:
        device.conv_tiles = before


@pytest.mark.parametrize("tile", CUDA, ids=lambda tile: tile.kernel)
def test_tile_is_free_of_races_and_stays_inside_its_arrays(tile, backend):
    rows = [case for case in TILE_ROWS if takes(tile, case)]
    for way, start in zip(WAYS, range(3), strict=True):
        chosen = backend({**way, "checked": True})
        with only(chosen.arrays, tile):
            for case in rows[start::9]:
                runcase.run(case, on_host_arrays(chosen, way["offset"]))


@pytest.mark.parametrize("tile", (None, *CUDA), ids=lambda tile: tile.kernel if tile else "plain")
def test_tile_agrees_with_numpy(tile, backend):
    """Each tile kernel by itself on all rows that it can compute: all in shuffled order, some in the others."""
    convs = [case for case in (*ROWS, *TILE_ROWS) if "conv" in case.op]
    rows = convs[::3] if tile is None else [case for case in convs if takes(tile, case)]
    for way, step in zip(WAYS, (5, 5, 1), strict=True):
        chosen = backend(way)
        kernels = on_host_arrays(chosen, way["offset"])
        with only(chosen.arrays, *(() if tile is None else (tile,))):
            for case in rows[::step]:
                problems = runcase.check_same(case, "shim", kernels, numpys(case))
                if problems:
                    pytest.fail("\n".join([str(way), *problems]), pytrace=False)


@IN_WAYS
@pytest.mark.parametrize("row", flow_rows(), ids=lambda row: row.id)
def test_flow_agrees_with_numpy(row, way, backend):
    want, got = row.out.copy(), row.out.copy()
    with np.errstate(all="ignore"):
        NUMPY[row.op](*row.args, want)
    on_host_arrays(backend(way), way["offset"])[row.op](*row.args, got)
    assert not (found := compare(got, want)), str(found)


def moved(device, value, offset):
    """Return a value on the device, arrays `offset` bytes off a 256-byte boundary."""
    if isinstance(value, list):
        return [moved(device, part, offset) for part in value]
    if not isinstance(value, np.ndarray):
        return value
    raw = np.zeros(value.nbytes + offset, np.uint8)
    raw[offset:] = value.reshape(-1).view(np.uint8)
    return device.to_device(raw)[offset:].view(value.dtype).reshape(value.shape)


@IN_WAYS
@pytest.mark.parametrize("row", counted_rows(), ids=lambda row: row.id)
def test_only_the_counted_rows_are_written(row, way, backend):
    chosen = backend(way)
    device, want = chosen.arrays, row.out.copy()
    NUMPY[row.op](*row.args, want)
    for count in COUNTS:
        args, out = [moved(device, arg, way["offset"]) for arg in row.args], moved(device, row.out, way["offset"])
        with device.limited(Sites(device.empty(CAPACITY, np.int32), device.to_device(np.array([count], np.int32)))):
            chosen.kernels[row.op](*args, out)
        got = device.to_host(out)
        assert not (found := compare(got[:, :, :count].copy(), want[:, :, :count].copy())), str(found)
        assert (got[:, :, count:].view(np.uint32) == row.out[:, :, count:].view(np.uint32)).all()


@IN_WAYS
def test_sites_are_listed_in_order(way, backend):
    chosen = backend(way)
    for mask in masks():
        sites = chosen.kernels["list_sites"](moved(chosen.arrays, mask, way["offset"]))
        count, indices = (chosen.arrays.to_host(array) for array in (sites.count, sites.indices))
        assert len(sites) == mask.size and (indices[: count[0]] == np.flatnonzero(mask)).all(), mask.shape
        assert count[0] == mask.sum() and (indices[count[0] :] == -1).all(), mask.shape


@IN_WAYS
@pytest.mark.parametrize("c", (1, 5, 8, 64))
def test_rows_at_counted_sites(c, way, backend):
    """Convolutions, gathers and scatters at sites of which the host does not know the number."""
    check_counted_sites(c, way, backend(way))


@pytest.mark.parametrize("tile", CUDA, ids=lambda tile: tile.kernel)
def test_tile_at_counted_sites(tile, backend):
    for way in (WAYS[2], {**WAYS[2], "checked": True}):
        chosen = backend(way)
        with only(chosen.arrays, tile):
            check_counted_sites(36, way, chosen)


def check_counted_sites(c, way, chosen):
    """Fail unless only the rows of the first sites are written, and rightly."""
    device = chosen.arrays
    listed, arrays, calls = sited(c)
    there = {name: moved(device, array, way["offset"]) for name, array in arrays.items()}
    for count in (0, 1, len(listed) - 3):
        sites = Sites(device.to_device(listed), device.to_device(np.array([count], np.int32)))
        here = arrays | {"rows": arrays["rows"][:count]}
        for call, start in calls:
            want, out = start.copy(), moved(device, start, way["offset"])
            call(NUMPY, here, listed[:count], want if start.ndim == 4 else want[:count])
            call(chosen.kernels, there, sites, out)
            assert not (found := compare(device.to_host(out), want)), f"{call.__name__} {count}: {found}"


@pytest.mark.parametrize("source", sorted({*SOURCES, *(SIGNATURES[name].source for name in NAMES)}))
def test_source_declares_what_the_signatures_say(source):
    assert source in SOURCES, f"cuda/{source}.cu is missing"
    wanted = {name: SIGNATURES[name] for name in NAMES if SIGNATURES[name].source == source}
    declared = declarations.kernels_declared(build.preprocessed(build.SOURCES / f"{source}.cu"))
    problems = declarations.mismatches(f"{source}.cu", declared, wanted)
    problems += declarations.missing(f"{source}.cu", declared, wanted)
    assert not problems, "\n".join(problems)


def test_every_kernel_ran():
    """Last: the tests above launched each kernel that has a signature."""
    if len(finished) < len(ROWS):
        pytest.skip(f"only {len(finished)} of {len(ROWS)} rows ran")
    SUMMARY.append(
        f"cuda: {len(NAMES & set(launches))} of {len(NAMES)} kernels, {launches.total()} launches on the CPU"
    )
    assert not (idle := sorted(NAMES - set(launches))), f"no row launches {', '.join(idle)}"
