"""Scores of labels, depth and normals on cases computed by hand."""

import hashlib
import math
from types import SimpleNamespace

import numpy as np
import pytest

from pagnp.errors import GroundTruthError, UsageError
from pagnp.evaluate.classnames import check_classes, read_classes
from pagnp.evaluate.depth import Depth
from pagnp.evaluate.normals import Normals, angles
from pagnp.evaluate.segmentation import Segmentation
from pagnp.evaluate.work import Work


def test_segmentation_by_hand():
    scores = Segmentation(4)
    truth = np.array([[0, 0, 1], [1, 2, 255]], np.uint8)
    own = scores.add(np.array([[0, 1, 1], [1, 0, 0]], np.uint8), truth)
    # hits 1, 2, 0; marked 2, 2, 1; answered 2, 3, 0; the fourth class is nowhere
    assert own == pytest.approx({"mean_iou": 1 / 3, "pixel_accuracy": 3 / 5, "class_accuracy": 1 / 2})
    found = scores.result(["wall", "floor", "ball", "lamp"])
    assert found["pixels"] == 5 and found["mean_iou"] == pytest.approx(1 / 3)
    assert {k: v for k, v in found["iou"].items() if k != "lamp"} == pytest.approx(
        {"wall": 1 / 3, "floor": 2 / 3, "ball": 0}
    )
    assert math.isnan(found["iou"]["lamp"]) and math.isnan(found["accuracy"]["lamp"])


def test_classes_of_one_name_are_told_apart():
    scores = Segmentation(3)
    scores.add(np.array([[0, 1, 2, 2]]), np.array([[0, 1, 1, 2]], np.uint8))
    assert scores.result(["a", "b", "a"])["iou"] == {"a (0)": 1.0, "b": 0.5, "a (2)": 0.5}


def test_segmentation_sums_pixels_over_images():
    scores = Segmentation(2)
    scores.add(np.zeros((1, 3), np.uint8), np.zeros((1, 3), np.uint8))
    scores.add(np.zeros((1, 1), np.uint8), np.ones((1, 1), np.uint8))
    found = scores.result()
    assert found["pixel_accuracy"] == 0.75 and found["iou"] == {"0": 0.75, "1": 0.0}
    assert found["class_accuracy"] == 0.5


def test_a_class_answered_but_never_true_counts_for_iou():
    scores = Segmentation(3)
    scores.add(np.array([[0, 2]], np.uint8), np.array([[0, 0]], np.uint8))
    found = scores.result()
    assert found["mean_iou"] == 0.25 and found["class_accuracy"] == 0.5 and math.isnan(found["accuracy"]["2"])


def test_labels_that_the_model_does_not_know():
    with pytest.raises(GroundTruthError, match=r"class 3 in the labels, the model knows 0\.\.2; .* have label 255"):
        Segmentation(3).add(np.zeros((1, 2), np.uint8), np.array([[0, 3]], np.uint8))
    wide = np.array([[1, 65535, 300]], np.uint16)
    scores = Segmentation(400)
    assert scores.add(np.array([[1, 5, 300]], np.int32), wide)["pixel_accuracy"] == 1.0


def test_nothing_known_has_no_score():
    own = Segmentation(2).add(np.zeros((2, 2), np.uint8), np.full((2, 2), 255, np.uint8))
    assert all(math.isnan(value) for value in own.values())


def test_depth_by_hand():
    scores = Depth()
    own = scores.add(np.float32([[1, 4, 2, 9]]), np.float32([[1, 2, 4, 0]]))
    two = math.log(2)
    want = {"abs_rel": 0.5, "abs_rel_scaled": 0.5, "sq_rel": 1, "rmse": math.sqrt(8 / 3)}
    want |= {"log_rmse": math.sqrt(2 * two**2 / 3), "log10": 2 * math.log10(2) / 3}
    want |= {"delta1": 1 / 3, "delta2": 1 / 3, "delta3": 1 / 3}
    assert own == pytest.approx(want)
    scores.add(np.float32([[1.25, 3.0, 1.5]]), np.float32([[1, 3, 1]]))  # 1.25 itself is outside
    found = scores.result()
    assert found["pixels"] == 6 and found["delta1"] == pytest.approx(2 / 6) and found["delta2"] == pytest.approx(4 / 6)
    assert found["rmse"] == pytest.approx(math.sqrt((8 + 0.0625 + 0.25) / 6))
    assert found["image_mean"]["rmse"] == pytest.approx((math.sqrt(8 / 3) + math.sqrt(0.3125 / 3)) / 2)


def test_scaling_by_medians_forgives_each_image_its_size():
    truth = np.float32([[1, 2, 3, 8, 0]])
    scores = Depth()
    for factor in (0.25, 3):
        own = scores.add(factor * truth, truth)
        assert own["abs_rel"] == pytest.approx(abs(factor - 1)) and own["abs_rel_scaled"] < 1e-6
    own = scores.add(np.float32([[2, 4, 8, 16, 7]]), truth)  # medians 6 and 2.5: 5/6, 5/3, 10/3, 20/3
    assert own["abs_rel_scaled"] == pytest.approx((1 / 6 + 1 / 6 + 1 / 9 + 1 / 6) / 4, rel=1e-6)
    assert scores.result()["abs_rel_scaled"] == pytest.approx(own["abs_rel_scaled"] / 3, abs=1e-6)
    assert math.isnan(scores.add(truth, 0 * truth)["abs_rel_scaled"])


