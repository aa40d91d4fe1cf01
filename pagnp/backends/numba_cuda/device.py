"""NumbaDevice: memory and launches of the GPU that is current in the thread that makes it."""

import functools
import warnings

import numpy as np
from cuda.core.utils import StridedMemoryView
from numba import cuda
from numba.cuda.core.errors import NumbaPerformanceWarning
from numba.cuda.cudadrv import driver
from numba.cuda.cudadrv.devicearray import DeviceNDArray

from pagnp.backends.gpu.device import Device
from pagnp.backends.numba_cuda.conv2d import TILES
from pagnp.backends.numba_cuda.launching import arguments, function_of
from pagnp.errors import BackendError, MemoryLimitError

LEGACY_STREAM = 1  # CUDA's handle of the stream that Numba launches on, and PyTorch and CuPy by default, too
ON_GPU = (2, 13)  # DLPack's kDLCUDA, kDLCUDAManaged


class NumbaDevice(Device):
    """The GPU; all work is on Numba's default stream. Any thread may use it.

    ordinal  its number among the GPUs that the process sees
    """

    name = "numba-cuda"
    conv_tiles = TILES

    def __init__(self):
        super().__init__()
        self.ordinal = cuda.get_current_device().id
        self.multiprocessors = cuda.get_current_device().MULTIPROCESSOR_COUNT
        self._absent = functools.cache(lambda dtype: self.allocate((1,), dtype))

    def allocate(self, shape, dtype):
        self._attach()
        try:
            return cuda.device_array(shape, dtype)
        except driver.CudaAPIError as error:
            if "OUT_OF_MEMORY" not in str(error):
                raise BackendError(f"backend 'numba-cuda': {error}") from error
            size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
            wanted = f"{size} bytes wanted, {self.free_bytes()} free"
            raise MemoryLimitError(f"backend 'numba-cuda': out of GPU memory ({wanted}); use --tile") from error

    def to_device(self, array):
        out = self.allocate(array.shape, array.dtype)
        self.copy(array, out)
        return out

    def to_host(self, array):
        self._attach()
        return array.copy_to_host()

    def copy(self, source, out):
        self._attach()
        if not out.size:
            return
        if isinstance(source, np.ndarray):
            source = np.ascontiguousarray(source)
            driver.host_to_device(out, source, out.nbytes)
        else:
            driver.device_to_device(out, source, out.nbytes)

    def zero(self, out):
        self._attach()
        if out.size:
            driver.device_memset(out, 0, out.nbytes)

    def pointer(self, array):
        return array.device_ctypes_pointer.value or 0

    def free_bytes(self):
        self._attach()
        return cuda.current_context().get_memory_info().free

    def adopt(self, value):
        where = getattr(value, "__dlpack_device__", None)
        if isinstance(value, np.ndarray) or (where is not None and where()[0] not in ON_GPU):
            return None
        if where is None and not hasattr(type(value), "__cuda_array_interface__"):
            return None
        self._attach()
        view = StridedMemoryView(value, LEGACY_STREAM)
        if view.device_id != self.ordinal:
            raise BackendError(f"backend 'numba-cuda': array on GPU {view.device_id}, the backend is on {self.ordinal}")
        dtype = np.dtype(view.dtype)
        strides = tuple(step * dtype.itemsize for step in view.strides) if view.strides else _dense(view.shape, dtype)
        size = int(np.prod(view.shape, dtype=np.int64)) * dtype.itemsize
        memory = driver.MemoryPointer(cuda.current_context(), driver.binding.CUdeviceptr(view.ptr), size, owner=view)
        return DeviceNDArray(view.shape, strides, dtype, gpu_data=memory)

    def launch(self, kernel, grid, block, args, shared=0):
        self._attach()
        try:
            _configured(kernel, grid, block, shared)(*arguments(kernel, args, _flat, self._absent))
        except (driver.CudaAPIError, driver.LinkerError) as error:
            raise BackendError(f"backend 'numba-cuda': kernel {kernel}: {error}") from error

    def _attach(self):
        """Make this GPU the thread's own, where the thread has none yet."""
        if getattr(self._local, "attached", False):
            return
        with driver.driver.get_active_context() as active:
            current = active.devnum
        if current is None:
            cuda.select_device(self.ordinal)
        elif current != self.ordinal:
            raise BackendError(
                f"backend 'numba-cuda': this thread uses GPU {current}, the backend is on GPU {self.ordinal}"
            )
        self._local.attached = True


@functools.lru_cache(maxsize=4096)
def _configured(kernel, grid, block, shared):
    """Return the kernel ready to be called. Numba warns of small grids when it gets one; ours are as they must be."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NumbaPerformanceWarning)
        return function_of(kernel)[grid, block, 0, shared]


def _flat(array, dtype):
    """Return the array as 1-D of `dtype`, and keep that with it: a run launches on the same arrays again and again."""
    if array.ndim == 1 and array.dtype == dtype:
        return array
    kept = array.__dict__.get("_pagnp_flat")
    if kept is None or kept.dtype != dtype:
        kept = array._pagnp_flat = array.reshape(array.size).view(dtype)
    return kept


def _dense(shape, dtype):
    """Return the strides of a C-contiguous array."""
    strides, step = [], dtype.itemsize
    for side in reversed(shape):
        strides.append(step)
        step *= side
    return tuple(reversed(strides))
