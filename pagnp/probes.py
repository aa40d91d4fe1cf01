"""A few elements of an array, evenly spread, as bits: they show what differs where the rest is only a digest."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pagnp.contract import canonical_bits
from pagnp.types import Array

COUNT = 16


def places(size: int) -> list[int]:
    """Return the flat places of the probes of an array of `size` elements, ascending: floor((i (size-1) + 7) / 15)."""
    return sorted({(i * (size - 1) + 7) // (COUNT - 1) for i in range(COUNT)})


class RunningProbes:
    """The probes of an array of `shape` whose elements come piece by piece, in C order.

    found   the bits so far, as `of` gives them
    """

    def __init__(self, shape: Sequence[int]) -> None:
        self._places = places(int(np.prod(shape, dtype=np.int64)))
        self._seen = 0
        self._bits: list[str] = []

    def update(self, part: Array) -> None:
        """Take the next elements, an array of any shape."""
        start, self._seen = self._seen, self._seen + part.size
        for place in self._places[len(self._bits) :]:
            if place >= self._seen:
                break
            self._bits.append(_bits(part[np.unravel_index(place - start, part.shape)]))

    @property
    def found(self) -> str:
        return " ".join(self._bits)


def of(array: Array) -> str:
    """Return the bits of the probes of `array` in hex, with spaces between; a NaN is 7FC00000."""
    running = RunningProbes(array.shape)
    running.update(array)
    return running.found


def apart(here: str, there: str, shape: Sequence[int]) -> list[tuple[tuple[int, ...], str, str]]:
    """Return (index, bits here, bits there) where two strings of probes of arrays of `shape` differ."""
    pairs = zip(places(int(np.prod(shape, dtype=np.int64))), here.split(), there.split(), strict=False)
    return [(tuple(map(int, np.unravel_index(place, shape))), a, b) for place, a, b in pairs if a != b]


def _bits(element: Any) -> str:
    """Return the bits of one element (a NumPy scalar) in hex."""
    one = np.asarray(element).reshape(1)
    if one.dtype == np.float32:
        one = canonical_bits(one)
    size = one.dtype.itemsize
    return f"{int(one.view(f'u{size}')[0]):0{2 * size}X}"