def test_depths_behind_the_camera_are_very_near():
    own = Depth().add(np.float32([[-3, 0]]), np.float32([[1, 1]]))
    assert own["abs_rel"] == pytest.approx(0.999) and own["log_rmse"] == pytest.approx(math.log(1000))
    with pytest.raises(GroundTruthError, match="0 stands for unknown"):
        Depth().add(np.float32([[1]]), np.float32([[np.nan]]))
    assert math.isnan(Depth().result()["rmse"])
    assert math.isnan(Depth().add(np.float32([[np.nan]]), np.float32([[1]]))["rmse"])


def turned(*degrees):
    """Normals (1, n, 3) turned from z towards x."""
    return np.array([[[math.sin(math.radians(a)), 0, math.cos(math.radians(a))] for a in degrees]], np.float32)


def test_normals_by_hand():
    scores = Normals()
    truth = np.concatenate((turned(0, 0, 0, 0, 0), np.zeros((1, 1, 3), np.float32)), axis=1)
    own = scores.add(turned(0, 11, 12, 90, 25, 40), truth)
    want = {"mean": 27.6, "rms": math.sqrt((121 + 144 + 8100 + 625) / 5), "median": 12.0}
    want |= {"within_11.25": 0.4, "within_22.5": 0.6, "within_30": 0.8}
    assert own == pytest.approx(want, abs=1e-4)
    scores.add(3 * turned(180), 0.5 * turned(0))
    found = scores.result()
    assert found["pixels"] == 6 and found["mean"] == pytest.approx(53, abs=1e-4)
    assert found["median"] == pytest.approx(12, abs=0.0011)  # the third of six
    assert found["image_mean"]["mean"] == pytest.approx((27.6 + 180) / 2, abs=1e-4)


def test_no_normal_is_no_perfect_answer():
    scores = Normals()
    own = scores.add(np.zeros((1, 4, 3), np.float32), turned(0, 10, 20, 180))
    assert own["mean"] == own["median"] == 90 and own["within_30"] == 0


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_normals_that_are_no_numbers(value):
    truth = turned(0, 10)
    truth[0, 1, 2] = value
    with pytest.raises(GroundTruthError, match="the normals have infinite values or NaN"):
        Normals().add(turned(0, 0), truth)


def test_answers_that_are_no_numbers_are_not_near():
    scores, answer = Normals(), turned(0, 0, 0)
    answer[0, :2] = np.nan
    scores.add(answer, turned(0, 0, 0))
    found = scores.result()
    assert found["within_30"] == pytest.approx(1 / 3) and found["median"] > 179 and math.isnan(found["mean"])


def test_small_angles_are_not_lost():
    tiny = np.array([[math.sin(1e-4), 0, math.cos(1e-4)]], np.float32)
    assert angles(tiny, np.array([[0, 0, 1]], np.float32))[0] == pytest.approx(math.degrees(1e-4), rel=1e-5)


def test_class_names(tmp_path):
    assert read_classes(tmp_path) is None
    path = tmp_path / "classes.csv"
    path.write_text("value,name,r\n1,floor,0\n0,wall,9\n")
    assert read_classes(tmp_path / "none", tmp_path) == ("wall", "floor")
    check_classes("head", 2, ["Wall", "floor"], ("wall", "floor"))
    check_classes("head", 7, None, None)
    with pytest.raises(UsageError, match="head 'seg' has 3 classes, the ground truth 2 .wall, floor."):
        check_classes("seg", 3, None, ("wall", "floor"))
    with pytest.raises(UsageError, match="class 1 is 'road' for head 'seg' and 'floor' in the ground truth"):
        check_classes("seg", 2, ["wall", "road"], ("wall", "floor"))
    path.write_text("value,name\n0,wall\n2,floor\n")
    with pytest.raises(GroundTruthError, match="without a gap"):
        read_classes(tmp_path)
    path.write_text("value,name\n")
    with pytest.raises(GroundTruthError, match="has no rows"):
        read_classes(tmp_path)
    path.write_bytes(b"\xef\xbb\xbfvalue,name\n0,wall\n1,floor\n")  # as spreadsheets save it
    assert read_classes(tmp_path) == ("wall", "floor")
    for text, message in (
        ("0,wall\n1\n", "class 1 has no name"),
        ("0,wall\n0,floor\n", "class 0 is 'wall' and 'floor'"),
    ):
        path.write_text(f"value,name\n{text}")
        with pytest.raises(GroundTruthError, match=message):
            read_classes(tmp_path)
    path.write_text("number,name\n0,wall\n")
    with pytest.raises(GroundTruthError, match="need the columns value, name"):
        read_classes(tmp_path)


def test_work_by_hand():
    def of(executed, kept, rates, letter):
        macs = {"dense": 100, "executed": executed, "gated_dense": 50, "gated_executed": executed - 50}
        pools = {"pool": np.array(rates)}
        return SimpleNamespace(macs=macs, kept={"gate": kept}, rates=pools, digest=64 * letter)

    work = Work()
    row = work.add(of(60, 0.2, [1, 1, 4, 4], "a"), 3.0)
    assert (row["seconds"], row["kept"], row["macs"]["executed"]) == (3.0, {"gate": 0.2}, 60)
    work.add(of(90, 0.8, [4, 4], "b"), 1.0)
    work.add(of(90, 0.8, [4, 4], "b"), 1.1)
    found = work.result()
    assert found["macs"] == {"dense": 100, "executed": 80, "gated_dense": 50, "gated_executed": 30}
    assert found["share"] == 0.8 and found["gated_share"] == 0.6
    assert found["kept"]["gate"] == pytest.approx({"mean": 0.6, "std": math.sqrt(0.08)})
    assert found["rates"] == {"pool": {"1": 0.25, "4": 0.75}}
    assert found["seconds"] == pytest.approx({"median": 1.1, "mean": 1.7})
    assert found["digest"] == hashlib.sha256(b"\xaa" * 32 + 2 * b"\xbb" * 32).hexdigest()
