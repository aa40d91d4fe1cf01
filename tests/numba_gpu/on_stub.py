"""The backend numba-cuda on a stand-in for NVIDIA's driver (libcuda.c): everything but the kernels' arithmetic.

LD_LIBRARY_PATH=<folder of its libcuda.so.1> python tests/numba_gpu/on_stub.py
"""

import ctypes
import os
import sys
import threading
import warnings
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from device_rows import counted_rows, flow_rows  # noqa: E402

from pagnp.backends.base import get_backend  # noqa: E402
from pagnp.backends.gpu import SIGNATURES  # noqa: E402
from pagnp.backends.gpu.device import Sites  # noqa: E402
from pagnp.backends.numba_cuda.device import _flat  # noqa: E402
from pagnp.backends.numba_cuda.launching import DTYPES, arguments, function_of  # noqa: E402
from pagnp.errors import BackendError, MemoryLimitError, UsageError  # noqa: E402
from pagnp.model import Model  # noqa: E402
from pagnp.testing import runcase, sample  # noqa: E402
from pagnp.testing.cases import CASES, COMPOSITES  # noqa: E402
from pagnp.testing.devicecase import on_host_arrays  # noqa: E402

STUB = ctypes.CDLL("libcuda.so.1")
FREE, PARAMETERS, STATUS = (
    kind.in_dll(STUB, f"stub_{name}")
    for name, kind in (("free", ctypes.c_longlong), ("parameters", ctypes.c_int), ("status", ctypes.c_int))
)
STREAM, GRID = ctypes.c_ulonglong.in_dll(STUB, "stub_stream"), (ctypes.c_uint * 6).in_dll(STUB, "stub_grid")
VALUES = (ctypes.c_ulonglong * 256).in_dll(STUB, "stub_values")
ARRAY = 7  # parameters of an array: two owners, elements, bytes of one, address, shape, strides
# Kernels that are really launched, of the others only the arguments are made: compiling all takes too long.
LAUNCHED = (
    *("relu_f32", "add_f32_broadcast", "compare_f32", "conv2d_f32_plain", "conv2d_f32_tile32x32", "masked_f32"),
    *("list_sites_i32_count", "list_sites_i32_scan", "list_sites_i32_write", "philox4x32_u32", "nearest_f32"),
    *("crop_u8", "crop_i32", "picked_u8", "normalize_u8"),
)

BACKEND = get_backend("numba-cuda")
DEVICE = BACKEND.arrays


def raises(kind, what, call):
    """Fail unless `call()` raises such an error, in one line with the words `what`."""
    try:
        call()
    except kind as error:
        assert what in str(error) and "\n" not in str(error), error
    else:
        raise AssertionError(f"no {kind.__name__}")


def check_memory():
    """Arrays of all kinds and sizes, empty ones, too, there and back; slices, views, copies, zeros."""
    rng = np.random.default_rng(1)
    for shape in ((0,), (0, 3), (2, 0, 3), (1,), (2, 3), (2, 3, 4, 5)):
        for dtype in (bool, np.uint8, np.int32, np.uint32, np.float32):
            host = (rng.random(shape) * 5).astype(dtype)
            array = DEVICE.to_device(host)
            assert array.shape == host.shape and array.dtype == host.dtype and DEVICE.pointer(array) % 256 == 0
            assert (DEVICE.to_host(array) == host).all() and DEVICE.to_host(array).dtype == dtype
            other = DEVICE.duplicate(array)
            DEVICE.zero(other)
            assert not DEVICE.to_host(other).any()
            DEVICE.copy(host, other)
            assert (DEVICE.to_host(other[:1]) == host[:1]).all() and DEVICE.to_host(other[:0]).size == 0
            assert (DEVICE.to_host(array.reshape(1, *shape)) == host[None]).all()
    raw = DEVICE.to_device(np.arange(64, dtype=np.uint8))
    assert DEVICE.to_host(raw[4:36].view(np.float32).reshape((2, 4))).tobytes() == bytes(range(4, 36))
    assert (DEVICE.to_host(DEVICE.to_device(np.arange(12.0).reshape(3, 4).T)) == np.arange(12.0).reshape(3, 4).T).all()


def check_out_of_memory():
    """What does not fit is said with its bytes."""
    FREE.value = 1 << 20
    raises(MemoryLimitError, "4 MiB (4194304 bytes), 1 MiB are free on Stub", lambda: DEVICE.empty(1 << 20))
    assert DEVICE.free_bytes() == 1 << 20
    FREE.value = 1 << 30


def check_rows():
    """Every row of the table and of what lies between the ops: kernels get what their signatures say."""
    launch, shown = DEVICE.launch, set()

    def checked(kernel, grid, block, args, shared=0):
        function = launch if kernel in LAUNCHED else _no_launch
        parameters = SIGNATURES[kernel].parameters
        PARAMETERS.value = sum(ARRAY if kind.endswith("*") else 1 for kind, _ in parameters)
        function(kernel, grid, block, args, shared)
        if kernel in LAUNCHED:
            shown.add(kernel)
            blocks = grid if isinstance(grid, tuple) else (grid,)
            assert tuple(GRID) == (*blocks, *(1,) * (3 - len(blocks)), block, 1, 1), (kernel, tuple(GRID))
            _compare(kernel, parameters, args)

    DEVICE.launch = checked
    try:
        kernels = on_host_arrays(BACKEND, offset=4)
        for case in CASES:
            if case.op not in COMPOSITES:
                runcase.run(case, kernels)
        for row in flow_rows():
            kernels[row.op](*row.args, row.out.copy())
        with DEVICE.limited(Sites(DEVICE.empty(37, np.int32), DEVICE.to_device(np.array([23], np.int32)))):
            for row in counted_rows():
                kernels[row.op](*row.args, row.out.copy())
    finally:
        DEVICE.launch, PARAMETERS.value = launch, 0
    assert not (missing := set(LAUNCHED) - shown), missing


