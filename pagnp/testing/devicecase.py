"""Kernels of a GPU backend as functions on NumPy arrays, so that the rows of the table run on them as on any other."""

from collections.abc import Callable
from typing import Any

import numpy as np

from pagnp.backends.base import Backend

OFFSET = 4  # bytes by which arrays start off a 16-byte boundary, where wanted: no wide load is possible there


def on_host_arrays(backend: Backend, offset: int = 0) -> dict[str, Callable[..., Any]]:
    """Return op -> kernel that takes NumPy arrays: copied to the device, inputs compared and outputs copied back.

    offset  bytes between a 256-byte boundary of the device's memory and the first element of every array
    """
    return {name: _Moved(backend, name, offset) for name in backend.kernels}


class _Moved:
    """One kernel. An array that is given twice (a residual in place) is one array on the device, too."""

    def __init__(self, backend, name, offset):
        self.backend, self.name, self.offset = backend, name, offset

    def __call__(self, *args, **kwargs):
        moved: dict[int, tuple[np.ndarray, Any]] = {}
        device = self.backend.arrays

        def move(value):
            if isinstance(value, (list, tuple)) and any(isinstance(part, np.ndarray) for part in value):
                return [move(part) for part in value]
            if not isinstance(value, np.ndarray):
                return value
            if value.ctypes.data not in moved or not value.size:
                moved[value.ctypes.data] = value, self._to_device(value)
            return moved[value.ctypes.data][1]

        returned = self.backend.kernels[self.name](*(move(value) for value in args), **kwargs)
        for host, there in moved.values():
            back = device.to_host(there)
            if back.tobytes() != host.tobytes():  # written: also what should not have been shows on the host
                host[...] = back
        if returned is None or self.name == "pack_conv2d":
            return returned
        return device.to_host(returned)

    def _to_device(self, value):
        device, size = self.backend.arrays, value.nbytes
        raw = np.full(size + self.offset + 256, 0xFF, np.uint8)  # NaN around: a read beyond the end shows
        raw[self.offset : self.offset + size] = np.ascontiguousarray(value).view(np.uint8).reshape(-1)
        there = device.to_device(raw)[self.offset : self.offset + size]
        return there.view(value.dtype).reshape(value.shape)
