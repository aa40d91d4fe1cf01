"""The backend "cupy" where something is missing or too old: one line says what, and what to do."""

# ruff: noqa: F811 - fixtures are imported, and arguments have their names

import sys

import pytest
from fake_cupy import Driver, FakeCupy, machine, refusal, require_nvrtc  # noqa: F401

from pagnp.backends.base import get_backend
from pagnp.backends.cupy_raw import nvrtc
from pagnp.backends.gpu import driver

require_nvrtc()


def test_without_a_driver(monkeypatch):
    monkeypatch.setattr(driver, "LIBRARY", "libcuda-of-nobody.so.1")
    with refusal(
        r"^backend 'cupy': no CUDA driver \(libcuda-of-nobody.so.1 not found\); use --backend numba$"
    ) as caught:
        get_backend("cupy")
    assert caught.value.exit_code == 5


def test_a_driver_that_is_no_library(monkeypatch, tmp_path):
    (tmp_path / "libcuda.so.1").write_text("text")
    monkeypatch.setattr(driver, "LIBRARY", str(tmp_path / "libcuda.so.1"))
    with refusal("no CUDA driver .*libcuda.so.1: "):
        get_backend("cupy")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"status": 100}, r"no CUDA device \(CUDA_ERROR_NO_DEVICE\); use --backend numba"),
        ({"count": 0}, r"no CUDA device \(CUDA_ERROR_NO_DEVICE\); use --backend numba"),
        ({"status": 3}, r"CUDA was started before this process was forked.*'spawn'"),
        ({"status": 803}, r"the CUDA driver does not start \(error 803\)"),
        ({"version": 12040}, r"driver is for CUDA 12.4, the installed CuPy needs CUDA 13; update .*pagnp\[cuda12\]"),
        ({"version": 11080}, r"driver is for CUDA 11.8, the installed CuPy needs CUDA 13; update the driver$"),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, dict) else "",
)
def test_a_driver_that_does_not_do(machine, settings, message):
    machine(**settings)
    with refusal("^backend 'cupy': .*" + message):
        get_backend("cupy")


def test_cuda_does_not_start(machine):
    machine().fault = "does not start"
    with refusal(r"CUDA does not start \(cudaErrorSystemNotReady: .*\); use --backend numba"):
        get_backend("cupy")


def test_a_newer_driver_does(machine):
    machine(FakeCupy(runtime=12090), version=13010)
    assert get_backend("cupy").arrays.arch == "sm_90"


def test_cupy_is_not_installed(machine, monkeypatch):
    machine()
    monkeypatch.delitem(sys.modules, "cupy")
    monkeypatch.setattr(sys, "meta_path", [])
    with refusal(r"CuPy is not installed; pip install 'pagnp\[cuda13\]', or use --backend numba$"):
        get_backend("cupy")


def test_cupy_does_not_load(machine, monkeypatch):
    machine()

    class Broken:
        def find_spec(self, name, *_):
            if name == "cupy":
                raise ImportError("\n====\nlibcudart.so.13: cannot open\nmany more lines\n")

    monkeypatch.delitem(sys.modules, "cupy")
    monkeypatch.setattr(sys, "meta_path", [Broken()])
    with refusal(r"cannot import CuPy \(libcudart.so.13: cannot open\); pip install"):
        get_backend("cupy")


@pytest.mark.parametrize("error", [ImportError("no", name="cuda.bindings"), RuntimeError("Failure finding libnvrtc")])
def test_nvrtc_is_missing(machine, monkeypatch, error):
    machine()

    def missing():
        raise error

    if isinstance(error, ImportError):
        monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    else:
        from cuda.bindings import nvrtc as bindings

        monkeypatch.setattr(bindings, "nvrtcVersion", missing)
    for function in (nvrtc._nvrtc, nvrtc.version, nvrtc.architectures):
        monkeypatch.setattr(nvrtc, function.__name__, function.__wrapped__)
    with refusal(r"(cannot import cuda.bindings|NVRTC is not installed); pip install 'pagnp\[cuda13\]'$"):
        get_backend("cupy")


@pytest.mark.parametrize(
    ("capability", "message"),
    [
        ((7, 0), "compute capability 7.0, need 7.5 or newer; use --backend numba"),
        ((6, 1), "compute capability 6.1, need 7.5 or newer"),
        ((42, 0), "compute capability 42.0, NVRTC .* compiles for 75, .*; install a newer nvidia-cuda-nvrtc"),
    ],
)
def test_architectures_that_do_not_do(machine, capability, message):
    machine(FakeCupy(capability=capability))
    with refusal(message):
        get_backend("cupy")


def test_the_architecture_is_the_nearest_of_the_same_major_version(monkeypatch):
    monkeypatch.setattr(nvrtc, "architectures", lambda: (75, 80, 86, 90, 100))
    capabilities = (7, 5), (8, 0), (8, 7), (8, 9), (9, 0), (10, 3)
    found = [nvrtc.architecture(capability) for capability in capabilities]
    assert found == ["sm_75", "sm_80", "sm_86", "sm_86", "sm_90", "sm_100"]


def test_what_the_driver_tells(monkeypatch):
    monkeypatch.setattr(driver, "_library", lambda: Driver(count=2, capability=(10, 3), version=12090))
    gpus = driver.gpus()
    assert len(gpus) == 2 and gpus[0] == driver.Gpu("Fake GPU", (10, 3), 80 << 30)
    assert driver.cuda_version() == (12, 9)
    assert driver.release() is None or driver.release()[0].isdigit()
