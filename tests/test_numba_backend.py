"""What is particular to the Numba backend: its threads, and the CPUs it compiles for.

That its ops give the reference's bits is a matter of the conformance table; here it is the same kernels under other
circumstances: another thread count, several callers, a forked child, no AVX.
"""

import multiprocessing
import os
import platform
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numba")

from pagnp import ops
from pagnp.backends.base import get_backend
from pagnp.backends.numba_cpu import conv as conv_module
from pagnp.backends.numba_cpu import threads as threads_module
from pagnp.backends.numba_cpu.conv_plain import conv2d_f32_plain
from pagnp.backends.numba_cpu.threads import default_threads, parallel
from pagnp.contract import combined_digest, compare, digest
from pagnp.errors import ContractError, UsageError
from pagnp.shapes import conv2d_size, conv_transpose2d_size

ROOT = Path(__file__).resolve().parents[1]

# Sizes around the tiles (6 or 8 pixels, panels of 64, 32, 16) and the blocks of 128: (shape of x, weight, options)
CONVS = (
    ((1, 6, 7, 3), (3, 3, 3, 64), {"padding": (1, 1, 1, 1)}),
    ((2, 5, 4, 3), (7, 7, 3, 65), {"padding": (3, 3, 3, 3), "stride": (2, 2)}),
    ((1, 9, 5, 130), (1, 1, 130, 33), {"relu": True}),
    ((1, 4, 9, 64), (3, 3, 64, 100), {"padding": (2, 2, 2, 2), "dilation": (2, 2), "affine": "norm", "residual": True}),
    ((2, 3, 11, 17), (2, 4, 17, 2), {"padding": (0, 1, 2, 3), "affine": "bias", "sites": 0.5}),
    ((1, 7, 7, 128), (3, 3, 128, 128), {"padding": (1, 1, 1, 1), "affine": "norm", "relu": True, "sites": 0.3}),
    ((1, 5, 5, 12), (3, 3, 4, 9), {"groups": 3, "affine": "bias", "fill": "odd"}),
    ((1, 8, 6, 37), (3, 3, 1, 37), {"groups": 37, "padding": (1, 1, 1, 1), "residual": True, "relu": True}),
    ((1, 13, 12, 2), (12, 12, 1, 2), {"groups": 2, "padding": (5, 5, 5, 5), "fill": "odd"}),
    ((1, 6, 6, 40), (3, 3, 40, 70), {"fill": "odd", "padding": (1, 1, 1, 1)}),
    ((1, 6, 6, 3), (1, 2, 3, 40), {"fill": "hairs"}),
    ((1, 6, 6, 24), (1, 3, 1, 24), {"fill": "hairs", "groups": 24}),
)
TRANSPOSED = (
    ((1, 4, 5, 3), (16, 16, 3, 1), {"groups": 3, "stride": (8, 8), "padding": (4, 4, 4, 4)}),
    ((2, 4, 3, 70), (3, 2, 70, 65), {"stride": (2, 1), "padding": (1, 0, 0, 1), "affine": "norm", "relu": True}),
    ((1, 3, 3, 4), (2, 2, 4, 5), {"stride": (3, 3), "affine": "bias"}),  # phases that no tap reaches
    ((1, 5, 4, 6), (3, 3, 6, 7), {"stride": (2, 2), "dilation": (2, 1), "groups": 2, "residual": True}),
)


def values(rng, shape, fill="normal"):
    """Return float32 values; "odd": signed zeros, subnormals, Inf and NaN among them; "hairs": sums beside ties."""
    if fill == "hairs":
        unit = 2.0**-23
        return rng.choice(np.array([1, 1 + unit, 1 - unit, unit / 2 * (1 + unit)], np.float32), shape)
    array = rng.standard_normal(shape, dtype=np.float32)
    if fill == "odd":
        special = np.array([0, -0.0, 1e-40, -1e-45, 3e38, -1e-30, np.inf, np.nan], np.float32)
        chosen = rng.random(shape) < 0.004
        array[chosen] = rng.choice(special, chosen.sum())
    return array


