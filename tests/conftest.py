"""What the tests share: the backends and why one is not tested here; the scale of the random conformance run."""

import os
import threading
from collections import Counter
from pathlib import Path

import finely
import numpy as np
import pytest

from pagnp.backends.base import HOST, get_backend
from pagnp.errors import BackendError

DATA = Path(os.environ.get("PAGNP_DATA", ""))  # a folder with bsds500, camvid, panorama; nothing of it is the project's
needs_data = pytest.mark.skipif(
    not os.environ.get("PAGNP_DATA"), reason="PAGNP_DATA does not name a folder with data sets"
)
BACKENDS = tuple(HOST)  # the GPU's have tests of their own, and gpucheck where there is one
TALLY = (
    Counter()
)  # what the random tests did: "cases", "multipools", "graphs", "failing", "op conv2d", "fill huge", ...
SUMMARY = []  # lines that tests want to have printed at the end


def load_backend(name, threads=None):
    """Return the Backend, or skip with the reason; where CI is set in the environment a missing one is a failure."""
    try:
        return get_backend(name, threads)
    except BackendError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


@pytest.fixture(params=BACKENDS)
def backend_name(request):
    """The name of each backend that is installed."""
    load_backend(request.param)
    return request.param


@pytest.fixture
def fine_chunks(monkeypatch):
    """Cut every call of the Numba backend on two threads into five or more pieces: small maps have seams, too."""
    load_backend("numba")
    finely.cut(monkeypatch.setattr)


@pytest.fixture(scope="session")
def shim_folder(tmp_path_factory):
    """Where the CUDA sources are compiled for the CPU, once for all tests."""
    from cuda_shim import build

    if build.compiler() is None:
        assert not os.environ.get("CI"), "CI has a C++ compiler"
        pytest.skip("no g++: the CUDA sources cannot be run on the CPU")
    return tmp_path_factory.mktemp("kernels")


@pytest.fixture
def cubin_folder(monkeypatch, tmp_path):
    """An empty folder for compiled CUDA kernels; nobody was told yet that there are some to compile."""
    from pagnp.backends.cupy_raw import cubins

    monkeypatch.setenv("PAGNP_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(cubins, "_told", threading.Event())
    forget = cubins._folder.cache_clear
    forget()
    yield tmp_path / "cache" / "cuda"
    forget()


def pytest_addoption(parser):
    group = parser.getgroup("conformance", "random conformance tests")
    group.addoption("--conformance", type=int, metavar="N", help="N random op configurations and N // 40 random graphs")
    group.addoption("--conformance-seed", type=int, default=0, metavar="S", help="the first seed (default 0)")
    group.addoption("--conformance-case", metavar="LINE", help="check the case of this line alone")
    group.addoption("--conformance-graph", metavar="LINE", help="check the graph of this line alone")


def pytest_collection_modifyitems(config, items):
    """Keep one test alone where a line of one case or graph is given."""
    for kind in ("case", "graph"):
        if config.getoption(f"conformance_{kind}"):
            items[:] = [item for item in items if item.name == f"test_the_{kind}_of_the_option"]


def seeds(config, short, share, at_a_time):
    """Return [(first, stop)] of the seeds that a run takes, none if one case or graph is asked for.

    short  how many without --conformance; share  1 of how many configurations
    """
    if config.getoption("conformance_case") or config.getoption("conformance_graph"):
        return []
    wanted = config.getoption("conformance")
    count, first = short if wanted is None else wanted // share, config.getoption("conformance_seed")
    return [(at, min(at + at_a_time, first + count)) for at in range(first, first + count, at_a_time)]


def pytest_terminal_summary(terminalreporter, config):
    """Print SUMMARY; say which seeds ran and, after a run with --conformance, what was in them."""
    for line in SUMMARY:
        terminalreporter.write_line(line)
    if not any(TALLY[kind] for kind in ("cases", "multipools", "graphs")):
        return
    first = config.getoption("conformance_seed")
    ran = (
        ", ".join(f"{TALLY[kind]} random {kind}" for kind in ("cases", "multipools", "graphs")) + f" from seed {first}"
    )
    lines = [f"conformance: {ran}, {TALLY['failing']} of them failing"]
    if config.getoption("conformance") is not None:
        lines += [f"code path: {_code_path()}"]
        for kind in ("op", "fill", "node"):
            counts = {name.split()[1]: count for name, count in sorted(TALLY.items()) if name.startswith(f"{kind} ")}
            lines += [f"{kind}s: " + ", ".join(f"{name} {count}" for name, count in counts.items())] if counts else []
    terminalreporter.section("random conformance")
    terminalreporter.write("\n".join(lines) + "\n")


def _code_path():
    """Return what the Numba backend compiled for: tiles as pixels x channels, lanes of a vector, fma; and versions."""
    import numba

    from pagnp.backends.numba_cpu.microkernel import TILES
    from pagnp.backends.numba_cpu.vectorcode import has_fma_unit

    fma = "fma in hardware" if has_fma_unit() else "no fma: float64, rounded to odd"
    tiles = ", ".join(f"{pixels}x{width}" for pixels, width, _ in TILES)
    return f"{TILES[0][2]} lanes, tiles {tiles}; {fma}; numpy {np.__version__}, numba {numba.__version__}"
