"""Boundary scores on sets small enough to be computed by hand, and the agreement of people."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from conftest import DATA, load_backend, needs_data

load_backend("numba")

from pagnp.errors import UsageError  # noqa: E402
from pagnp.evaluate import boundaries, nms  # noqa: E402
from pagnp.evaluate.boundaries import Boundaries, count_matches, each_annotator, thresholds_of  # noqa: E402
from pagnp.evaluate.groundtruth import GroundTruth  # noqa: E402
from pagnp.evaluate.humans import human_agreement  # noqa: E402
from pagnp.evaluate.layouts import open_truth  # noqa: E402

QUARTERS = thresholds_of(3)


def maps(*values):
    """A map (40, 40) with single pixels of these values, four apart; the tolerance there is below one pixel."""
    out = np.zeros((40, 40), np.float32)
    for k, value in enumerate(values):
        out[4 + 4 * (k // 8), 4 + 4 * (k % 8)] = value
    return out


@pytest.fixture
def two_images():
    """Counts at 0.25, 0.5, 0.75 of two images, by hand: marks found, marks, right, detected."""
    first = maps(0.8, 0.8, 0.6, 0, 0.6, 0.6, 0.6), [maps(1, 1, 1, 1)]
    second = maps(0.3, 0.9, 0.3), [maps(1, 1), maps(1)]
    return [
        (first, [[3, 4, 3, 6], [3, 4, 3, 6], [2, 4, 2, 2]]),
        (second, [[3, 3, 2, 3], [1, 3, 1, 1], [1, 3, 1, 1]]),
    ]


def test_counts_by_hand(two_images):
    for (strength, marks), want in two_images:
        counts = count_matches(strength, np.array(marks) > 0, QUARTERS)
        assert counts.tolist() == want


def test_ods_ois_and_ap_by_hand(two_images):
    scores = Boundaries(QUARTERS)
    own = [scores.add(np.array(counts)) for _, counts in two_images]
    assert own[0] == pytest.approx({"f": 2 / 3, "threshold": 0.75})
    assert own[1] == pytest.approx({"f": 0.8, "threshold": 0.25})
    found = scores.result()
    # 6 of 7 marks, 5 of 9 pixels at 0.25; 4/7 and 4/7 at 0.5; 3/7 and 3/3 at 0.75
    assert found["ods"] == pytest.approx(60 / 89) and found["ods_threshold"] == 0.25
    assert (found["ods_recall"], found["ods_precision"]) == pytest.approx((6 / 7, 5 / 9))
    # the first image at 0.75, the second at 0.25: 5 of 7 marks, 4 of 5 pixels
    assert found["ois"] == pytest.approx(40 / 53)
    assert (found["ois_recall"], found["ois_precision"]) == pytest.approx((5 / 7, 4 / 5))
    area = Fraction()
    for x in (Fraction(i, 100) for i in range(43, 86)):  # from 3/7 to 6/7
        if x <= Fraction(4, 7):
            area += 1 + 7 * (x - Fraction(3, 7)) * (Fraction(4, 7) - 1)
        else:
            area += Fraction(4, 7) + Fraction(7, 2) * (x - Fraction(4, 7)) * (Fraction(5, 9) - Fraction(4, 7))
    assert found["ap"] == pytest.approx(float(area / 100))
    assert [point["threshold"] for point in found["curve"]] == [0.25, 0.5, 0.75]
    assert [point["f"] for point in found["curve"]] == pytest.approx([60 / 89, 4 / 7, 0.6])


def test_the_best_f_may_lie_between_two_thresholds():
    # recall 1 with precision 1/4, then the other way round: F is 0.4 at both, 0.625 half way
    found = boundaries.best_f(QUARTERS[:2], np.array([1, 0.25]), np.array([0.25, 1]))
    assert found["f"] == pytest.approx(0.625, abs=1e-4) and found["threshold"] == pytest.approx(0.375, abs=0.002)


def test_a_perfect_map_is_perfect():
    truth = np.zeros((1, 48, 64), bool)
    truth[0, 20, 8:50] = truth[0, 21:40, 30] = True
    scores = Boundaries(thresholds_of(99))
    scores.add(count_matches(truth[0].astype(np.float32), truth, scores.thresholds))
    found = scores.result()
    assert found["ods"] == found["ois"] == 1.0 and found["ods_threshold"] == pytest.approx(0.01)
    assert np.isnan(found["ap"])  # one recall only: no curve


def test_nothing_detected_and_nothing_marked():
    empty = np.zeros((20, 30), np.float32)
    scores = Boundaries(QUARTERS)
    scores.add(count_matches(empty, np.zeros((2, 20, 30), bool), QUARTERS))
    assert scores.result()["ods"] == 0.0


def test_the_tolerance_is_a_share_of_the_diagonal_and_reaches_its_end():
    # 240 x 320: the diagonal is 400, the tolerance 3
    truth, near, far = np.zeros((1, 240, 320), bool), np.zeros((240, 320), np.float32), np.zeros((240, 320), np.float32)
    truth[0, 100, 100] = near[100, 103] = far[100, 104] = 1
    assert count_matches(near, truth, QUARTERS)[0].tolist() == [1, 1, 1, 1]
    assert count_matches(far, truth, QUARTERS)[0].tolist() == [0, 1, 0, 1]


def test_maps_are_thinned_and_marks_are_not():
    strength, truth = np.zeros((30, 40), np.float32), np.zeros((1, 30, 40), bool)
    strength[10:13, 5:35] = 1
    truth[0, 10:13, 5:35] = True
    assert count_matches(strength, truth, QUARTERS, thin=False)[0].tolist() == [90, 90, 90, 90]
    found, marked, right, detected = count_matches(strength, truth, QUARTERS)[0]
    assert marked == 90 and found == right == detected and 25 < detected < 31


@pytest.fixture(scope="module")
def noisy():
    rng = np.random.default_rng(11)
    strength = np.round(rng.random((37, 53)) ** 3, 2).astype(np.float32)
    return strength, rng.random((3, 37, 53)) < 0.1


def test_threads_and_shared_thresholds_change_nothing(noisy):
    strength, annotators = noisy
    every = count_matches(strength, annotators, thresholds_of(99), threads=1, tolerance=0.05)
    np.testing.assert_array_equal(
        every, count_matches(strength, annotators, thresholds_of(99), threads=2, tolerance=0.05)
    )
    for k in (0, 17, 50, 98):
        alone = count_matches(strength, annotators, thresholds_of(99)[k : k + 1], tolerance=0.05)
        np.testing.assert_array_equal(every[k], alone[0])
    assert len(np.unique(every, axis=0)) > 50 and (np.diff(every[:, 3]) <= 0).mean() > 0.9


def test_a_share_is_one_annotator():
    share = np.array([[0.0, 0.49, 0.5, 1.0]], np.float32)
    np.testing.assert_array_equal(each_annotator(share), [[[False, False, True, True]]])
    assert each_annotator(np.ones((3, 4, 5), bool)).shape == (3, 4, 5)


@pytest.mark.parametrize("direction", ("across", "down", "diagonal", "other diagonal"))
def test_suppression_leaves_the_ridge(direction):
    y, x = np.mgrid[:60, :80]
    slanted = {"diagonal": (x - 10 - y) / np.sqrt(2), "other diagonal": (x - 70 + y) / np.sqrt(2)}
    place = ({"across": y - 30, "down": x - 40} | slanted)[direction]
    strength = np.exp(-((place / 3.0) ** 2)).astype(np.float32)
    left = nms.suppress(strength)
    inside = np.s_[8:-8, 8:-8]
    assert left.dtype == np.float32 and left[inside][np.abs(place[inside]) < 0.5].min() > 0.8
    assert left[inside][np.abs(place[inside]) > 1].max() < 0.01 or (left[inside] > 0.1).sum() < 2.2 * 64
    assert left[0].max() == left[:, -1].max() == 0  # what is at the border is not trusted


def test_suppression_by_hand():
    flat = nms.suppress(np.full((20, 30), 0.5, np.float32))  # no pixel is lower than another: only the border fades
    np.testing.assert_allclose(flat[10, :7], 0.5 * np.array([0, 0.2, 0.4, 0.6, 0.8, 1, 1]), rtol=1e-6)
    assert flat[1, 1] == np.float32(0.5 * 0.2 * 0.2)
    point = np.zeros((40, 40), np.float32)
    point[20, 20] = 1
    assert nms.suppress(point)[20, 20] == 0.25  # half of it along each axis: weights 1 2 1
    for growth, stays in ((1.008, True), (1.012, False)):  # a neighbour must be higher by more than 1 %
        slope = np.tile(0.1 * growth ** np.arange(60, dtype=np.float32), (40, 1))
        assert bool(nms.suppress(slope)[20, 20:40].all()) == bool(nms.suppress(slope)[20, 20:40].any()) == stays


def test_nan_marks_nothing():
    strength = np.full((12, 15), np.nan, np.float32)
    assert not nms.suppress(strength).any()
    strength[6] = 0.9
    assert nms.suppress(strength)[6, 7] > 0 and not np.isnan(nms.suppress(strength)).any()


def test_people_who_agree_and_people_who_do_not():
    def truth_of(*annotators):
        scene = {"boundary": np.array(annotators) > 0}
        return GroundTruth("bsds", ["a"], ("boundary",), lambda name: scene, Path)

    same, other = maps(1, 1, 1), maps(0, 0, 0, 0, 1)
    assert human_agreement(truth_of(same, same, same))["f"] == 1.0
    found = human_agreement(truth_of(same, same, other))
    # marks: each is held against the two others. Found 3 + 3 + 0 of 4 + 4 + 6; right 3 + 3 + 0 of 3 + 3 + 1
    assert (found["recall"], found["precision"]) == pytest.approx((6 / 14, 6 / 7))
    with pytest.raises(UsageError, match="no image has two annotators"):
        human_agreement(truth_of(same))


@needs_data
def test_people_agree_on_bsds500_as_is_known():
    found = human_agreement(open_truth(DATA / "bsds500"), limit=8)
    assert found["images"] == 8 and 0.75 < found["f"] < 0.86  # 0.80 on the whole test set
    assert found["precision"] > found["recall"]