def conv_arguments(case, transposed=False):
    """Return (x, weight, epilogue arrays, relu, sites, stride, padding, dilation, groups, out) of a row above."""
    x_shape, w_shape, options = case
    rng = np.random.default_rng(7)
    stride, dilation = options.get("stride", (1, 1)), options.get("dilation", (1, 1))
    padding, groups = options.get("padding", (0, 0, 0, 0)), options.get("groups", 1)
    x, weight = values(rng, x_shape, options.get("fill")), values(rng, w_shape, options.get("fill"))
    if transposed:
        size = conv_transpose2d_size(*x_shape[1:3], w_shape[:2], stride, padding, (0, 0), dilation)
        c_out = w_shape[3] * groups
    else:
        size, c_out = conv2d_size(*x_shape[1:3], w_shape[:2], stride, padding, dilation), w_shape[3]
    affine = options.get("affine")
    scale, shift, bias = (values(rng, c_out) if affine == kind else None for kind in ("norm", "norm", "bias"))
    sites = None
    if "sites" in options:
        sites = np.flatnonzero(rng.random(x_shape[0] * size[0] * size[1]) < options["sites"]).astype(np.int32)
    out = values(rng, (x_shape[0], *size, c_out))  # where only sites are written, the rest must stay as it is
    residual = out if options.get("residual") else None  # in place
    return (
        x,
        weight,
        (scale, shift, bias, residual),
        options.get("relu", False),
        sites,
        stride,
        padding,
        dilation,
        groups,
        out,
    )


def conv_outputs(backend):
    """Return the outputs of all rows above on one backend."""
    outputs = []
    for case in CONVS:
        x, weight, affine, relu, sites, *geometry, groups, out = conv_arguments(case)
        packed = backend.pack_conv2d(weight, groups)
        backend.conv2d(x, packed, *affine, relu, sites, *geometry, groups, out)
        outputs.append(out)
    for case in TRANSPOSED:
        x, weight, affine, relu, _, *geometry, groups, out = conv_arguments(case, transposed=True)
        backend.conv_transpose2d(x, weight, *affine, relu, *geometry, groups, out)
        outputs.append(out)
    return outputs


def conv_digest(backend):
    return combined_digest({f"{i:02}": digest(out) for i, out in enumerate(conv_outputs(backend))})


@pytest.fixture(scope="module")
def reference():
    return conv_outputs(get_backend("numpy"))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_convolutions_have_the_reference_bits_on_any_number_of_threads(threads, reference):
    for case, got, want in zip(CONVS + TRANSPOSED, conv_outputs(get_backend("numba", threads)), reference, strict=True):
        assert not (difference := compare(got, want)), f"{case}: {difference}"


def test_plain_kernel_has_the_reference_bits(reference):
    for case, want in zip(CONVS, reference, strict=False):
        x, weight, (scale, shift, bias, residual), relu, sites, *geometry, groups, out = conv_arguments(case)
        flat = out.reshape(-1, out.shape[-1])
        places = np.arange(len(flat), dtype=np.int32) if sites is None else sites
        residual = None if residual is None else flat
        size = out.shape[1:3]
        conv2d_f32_plain(x, weight, scale, shift, bias, residual, relu, places, *geometry, groups, size, flat)
        assert not (difference := compare(out, want)), f"{case}: {difference}"


