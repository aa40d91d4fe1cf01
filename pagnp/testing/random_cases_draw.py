"""What random rows draw from: a stream that is the same everywhere, and sizes around the edges of tiles and blocks."""

import itertools
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from pagnp.testing import fills
from pagnp.testing.case import DEFAULTS

Choice = TypeVar("Choice")

FILLS = tuple(fills._BY_NAME)  # all there are: a new fill is drawn from then on
WIDTHS = (1, 2, 5, 6, 7, 8, 13, 14, 15, 16, 17, 28, 29, 30, 31, 32, 33, 63, 64, 65)  # tiles hold 4, 6 or 8 pixels
HEIGHTS = (1, 1, 2, 3, 4, 5, 6, 7, 9, 13)
CHANNELS = (1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 32, 33, 47, 48, 49, 63, 64, 65)  # panels hold 4, 8, 16, 32 or 64
LENGTHS = (126, 127, 128, 129, 130, 255, 256, 257, 258, 384, 385, 513)  # of a reduction, cut every 128 terms
BATCHES = (1, 1, 1, 1, 2, 2, 3, 5)


class Draw:
    """Choices that follow from a seed alone, with every NumPy and on every machine: PCG64's raw words, as the fills."""

    def __init__(self, seed: int, stream: int = 0) -> None:
        self._words = np.random.PCG64(np.random.SeedSequence([seed, 7_000_000 + stream]))

    def word(self) -> int:
        """Return 64 random bits."""
        return int(self._words.random_raw())

    def number(self, low: int, high: int) -> int:
        """Return a whole number from `low` to `high`, both included."""
        return low + (self.word() >> 11) % (high - low + 1)

    def one_in(self, times: int) -> bool:
        """Return True once in `times`."""
        return self.number(1, times) == 1

    def pick(self, choices: Sequence[Choice]) -> Choice:
        """Return one of `choices`; one that is listed twice comes twice as often."""
        return choices[self.number(0, len(choices) - 1)]


def map_sizes(draw: Draw, large: bool, channels: Sequence[int] = CHANNELS, most: int = 6000) -> dict[str, int]:
    """Return n, c_in, h_in, w_in of a map of at most `most` elements; of up to 20 times as many if `large` and it fits.

    Needs `most` to hold one pixel of some of the channels.
    """
    for attempt in itertools.count():
        sizes = {"n": draw.pick(BATCHES), "c_in": draw.pick(channels)}
        sizes |= {"h_in": draw.pick(HEIGHTS), "w_in": draw.pick(WIDTHS)}
        big = large and attempt < 20
        if big:
            sizes |= {"h_in": draw.pick((41, 61, 75)), "w_in": draw.pick((43, 53, 67))}
        if draw.one_in(4):
            sizes |= {"h_in": sizes["w_in"], "w_in": sizes["h_in"]}
        if sizes["n"] * sizes["c_in"] * sizes["h_in"] * sizes["w_in"] <= (20 * most if big else most):
            break
    return sizes


def compact(params: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters without absent ones and defaults, equal pairs and sides as one number."""
    kept = {name: value for name, value in params.items() if value is not None and value is not False}
    for name in ("k", "stride", "dilation", "padding", "output_padding"):
        if isinstance(kept.get(name), tuple) and len(set(kept[name])) == 1:
            kept[name] = kept[name][0]
    usual = {**DEFAULTS, "output_padding": 0}
    return {name: value for name, value in kept.items() if name not in usual or value != usual[name]}
