"""ShimDevice: a GPU of the tests. Its memory are NumPy arrays, its kernels the CUDA sources, run on the CPU."""

import functools
import tempfile
import weakref
from collections import Counter
from pathlib import Path

import numpy as np
from cuda_shim import build
from cuda_shim.library import KernelError, Kernels

from pagnp import gpuarrays
from pagnp.backends.base import Backend
from pagnp.backends.gpu import SIGNATURES, table
from pagnp.backends.gpu.conv_tiles import CUDA
from pagnp.backends.gpu.device import Device
from pagnp.backends.gpu.signature import CUPY
from pagnp.errors import MemoryLimitError

ALIGNMENT = 256
MARGIN = 64  # bytes beside an array that are compared before and after a launch


class HostAccessError(Exception):
    """Host code touched values that lie on a device: there it would wait, or fail."""


class ShimArray(np.ndarray):
    """Memory of the device: may be sliced, reshaped, viewed and asked for its shape, no more."""

    __array_ufunc__ = None

    def _refuse(self, *args, **kwargs):
        raise HostAccessError("the host reads or writes the values of a device's array")

    def __getitem__(self, key):
        part = super().__getitem__(key)
        return part if isinstance(part, ShimArray) else self._refuse()

    __array_function__ = __setitem__ = __bool__ = __int__ = __float__ = __index__ = __iter__ = _refuse
    item = tolist = tobytes = fill = copy = astype = sum = any = all = min = max = nonzero = _refuse

    @property
    def __cuda_array_interface__(self):
        return {**self.__array_interface__, "version": 3, "stream": None}


class CudaArray:
    """What another library's array on the GPU looks like: __cuda_array_interface__ and no more."""

    def __init__(self, array):
        self.array = array

    @property
    def __cuda_array_interface__(self):
        return {**self.array.__array_interface__, "version": 3, "stream": 1}


class _AsOfHost:
    """An array of the device as NumPy takes it: memory of the host, which it is."""

    def __init__(self, value, interface=None):
        self.value = value
        if interface is not None:
            self.__array_interface__ = interface

    def __dlpack__(self, **options):
        return self.value.__dlpack__(**options)

    def __dlpack_device__(self):
        return 1, 0


class ShimDevice(Device):
    """launches  kernel -> how often it ran;  order, seed, deferred  see library.Kernels.launch;  memory  its bytes."""

    name = "cupy"  # whose kernels it runs
    multiprocessors = 4
    conv_tiles = CUDA

    def __init__(self, folder, *, order="ascending", seed=0, deferred=False, sanitize=False, memory=4 << 30):
        super().__init__()
        self.folder, self.order, self.seed, self.deferred, self.sanitize = folder, order, seed, deferred, sanitize
        self.launches, self.memory, self.taken = Counter(), memory, 0

    def allocate(self, shape, dtype):
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        if self.taken + size > self.memory:
            raise MemoryLimitError(f"the shim has {self.memory - self.taken} bytes left, not {size}")
        raw = np.full(size + 2 * ALIGNMENT, 0xFF, np.uint8)  # NaN
        start = -raw.ctypes.data % ALIGNMENT
        self.taken += size
        weakref.finalize(raw, self._forget, size)
        return raw[start : start + size].view(dtype).reshape(shape).view(ShimArray)

    def _forget(self, size):
        self.taken -= size

    def to_device(self, array):
        out = self.allocate(array.shape, array.dtype)
        out.view(np.ndarray)[...] = array
        return out

    def to_host(self, array):
        return np.array(array.view(np.ndarray))

    def copy(self, source, out):
        assert source.flags.c_contiguous and out.flags.c_contiguous and source.nbytes == out.nbytes
        _bytes(out)[...] = _bytes(source)

    def zero(self, out):
        _bytes(out)[...] = 0

    def pointer(self, array):
        return array.ctypes.data

    def free_bytes(self):
        return self.memory - self.taken

    def adopt(self, value):
        if isinstance(value, ShimArray) or not gpuarrays.on_gpu(value):
            return value if isinstance(value, ShimArray) else None
        if hasattr(value, "__cuda_array_interface__"):
            return np.asarray(_AsOfHost(value, value.__cuda_array_interface__)).view(ShimArray)
        return np.from_dlpack(_AsOfHost(value)).view(ShimArray)

    def launch(self, kernel, grid, block, args, shared=0):
        arrays = [arg for arg in args if isinstance(arg, np.ndarray)]
        self._check_arguments(kernel, args)
        values = [0 if arg is None else arg.ctypes.data if isinstance(arg, np.ndarray) else arg for arg in args]
        beside = _beside(arrays)
        kernels = compiled(self.folder, SIGNATURES[kernel].source, self.sanitize)
        kernels.launch(kernel, grid, block, values, shared, order=self.order, seed=self.seed, deferred=self.deferred)
        self.launches[kernel] += 1
        for margin, before in beside:
            if margin.tobytes() != before:
                raise KernelError(f"{kernel}: wrote beside its arrays")

    def _check_arguments(self, kernel, args):
        """Raise KernelError where an argument is not what the kernel's signature says."""
        parameters = SIGNATURES[kernel].parameters
        if len(args) != len(parameters):
            raise KernelError(f"{kernel} takes {len(parameters)} arguments, not {len(args)}")
        for (kind, name), arg in zip(parameters, args, strict=True):
            if not kind.endswith("*"):
                right = isinstance(arg, (int, float, np.number, np.bool_))
            else:
                right = arg is None or (isinstance(arg, ShimArray) and _kind(arg) == kind and arg.flags.c_contiguous)
            if not right:
                what = f"{arg.dtype} array" if isinstance(arg, np.ndarray) else type(arg).__name__
                raise KernelError(f"{kernel}: {name} is {what}, not a contiguous {kind} on the device")


def _kind(array):
    """Return the signature's type of an array; bool is u8."""
    return {"b1": "u8", "u1": "u8"}.get(array.dtype.str[1:], f"{array.dtype.kind}{8 * array.dtype.itemsize}") + "*"


def _bytes(array):
    """Return a contiguous array as flat bytes."""
    return array.view(np.ndarray).reshape(-1).view(np.uint8)


def _beside(arrays):
    """Return [(bytes beside an array and in no other one, their content)]."""
    spans = [(array.ctypes.data, array.ctypes.data + array.nbytes) for array in arrays]
    found = []
    for array, (start, stop) in zip(arrays, spans, strict=True):
        raw = array
        while isinstance(raw.base, np.ndarray):
            raw = raw.base
        first = raw.ctypes.data
        for low, high in ((start - MARGIN, start), (stop, stop + MARGIN)):
            low, high = max(low, first), min(high, first + raw.nbytes)
            if low < high and not any(low < b and a < high for a, b in spans):
                margin = _bytes(raw)[low - first : high - first]
                found.append((margin, margin.tobytes()))
    return found


@functools.cache
def compiled(folder, source, sanitize=False):
    """Return the Kernels of cuda/<source>.cu."""
    signatures = {
        name: signature
        for name, signature in SIGNATURES.items()
        if signature.source == source and CUPY in signature.backends
    }
    return Kernels(build.SOURCES / f"{source}.cu", signatures, folder, sanitize)


def shim_backend(folder=None, **settings):
    """Return a Backend whose kernels are the CUDA sources on the CPU; settings: those of ShimDevice."""
    device = ShimDevice(folder or Path(tempfile.gettempdir()) / "pagnp-cuda-shim", **settings)
    return Backend("cupy", table(device), arrays=device)
