"""SimulatedDevice: NumPy arrays in place of a GPU's memory, kernels in Numba's simulator (NUMBA_ENABLE_CUDASIM=1)."""

import functools
import sys
import threading
import warnings

import numpy as np
from numba.cuda.cudadrv.devicearray import FakeCUDAArray

from pagnp import memory
from pagnp.backends.gpu.conv_tiles import NUMBA_CUDA
from pagnp.backends.gpu.device import BLOCK, Device
from pagnp.backends.gpu.signature import NUMBA
from pagnp.backends.numba_cuda.launching import arguments, function_of

_one_at_a_time = threading.Lock()  # the simulator has its running kernel in a global


@functools.cache
def simulated_device():
    """Return the one SimulatedDevice, the same one for all callers."""
    return SimulatedDevice()


class SimulatedDevice(Device):
    """What the kernels compute, to the bit, at some ten thousand multiply-adds a second."""

    name = NUMBA
    description = "Numba's simulator"
    simulated = True
    multiprocessors = 132  # of an H200: the same tiles are chosen
    conv_tiles = NUMBA_CUDA

    def allocate(self, shape, dtype):
        return np.empty(shape, dtype)

    def to_device(self, array):
        return np.array(array, order="C")

    def to_host(self, array):
        return np.array(array)

    def copy(self, source, out):
        _bytes(out)[...] = _bytes(np.ascontiguousarray(source))

    def zero(self, out):
        _bytes(out)[...] = 0

    def pointer(self, array):
        return int(array.ctypes.data)

    def free_bytes(self):
        return memory.available() or sys.maxsize

    def adopt(self, value):
        return None

    def launch(self, kernel, grid, block, args, shared=0):
        taken = arguments(kernel, args, _flat, _absent)
        with _one_at_a_time, warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # NumPy's: overflow and NaN are results here
            function_of(kernel)[grid, block, 0, shared](*taken)

    def launch_elements(self, kernel, size, args):
        """As Device.launch_elements, with no idle threads: here each is a thread of the operating system."""
        if 0 < size < BLOCK:
            self.launch(kernel, 1, size, args)
        else:
            super().launch_elements(kernel, size, args)


def _flat(array, dtype):
    return FakeCUDAArray(array.reshape(-1).view(dtype))


def _absent(dtype):
    return FakeCUDAArray(np.zeros(1, dtype))


def _bytes(array):
    return array.reshape(-1).view(np.uint8)
