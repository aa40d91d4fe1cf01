"""The readers of examples/training: on small folders in the data sets' layouts, and on the real sets in PAGNP_DATA."""

import csv
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import DATA, needs_data
from PIL import Image

torch = pytest.importorskip("torch", reason="the readers hand out torch tensors")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))

from training import bsds, camvid, room_scenes  # noqa: E402
from training.augment import Augment, augment, batch_of_step  # noqa: E402
from training.dataset import IGNORE, DataError  # noqa: E402

from pagnp.evaluate.groundtruth import read_grey  # noqa: E402

SIZE = (12, 16)


def write_rows(path, rows):
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


@pytest.fixture
def road(tmp_path):
    rng = np.random.default_rng(5)
    for split, count in (("train", 3), ("val", 1)):
        for k in range(count):
            save(tmp_path / f"images/{split}/s_{k}.png", rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8))
            save(tmp_path / f"labels/{split}/s_{k}.png", rng.integers(0, 12, SIZE, dtype=np.uint8))
    return tmp_path


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(6)
    rows = []
    for split, name, size, count in (("train", "12", SIZE, 9), ("val", "7", SIZE[::-1], 5)):
        save(tmp_path / f"images/{split}/{name}.jpg", rng.integers(0, 256, (*size, 3), dtype=np.uint8))
        save(tmp_path / f"boundaries_bits/{split}/{name}.png", rng.integers(0, 2**count, size, dtype=np.uint16))
        rows.append({"id": name, "split": split, "width": size[1], "height": size[0], "annotators": count})
    write_rows(tmp_path / "index.csv", rows)
    return tmp_path


def test_camvid_layout(road):
    train = camvid.dataset(road, "train")
    assert list(train.names) == ["s_0", "s_1", "s_2"] and len(camvid.dataset(road, "val")) == 1
    scene = train[1]
    stored = np.array(Image.open(road / "labels/train/s_1.png"))
    np.testing.assert_array_equal(scene["labels"].numpy(), np.where(stored == 11, IGNORE, stored))
    np.testing.assert_array_equal(
        scene["image"].permute(1, 2, 0).numpy(), np.array(Image.open(road / "images/train/s_1.png"))
    )


def test_camvid_errors_name_the_file(road):
    with pytest.raises(DataError, match=r"images/test: no such folder"):
        camvid.dataset(road, "test")
    save(road / "labels/train/s_0.png", np.full(SIZE, 12, np.uint8))
    with pytest.raises(DataError, match=r"s_0\.png: class 12; the layout has 0\.\.11"):
        camvid.dataset(road, "train")[0]
    save(road / "labels/train/s_1.png", np.zeros((12, 15), np.uint8))
    with pytest.raises(DataError, match=r"s_1\.png: labels and image differ in size, \(12, 15\) against \(12, 16\)"):
        camvid.dataset(road, "train")[1]
    save(road / "labels/train/s_2.png", np.zeros((*SIZE, 3), np.uint8))
    with pytest.raises(DataError, match=r"s_2\.png: 8-bit grey wanted, the file is of mode RGB"):
        camvid.dataset(road, "train")[2]


def test_bsds_layout_keeps_all_sixteen_bits(photos):
    scene = bsds.dataset(photos, "train")[0]
    bits = read_grey(photos / "boundaries_bits/train/12.png", bits=16)
    assert bits.max() > 255  # what a reader through 8 bits would lose
    by_hand = sum(((bits.astype(int) >> a) & 1 for a in range(9)), np.zeros(SIZE, int)) / 9
    np.testing.assert_allclose(scene["boundary"].numpy(), by_hand, atol=1e-6)
    both = bsds.dataset(photos, "trainval")
    assert list(both.names) == ["train/12", "val/7"] and both[1]["image"].shape == (3, 16, 12)


def test_bsds_needs_its_index(photos):
    write_rows(photos / "index.csv", [{"id": "7", "split": "val", "annotators": 5}])
    with pytest.raises(DataError, match=r"index\.csv: no row for train/12"):
        bsds.dataset(photos, "train")[0]
    (photos / "index.csv").unlink()
    with pytest.raises(DataError, match=r"index\.csv: missing"):
        bsds.dataset(photos, "train")


def test_rooms_as_they_are_rendered(tmp_path):
    from rooms import render
    from rooms.make import save_scene

    (tmp_path / "train").mkdir()
    save_scene((tmp_path / "train", 1, 0, (24, 32)))
    scene, room = room_scenes.dataset(tmp_path, "train")[0], render(1, 0, (24, 32))
    np.testing.assert_array_equal(scene["labels"].numpy(), room["labels"])
    np.testing.assert_array_equal(scene["depth"].numpy(), room["depth"])
    np.testing.assert_array_equal(scene["boundary"].numpy() > 0, room["boundary"])
    np.testing.assert_allclose(scene["normals"].permute(1, 2, 0).numpy(), room["normals"], atol=1e-3)
    with pytest.raises(DataError, match=r"render scenes with"):
        room_scenes.dataset(tmp_path, "val")


def changed_room(folder, **arrays):
    """Write a scene with some of its maps replaced."""
    from rooms import render

    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "000000.npz", **{**render(1, 0, (24, 32)), **arrays})


