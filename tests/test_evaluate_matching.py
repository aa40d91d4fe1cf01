"""Thinning and matching of boundary maps: shapes whose answer is known, and a slow matching written by itself."""

import numpy as np
import pytest
from conftest import load_backend

load_backend("numba")

from pagnp.evaluate.matching import match, match_i32, offsets_within  # noqa: E402
from pagnp.evaluate.thinning import thin  # noqa: E402


def picture(*rows):
    return np.array([[letter == "#" for letter in row] for row in rows])


def components(mask):
    """Count the parts of a map that hang together by 8 neighbours."""
    left, count = {(int(y), int(x)) for y, x in np.argwhere(mask)}, 0
    while left:
        stack, count = [left.pop()], count + 1
        while stack:
            y, x = stack.pop()
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            stack += near
    return count


THINNED = {
    # The example in the documentation of scikit-image's `thin`, an implementation of its own.
    "square with a tail": (
        picture(".#.....", "..###..", "..###..", "..###..", "..###..", "..###..", "......."),
        picture(".#.....", "..#....", "...#...", "...#...", "...#...", ".......", "......."),
    ),
    "a line stays": (picture("......", ".####.", "......"), picture("......", ".####.", "......")),
    "a pixel stays": (picture("...", ".#.", "..."), picture("...", ".#.", "...")),
    "a ring stays": (picture(".#.", "#.#", ".#."), picture(".#.", "#.#", ".#.")),
    "nothing": (picture("...", "..."), picture("...", "...")),
}


@pytest.mark.parametrize("name", THINNED)
def test_thinning_of_known_shapes(name):
    given, want = THINNED[name]
    np.testing.assert_array_equal(thin(given), want)


def blobs(seed, shape=(40, 53)):
    rng = np.random.default_rng(seed)
    smooth = rng.random(shape)
    for _ in range(3):
        padded = np.pad(smooth, 1, mode="wrap")
        smooth = sum(padded[dy : dy + shape[0], dx : dx + shape[1]] for dy in range(3) for dx in range(3)) / 9
    return smooth > np.quantile(smooth, 0.55)


@pytest.mark.parametrize("seed", range(6))
def test_thinning_keeps_parts_together_and_is_finished(seed):
    given = blobs(seed)
    before = given.copy()
    thinned = thin(given)
    np.testing.assert_array_equal(given, before)
    assert not (thinned & ~given).any() and thinned.sum() < given.sum() / 2
    assert components(thinned) == components(given)
    np.testing.assert_array_equal(thin(thinned), thinned)
    whole = thinned[:-1, :-1] & thinned[1:, :-1] & thinned[:-1, 1:] & thinned[1:, 1:]
    assert whole.sum() <= 2  # squares of four survive at crossings only


def test_offsets_come_by_distance_and_include_the_limit():
    offsets = offsets_within(2.0)
    assert len(offsets) == 13 and offsets[0].tolist() == [0, 0]  # 1 + 4 + 4 of length sqrt 2 + 4 of length 2
    squares = (offsets**2).sum(1)
    assert (np.diff(squares) >= 0).all() and squares.max() == 4
    assert len(offsets_within(1.99)) == 9 and len(offsets_within(0.4)) == 1


def pairs_by_augmenting(detected, marked, limit):
    """The size of a largest matching: one mark after the other looks for a partner, moving others if need be."""
    spots = [tuple(map(int, p)) for p in np.argwhere(detected)]
    owner = {}

    def place(mark, tried):
        for spot in spots:
            if spot not in tried and (spot[0] - mark[0]) ** 2 + (spot[1] - mark[1]) ** 2 <= limit * limit:
                tried.add(spot)
                if spot not in owner or place(owner[spot], tried):
                    owner[spot] = mark
                    return True
        return False

    return sum(place(tuple(map(int, mark)), set()) for mark in np.argwhere(marked))


@pytest.mark.parametrize("seed", range(40))
def test_as_many_pairs_as_there_can_be(seed):
    rng = np.random.default_rng(seed)
    shape, density = rng.integers(1, 16, 2), rng.choice([0.05, 0.2, 0.5, 0.9], 2)
    detected, marked = (rng.random(shape) < d for d in density)
    limit = float(rng.choice([0.5, 1.0, 1.5, 2.3, 4.3]))
    right, found = match(detected, marked, limit)
    assert right.sum() == found.sum() == pairs_by_augmenting(detected, marked, limit)
    assert not (right & ~detected).any() and not (found & ~marked).any()


def test_pairs_are_mutual_and_within_the_limit():
    rng = np.random.default_rng(3)
    detected, marked = rng.random((2, 30, 41)) < 0.3
    sites, places = np.flatnonzero(marked).astype(np.int32), np.argwhere(detected)
    node_of = np.full(detected.shape, -1, np.int32)
    node_of[detected] = np.arange(len(places))
    owner, partner = np.full(len(places), 7, np.int32), np.full(len(sites), 7, np.int32)
    pairs = match_i32(sites, node_of, offsets_within(2.5), owner, partner)
    assert pairs == (owner >= 0).sum() == (partner >= 0).sum() > 100
    for mark in np.flatnonzero(partner >= 0):
        spot = partner[mark]
        assert owner[spot] == mark
        assert ((places[spot] - np.array(divmod(sites[mark], 41))) ** 2).sum() <= 2.5**2


def test_one_to_one_by_hand():
    # Two lines beside each other find one line: half of their pixels are wrong.
    marked, detected = np.zeros((2, 20, 30), bool)
    marked[10, 5:25] = True
    detected[9:11, 5:25] = True
    right, found = match(detected, marked, 1.0)
    assert found.sum() == 20
    np.testing.assert_array_equal(right, marked)  # the nearest ones, at distance 0
    # A chain: each detected pixel reaches two marks, greedy pairs block one, moving them over frees it.
    marked, detected = np.zeros((2, 1, 9), bool)
    marked[0, [0, 2, 4]] = True
    detected[0, [1, 3, 5]] = True
    right, found = match(detected, marked, 1.0)
    assert right.sum() == found.sum() == 3


def test_the_limit_itself_counts():
    marked, detected = np.zeros((2, 9, 9), bool)
    marked[2, 2], detected[5, 6] = True, True  # 3 down, 4 to the right: 5
    assert match(detected, marked, 5.0)[0].sum() == 1
    assert match(detected, marked, np.nextafter(5.0, 0))[0].sum() == 0


def test_empty_sides():
    some, none = np.ones((3, 4), bool), np.zeros((3, 4), bool)
    for pair in ((some, none), (none, some), (none, none)):
        assert not match(*pair, 2.0)[0].any() and not match(*pair, 2.0)[1].any()
