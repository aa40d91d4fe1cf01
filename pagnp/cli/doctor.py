"""`pagnp doctor`: can this machine keep the contract? Each check says what to do if not."""

import json
import platform
import threading
import warnings
from importlib import metadata
from pathlib import Path

import click
import numpy as np

from pagnp.cli import doctor_gpu
from pagnp.cli.options import GPU_BACKENDS, HOST_BACKENDS, debug_option, json_option
from pagnp.cli.streams import emit
from pagnp.errors import PagnpError

PACKAGES = ("numpy", "numba", "llvmlite", "h5py", "pillow", "click", "jsonschema", "rich", "mpmath")
FEATURES = ("sse4.2", "avx", "fma", "avx2", "avx512f", "neon")
# a, b, c and the bits of fma(a, b, c). A product rounded before the addition, or a float64 sum rounded to float32
# (double rounding: the second and third row are a hair beside a tie), gives other bits.
FMA_CASES = (
    ("0x1.000002p+0", "0x1.000002p+0", "-0x1.000004p+0", 0x28800000),
    ("0x1.001p+0", "0x1.001p+0", "0x1p-60", 0x3F801001),
    ("0x1.001p+0", "-0x1.001p+0", "-0x1p-60", 0xBF801001),
    ("0x1p-75", "0x1p-75", "0x1p-149", 0x00000002),
    ("0x1p-75", "-0x1p-75", "0x0p+0", 0x80000000),
)
SAMPLE_ROWS = 2  # rows of each op out of the conformance table
SAMPLE_SIZE = 20_000  # elements: larger rows are left to the tests
PATIENCE = 4  # seconds until all worker threads must have come
TINY = np.full((1, 1, 1, 64), 2.0**-149, np.float32)
REPORT = "delete the kernel cache and try again; if it stays, report it with this output"


@click.command("doctor")
@click.option("--backend", type=click.Choice(GPU_BACKENDS), help="Fail, too, if this GPU backend does not work here.")
@json_option
@debug_option
def command(backend, as_json):
    """Check that this machine can keep the numerical contract; exit code 1 with the fix if not."""
    checks = list(run_checks(backend))
    if as_json:
        emit(json.dumps({"ok": all(check["ok"] for check in checks), "checks": checks}, indent=2))
    else:
        for check in checks:
            emit(f"{'ok  ' if check['ok'] else 'FAIL'}  {check['name']:<18}  {check['detail']}")
            if not check["ok"]:
                emit(f"      {'':<18}  fix: {check['fix']}")
    return 0 if all(check["ok"] for check in checks) else 1


def run_checks(wanted=None):
    """Yield the checks in order; what cannot be loaded is not checked further.

    wanted  the GPU backend without which the machine does not do
    """
    yield versions()
    backends = {}
    for name in HOST_BACKENDS:
        yield load_backend(name, backends)
    yield entry("gpu", True, doctor_gpu.state())
    for name in GPU_BACKENDS:
        yield load_gpu_backend(name, backends, name == wanted)
    if "numba" in backends:
        yield cpu()
    for name, backend in backends.items():
        plain = doctor_gpu.on_numpy(backend)
        yield guarded(f"{name}: fma", fma, plain)
        yield guarded(f"{name}: subnormals", in_workers if name == "numba" else subnormals, plain)
        yield guarded(f"{name}: sample", sample, backend)
    if backends.keys() >= set(HOST_BACKENDS):
        yield guarded("ops", ops_agree, {name: doctor_gpu.on_numpy(backend) for name, backend in backends.items()})
    if "numba" in backends:
        yield kernel_cache()


def entry(name, ok, detail, fix=""):
    """Return one check as a JSON-able dict."""
    return {"name": name, "ok": bool(ok), "detail": detail, "fix": "" if ok else fix}


def guarded(name, check, *args):
    """Return the entry of check(*args); an exception of ours is a failed check, not the end."""
    try:
        return entry(name, *check(*args))
    except PagnpError as error:
        return entry(name, False, str(error), "see the message")


def versions():
    """Name the versions of Python, the packages and the system; fail if a package is missing."""
    found, missing = [f"python {platform.python_version()}"], []
    for package in PACKAGES:
        try:
            found.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            missing.append(package)
    from pagnp import __version__

    detail = f"pagnp {__version__}; {', '.join(found)}; {platform.system()} {platform.machine()}"
    if missing:
        detail += f"; missing: {', '.join(missing)}"
    return entry("versions", not missing, detail, f"pip install {' '.join(missing)}")


def load_backend(name, backends):
    """Load a backend into the dict `backends` and say how many threads it would use."""
    from pagnp.backends.base import get_backend

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a cache that cannot be written has a check of its own
            backends[name] = get_backend(name)
    except PagnpError as error:
        return entry(f"{name}: loads", False, str(error), "pip install --force-reinstall pagnp")
    return entry(f"{name}: loads", True, f"{backends[name].threads} thread(s)")


def load_gpu_backend(name, backends, wanted):
    """Load a GPU backend into the dict `backends`, or say why not; a failure only if it is `wanted`."""
    from pagnp.backends.base import get_backend

    try:
        backends[name] = get_backend(name)
    except PagnpError as error:
        why, _, fix = str(error).removeprefix(f"backend '{name}': ").partition("; ")
        return entry(f"{name}: loads", not wanted, why if wanted else f"not here: {why}", fix)
    return entry(f"{name}: loads", True, f"on {backends[name].arrays.description}")