def test_a_truth_that_cannot_be_learned_is_an_error(tmp_path):
    far, nowhere = np.ones((24, 32), np.float32), np.ones((24, 32, 3), np.float32)
    far[3, 4], nowhere[5, 6] = np.inf, np.nan
    labels = np.zeros((24, 32), np.uint8)
    labels[0, 0] = 13
    for changes, message in (
        ({"depth": far}, r"000000.npz: the depth has infinite values or NaN"),
        ({"depth": -np.ones((24, 32), np.float32)}, r"000000.npz: the depth has negative values"),
        ({"normals": nowhere}, r"000000.npz: the normals has infinite values or NaN"),
        ({"labels": labels}, r"000000.npz: class 13 in the labels, there are 0..11"),
    ):
        changed_room(tmp_path / "train", **changes)
        with pytest.raises(DataError, match=message):
            room_scenes.dataset(tmp_path, "train")[0]
    wide = labels.astype(np.uint16)
    wide[0, 0] = 65535  # no class
    changed_room(tmp_path / "train", labels=wide)
    assert room_scenes.dataset(tmp_path, "train")[0]["labels"][0, :2].tolist() == [255, 0]
    (tmp_path / "classes.csv").write_text("value,name\n0,cat\n1,dog\n")
    with pytest.raises(DataError, match=r"train: its classes.csv has cat, dog; need wall, floor, .*ball"):
        room_scenes.dataset(tmp_path, "train")


def a_scene(h=20, w=30):
    """A scene whose maps all say where a pixel came from."""
    place = torch.arange(h * w).view(h, w)
    return {
        "image": (place % 251).to(torch.uint8).expand(3, h, w),
        "labels": (place % 7).to(torch.uint8),
        "depth": place.float() + 1,
        "normals": torch.stack((place.float(), torch.ones(h, w), -torch.ones(h, w))),
    }


def test_a_plain_crop_copies_pixels_and_a_mirror_turns_normals():
    scene, how = a_scene(), Augment(crop=(8, 10))
    seen = set()
    for seed in range(12):
        out = augment(scene, np.random.default_rng(seed), how)
        place = (out["depth"] - 1).long()
        flipped = bool(place[0, 0] > place[0, 1])
        seen.add(flipped)
        y, x = divmod(int(place[0].min()), 30)
        want = {name: value[..., y : y + 8, x : x + 10] for name, value in scene.items()}
        want = {name: value.flip(-1) for name, value in want.items()} if flipped else want
        assert torch.equal(out["depth"], want["depth"]) and torch.equal(out["labels"], want["labels"])
        sign = torch.tensor([-1.0 if flipped else 1.0, 1.0, 1.0]).view(3, 1, 1)
        assert torch.equal(out["normals"], want["normals"] * sign)
        assert out["inside"].all() and out["image"].shape == (3, 8, 10) and 0 <= out["image"].min()
    assert seen == {True, False}


def test_what_lies_outside_the_scene_is_ignored():
    out = augment(a_scene(), np.random.default_rng(0), Augment(crop=(40, 60), scale=(0.5, 0.5), mirror=False))
    assert out["inside"].float().mean() == pytest.approx(1 / 16, rel=0.1)
    assert (out["labels"][~out["inside"]] == IGNORE).all() and (out["labels"][out["inside"]] < 7).all()


def test_image_and_truth_are_moved_alike():
    h, w = 40, 60
    disc = ((torch.arange(h).view(-1, 1) - 18) ** 2 + (torch.arange(w) - 33) ** 2 < 120).to(torch.uint8)
    scene = {"image": (disc * 200 + 20).expand(3, h, w), "labels": disc}
    how = Augment(crop=(32, 48), scale=(0.8, 1.6), aspect=1.2, degrees=30, quarters=True)
    for seed in range(8):
        out = augment(scene, np.random.default_rng(seed), how)
        bright = out["image"].mean(0) > (out["image"].max() + out["image"].min()) / 2
        assert ((out["labels"] == 1) != bright)[out["inside"]].float().mean() < 0.03


def test_a_batch_depends_on_seed_and_step_alone(road):
    train, how = camvid.dataset(road, "train"), Augment(crop=(8, 8), scale=(0.7, 1.5))
    first, again = (batch_of_step(train, 4, 2, 0, how) for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["image"], batch_of_step(train, 5, 2, 0, how)["image"])
    assert not torch.equal(first["image"], batch_of_step(train, 4, 2, 1, how)["image"])


@needs_data
def test_the_real_camvid():
    counts = {split: len(camvid.dataset(DATA / "camvid", split)) for split in ("train", "val", "test")}
    assert counts == {"train": 367, "val": 101, "test": 117}
    with open(DATA / "camvid/classes.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(row["name"] for row in rows[:11]) == camvid.CLASSES
    assert tuple(tuple(int(row[c]) for c in "rgb") for row in rows[:11]) == camvid.PALETTE
    for split in counts:
        scene = camvid.dataset(DATA / "camvid", split)[0]
        assert scene["image"].shape == (3, 240, 320) and scene["labels"].unique().numel() > 5


@needs_data
def test_the_real_bsds500():
    counts = {split: len(bsds.dataset(DATA / "bsds500", split)) for split in ("train", "val", "test", "trainval")}
    assert counts == {"train": 200, "val": 100, "test": 100, "trainval": 300}
    for split in counts:
        data = bsds.dataset(DATA / "bsds500", split)
        scene = data[0]
        part, name = data.names[0].split("/")
        mean = read_grey(DATA / f"bsds500/boundaries_mean/{part}/{name}.png")
        np.testing.assert_allclose(scene["boundary"].numpy() * 255, mean, atol=0.501)  # stored rounded
