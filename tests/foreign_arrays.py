"""Arrays on a GPU as CuPy, Numba, torch and a library that knows only DLPack give them, for tests without a GPU.

`KINDS` has a class for each; `array` of an instance is the memory, NumPy's. `install` puts what pagnp asks of the
libraries themselves where it looks for it, in sys.modules.
"""

import sys
import types

import numpy as np
from cuda_shim.device import CudaArray

TORCH_STREAM = 0x70


class CupyArray(CudaArray):
    def get(self):
        return self.array.copy()


class NumbaArray(CudaArray):
    def copy_to_host(self):
        return self.array.copy()


class TorchTensor(CudaArray):
    device = "cuda:0"
    requires_grad = False

    @property
    def __cuda_array_interface__(self):
        if self.requires_grad:
            raise RuntimeError("Can't get __cuda_array_interface__ on Variable that requires grad. Use var.detach()")
        return {**self.array.__array_interface__, "version": 2}

    def contiguous(self):
        return type(self)(np.ascontiguousarray(self.array))

    def detach(self):
        return type(self)(self.array)

    def cpu(self):
        return self

    def numpy(self):
        return self.array.copy()


class DlpackArray:
    """As an array of JAX: DLPack, and the array API's way to its own functions."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, *, dl_device=None, copy=None, **options):
        return self.array.copy().__dlpack__() if dl_device == (1, 0) else self.array.__dlpack__()

    def __dlpack_device__(self):
        return 2, 0

    def __array_namespace__(self):
        return types.SimpleNamespace(from_dlpack=_taking(DlpackArray))


KINDS = {"cupy": CupyArray, "numba": NumbaArray, "torch": TorchTensor, "dlpack": DlpackArray}
_NAMES = {CupyArray: "cupy.ndarray", NumbaArray: "numba.cuda.cudadrv.devicearray.DeviceNDArray"}
for _kind, _name in {**_NAMES, TorchTensor: "torch.Tensor", DlpackArray: "jaxlib.Array"}.items():
    _kind.__module__, _, _kind.__name__ = _name.rpartition(".")


def _taking(kind):
    return lambda array, **options: kind(np.asarray(array.view(np.ndarray)))


def _as_cuda_array(array, sync=True):
    assert not sync, "Numba would wait for the stream"
    return NumbaArray(array.view(np.ndarray))


def _current_stream(device):
    assert device == TorchTensor.device
    return types.SimpleNamespace(cuda_stream=TORCH_STREAM)


def install(monkeypatch):
    """Let pagnp find the libraries of KINDS."""
    cupy = types.SimpleNamespace(
        asarray=_taking(CupyArray), ascontiguousarray=lambda a: CupyArray(np.ascontiguousarray(a.array))
    )
    numba = types.SimpleNamespace(cuda=types.SimpleNamespace(as_cuda_array=_as_cuda_array))
    torch = types.SimpleNamespace(
        from_dlpack=_taking(TorchTensor), cuda=types.SimpleNamespace(current_stream=_current_stream)
    )
    for name, module in (("cupy", cupy), ("numba", numba), ("torch", torch)):
        monkeypatch.setitem(sys.modules, name, module)
