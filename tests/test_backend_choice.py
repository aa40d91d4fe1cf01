"""Which backend a name stands for, and what the user hears of it: nothing falls back silently."""

import numpy as np
import pytest
from cuda_shim.device import CudaArray
from fake_gpu import a_gpu

from pagnp import notices
from pagnp.backends import choice
from pagnp.backends.base import get_backend
from pagnp.errors import BackendError


@pytest.fixture
def heard():
    lines = []
    with notices.heard_by(lines.append):
        yield lines


@pytest.fixture
def machine(monkeypatch):
    """there -> a machine with these GPU backends; the others refuse as on a machine without a GPU."""

    def install(**there):
        def get(name, threads=None):
            if name in there:
                return there[name]
            if name in ("numpy", "numba"):
                return get_backend(name, threads)
            raise BackendError(f"backend '{name}': no CUDA driver; use --backend numba")

        monkeypatch.setattr(choice, "get_backend", get)

    return install


def test_auto_is_numba_and_tells_if_asked(machine, heard):
    machine(cupy=a_gpu("cupy"))
    assert choice.choose("auto").name == "numba" and heard == []
    choice.choose("auto", say=True)
    assert heard == ["backend auto: numba, on the CPU; --backend auto-gpu takes a GPU where there is one"]


def test_auto_gpu_takes_the_first_that_works(machine, heard):
    machine(cupy=a_gpu("cupy"), **{"numba-cuda": a_gpu("numba-cuda")})
    assert choice.choose("auto-gpu").name == "cupy"
    machine(**{"numba-cuda": a_gpu("numba-cuda")})
    assert choice.choose("auto-gpu").name == "numba-cuda"
    assert heard == [
        "backend auto-gpu: cupy on a GPU of the tests",
        "backend auto-gpu: numba-cuda on a GPU of the tests (backend 'cupy': no CUDA driver)",
    ]


def test_auto_gpu_without_a_gpu_says_why(machine, heard):
    machine()
    assert choice.choose("auto-gpu").name == "numba"
    why = "backend 'cupy': no CUDA driver; backend 'numba-cuda': no CUDA driver"
    assert heard == [f"backend auto-gpu: numba, on the CPU, because of {why}"]


def test_a_simulator_is_no_gpu(machine, heard):
    machine(**{"numba-cuda": a_gpu("numba-cuda", simulated=True)})
    assert choice.choose("auto-gpu").name == "numba"
    assert "'numba-cuda' runs in a GPU of the tests" in heard[0]


def test_a_name_that_is_unknown_is_refused():
    with pytest.raises(BackendError, match="backend 'cuda' is unknown; choose one of auto, auto-gpu, numpy"):
        choice.choose("cuda")


def test_a_backend_is_itself():
    backend = get_backend("numpy")
    assert choice.choose(backend) is backend and choice.on_host(backend) is backend
    assert choice.on_host(a_gpu("cupy")).name == "numpy"


def test_arrays_of_numba_go_to_numba_and_others_to_cupy():
    numbas = type("DeviceNDArray", (), {"__module__": "numba.cuda.cudadrv.devicearray"})()
    assert choice.of_array(numbas) == "numba-cuda"
    assert choice.of_array(CudaArray(np.zeros(1, np.float32))) == "cupy"