def cpu():
    """Name the CPU features that kernels are compiled for."""
    from pagnp.backends.numba_cpu.compile import cpu_features

    present = [feature for feature in FEATURES if feature in cpu_features()]
    how = "fma in hardware" if {"fma", "neon"} & set(present) else "no fma in hardware: emulated exactly, and slowly"
    return entry("cpu", True, f"{', '.join(present) or 'no known features'}; {how}")


def fma(backend):
    """Check exact fused multiply-adds on constructed ties and subnormals, through the norm kernel."""
    a, b, c = (np.array([float.fromhex(case[i]) for case in FMA_CASES], np.float32) for i in range(3))
    want = np.array([case[3] for case in FMA_CASES], np.uint32)
    x, out = a.reshape(1, 1, 1, -1), np.empty((1, 1, 1, len(a)), np.float32)
    backend.norm(x, b, c, out)
    got = out.reshape(-1).view(np.uint32)
    wrong = [f"{got[i]:08X} instead of {want[i]:08X}" for i in np.flatnonzero(got != want)]
    if wrong:
        return False, f"not exact: {', '.join(wrong)}", "this machine cannot keep the contract; please report it"
    return True, f"exact on {len(want)} ties and subnormals"


def subnormals(backend):
    """Check that the smallest numbers survive in this thread."""
    alive = tiny_numbers_live(backend)
    return alive, "kept" if alive else "flushed to zero", "unload libraries built with -ffast-math"


def tiny_numbers_live(backend):
    """Return whether a kernel that runs in this thread keeps the smallest float32."""
    out = np.empty_like(TINY)
    backend.mul(TINY, np.ones((1, 1, 1, 1), np.float32), out)
    return np.array_equal(out.view(np.uint32), TINY.view(np.uint32))


def in_workers(backend):
    """Check that the smallest numbers survive in every worker thread: each waits for all others, then computes."""
    from pagnp.backends.base import get_backend
    from pagnp.backends.numba_cpu import threads

    alone, alive = get_backend("numba", 1), {}  # a kernel of one thread runs in the thread that calls it
    together = threading.Barrier(backend.threads)

    def probe(start, stop):
        together.wait(PATIENCE)
        alive[threading.get_ident()] = tiny_numbers_live(alone)

    try:
        threads.parallel(probe, backend.threads, backend.threads, chunk=1)
    except threading.BrokenBarrierError:
        return (
            False,
            f"not all {backend.threads} worker threads came within {PATIENCE} s",
            "free the machine; try again",
        )
    flushing = sum(not kept for kept in alive.values())
    detail = f"flushed to zero in {flushing} of {len(alive)} threads" if flushing else f"kept in {len(alive)} thread(s)"
    return not flushing, detail, "unload libraries built with -ffast-math"


def sample(backend):
    """Hold every layer of the built-in network against the digests that pagnp is shipped with."""
    from pagnp.testing import sample as built_in

    wrong = built_in.differing(backend)
    if wrong:
        detail = (
            f"{len(wrong)} of {len(built_in.EXPECTED)} digests differ from the shipped ones, first that of {wrong[0]}"
        )
        return False, detail, REPORT
    return True, f"{len(built_in.EXPECTED)} digests as shipped"


def ops_agree(backends):
    """Hold every op's first rows of the conformance table on each backend against numpy."""
    from pagnp.contract import combined_digest, compare, digest
    from pagnp.testing import cases

    picked = [row for op in sorted(cases.ARRANGE) if op not in cases.COMPOSITES for row in small_rows(op)]
    digests, wrong = {}, []
    for row in picked:
        want = run_case(backends["numpy"], row)
        digests[row.id] = digest(want)
        for name, backend in backends.items():
            difference = compare(run_case(backend, row), want) if name != "numpy" else None
            if difference:
                wrong.append(f"{name}: {row.id}: {' '.join(str(difference).split())}")
    if wrong:
        return False, f"{len(wrong)} of {len(picked)} differ; {wrong[0]}", REPORT
    return True, f"{combined_digest(digests)[:16]} ({len(picked)} rows, the same on {', '.join(backends)})"


def small_rows(op):
    """Return the first few rows of `op` that take no noticeable time."""
    from pagnp.testing import cases

    small = (row for row in cases.rows_of(op) if np.prod(cases.arrange(row).shape, dtype=np.int64) <= SAMPLE_SIZE)
    return [row for row, _ in zip(small, range(SAMPLE_ROWS), strict=False)]


def run_case(backend, row):
    """Return what a backend's kernel makes of a row of the conformance table."""
    from pagnp.testing import cases

    arrangement = cases.arrange(row)
    kernel, args = backend.kernels[row.op], arrangement.args
    if row.op == "conv2d":
        args = {("packed" if key == "weight" else key): value for key, value in args.items()}
        args["packed"] = backend.pack_conv2d(args["packed"], args["groups"])
    if arrangement.returns:
        return kernel(*args.values())
    out = np.zeros(arrangement.shape, arrangement.dtype)
    if arrangement.in_place:
        out[...] = args["residual"]
        args["residual"] = out
    kernel(*args.values(), out)
    return out


def kernel_cache():
    """Say where compiled kernels are kept and whether we can write there."""
    from pagnp.backends.numba_cpu.cachefolder import cache_folder

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        cache_folder.cache_clear()
        folder = cache_folder()
    if caught or folder is None:
        detail = str(caught[0].message) if caught else "none can be written"
        return entry("kernel cache", False, detail, "set PAGNP_CACHE_DIR to a folder you can write to")
    size = sum(file.stat().st_size for file in Path(folder).iterdir() if file.is_file())
    return entry("kernel cache", True, f"{folder} ({size / 1e6:.1f} MB, writable)")
