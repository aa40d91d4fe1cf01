"""Stands for CuPy where there is no GPU: as much of it as the backend uses, on NumPy's memory.

Kernels run by the shim (tests/cuda_shim); launches that are captured run when the graph is launched.
"""

import contextlib
import functools
import os
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pagnp.backends.cupy_raw import device, nvrtc, start
from pagnp.backends.gpu import driver
from pagnp.errors import BackendError


class CUDARuntimeError(RuntimeError):
    pass


class CUDADriverError(RuntimeError):
    pass


class OutOfMemoryError(MemoryError):
    pass


class Pointer:
    """A cupy.cuda.MemoryPointer."""

    def __init__(self, cupy, array):
        self.cupy, self.array, self.ptr = cupy, array, array.ctypes.data

    def bytes(self, size):
        return self.array.view(np.ndarray).reshape(-1).view(np.uint8)[:size]

    def copy_from_device_async(self, source, size):
        self.cupy.enqueue(lambda: np.copyto(self.bytes(size), source.bytes(size)))

    def copy_from_host_async(self, address, size):
        import ctypes

        content = ctypes.string_at(address, size)
        self.cupy.enqueue(lambda: np.copyto(self.bytes(size), np.frombuffer(content, np.uint8)))

    def memset_async(self, value, size):
        self.cupy.enqueue(lambda: self.bytes(size).fill(value))


class Array(np.ndarray):
    """A cupy.ndarray on the GPU `ordinal`."""

    cupy, ordinal = None, 0

    def __array_finalize__(self, base):
        self.cupy, self.ordinal = getattr(base, "cupy", None), getattr(base, "ordinal", 0)

    @property
    def data(self):
        return Pointer(self.cupy, self)

    @property
    def device(self):
        return SimpleNamespace(id=self.ordinal)

    def get(self):
        self.cupy.check(self.ordinal)
        return np.array(self.view(np.ndarray))


class RawKernel:
    """asked  [(grid, block, arguments, shared bytes)] of the launches"""

    def __init__(self, cupy, name):
        self.cupy, self.name, self.max_dynamic_shared_size_bytes, self.asked = cupy, name, 48 << 10, []

    def __call__(self, grid, block, args, shared_mem=0):
        if shared_mem > self.max_dynamic_shared_size_bytes or shared_mem > 227 << 10 or block[0] > 1024:
            raise CUDADriverError("CUDA_ERROR_INVALID_VALUE: invalid argument")
        self.asked.append((grid, block, args, shared_mem))
        if self.cupy.run is not None:
            self.cupy.enqueue(lambda: self.cupy.run(self.name, grid, block, [arg.item() for arg in args], shared_mem))


class Event:
    """stream  on which it was recorded;  waited  True if the host waited for it"""

    stream, waited = None, False

    def synchronize(self):
        self.waited = True

    def record(self, stream):
        assert stream.captured is None, "an event of a capture cannot be waited for outside"
        self.stream = stream


class Stream:
    """address  of a stream of others;  followed  events that it waited for"""

    def __init__(self, cupy, non_blocking=False):
        self.cupy, self.non_blocking, self.captured, self.address, self.followed = cupy, non_blocking, None, None, []

    def __enter__(self):
        self.cupy.local.streams = [*self.cupy.streams(), self]
        return self

    def __exit__(self, *_):
        self.cupy.local.streams = self.cupy.streams()[:-1]

    def begin_capture(self, mode):
        assert self.non_blocking and mode == FakeCupy.THREAD_LOCAL
        self.captured = []

    def end_capture(self):
        captured, self.captured = self.captured, None
        return SimpleNamespace(launch=lambda: [self.cupy.enqueue(work) for work in captured])

    def wait_event(self, event):
        self.followed.append(event)

    def synchronize(self):
        if self.captured is not None:
            raise CUDARuntimeError(
                "cudaErrorStreamCaptureUnsupported: operation not permitted when stream is capturing"
            )