def test_compact_sites_are_the_rows_of_the_dense_result(reference):
    backend = get_backend("numba", 2)
    for number in (3, 5):
        x, weight, (scale, shift, bias, residual), relu, _, *geometry, groups, out = conv_arguments(CONVS[number])
        rows = np.flatnonzero(np.arange(out.size // out.shape[-1]) % 3 == 1).astype(np.int32)
        compact_residual = None if residual is None else out.reshape(-1, out.shape[-1])[rows]
        compact, packed = np.empty((len(rows), out.shape[-1]), np.float32), backend.pack_conv2d(weight, groups)
        backend.conv2d(
            x, packed, scale, shift, bias, compact_residual, relu, rows, *geometry, groups, compact
        )  # fmt: skip
        backend.conv2d(x, packed, scale, shift, bias, residual, relu, None, *geometry, groups, out)
        assert not (difference := compare(compact, out.reshape(-1, out.shape[-1])[rows])), str(difference)


def test_writes_stay_inside_out():
    backend = get_backend("numba", 2)
    for case in CONVS[:6]:
        x, weight, affine, relu, _, *geometry, groups, out = conv_arguments(case)
        guarded = np.full(out.size + 128, 7, np.float32)
        inside = guarded[64:-64].reshape(out.shape)
        affine = (*affine[:3], None)
        backend.conv2d(x, backend.pack_conv2d(weight, groups), *affine, relu, None, *geometry, groups, inside)
        assert (guarded[:64] == 7).all() and (guarded[-64:] == 7).all(), case


def test_several_python_threads_may_call_at_once(reference):
    want = [digest(out) for out in reference]
    got = {}

    def call(number):
        got[number] = [digest(out) for out in conv_outputs(get_backend("numba", 2))]

    callers = [threading.Thread(target=call, args=(number,)) for number in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert got == {number: want for number in range(4)}


def _child_digest(queue):
    queue.put(conv_digest(get_backend("numba", 2)))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform does not fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_threads_of_its_own():
    want = conv_digest(get_backend("numba", 2))  # starts this process's workers
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=_child_digest, args=(queue,))
    child.start()
    child.join(timeout=120)
    assert child.exitcode == 0
    assert queue.get() == want


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="features of x86")
@pytest.mark.parametrize(
    ("cpu", "features"),
    [
        ("haswell", "+sse4.1,+sse4.2,+avx,+avx2,+fma,+bmi,+bmi2,+popcnt,-avx512f"),
        ("nehalem", "+sse4.1,+sse4.2,+popcnt,-avx,-avx2,-fma,-avx512f"),
    ],
)
def test_lesser_cpus_give_the_same_bits(cpu, features):
    code = "from test_numba_backend import *; print(conv_digest(get_backend('numba', 2)))"
    environment = {"NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": features}
    assert run_python(code, **environment).stdout.strip() == conv_digest(get_backend("numba", 1))


def run_python(code, **environment):
    """Run `code` in a new process that can import pagnp and this module."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), *sys.path])
    environment = {**os.environ, "PYTHONPATH": path, **{name: str(value) for name, value in environment.items()}}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    return result


@pytest.mark.parametrize("total", [0, 1, 2, 7, 100])
@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("chunk", [None, 1, 3, 1000])
def test_parallel_covers_each_place_once(total, threads, chunk):
    seen = np.zeros(total, np.int64)

    def kernel(start, stop, seen):
        seen[start:stop] += 1

    parallel(kernel, total, threads, seen, chunk=chunk)
    assert (seen == 1).all()


def test_parallel_raises_what_a_chunk_raised():
    def kernel(start, stop):
        if start == 30:
            raise KeyError(start)

    for threads in (1, 2):
        with pytest.raises(KeyError, match="30"):
            parallel(kernel, 100, threads, chunk=1)


def test_arrays_outlive_an_interrupt_while_a_worker_writes(monkeypatch):
    """Ctrl-C can end a call between any two steps: here where it would wait for its workers."""
    caller, begun, free = threading.get_ident(), threading.Event(), threading.Event()

    def kernel(start, stop):
        if threading.get_ident() == caller:
            assert begun.wait(20)
        else:
            begun.set()
            free.wait(20)

    def interrupted(job):
        raise KeyboardInterrupt

    monkeypatch.setattr(threads_module._Job, "wait", interrupted)
    array = np.zeros(4)
    alive = weakref.ref(array)
    try:
        parallel(kernel, 2, 2, chunk=1, keep=(array,))
    except KeyboardInterrupt:  # pytest.raises would keep the frames, and with them the array
        del array
    assert alive() is not None
    free.set()
    deadline = time.monotonic() + 20
    while alive() is not None and time.monotonic() < deadline:
        time.sleep(0.001)
    assert alive() is None


def test_a_conv_keeps_what_it_hands_over_by_address_through_an_interrupt(monkeypatch):
    seen = []

    def recorded(*args, keep=(), **_):
        seen.append((next(part for part in args if isinstance(part, tuple) and len(part) == 7), keep))

    monkeypatch.setattr(conv_module, "parallel", recorded)
    x, weight = np.ones((1, 5, 5, 2), np.float32), np.ones((3, 3, 2, 4), np.float32)
    ops.conv2d(x, weight, scale=np.ones(4, np.float32), shift=np.ones(4, np.float32), backend="numba")
    ((addresses, keep),) = seen
    assert [0 if array is None else array.ctypes.data for array in keep] == list(addresses)


def test_parallel_may_be_nested():
    seen = np.zeros((8, 8), np.int64)

    def row(start, stop, line):
        line[start:stop] += 1

    def rows(start, stop):
        for i in range(start, stop):
            parallel(row, 8, 2, seen[i], chunk=1)

    parallel(rows, 8, 2, chunk=1)
    assert (seen == 1).all()


def test_one_thread_starts_none():
    before = threading.active_count()
    parallel(lambda start, stop: None, 100, 1, chunk=1)
    assert threading.active_count() == before


def test_switched_off_subnormals_are_found(monkeypatch):
    monkeypatch.setattr(threads_module, "_HALF", 0.0)  # the probe's product is then 0, as with flush-to-zero
    for threads in (1, 2):
        with pytest.raises(ContractError, match="subnormal"):
            parallel(lambda start, stop: None, 10, threads, chunk=1)


def test_threads_option():
    assert get_backend("numba").threads == default_threads()
    for wrong in (0, -1, 1.5, True):
        with pytest.raises(UsageError, match="threads"):
            get_backend("numba", wrong)
