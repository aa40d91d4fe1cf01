"""`pagnp doctor`: its built-in sample is right by exact arithmetic, and it notices what it is there for.

PAGNP_WHOLE_SAMPLE=1 pytest tests/test_doctor.py   # every element of the sample by exact arithmetic: half a minute
"""

import dataclasses
import os
import threading

import numpy as np
import pytest
from conftest import BACKENDS, load_backend
from cuda_shim.device import compiled
from fake_cupy import FakeCupy, install, require_nvrtc
from test_model_process import FLUSH, X86, in_thread, write_mxcsr

import pagnp
from pagnp import opset
from pagnp.backends.cupy_raw import nvrtc
from pagnp.backends.gpu import SIGNATURES, driver
from pagnp.backends.numba_cpu import threads
from pagnp.cli import doctor
from pagnp.contract import digest
from pagnp.errors import ContractError
from pagnp.testing import cases, sample, spot_run

ELEMENTS = 10**9 if os.environ.get("PAGNP_WHOLE_SAMPLE") else 12
OPTIONS = {"seed": 9}


def test_the_sample_has_every_op():
    assert {node.op for node in sample.graph().nodes.values()} == set(opset.OPS)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_sample_on_every_backend(backend):
    assert sample.differing(load_backend(backend)) == []


def test_the_shipped_digests_are_those_of_exact_arithmetic():
    model = pagnp.Model(sample.graph(), "numpy")
    result = spot_run.traced(model, sample.pixels(), OPTIONS)
    found = {**{name: digest(array) for name, array in result.layers.items()}, **result.digests}
    assert {name: value[: sample.SHOWN] for name, value in found.items() if name in sample.EXPECTED} == sample.EXPECTED
    for spot in spot_run.spots(model, sample.pixels(), result, OPTIONS, ELEMENTS, 20):
        assert spot.ok and spot.recomputed == min(ELEMENTS, spot.size), spot


def with_kernel(backend, **changes):
    return dataclasses.replace(backend, kernels={**backend.kernels, **changes})


def test_a_backend_that_is_wrong_is_found_without_a_second_one():
    right = load_backend("numpy")

    def wrong(x, out):
        right.log(x, out)
        out.reshape(-1)[-1] = np.nextafter(out.reshape(-1)[-1], np.float32(0))

    assert sample.differing(with_kernel(right, log=wrong))[0] == "log"
    ok, detail, fix = doctor.sample(with_kernel(right, log=wrong))
    assert not ok and "first that of log" in detail and "kernel cache" in fix


def test_a_flushing_kernel_is_found():
    right = load_backend("numpy")

    def flushing(a, b, out):
        right.mul(a, b, out)
        out[np.abs(out) < 2.0**-126] = 0

    assert doctor.subnormals(right)[0]
    assert doctor.subnormals(with_kernel(right, mul=flushing))[:2] == (False, "flushed to zero")


@pytest.mark.skipif(not X86, reason="sets a register of x86")
def test_a_flushing_worker_is_found(monkeypatch):
    """The spoilt workers are this test's own: threads live on."""
    monkeypatch.setattr(threads, "_workers", threads._Workers())
    monkeypatch.setattr(doctor, "PATIENCE", 1)
    numba, caller, together = load_backend("numba", 3), threading.get_ident(), threading.Barrier(3)
    assert doctor.in_workers(numba) == (True, "kept in 3 thread(s)", "unload libraries built with -ffast-math")

    def spoil(start, stop):
        together.wait(30)
        if threading.get_ident() != caller:
            write_mxcsr(0x1F80 | FLUSH)

    threads.parallel(spoil, 3, 3, chunk=1)
    check = doctor.guarded("numba: subnormals", doctor.in_workers, numba)
    assert not check["ok"] and "flushes subnormal numbers" in check["detail"] and check["fix"]


@pytest.mark.skipif(not X86, reason="sets a register of x86")
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_flushing_thread_is_found(backend):
    kernels = load_backend(backend, 1)
    found = []

    def call():
        write_mxcsr(0x1F80 | FLUSH)
        found.append(doctor.guarded("subnormals", doctor.subnormals, kernels))

    assert in_thread(call) is None
    assert not found[0]["ok"] and "flushes subnormal" in found[0]["detail"]


NO_ARITHMETIC = {"numpy": set(), "numba": {"grow_mask", "mask_to_sites", "pad"}}  # bools, counting, copies


@pytest.mark.skipif(not X86, reason="sets a register of x86")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("flags", (0x8000, 0x0040), ids=("FTZ", "DAZ"))
def test_every_kernel_refuses_to_flush(backend, flags):
    kernels, quiet = load_backend(backend), set()
    for op in cases.ARRANGE:
        if op in cases.COMPOSITES:
            continue
        row = doctor.small_rows(op)[-1]
        doctor.run_case(kernels, row)

        def call(row=row):
            write_mxcsr(0x1F80 | flags)
            doctor.run_case(kernels, row)

        error = in_thread(call)
        assert error is None or isinstance(error, ContractError), f"{row}: {error!r}"
        if error is None:
            quiet.add(op)
    assert quiet == NO_ARITHMETIC[backend]


def entries(wanted=None):
    return {check["name"]: check for check in doctor.run_checks(wanted)}


def test_a_machine_without_a_gpu_does(monkeypatch):
    monkeypatch.setattr(driver, "LIBRARY", "libcuda-of-nobody.so.1")
    checks = entries()
    assert all(check["ok"] for check in checks.values())
    assert checks["gpu"]["detail"].startswith("none: no CUDA driver (libcuda-of-nobody.so.1 not found); ")
    assert checks["cupy: loads"]["detail"] == "not here: no CUDA driver (libcuda-of-nobody.so.1 not found)"
    assert "cupy: fma" not in checks
    wanted = entries("cupy")["cupy: loads"]
    assert not wanted["ok"] and wanted["fix"] == "use --backend numba"


def test_a_gpu_is_held_against_the_contract(monkeypatch, cubin_folder, shim_folder):
    """On a stand-in for CuPy, whose kernels are the CUDA sources run on the CPU."""
    require_nvrtc()
    monkeypatch.setattr(nvrtc, "compile_sources", lambda *_: nvrtc.Compiled(b"\x7fELF", "", ""))
    wrong = []

    def run(name, grid, block, values, shared):
        if name not in wrong:
            compiled(shim_folder, SIGNATURES[name].source).launch(name, grid, block, values, shared)

    install(monkeypatch, FakeCupy(run=run))
    monkeypatch.setattr(doctor, "HOST_BACKENDS", ("numpy",))
    checks = entries("cupy")
    assert all(check["ok"] for check in checks.values()), checks
    assert checks["gpu"]["detail"].startswith("Fake GPU (compute capability 9.0, 80.0 GiB); driver ")
    assert checks["cupy: loads"]["detail"] == "on Fake GPU"
    assert {"cupy: fma", "cupy: subnormals", "cupy: sample"} <= checks.keys()
    assert checks["ops"]["detail"].endswith("the same on numpy, cupy)")
    wrong.append("norm_f32")
    checks = entries()
    assert [name for name, check in checks.items() if not check["ok"]] == ["cupy: fma", "cupy: sample", "ops"]
