"""CupyDevice: memory, launches and graphs of one GPU through CuPy. None of CuPy's own kernels runs: they flush to 0."""

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

from pagnp.backends.cupy_raw import cubins, nvrtc
from pagnp.backends.cupy_raw.foreign import foreign_array
from pagnp.backends.cupy_raw.start import cupy_at_work
from pagnp.backends.gpu import SIGNATURES
from pagnp.backends.gpu.conv_tiles import CUDA, fitting
from pagnp.backends.gpu.device import Device, DeviceArray
from pagnp.backends.gpu.registry import Registry
from pagnp.backends.gpu.signature import CUPY, Signature
from pagnp.errors import BackendError, MemoryLimitError, UsageError

PLAIN_SHARED = 48 << 10  # bytes of dynamic shared memory that a kernel may have unasked (CUDA C programming guide)
_NUMBERS = {
    **{"f32": np.float32, "f64": np.float64, "i32": np.int32, "i64": np.int64},
    **{"u8": np.uint8, "u32": np.uint32, "u64": np.uint64},
}


def current_device(ordinal: int | None = None) -> "CupyDevice":
    """Return the CupyDevice of the calling thread's current GPU, or of GPU `ordinal`, the same one for all callers."""
    devices.check_fork()
    cupy, current = cupy_at_work()
    return devices.get(current if ordinal is None else ordinal)