def _no_launch(kernel, grid, block, args, shared=0):
    arguments(kernel, args, _flat, DEVICE._absent)


def _compare(kernel, parameters, args):
    """Fail unless the launched kernel got the arguments."""
    place = 0
    for (kind, name), arg in zip(parameters, args, strict=True):
        dtype, where = DTYPES[kind.rstrip("*")], f"{kernel} {name}"
        if not kind.endswith("*"):
            got = VALUES[place].to_bytes(8, "little")[: dtype.itemsize]
            assert got == np.asarray(arg).astype(dtype).tobytes(), (where, got, arg)
            place += 1
            continue
        _, _, size, itemsize, address, shape, stride = VALUES[place : place + ARRAY]
        if arg is None or not arg.size:
            assert (size, itemsize) == (1, dtype.itemsize) and address, where
        else:
            assert (size, shape, address) == (arg.size, arg.size, DEVICE.pointer(arg)), where
        assert itemsize == stride == dtype.itemsize, where
        place += ARRAY


def check_network():
    """A whole network of all ops, three times: what it computes is nothing, as no kernel runs."""
    model, launch = Model(sample.graph(), BACKEND), DEVICE.launch
    DEVICE.launch = _no_launch
    try:
        for _ in range(3):
            assert set(model(sample.pixels(), seed=9).outputs) == {"labels", "depth", "normals", "boundary"}
    finally:
        DEVICE.launch = launch


def check_cache():
    """Compiled kernels are kept on disk; a damaged file is as none."""
    function = function_of("relu_f32")
    types = next(iter(function.overloads))
    path = function._cache._path(types)
    assert function._cache._loaded(types).entry_name == function.overloads[types].entry_name
    content = path.read_bytes()
    for damaged in (content[:-1], content[:100] + b"?" + content[101:], b""):
        path.write_bytes(damaged)
        assert function._cache._loaded(types) is None
    path.write_bytes(content)
    assert {entry.name.rpartition("-")[0] for entry in path.parent.iterdir()} == set(LAUNCHED)


def check_streams():
    """Work goes to the caller's stream, and to Numba's default one outside of `on_stream`."""
    x, out = DEVICE.empty((2, 3)), DEVICE.empty((2, 3))
    works = {
        "launch": lambda: BACKEND.relu(x, out),
        "copy": lambda: DEVICE.copy(x, out),
        "copy to the GPU": lambda: DEVICE.copy(np.ones((2, 3), np.float32), out),
        "zero": lambda: DEVICE.zero(out),
        "to_host": lambda: DEVICE.to_host(out),
        "mark": DEVICE.mark,
        "wait": DEVICE.wait,
    }
    for name, work in works.items():
        for stream in (0x1230, 1, 2):
            with DEVICE.on_stream(stream):
                STREAM.value = 99
                work()
                assert STREAM.value == stream, (name, STREAM.value)
    BACKEND.relu(x, out)
    assert STREAM.value == 0
    mark = DEVICE.mark()
    with DEVICE.on_stream(0x1230):
        DEVICE.follow(mark)
    assert STREAM.value == 0x1230


def check_threads():
    """Another thread, which has no GPU of its own yet, may use the device."""
    found = []

    def work():
        array = DEVICE.to_device(np.ones((1, 1, 1, 3), np.float32))
        BACKEND.relu(array, DEVICE.empty(array.shape))
        found.append(DEVICE.to_host(array))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found and (found[0] == 1).all()


class OnGpu:
    """An array of another library, with __cuda_array_interface__."""

    def __init__(self, array):
        self.array = array

    @property
    def __cuda_array_interface__(self):
        return {**self.array.__array_interface__, "version": 3, "stream": None}


def check_adopt():
    """Arrays of others are taken without a copy, if they are on the GPU and in C order."""
    host = np.arange(12, dtype=np.float32).reshape(3, 4)
    for array in (host, host.astype(np.int32), host > 3, host[:0]):
        adopted = DEVICE.adopt(OnGpu(array))
        assert adopted.shape == array.shape and adopted.dtype == array.dtype
        assert (DEVICE.to_host(adopted) == array).all()
        assert not array.size or DEVICE.pointer(adopted) == array.ctypes.data
        assert DEVICE.adopt(adopted) is adopted
    assert DEVICE.adopt(host) is None and DEVICE.adopt(3) is None
    raises(UsageError, "need C order", lambda: DEVICE.adopt(OnGpu(host.T)))


def check_fork():
    """A forked child has no GPU, and is told so."""
    child = os.fork()
    if not child:
        try:
            raises(BackendError, "does not survive", lambda: DEVICE.empty(3))
            raises(BackendError, "does not survive", lambda: get_backend("numba-cuda"))
        except BaseException:
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


def check_failing_kernel():
    """What went wrong in a kernel shows where the host waits. Last: nothing works after it."""
    array = DEVICE.empty(3)
    STATUS.value = 719
    for wait in (DEVICE.wait, lambda: DEVICE.to_host(array)):
        raises(BackendError, "CUDA_ERROR_LAUNCH_FAILED", wait)
    STATUS.value = 0


if __name__ == "__main__":
    warnings.simplefilter("error")
    assert DEVICE.description == "Stub" and DEVICE.multiprocessors == 132
    for name, check in list(globals().items()):
        if name.startswith("check_"):
            check()
            print(name)
