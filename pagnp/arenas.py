"""The memory of a run's feature maps, kept for the next run: fresh pages cost more than the smaller layers."""

import sys

import numpy as np

from pagnp.errors import MemoryLimitError
from pagnp.types import Tensor

MOST_KEPT = 512 << 20  # bytes; a larger arena is given back after its run
_ALIGN = 64  # bytes: a cache line
_OURS = 2  # references to an array that nobody else has: our variable, and getrefcount's argument


class Arenas:
    """Hands out arenas, and keeps the last one while it is not larger than MOST_KEPT. Safe with several threads.

    An arena is taken again only when no array that lies in it is left: whoever holds a layer keeps its values.
    """

    def __init__(self) -> None:
        self._kept: list[np.ndarray] = []

    def take(self, size: int) -> Tensor:
        """Return `size` bytes as float32, 64-byte aligned, of any content.

        Raises: MemoryLimitError.
        """
        try:
            raw = self._kept.pop()
        except IndexError:
            raw = None
        if raw is None or raw.nbytes != size + _ALIGN or sys.getrefcount(raw) > _OURS:
            raw = None  # given back before the new one is made
            raw = _allocate(size + _ALIGN)
        start = -raw.ctypes.data % _ALIGN // 4
        arena: Tensor = raw[start : start + size // 4]
        if size <= MOST_KEPT:
            self._kept[:] = [raw]
        return arena

    def __reduce__(self) -> tuple[type["Arenas"], tuple[()]]:
        """Pickle and copy as an empty one."""
        return Arenas, ()


def _allocate(size):
    try:
        return np.empty(size // 4, np.float32)
    except MemoryError as error:
        raise MemoryLimitError(f"the run needs {size / 2**20:.0f} MiB for feature maps; use a smaller image") from error