class FakeCupy:
    """The module. capability, count: of the GPUs; memory: bytes of each; run: what launches a kernel; `used` counts."""

    THREAD_LOCAL = 1
    ndarray = Array

    def __init__(self, capability=(9, 0), count=1, memory=1 << 30, runtime=13020, run=None, shared=227 << 10):
        self.shared = shared
        self.capability, self.count, self.memory, self.used, self.run = capability, count, memory, 0, run
        self.local, self.kernels, self.paths, self.fault = threading.local(), {}, [], None
        runtime_module = SimpleNamespace(
            CUDARuntimeError=CUDARuntimeError,
            streamCaptureModeThreadLocal=self.THREAD_LOCAL,
            runtimeGetVersion=lambda: runtime,
            getDevice=self._device,
            getDeviceProperties=self._properties,
            memGetInfo=lambda: (self.memory - self.used, self.memory),
        )
        self.cuda = SimpleNamespace(
            runtime=runtime_module,
            driver=SimpleNamespace(CUDADriverError=CUDADriverError),
            memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
            Device=self._on,
            Stream=functools.partial(Stream, self),
            Event=lambda disable_timing: Event(),
            get_current_stream=lambda: self.streams()[-1],
        )
        self.null, self.ptds = Stream(self), Stream(self)
        self.cuda.Stream.null, self.cuda.Stream.ptds = self.null, self.ptds
        self.cuda.Stream.from_external = self._from_external

    def streams(self):
        return getattr(self.local, "streams", None) or [self.null]

    def _from_external(self, given):
        stream = Stream(self)
        stream.address = given.__cuda_stream__()[1]
        return stream

    def enqueue(self, work):
        """Do `work`, or keep it for the graph that the current stream captures."""
        captured = self.streams()[-1].captured
        work() if captured is None else captured.append(work)

    def check(self, ordinal):
        assert self.cuda.runtime.getDevice() == ordinal, "another GPU is current"
        if self.fault:
            raise CUDARuntimeError(self.fault)

    def empty(self, shape, dtype):
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        if self.used + size > self.memory:
            raise OutOfMemoryError(f"Out of memory allocating {size} bytes")
        self.used += size
        raw = np.full(size + 256, 0xFF, np.uint8)
        start = -raw.ctypes.data % 256
        array = raw[start : start + size].view(dtype).reshape(shape).view(Array)
        array.cupy, array.ordinal = self, self.cuda.runtime.getDevice()
        return array

    def from_dlpack(self, value):
        return value.given()

    asarray = from_dlpack

    def get_default_memory_pool(self):
        return SimpleNamespace(free_bytes=lambda: 4096)

    def RawModule(self, path):
        self.check(self.cuda.runtime.getDevice())
        if Path(path).read_bytes()[:4] != b"\x7fELF":
            raise CUDADriverError("CUDA_ERROR_INVALID_IMAGE: device kernel image is invalid")
        self.paths.append(Path(path))
        return SimpleNamespace(get_function=lambda name: self.kernels.setdefault(name, RawKernel(self, name)))

    def _device(self):
        if self.fault == "does not start":
            raise CUDARuntimeError("cudaErrorSystemNotReady: system not yet initialized")
        return getattr(self.local, "device", 0)

    def _properties(self, ordinal):
        major, minor = self.capability
        shared = {"sharedMemPerBlockOptin": self.shared, "sharedMemPerMultiprocessor": self.shared + 1024}
        return {"name": b"Fake GPU", "major": major, "minor": minor, "multiProcessorCount": 132, **shared}

    @contextlib.contextmanager
    def _on(self, ordinal):
        before, self.local.device = self.cuda.runtime.getDevice(), ordinal
        try:
            yield
        finally:
            self.local.device = before


class Driver:
    """Stands for libcuda: `status` is what cuInit returns, `version` as 13000, `count` GPUs."""

    def __init__(self, status=0, version=13000, count=1, capability=(9, 0)):
        self.status, self.version, self.count, self.capability = status, version, count, capability

    def cuInit(self, flags):
        return self.status

    def cuGetErrorName(self, status, place):
        place._obj.value = {3: b"CUDA_ERROR_NOT_INITIALIZED", 100: b"CUDA_ERROR_NO_DEVICE"}.get(status)
        return 0

    def cuDriverGetVersion(self, place):
        return self._give(place, self.version)

    def cuDeviceGetCount(self, place):
        return self._give(place, self.count)

    def cuDeviceGet(self, place, ordinal):
        return self._give(place, ordinal)

    def cuDeviceGetName(self, place, size, device):
        place.value = b"Fake GPU"
        return 0

    def cuDeviceTotalMem_v2(self, place, device):
        return self._give(place, 80 << 30)

    def cuDeviceGetAttribute(self, place, attribute, device):
        return self._give(place, self.capability[attribute - 75])

    @staticmethod
    def _give(place, value):
        place._obj.value = value
        return 0


def install(monkeypatch, cupy=None, **settings):
    """Make get_backend("cupy") find FakeCupy and a Driver with these settings; return the FakeCupy."""
    cupy = cupy or FakeCupy()
    monkeypatch.setattr(driver, "_library", lambda: Driver(**settings))
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr(device.devices, "made", {})
    monkeypatch.setattr(start, "_imported", getattr(start._imported, "__wrapped__", start._imported))
    return cupy


@pytest.fixture
def machine(monkeypatch, cubin_folder):
    """Return a function that installs a stand-in for CuPy and the driver, and returns it."""
    return functools.partial(install, monkeypatch)


def refusal(match):
    """Expect a BackendError whose text matches."""
    return pytest.raises(BackendError, match=match)


def require_nvrtc():
    """Skip the module that calls this where the extra cuda13 is not installed; in CI that is an error."""
    try:
        nvrtc.version()
    except BackendError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error), allow_module_level=True)
