"""Thinning: what is left of a binary map when strokes are worn down to lines of one pixel.

Source: Lam, Lee, Suen 1992 (page 879, the parallel algorithm of Guo and Hall in two half steps), which is MATLAB's
bwmorph(map, 'thin', Inf), the one that the BSDS500 benchmark calls.
"""

import numpy as np

from pagnp.backends.numba_cpu.compile import jit
from pagnp.types import Array, Mask


def removable() -> Array:
    """Return uint8 (2, 256): for each half step, whether a pixel with these neighbours goes.

    Bit i - 1 of the index is the neighbour x_i: x_1 is to the right, the others follow against the clock.
    """
    tables = np.zeros((2, 256), np.uint8)
    for code in range(256):
        x = [0, *((code >> i) & 1 for i in range(8)), code & 1]  # x[1] to x[8], and x[9] = x[1]
        crossings = sum(not x[2 * i - 1] and bool(x[2 * i] or x[2 * i + 1]) for i in range(1, 5))
        pairs = sum(x[2 * i - 1] or x[2 * i] for i in range(1, 5)), sum(x[2 * i] or x[2 * i + 1] for i in range(1, 5))
        if crossings == 1 and 2 <= min(pairs) <= 3:
            tables[0, code] = not ((x[2] or x[3] or not x[8]) and x[1])
            tables[1, code] = not ((x[6] or x[7] or not x[4]) and x[5])
    return tables


TABLES = removable()


def thin(mask: Mask) -> Mask:
    """Return a bool (h, w) map thinned until nothing changes; what lies outside it counts as False.

    Joined parts stay joined (8 neighbours), and none vanishes.
    """
    padded = np.pad(mask.astype(np.uint8), 1)
    sites = np.flatnonzero(padded).astype(np.int32)
    thin_u8(padded, sites, len(sites), TABLES)
    return padded[1:-1, 1:-1].astype(bool)


@jit
def thin_u8(padded, sites, count, tables):
    """Thin `padded` (h + 2, w + 2), 0 or 1 with a border of 0, in place; return how many pixels are left.

    sites   int32: flat places of the 1s, ascending, in its first `count` elements; those left come to its front
    """
    flat, row = padded.reshape(-1), padded.shape[1]
    going = np.empty(count, np.int32)
    changed = True
    while changed:
        changed = False
        for half in range(2):
            gone = 0
            for k in range(count):
                at = sites[k]
                code = (
                    flat[at + 1]
                    | flat[at - row + 1] << 1
                    | flat[at - row] << 2
                    | flat[at - row - 1] << 3
                    | flat[at - 1] << 4
                    | flat[at + row - 1] << 5
                    | flat[at + row] << 6
                    | flat[at + row + 1] << 7
                )
                if tables[half, code]:
                    going[gone] = at
                    gone += 1
            for k in range(gone):
                flat[going[k]] = 0
            if gone:
                changed = True
                left = 0
                for k in range(count):
                    if flat[sites[k]]:
                        sites[left] = sites[k]
                        left += 1
                count = left
    return count