class CupyDevice(Device):
    """The GPU number `ordinal`. Arrays are cupy.ndarrays; launches go to the calling thread's current stream of CuPy.

    capability  (major, minor);  arch  what kernels are compiled for
    `to_device`, and `copy` from NumPy, wait: any stream may then use the copy, and the caller change the original.
    """

    name = CUPY
    can_record = True

    def __init__(self, cupy: Any, ordinal: int) -> None:
        super().__init__()
        self._cupy, self.ordinal = cupy, ordinal
        with self._at_work("start"):
            properties = cupy.cuda.runtime.getDeviceProperties(ordinal)
        self.description = properties["name"].decode(errors="replace")
        self.capability = properties["major"], properties["minor"]
        self.multiprocessors = properties["multiProcessorCount"]
        self.conv_tiles = fitting(CUDA, properties["sharedMemPerBlockOptin"], properties["sharedMemPerMultiprocessor"])
        self.arch = nvrtc.architecture(self.capability)
        self._kernels: dict[str, _Kernel] = {}
        self._loading = threading.Lock()

    # Memory

    def allocate(self, shape: tuple[int, ...], dtype: Any) -> DeviceArray:
        """As Device.allocate, from CuPy's pool. Raises MemoryLimitError."""
        self._refuse_while_recording("allocates memory")
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        with self._at_work(f"allocate {size} bytes", size):
            return self._cupy.empty(shape, dtype)

    def to_device(self, array: np.ndarray) -> DeviceArray:
        """As Device.to_device."""
        out = self.allocate(array.shape, array.dtype)
        self.copy(array, out)
        return out

    def to_host(self, array: DeviceArray) -> np.ndarray:
        """As Device.to_host. What went wrong in a kernel shows here."""
        self._refuse_while_recording("waits")
        with self._at_work("wait for the GPU"):
            host: np.ndarray = array.get()
            return host

    def copy(self, source: Any, out: DeviceArray) -> None:
        """As Device.copy."""
        if not out.nbytes:
            return
        if isinstance(source, self._cupy.ndarray):
            with self._at_work("copy"):
                out.data.copy_from_device_async(source.data, out.nbytes)
            return
        self._refuse_while_recording("copies from the host")
        source = np.ascontiguousarray(source)
        with self._at_work("copy to the GPU"):
            out.data.copy_from_host_async(source.ctypes.data, out.nbytes)
            self._cupy.cuda.get_current_stream().synchronize()

    def zero(self, out: DeviceArray) -> None:
        """As Device.zero."""
        if out.nbytes:
            with self._at_work("set to zero"):
                out.data.memset_async(0, out.nbytes)

    def pointer(self, array: DeviceArray) -> int:
        """As Device.pointer."""
        return int(array.data.ptr)

    def free_bytes(self) -> int:
        """As Device.free_bytes: what the GPU has left, and what CuPy's pool holds unused."""
        with self._at_work("ask for the free memory"):
            return int(self._cupy.cuda.runtime.memGetInfo()[0] + self._cupy.get_default_memory_pool().free_bytes())

    def adopt(self, value: Any) -> DeviceArray | None:
        """As Device.adopt; what was launched for a torch tensor on its own stream is waited for by ours.

        Raises: BackendError if it lies on another GPU; UsageError if it is not in C order, or needs a gradient.
        """
        with self._at_work("take an array"):
            array = foreign_array(self._cupy, value)
        if array is None:
            return None
        if array.device.id != self.ordinal:
            raise BackendError(
                f"backend 'cupy': the array is on GPU {array.device.id}, the network on GPU {self.ordinal}; move one"
            )
        if not array.flags.c_contiguous:
            raise UsageError(
                f"backend 'cupy': the array {array.shape} has strides {array.strides}, need C order; "
                f"call its contiguous(), or cupy.ascontiguousarray"
            )
        return array

    # Order

    @contextmanager
    def on_stream(self, stream: int) -> Iterator[None]:
        """As Device.on_stream."""
        streams = self._cupy.cuda.Stream
        with self._at_work("use the caller's stream"):
            shared = {1: streams.null, 2: streams.ptds}
            with shared[stream] if stream in shared else streams.from_external(_StreamOfOthers(stream)):
                yield

    def wait(self) -> None:
        """As Device.wait. What went wrong in a kernel shows here."""
        self._refuse_while_recording("waits")
        with self._at_work("wait for the GPU"):
            self._cupy.cuda.get_current_stream().synchronize()

    def mark(self) -> Any:
        """As Device.mark; during a recording, of the stream before it: an object may die then, and call this."""
        if devices.forked:
            return None
        with self._at_work("mark a place in a stream"):
            event = self._cupy.cuda.Event(disable_timing=True)
            event.record(getattr(self._local, "recording", None) or self._cupy.cuda.get_current_stream())
            return event

    def follow(self, mark: Any) -> None:
        """As Device.follow."""
        if mark is not None:
            with self._at_work("follow another stream"):
                self._cupy.cuda.get_current_stream().wait_event(mark)

    def finish(self, mark: Any) -> None:
        """As Device.finish."""
        if mark is not None and not devices.forked and getattr(self._local, "recording", None) is None:
            with self._at_work("wait for a run"):
                mark.synchronize()

    # Launches

    def launch(
        self, kernel: str, grid: int | tuple[int, ...], block: int, args: tuple[Any, ...], shared: int = 0
    ) -> None:
        """As Device.launch. Raises BackendError if it cannot be compiled, or is refused."""
        with self._at_work(f"{kernel} (grid {grid}, block {block}, {shared} bytes of shared memory)"):
            found = self._kernels.get(kernel) or self._load(kernel)
            if shared > found.shared:
                self._allow_shared(found, shared)
            grid = grid if isinstance(grid, tuple) else (int(grid),)
            found.function(grid, (block,), found.arguments(args), shared_mem=shared)

    def _load(self, kernel):
        """Compile and load the source of a kernel, with all kernels in it."""
        with self._loading:
            if kernel not in self._kernels:
                source = SIGNATURES[kernel].source
                with cubins.cubin_file(source, self.arch) as path:
                    module = self._cupy.RawModule(path=str(path))
                    for name, signature in SIGNATURES.items():
                        if signature.source == source and CUPY in signature.backends:
                            self._kernels[name] = _Kernel(module.get_function(name), signature)
            return self._kernels[kernel]

    def _allow_shared(self, kernel, shared):
        with self._loading:
            if shared > kernel.shared:
                kernel.function.max_dynamic_shared_size_bytes = shared
                kernel.shared = shared

    # CUDA graphs

    def record(self, launches: Callable[[], object]) -> Any:
        """As Device.record. Other threads go on as before. Raises BackendError if `launches` waits or takes memory."""
        with self._at_work("record a run"):
            mode, before = self._cupy.cuda.runtime.streamCaptureModeThreadLocal, self._cupy.cuda.get_current_stream()
            with self._cupy.cuda.Stream(non_blocking=True) as stream, _no_collection():
                self._local.recording = before
                try:
                    stream.begin_capture(mode=mode)
                    launches()
                except BaseException:
                    with suppress(RuntimeError):  # the capture ends; that it is of no use is known
                        stream.end_capture()
                    raise
                finally:
                    self._local.recording = None
                return stream.end_capture()

    def replay(self, graph: Any) -> None:
        """As Device.replay."""
        with self._at_work("replay a run"):
            graph.launch()

    def _refuse_while_recording(self, what):
        if getattr(self._local, "recording", None) is not None:
            raise BackendError(f"backend 'cupy': a run that is being recorded {what}; that needs a run of its own")

    @contextmanager
    def _at_work(self, what: str, size: int | None = None) -> Iterator[None]:
        """Inside the block this GPU is the current one; CuPy's errors become ours. size: bytes that are asked for."""
        devices.check_fork()
        cuda = self._cupy.cuda
        try:
            if cuda.runtime.getDevice() == self.ordinal:
                yield
            else:  # another thread than the one that made the device, for instance
                with cuda.Device(self.ordinal):
                    yield
        except (cuda.runtime.CUDARuntimeError, cuda.driver.CUDADriverError, cuda.memory.OutOfMemoryError) as error:
            text = " ".join(str(error).split())
            out_of_memory = isinstance(error, MemoryError) or "MemoryAllocation" in text or "OUT_OF_MEMORY" in text
            if not out_of_memory:
                raise BackendError(f"backend 'cupy': {what}: {text}; `pagnp doctor` checks this GPU") from error
            raise MemoryLimitError(self._too_little(what, size)) from error

    def _too_little(self, what, size):
        needed = what if size is None else f"an array needs {size / 2**20:.0f} MiB ({size} bytes)"
        with suppress(Exception):
            needed += f", {self.free_bytes() / 2**20:.0f} MiB are free on {self.description}"
        return f"backend 'cupy': out of memory: {needed}; compute in bands of rows (--tile ROWS, option tile=)"


@contextmanager
def _no_collection():
    """Inside the block no garbage is collected: some of it waits, or frees memory, which breaks a capture."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class _StreamOfOthers:
    """A stream by its address, as the CUDA stream protocol has it."""

    def __init__(self, address: int) -> None:
        self._address = address

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self._address


devices = Registry(CUPY, lambda ordinal: CupyDevice(cupy_at_work()[0], ordinal))


class _Kernel:
    """A loaded kernel. shared: bytes of dynamic shared memory that it may have."""

    def __init__(self, function: Any, signature: Signature) -> None:
        self.function, self.shared = function, PLAIN_SHARED
        self._types = [None if kind.endswith("*") else _NUMBERS[kind] for kind, _ in signature.parameters]

    def arguments(self, args):
        """Return `args` as the NumPy numbers that CuPy hands on as they are: addresses, and the signature's types."""
        return tuple(
            number(arg) if number is not None else np.uint64(0 if arg is None else arg.data.ptr)
            for number, arg in zip(self._types, args, strict=True)
        )
