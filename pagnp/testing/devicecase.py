"""Kernels of a GPU backend as functions on NumPy arrays, so that the rows of the table run on them as on any other."""

from collections.abc import Callable
from typing import Any

import numpy as np

from pagnp.backends.base import Backend

OFFSET = 4  # bytes by which arrays start off a 16-byte boundary, where wanted: no wide load is possible there
MARGIN = 256  # bytes of NaN behind an array, and before it as many as the offset
FILL = 0xFF


class MarginError(Exception):
    """A kernel wrote beside an array on the device."""


def on_host_arrays(backend: Backend, offset: int = 0, margin: int = MARGIN) -> dict[str, Callable[..., Any]]:
    """Return op -> kernel that takes NumPy arrays: copied to the device, inputs compared and outputs copied back.

    offset  bytes between a 256-byte boundary of the device's memory and the first element of every array
    margin  bytes behind every array; 0 lets a memory checker see who goes beyond its end
    The kernels raise MarginError where one wrote beside an array.
    """
    return {name: _Moved(backend, name, offset, margin) for name in backend.kernels}


class _Moved:
    """One kernel. An array that is given twice (a residual in place) is one array on the device, too."""

    def __init__(self, backend, name, offset, margin):
        self.backend, self.name, self.offset, self.margin = backend, name, offset, margin

    def __call__(self, *args, **kwargs):
        moved = {}  # address -> (array on the host, array on the device, bytes there that it lies in)
        device = self.backend.arrays

        def move(value):
            if isinstance(value, (list, tuple)) and any(isinstance(part, np.ndarray) for part in value):
                return [move(part) for part in value]
            if not isinstance(value, np.ndarray):
                return value
            if value.ctypes.data not in moved or not value.size:
                moved[value.ctypes.data] = value, *self._to_device(value)
            return moved[value.ctypes.data][1]

        returned = self.backend.kernels[self.name](*(move(value) for value in args), **kwargs)
        for host, _, raw in moved.values():
            self._back(host, raw)
        if returned is None or self.name == "pack_conv2d":
            return returned
        return device.to_host(returned)

    def _to_device(self, value):
        """Return (the array on the device, the bytes there that it lies in; None if there are none)."""
        device, size = self.backend.arrays, value.nbytes
        if not size:  # a slice of no bytes is more than every library can view as another type
            return device.allocate(value.shape, value.dtype), None
        raw = np.full(size + self.offset + self.margin, FILL, np.uint8)  # NaN around: a read beyond the end shows
        raw[self.offset : self.offset + size] = np.ascontiguousarray(value).view(np.uint8).reshape(-1)
        raw = device.to_device(raw)
        return raw[self.offset : self.offset + size].view(value.dtype).reshape(value.shape), raw

    def _back(self, host, raw):
        """Bring an array back to the host; also what should not have been written shows there."""
        if raw is None:
            return
        back = self.backend.arrays.to_host(raw)
        inside = back[self.offset : self.offset + host.nbytes]
        if inside.tobytes() != host.tobytes():
            host[...] = inside.view(host.dtype).reshape(host.shape)
        if (back[: self.offset] != FILL).any() or (back[self.offset + host.nbytes :] != FILL).any():
            raise MarginError(f"{self.name}: wrote beside an array of {host.shape} on the device")
