"""NumbaDevice: memory and launches of one GPU through Numba-CUDA. The simulator has a device of its own."""

import functools
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
from numba import cuda
from numba.cuda.core.errors import NumbaPerformanceWarning
from numba.cuda.cudadrv import driver as numba_driver
from numba.cuda.cudadrv.devicearray import DeviceNDArray
from numba.cuda.cudadrv.nvrtc import find_closest_arch

from pagnp.backends.gpu.conv_tiles import NUMBA_CUDA
from pagnp.backends.gpu.device import Device, DeviceArray
from pagnp.backends.gpu.registry import Registry
from pagnp.backends.gpu.signature import NUMBA
from pagnp.backends.numba_cuda.foreign import foreign_array
from pagnp.backends.numba_cuda.launching import arguments, function_of
from pagnp.errors import BackendError, MemoryLimitError


def current_device() -> "NumbaDevice":
    """Return the NumbaDevice of the calling thread's current GPU, the same one for all callers."""
    devices.check_fork()
    return devices.get(cuda.get_current_device().id)


class NumbaDevice(Device):
    """The GPU number `ordinal`. Arrays are DeviceNDArrays; work goes to the stream of `on_stream`, or Numba's default.

    `to_device`, and `copy` from NumPy, wait: any stream may then use the copy, and the caller change the original.
    """

    name = NUMBA
    conv_tiles = NUMBA_CUDA

    def __init__(self, ordinal: int) -> None:
        super().__init__()
        self.ordinal = ordinal
        with self._at_work("start"):
            gpu = cuda.get_current_device()
            find_closest_arch(gpu.compute_capability)  # raises for a GPU that is too old: better now than at a launch
            self.description, self.multiprocessors = _text(gpu.name), gpu.MULTIPROCESSOR_COUNT
        self._absent = functools.cache(lambda dtype: self.allocate((1,), dtype))

    # Memory

    def allocate(self, shape: tuple[int, ...], dtype: Any) -> DeviceArray:
        """As Device.allocate. Raises MemoryLimitError."""
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        with self._at_work(f"allocate {size} bytes", size):
            return cuda.device_array(shape, dtype)

    def to_device(self, array: np.ndarray) -> DeviceArray:
        """As Device.to_device."""
        out = self.allocate(array.shape, array.dtype)
        self.copy(array, out)
        return out

    def to_host(self, array: DeviceArray) -> np.ndarray:
        """As Device.to_host. What went wrong in a kernel shows here."""
        host: np.ndarray = np.empty(array.shape, array.dtype)
        with self._at_work("wait for the GPU"):
            if host.size:
                numba_driver.device_to_host(host, array, host.nbytes, self._stream)
            self._synchronize()
        return host

    def copy(self, source: Any, out: DeviceArray) -> None:
        """As Device.copy."""
        if not out.size:
            return
        if isinstance(source, DeviceNDArray):
            with self._at_work("copy"):
                numba_driver.device_to_device(out, source, out.nbytes, self._stream)
            return
        source = np.ascontiguousarray(source)
        with self._at_work("copy to the GPU"):
            numba_driver.host_to_device(out, source, out.nbytes, self._stream)
            self._synchronize()

    def zero(self, out: DeviceArray) -> None:
        """As Device.zero."""
        if out.size:
            with self._at_work("set to zero"):
                numba_driver.device_memset(out, 0, out.nbytes, self._stream)

    def pointer(self, array: DeviceArray) -> int:
        """As Device.pointer."""
        return array.device_ctypes_pointer.value or 0

    def free_bytes(self) -> int:
        """As Device.free_bytes."""
        with self._at_work("ask for the free memory"):
            return int(cuda.current_context().get_memory_info().free)

    def adopt(self, value: Any) -> DeviceArray | None:
        """As Device.adopt; what was launched for a torch tensor on its own stream is waited for by ours.

        Raises: BackendError if it lies on another GPU; UsageError if it is not in C order, or needs a gradient.
        """
        with self._at_work("take an array"):
            return foreign_array(value, self.ordinal, self._address)

    # Order

    @contextmanager
    def on_stream(self, stream: int) -> Iterator[None]:
        """As Device.on_stream."""
        before, self._local.address = self._address, stream
        try:
            yield
        finally:
            self._local.address = before

    def wait(self) -> None:
        """As Device.wait. What went wrong in a kernel shows here."""
        with self._at_work("wait for the GPU"):
            self._synchronize()

    def mark(self) -> Any:
        """As Device.mark."""
        if devices.forked:
            return None
        with self._at_work("mark a place in a stream"):
            event = cuda.event(timing=False)
            event.record(self._stream)
            return event

    def follow(self, mark: Any) -> None:
        """As Device.follow."""
        if mark is not None:
            with self._at_work("follow another stream"):
                mark.wait(self._stream)

    @property
    def _address(self) -> int:
        """The stream of `on_stream`; 0: Numba's default, which is CUDA's legacy stream if no one configured another."""
        return getattr(self._local, "address", 0)

    @property
    def _stream(self) -> Any:
        return _stream(self._address)

    def _synchronize(self):
        (self._stream or cuda.default_stream()).synchronize()

    # Launches

    def launch(
        self, kernel: str, grid: int | tuple[int, ...], block: int, args: tuple[Any, ...], shared: int = 0
    ) -> None:
        """As Device.launch. Raises BackendError if it cannot be compiled, or is refused."""
        with self._at_work(f"{kernel} (grid {grid}, block {block})"):
            _launcher(kernel, grid, block, shared, self._address)(*arguments(kernel, args, _flat, self._absent))

    @contextmanager
    def _at_work(self, what: str, size: int | None = None) -> Iterator[None]:
        """Inside the block this GPU is the thread's; CUDA's errors become ours. size: bytes that are asked for."""
        devices.check_fork()
        try:
            status, gpu = numba_driver.binding.cuCtxGetDevice()
            if not status and int(gpu) == self.ordinal:
                yield
            else:  # another thread than the one that made the device, for instance
                with cuda.gpus[self.ordinal]:
                    yield
        except Exception as error:
            if not type(error).__module__.startswith(("cuda.", "numba.cuda.cudadrv.")):
                raise
            text = " ".join(str(error).split())
            if "OUT_OF_MEMORY" not in text:
                raise BackendError(f"backend '{NUMBA}': {what}: {text}; `pagnp doctor` checks this GPU") from error
            raise MemoryLimitError(self._too_little(what, size)) from error

    def _too_little(self, what, size):
        needed = what if size is None else f"an array needs {size / 2**20:.0f} MiB ({size} bytes)"
        with suppress(Exception):
            needed += f", {self.free_bytes() / 2**20:.0f} MiB are free on {self.description}"
        return f"backend '{NUMBA}': out of memory: {needed}; compute in bands of rows (--tile ROWS, option tile=)"


devices = Registry(NUMBA, NumbaDevice)


@functools.lru_cache(maxsize=64)
def _stream(address):
    """Return what Numba takes as the stream of this address."""
    return cuda.external_stream(address) if address else 0


@functools.lru_cache(maxsize=4096)
def _launcher(kernel, grid, block, shared, address):
    """Return the kernel ready to be called. Numba warns of small grids here; ours are as they must be."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NumbaPerformanceWarning)
        return function_of(kernel)[grid, block, _stream(address), shared]


def _flat(array, dtype):
    """Return the array as 1-D of `dtype`, and keep that with it: a run launches on the same arrays again and again."""
    if array.ndim == 1 and array.dtype == dtype:
        return array
    kept = array.__dict__.get("_pagnp_flat")
    if kept is None or kept.dtype != dtype:
        kept = array._pagnp_flat = array.reshape(array.size).view(dtype)
    return kept


def _text(value):
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
