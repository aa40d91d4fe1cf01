"""The arrays of the backends numpy and numba: NumPy's."""

import contextlib

import numpy as np


class HostArrays:
    """Arrays in the host's own memory: the part of gpu.device.Device that a run needs."""

    on_host = True

    def empty(self, shape, dtype=np.float32):
        """Return a new array of any content."""
        return np.empty(shape, dtype)

    def to_device(self, array):
        """Return `array` itself, C-contiguous."""
        return np.ascontiguousarray(array)

    def to_host(self, array):
        """Return `array` itself."""
        return array

    def adopt(self, value):
        """Return None: no array on a GPU can be used here."""
        return None

    def duplicate(self, array):
        """Return a copy."""
        return array.copy()

    def constant(self, key, make):
        """Return what `make` gives: a small array that a run needs again and again."""
        return make()

    def wait(self):
        """Nothing: what was asked for is done."""

    def limited(self, sites):
        """Nothing: compact rows have the length that they have."""
        return contextlib.nullcontext()

    def count(self, sites):
        """Return how many sites there are."""
        return len(sites)

    def numbers(self, counts):
        """Return what `count` gave as whole numbers: they are."""
        return counts

    def free_bytes(self):
        """Return how many bytes could be allocated now, None where that is not known."""
        from pagnp import memory

        return memory.available()
