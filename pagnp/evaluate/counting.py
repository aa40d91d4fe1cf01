"""The kernel of boundary scores: at each threshold a map is cut, thinned and matched with every annotator's."""

import numpy as np

from pagnp.backends.numba_cpu.compile import jit
from pagnp.evaluate.matching import match_i32
from pagnp.evaluate.thinning import thin_u8


@jit
def count_f32(start, stop, strength, thresholds, sites, starts, offsets, tables, counts):
    """Fill rows start .. stop - 1 of `counts`.

    strength    (h, w) float32;  thresholds (t,) float64: a pixel is detected where strength >= threshold
    sites       int32, flat places of the marked pixels: annotator a's are sites[starts[a] : starts[a + 1]]
    offsets     int32 (k, 2), the places within the tolerance, the nearest first (matching.offsets_within)
    tables      uint8 (2, 256), of thinning; empty (0, 256): the map is not thinned
    counts      int64 (t, 4): marks that were found, marks, detected pixels that are right, detected pixels
    """
    h, w = strength.shape
    padded = np.empty((h + 2, w + 2), np.uint8)
    places = np.empty(h * w, np.int32)
    node_of = np.empty((h, w), np.int32)
    for t in range(start, stop):
        padded[:] = 0
        detected = 0
        for y in range(h):
            for x in range(w):
                if strength[y, x] >= thresholds[t]:
                    padded[y + 1, x + 1] = 1
                    places[detected] = (y + 1) * (w + 2) + x + 1
                    detected += 1
        if len(tables):
            detected = thin_u8(padded, places, detected, tables)
        node_of[:] = -1
        for i in range(detected):
            node_of[places[i] // (w + 2) - 1, places[i] % (w + 2) - 1] = i
        right = np.zeros(detected, np.uint8)
        owner = np.empty(detected, np.int32)
        found = 0
        for a in range(len(starts) - 1):
            marks = sites[starts[a] : starts[a + 1]]
            partner = np.empty(len(marks), np.int32)
            found += match_i32(marks, node_of, offsets, owner, partner)
            for i in range(detected):
                if owner[i] >= 0:
                    right[i] = 1
        counts[t, 0], counts[t, 1] = found, len(sites)
        counts[t, 2], counts[t, 3] = np.sum(right), detected
