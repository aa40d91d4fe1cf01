"""A GPU backend without a GPU: the reference's kernels on the arrays of a device, and on no others."""

from contextlib import contextmanager

import numpy as np
from cuda_shim.device import ShimArray, ShimDevice

from pagnp.backends.base import Backend, get_backend


class CountingDevice(ShimDevice):
    """sent    how many arrays were copied to the device, `sent_on` which streams;  waits  how many back
    stream  that work is queued on now
    seen    (addresses of the arrays, stream) of every kernel call;  followed  {(a stream, another that waits for it)}
    """

    def __init__(self):
        super().__init__(folder=None)
        self.sent = self.waits = 0
        self.stream, self.seen, self.sent_on, self.followed = None, [], set(), set()

    def to_device(self, array):
        assert type(array) is np.ndarray
        self.sent += 1
        self.sent_on.add(self.stream)
        return super().to_device(array)

    def to_host(self, array):
        assert isinstance(array, ShimArray)
        self.waits += 1
        return super().to_host(array)

    @contextmanager
    def on_stream(self, stream):
        before, self.stream = self.stream, stream
        try:
            yield
        finally:
            self.stream = before

    def mark(self):
        return self.stream

    def follow(self, mark):
        self.followed.add((mark, self.stream))

    @property
    def addresses(self):
        """Of the arrays that kernels got."""
        return {address for addresses, _ in self.seen for address in addresses}


def backend():
    """Return a Backend "cupy" on a new CountingDevice, as its `arrays`."""
    device = CountingDevice()
    kernels = {name: _on(device, kernel) for name, kernel in get_backend("numpy").kernels.items()}
    return Backend("cupy", kernels, arrays=device)


def _on(device, kernel):
    def call(*args):
        addresses = []

        def host(value):
            if isinstance(value, (list, tuple)):
                return type(value)(host(part) for part in value)
            if not isinstance(value, np.ndarray):
                return value
            assert isinstance(value, ShimArray), "a kernel got an array of the host"
            assert value.flags.c_contiguous
            addresses.append(value.ctypes.data)
            return value.view(np.ndarray)

        returned = kernel(*(host(value) for value in args))
        device.seen.append((addresses, device.stream))
        return returned.view(ShimArray) if isinstance(returned, np.ndarray) else returned

    return call
