"""One-to-one matching of two sets of boundary pixels, none of a pair farther apart than a tolerance.

Each detected pixel explains at most one marked pixel, so a thick or doubled line is no better than a thin one.

The benchmark (correspondPixels of the BSDS500 code; Martin, Fowlkes, Malik 2004, appendix B) solves a min-cost
assignment in which a pair costs its distance and a pixel without partner 100 times the tolerance. A further pair always
saves more than a few pairs that move apart can cost: at a chain of fewer than about 100 pairs the cheapest assignment
has as many pairs as there can be. So the number of pairs is that of a maximum matching, which is found here without
costs (Hopcroft, Karp 1973). Which pixels take part is then not unique. It matters a little, because a detected pixel is
right if any annotator's matching has it: pairs are first made in the order of their distance, and a pixel that has a
partner keeps one when the matching grows, so those that are close to a mark take part, as in the cheapest assignment.
"""

import numpy as np

from pagnp.backends.numba_cpu.compile import jit
from pagnp.types import Index, Mask


def offsets_within(limit: float) -> Index:
    """Return int32 (k, 2): every (dy, dx) with dy^2 + dx^2 <= limit^2, the nearest first."""
    r = int(np.ceil(limit))
    dy, dx = (axis.ravel() for axis in np.mgrid[-r : r + 1, -r : r + 1])
    square = dy * dy + dx * dx
    order = np.lexsort((dx, dy, square))
    near = square[order] <= limit * limit  # the limit itself counts, as in the benchmark's code
    return np.stack((dy, dx), 1)[order][near].astype(np.int32)


def match(detected: Mask, marked: Mask, limit: float) -> tuple[Mask, Mask]:
    """Return which pixels of two bool (h, w) maps have a partner in a largest matching within `limit` pixels."""
    sites = np.flatnonzero(marked).astype(np.int32)
    node_of = np.full(detected.shape, -1, np.int32)
    node_of[detected] = np.arange(np.count_nonzero(detected), dtype=np.int32)
    owner = np.empty(np.count_nonzero(detected), np.int32)
    partner = np.empty(len(sites), np.int32)
    match_i32(sites, node_of, offsets_within(limit), owner, partner)
    right, found = np.zeros_like(detected), np.zeros_like(marked)
    right[detected] = owner >= 0
    found.reshape(-1)[sites[partner >= 0]] = True
    return right, found


@jit
def match_i32(sites, node_of, offsets, owner, partner):
    """Match marked pixels with detected ones; fill `owner` and `partner` and return the number of pairs.

    sites    (m,) flat places of the marked pixels
    node_of  (h, w) the number of the detected pixel that is there, -1 for none
    offsets  (k, 2) the places that are near enough, by distance
    owner    (n,) of each detected pixel: its marked pixel's number, -1 for none;  partner (m,): the other way round
    """
    owner[:] = -1
    partner[:] = -1
    first, near = _neighbours(sites, node_of, offsets)
    pairs = _match_nearest(sites, node_of, offsets, owner, partner)
    level, at = np.empty(len(sites), np.int32), np.empty(len(sites), np.int32)
    queue = np.empty(len(sites), np.int32)
    while _find_levels(first, near, owner, partner, level, queue):
        for mark in range(len(sites)):
            at[mark] = first[mark]
        for mark in range(len(sites)):
            if partner[mark] < 0 and _augment(mark, first, near, owner, partner, level, at, queue):
                pairs += 1
    return pairs


@jit(cached=False)
def _neighbours(sites, node_of, offsets):
    """Return (first, near): near[first[j] : first[j + 1]] are the detected pixels within reach of mark j."""
    h, w = node_of.shape
    first = np.zeros(len(sites) + 1, np.int64)
    near = np.empty(max(16, 12 * len(sites)), np.int32)
    count = 0
    for j in range(len(sites)):
        y, x = sites[j] // w, sites[j] % w
        if count + len(offsets) > len(near):
            longer = np.empty(2 * len(near) + len(offsets), np.int32)
            longer[:count] = near[:count]
            near = longer
        for k in range(len(offsets)):
            oy, ox = y + offsets[k, 0], x + offsets[k, 1]
            if 0 <= oy < h and 0 <= ox < w and node_of[oy, ox] >= 0:
                near[count] = node_of[oy, ox]
                count += 1
        first[j + 1] = count
    return first, near


@jit(cached=False)
def _match_nearest(sites, node_of, offsets, owner, partner):
    """Pair what is free on both sides, at distance 0 first, then 1, and so on; return the number of pairs."""
    h, w = node_of.shape
    pairs = 0
    for k in range(len(offsets)):
        for j in range(len(sites)):
            if partner[j] >= 0:
                continue
            oy, ox = sites[j] // w + offsets[k, 0], sites[j] % w + offsets[k, 1]
            if 0 <= oy < h and 0 <= ox < w:
                i = node_of[oy, ox]
                if i >= 0 and owner[i] < 0:
                    owner[i], partner[j] = j, i
                    pairs += 1
    return pairs


@jit(cached=False)
def _find_levels(first, near, owner, partner, level, queue):
    """Fill `level` with each mark's distance from a free one along alternating paths; true if one path can grow."""
    head, tail, grows = 0, 0, False
    for j in range(len(partner)):
        level[j] = -1
        if partner[j] < 0 and first[j] < first[j + 1]:
            level[j] = 0
            queue[tail] = j
            tail += 1
    while head < tail:
        j = queue[head]
        head += 1
        for k in range(first[j], first[j + 1]):
            other = owner[near[k]]
            if other < 0:
                grows = True
            elif level[other] < 0:
                level[other] = level[j] + 1
                queue[tail] = other
                tail += 1
    return grows


@jit(cached=False)
def _augment(root, first, near, owner, partner, level, at, path):
    """Look for a path from the free mark `root` to a free detected pixel, depth first; turn it over if there is one.

    at  of each mark: the neighbour to try next. What led nowhere is not tried again in this round.
    """
    path[0] = root
    depth = 0
    while depth >= 0:
        j = path[depth]
        if at[j] == first[j + 1]:
            depth -= 1
            continue
        i = near[at[j]]
        at[j] += 1
        other = owner[i]
        if other < 0:
            for back in range(depth, -1, -1):
                mark = path[back]
                owner[i], partner[mark], i = mark, i, partner[mark]
            return True
        if level[other] == level[j] + 1:
            depth += 1
            path[depth] = other
    return False
