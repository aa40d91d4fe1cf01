"""Which rows of its input an op reads to compute some rows of its output: integers only.

Every map has `needs(a, b)`: output rows a..b-1 read input rows lo..hi-1. Both ends never fall when a and b grow, so
maps can be computed band by band from the top, and rows that no later band reads can be forgotten.
"""

from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np

from pagnp.backends.numpy_ref.resample import nearest_index, positions
from pagnp.types import Array

_Two: TypeAlias = tuple[int, int]


def rows_of(x: Array, first: int, last: int) -> Array:
    """Return rows first..last-1 of one image's map x (1, h, ...), without a copy: they lie together."""
    rows: Array = x.reshape(x.shape[1:])[first:last].reshape(1, last - first, *x.shape[2:])
    return rows


class RowMap(Protocol):
    """What one input of an op has to give."""

    def needs(self, a: int, b: int) -> _Two:
        """Return (lo, hi): output rows a..b-1 read input rows lo..hi-1."""
        ...


@dataclass(frozen=True)
class Same:
    """Row by row."""

    def needs(self, a: int, b: int) -> _Two:
        return a, b


@dataclass(frozen=True)
class Whole:
    """All `size` rows, whatever is asked for: a value that is broadcast, a sum over the map."""

    size: int

    def needs(self, a: int, b: int) -> _Two:
        return 0, self.size


@dataclass(frozen=True)
class Windows:
    """A convolution or pooling: output row o reads rows o*stride - before + k*dilation, k < kernel, of `size`."""

    size: int
    kernel: int
    stride: int
    before: int
    dilation: int

    def _span(self, a, b):
        first = a * self.stride - self.before
        return first, (b - 1) * self.stride - self.before + self.dilation * (self.kernel - 1) + 1

    def needs(self, a: int, b: int) -> _Two:
        """As in RowMap; lo = hi where the windows lie in the padding alone."""
        first, last = self._span(a, b)
        lo = min(max(first, 0), self.size)
        return lo, max(lo, min(last, self.size))

    def padding(self, a: int, b: int) -> _Two:
        """Return the rows of padding (above, below) that a band of input rows needs(a, b) lacks."""
        (first, last), (lo, hi) = self._span(a, b), self.needs(a, b)
        return lo - first, last - hi


@dataclass(frozen=True)
class Spread:
    """A transposed convolution, or what a conv's taps touch: row o reads the i with i*stride = o + before - k*dilation.

    `before` is the crop of a transposed convolution and the padding of a conv.
    """

    size: int
    kernel: int
    stride: int
    before: int
    dilation: int

    def needs(self, a: int, b: int) -> _Two:
        """As in RowMap; one row at least, and `before_band` is never negative."""
        lowest = -(-(a + self.before - self.dilation * (self.kernel - 1)) // self.stride)
        lo = min(max(min(lowest, (a + self.before) // self.stride), 0), self.size - 1)
        return lo, min(max((b - 1 + self.before) // self.stride + 1, lo + 1), self.size)

    def before_band(self, a: int, b: int) -> int:
        """Return what takes the place of `before` for a band of output rows from a and input rows needs(a, b)."""
        return a + self.before - self.stride * self.needs(a, b)[0]


@dataclass(frozen=True)
class Frame:
    """Padding by `top` rows (and some below): output row o is input row o - top, or zero."""

    size: int
    top: int

    def needs(self, a: int, b: int) -> _Two:
        """As in RowMap; lo = hi where the rows lie in the frame alone."""
        lo = min(max(a - self.top, 0), self.size)
        return lo, max(lo, min(b - self.top, self.size))

    def padding(self, a: int, b: int) -> _Two:
        """Return the rows of the frame (above, below) among output rows a..b-1."""
        lo, hi = self.needs(a, b)
        above = min(max(self.top - a, 0), b - a)
        return above, b - a - above - (hi - lo)


class Resize:
    """bilinear or nearest from `size_in` to `size_out` rows."""

    def __init__(self, op: str, size_in: int, size_out: int, align_corners: bool = False) -> None:
        if op == "bilinear":
            self._first, self._last, _ = positions(size_in, size_out, align_corners)
        else:
            self._first = self._last = nearest_index(size_in, size_out)
        assert (np.diff(self._last) >= 0).all()

    def needs(self, a: int, b: int) -> _Two:
        return int(self._first[a]), int(self._last[b - 1]) + 1
