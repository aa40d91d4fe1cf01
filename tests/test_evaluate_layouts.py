"""Folders with ground truth: each layout on a small folder of its own, how they are told apart, what is refused."""

import csv

import numpy as np
import pytest
from conftest import DATA, needs_data
from PIL import Image

from pagnp.errors import GroundTruthError
from pagnp.evaluate.layouts import camvid, open_truth

SIZE = (6, 9)


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def picture(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), dtype=np.uint8)


def write_csv(path, *rows):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows(rows)


@pytest.fixture
def plain(tmp_path):
    """The layout of folders, with all four truths of two images."""
    for k, name in enumerate("ab"):
        save(tmp_path / f"images/{name}.png", picture(k))
        save(tmp_path / f"labels/{name}.png", np.full(SIZE, k, np.uint8))
        save(tmp_path / f"depth/{name}.png", np.full(SIZE, 1500 * k, np.uint16))
        save(tmp_path / f"normals/{name}.png", np.full((*SIZE, 3), (128, 128, 255), np.uint8))
        save(tmp_path / f"boundary/{name}.png", np.full(SIZE, 127 + k, np.uint8))
    return tmp_path


def test_folders(plain):
    truth = open_truth(plain)
    assert (truth.layout, truth.names, truth.classes) == ("folders", ["a", "b"], None)
    assert truth.kinds == ("labels", "depth", "normals", "boundary")
    first, second = map(truth.read, truth.names)
    np.testing.assert_array_equal(first["image"], picture(0))
    assert first["depth"].max() == 0 and second["depth"].min() == second["depth"].max() == 1.5
    assert second["labels"].dtype == np.uint8 and (second["labels"] == 1).all()
    assert not first["boundary"].any() and second["boundary"].all() and second["boundary"].shape == (1, *SIZE)
    np.testing.assert_allclose(first["normals"], np.broadcast_to([0, 0, 1], (*SIZE, 3)), atol=0.005)


def test_folders_in_other_formats(plain):
    for kind, array in (("depth", np.full(SIZE, 2.5)), ("normals", np.zeros((*SIZE, 3), np.float16))):
        (plain / kind / "b.png").unlink()
        np.save(plain / kind / "b.npy", array)
    (plain / "boundary/b.png").unlink()
    for k in range(3):
        save(plain / f"boundary/b/{k}.png", np.full(SIZE, 100 * k, np.uint8))
    (plain / "depth/b.npy").rename(plain / "depth/b.NPY")
    save(plain / "labels/a.png", np.full(SIZE, 65535, np.uint16))
    Image.fromarray(np.full(SIZE, 3, np.uint8), "L").convert("P").save(plain / "labels/b.png")
    save(plain / "normals/a.png", np.full((*SIZE, 3), 128, np.uint8))
    write_csv(plain / "classes.csv", ("value", "name"), (0, "wall"))
    truth = open_truth(plain)
    first, second = map(truth.read, truth.names)
    assert second["depth"].dtype == np.float32 and second["depth"][0, 0] == 2.5 and not second["normals"].any()
    assert second["boundary"].shape == (3, *SIZE) and second["boundary"].any((1, 2)).tolist() == [False, False, True]
    assert first["labels"].dtype == np.uint16 and (first["labels"] == 65535).all() and not first["normals"].any()
    assert truth.classes == ("wall",)


def test_folders_with_splits(plain):
    for kind in ("images", "labels"):
        (plain / kind / "test").mkdir()
        (plain / kind / "b.png").rename(plain / kind / "test/b.png")
    (plain / "boundary/test").mkdir()
    (plain / "boundary/b.png").rename(plain / "boundary/test/b.png")
    truth = open_truth(plain)
    assert (truth.names, truth.kinds, truth.split) == (["b"], ("labels", "boundary"), "test")
    assert truth.read("b")["boundary"].shape == (1, *SIZE)
    (plain / "boundary/test/b.png").unlink()
    for k in range(2):
        save(plain / f"boundary/test/b/{k}.png", np.full(SIZE, 255, np.uint8))
    assert open_truth(plain).read("b")["boundary"].shape == (2, *SIZE)
    with pytest.raises(GroundTruthError, match=r"images/val: no such folder"):
        open_truth(plain, split="val")


BROKEN = {
    "no partner": (lambda d: (d / "depth/b.png").unlink(), r"depth/b\.png: no such file; every image needs its depth"),
    "size": (lambda d: save(d / "labels/b.png", np.zeros((6, 8), np.uint8)), r"b\.png: labels and image differ"),
    "depth of 8 bits": (lambda d: save(d / "depth/b.png", np.zeros(SIZE, np.uint8)), r"b\.png: 16-bit grey wanted.* L"),
    "colours": (lambda d: save(d / "labels/b.png", picture()), r"b\.png: a grey or indexed PNG wanted.* RGB"),
    "grey normals": (lambda d: save(d / "normals/b.png", np.zeros(SIZE, np.uint8)), r"b\.png: 8-bit RGB wanted"),
    "text": (lambda d: (d / "labels/b.png").write_text("no picture"), r"labels/b\.png: is not an image"),
    "jpeg": (lambda d: Image.fromarray(picture()).save(d / "labels/b.png", "JPEG"), r"b\.png: a PNG wanted.* JPEG"),
    "cut": (lambda d: (d / "labels/b.png").write_bytes((d / "labels/b.png").read_bytes()[:50]), r"labels/b\.png: "),
    "two names": (lambda d: save(d / "images/b.jpg", picture()), r"images: b\.jpg and b\.png have one name"),
    "image": (lambda d: (d / "images/b.png").write_text("no"), r"images/b\.png: is not an image"),
}  # fmt: skip


def add_maps(folder):
    """Put a truth by two people, of an image that is not there."""
    for k in range(2):
        save(folder / f"boundary/c/{k}.png", np.zeros(SIZE, np.uint8))


BROKEN |= {
    "a truth too many": (lambda d: (d / "images/b.png").unlink(), r"labels/b\.png: has no image"),
    "an array too many": (lambda d: np.save(d / "depth/c.npy", np.ones(SIZE)), r"depth/c\.npy: has no image"),
    "maps too many": (add_maps, r"boundary/c: has no image"),
    "two boundaries": (
        lambda d: save(d / "boundary/b/0.png", np.zeros(SIZE, np.uint8)),
        r"boundary/b: stands beside b\.png; keep one",
    ),
    "two depths": (
        lambda d: np.save(d / "depth/b.npy", np.ones(SIZE)),
        r"depth/b\.png: stands beside b\.npy; keep one",
    ),
    "a zip by its start": (
        lambda d: ((d / "depth/a.png").unlink(), (d / "depth/a.npy").write_bytes(b"PK\x03\x04garbage")),
        r"depth/a\.npy: cannot be read",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_wrong_is_named(plain, name):
    from pagnp.errors import ImageError

    damage, message = BROKEN[name]
    damage(plain)
    with pytest.raises((GroundTruthError, ImageError), match=message) as caught:
        truth = open_truth(plain)
        list(map(truth.read, truth.names))
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("array", (np.zeros(SIZE, np.int32), np.zeros((*SIZE, 3)), np.array([None])))
def test_arrays_that_are_no_depth(plain, array):
    (plain / "depth/a.png").unlink()
    np.save(plain / "depth/a.npy", array, allow_pickle=True)
    with pytest.raises(GroundTruthError, match=r"depth/a\.npy: (is .*need float \(h, w\)|cannot be read)"):
        open_truth(plain).read("a")


def test_boundaries_that_would_mark_nothing_unnoticed(plain):
    marks = np.zeros(SIZE, np.uint8)
    marks[2, 3] = 1
    save(plain / "boundary/b.png", marks)
    with pytest.raises(GroundTruthError, match="b.png: no value above 1; a boundary is 128 or more"):
        open_truth(plain).read("b")
    indexed = Image.fromarray(marks, "P")
    indexed.putpalette([0, 0, 0, 255, 255, 255])
    indexed.save(plain / "boundary/b.png")
    with pytest.raises(GroundTruthError, match="b.png: 8-bit grey wanted, the file is of mode P"):
        open_truth(plain).read("b")


def test_four_bits_are_not_scaled(plain):
    # Pillow would read the value 3 of a 4-bit grey PNG as 51
    narrow = Image.fromarray(np.full((*SIZE,), 3, np.uint8), "L")
    narrow.convert("P", palette=Image.Palette.ADAPTIVE, colors=4).save(plain / "labels/a.png", bits=4)
    Image.fromarray(np.zeros(SIZE, bool)).save(plain / "labels/b.png")
    truth = open_truth(plain)
    truth.read("a")
    with pytest.raises(GroundTruthError, match="mode 1"):
        truth.read("b")


def test_camvid_is_known_by_its_classes(plain):
    save(plain / "images/test/s.png", picture())
    save(plain / "labels/test/s.png", np.full(SIZE, 11, np.uint8))
    assert open_truth(plain).layout == "folders"
    rows = [("value", "name"), *enumerate(camvid.CLASSES), (11, "Unlabelled")]
    write_csv(plain / "classes.csv", *rows)
    truth = open_truth(plain)
    assert (truth.layout, truth.names, truth.classes) == ("camvid", ["s"], camvid.CLASSES)
    assert (truth.read("s")["labels"] == 255).all() and truth.split == "test"
    save(plain / "images/test/t.jpg", picture())
    with pytest.raises(GroundTruthError, match=r"labels/test/t.png: no such file"):
        open_truth(plain)  # both kinds of images count
    save(plain / "labels/test/t.png", np.zeros(SIZE, np.uint8))
    assert open_truth(plain).names == ["s", "t"]
    save(plain / "labels/test/u.png", np.zeros(SIZE, np.uint8))
    with pytest.raises(GroundTruthError, match=r"labels/test/u.png: has no image"):
        open_truth(plain)
    (plain / "labels/test/u.png").unlink()
    assert open_truth(plain, layout="camvid", split="test").image("s").name == "s.png"


def test_bsds(tmp_path):
    bits = np.zeros(SIZE, np.uint16)
    bits[0, 0], bits[1, 1] = 1 << 9, 0b11
    save(tmp_path / "images/test/8.jpg", picture())
    save(tmp_path / "boundaries_bits/test/8.png", bits)
    write_csv(tmp_path / "index.csv", ("id", "split", "annotators"), ("8", "test", 10))
    truth = open_truth(tmp_path)
    assert (truth.layout, truth.names) == ("bsds", ["test/8"])
    boundary = truth.read("test/8")["boundary"]
    assert boundary.shape == (10, *SIZE) and boundary.sum((1, 2)).tolist() == [1, 1, *[0] * 7, 1]
    assert open_truth(tmp_path).split == "test"
    with pytest.raises(GroundTruthError, match="index.csv: no row for test//8"):
        open_truth(tmp_path, split="test/").read("test//8")
    header = ("id", "split", "annotators")
    write_csv(tmp_path / "index.csv", header, ("8", "test", 9))
    with pytest.raises(GroundTruthError, match="8.png: has marks of more than the 9 annotators of index.csv"):
        open_truth(tmp_path).read("test/8")
    write_csv(tmp_path / "index.csv", header, ("8", "test", 10), ("9", "test", 5))
    with pytest.raises(GroundTruthError, match="images/test/9.jpg: no such file, but index.csv has a row for it"):
        open_truth(tmp_path)
    save(tmp_path / "images/test/9.jpg", picture())
    with pytest.raises(
        GroundTruthError, match="boundaries_bits/test/9.png: no such file; every image needs its boundaries"
    ):
        open_truth(tmp_path)
    (tmp_path / "images/test/9.jpg").unlink()
    write_csv(tmp_path / "index.csv", header, ("8", "test", 10))
    save(tmp_path / "boundaries_bits/test/9.png", bits)
    with pytest.raises(GroundTruthError, match="boundaries_bits/test/9.png: has no image"):
        open_truth(tmp_path)
    (tmp_path / "boundaries_bits/test/9.png").unlink()
    (tmp_path / "index.csv").write_bytes(b"\xef\xbb\xbfid,split,annotators\n8,test,16\n")  # as spreadsheets save it
    bits[2, 2] = 1 << 15
    save(tmp_path / "boundaries_bits/test/8.png", bits)
    assert open_truth(tmp_path).read("test/8")["boundary"].sum() == 4
    for text, message in (("id,split\n8,test\n", "need columns"), ("id,split,annotators\n8,test,17\n", "1 to 16")):
        (tmp_path / "index.csv").write_text(text)
        with pytest.raises(GroundTruthError, match=message):
            open_truth(tmp_path)


def room(**changes):
    scene = {
        "image": picture(),
        "labels": np.ones(SIZE, np.uint8),
        "boundary": np.ones(SIZE, bool),
        "depth": np.ones(SIZE, np.float32),
        "normals": np.ones((*SIZE, 3), np.float16),
    }
    return {name: array for name, array in (scene | changes).items() if array is not None}


def test_rooms(tmp_path):
    (tmp_path / "test").mkdir()
    np.savez_compressed(tmp_path / "test/000001.npz", seed=3, **room())
    np.savez(tmp_path / "test/000000.npz", **room(boundary=np.full(SIZE, 0.3)))
    truth = open_truth(tmp_path)
    assert (truth.layout, truth.names) == ("rooms", ["000000.npz", "000001.npz"])
    assert open_truth(tmp_path / "test").names == truth.names
    scene = truth.read("000001.npz")
    assert scene["normals"].dtype == scene["boundary"].dtype == np.float32 and scene["labels"].flags.writeable
    write_csv(tmp_path / "classes.csv", ("value", "name"), (0, "wall"), (1, "floor"))
    assert open_truth(tmp_path).classes == ("wall", "floor")
    with pytest.raises(GroundTruthError, match="render scenes with"):
        open_truth(tmp_path, split="val")


@pytest.mark.parametrize(
    ("changes", "message"),
    (
        ({"labels": None}, "labels is missing, need uint8 or uint16"),
        ({"depth": np.ones(SIZE, np.int32)}, "depth is int32"),
        ({"normals": np.ones(SIZE, np.float32)}, r"normals is float32 \(6, 9\), need .*\(h, w, 3\)"),
        ({"labels": np.ones((6, 8), np.uint8)}, "labels and image differ in size"),
    ),
)
def test_rooms_that_are_none(tmp_path, changes, message):
    np.savez(tmp_path / "000000.npz", **room(**changes))
    with pytest.raises(GroundTruthError, match=rf"000000\.npz: {message}"):
        open_truth(tmp_path).read("000000.npz")


def test_a_room_that_is_no_npz(tmp_path):
    (tmp_path / "000000.npz").write_text("nothing")
    with pytest.raises(GroundTruthError, match=r"000000\.npz: is a damaged NPZ file"):
        open_truth(tmp_path).read("000000.npz")


def test_panorama(tmp_path):
    steps = np.full(SIZE, 512, np.uint16)
    steps[0, 0] = 65535
    save(tmp_path / "p1_rgb.png", picture())
    save(tmp_path / "p1_depth.png", steps)
    save(tmp_path / "p1_semantic.png", np.full(SIZE, 7, np.uint8))
    save(tmp_path / "p1_normals.png", np.full((*SIZE, 3), 128, np.uint8))
    truth = open_truth(tmp_path)
    assert (truth.layout, truth.names, truth.kinds) == ("panorama", ["p1"], ("labels", "depth", "normals"))
    scene = truth.read("p1")
    assert scene["depth"][0, 0] == 0 and scene["depth"][1, 1] == 1.0 and not scene["normals"].any()
    with pytest.raises(GroundTruthError, match="has no splits"):
        open_truth(tmp_path, split="test")
    save(tmp_path / "p2_semantic.png", np.full(SIZE, 7, np.uint8))
    with pytest.raises(GroundTruthError, match="p2_semantic.png: has no image"):
        open_truth(tmp_path)
    (tmp_path / "p2_semantic.png").unlink()
    save(tmp_path / "p1_normals.png", np.full((6, 8, 3), 128, np.uint8))
    with pytest.raises(GroundTruthError, match="p1_normals.png: normals and image differ in size"):
        open_truth(tmp_path).read("p1")
    (tmp_path / "p1_rgb.png").unlink()
    with pytest.raises(GroundTruthError, match="no .*_rgb.png in it"):
        open_truth(tmp_path, layout="panorama")


def test_folders_that_are_none(tmp_path):
    with pytest.raises(GroundTruthError, match="none of the layouts camvid, bsds"):
        open_truth(tmp_path)
    with pytest.raises(GroundTruthError, match="nowhere: no such folder"):
        open_truth(tmp_path / "nowhere")
    save(tmp_path / "images/a.png", picture())
    with pytest.raises(GroundTruthError, match="no ground truth; need labels/"):
        open_truth(tmp_path)


@needs_data
@pytest.mark.parametrize(
    ("folder", "layout", "count"),
    (("camvid", "camvid", 117), ("bsds500", "bsds", 100), ("panorama/176x512", "panorama", 5)),
)
def test_the_real_sets(folder, layout, count):
    truth = open_truth(DATA / folder)
    assert truth.layout == layout and len(truth.names) == count
    scene = truth.read(truth.names[0])
    assert set(scene) == {"image", *truth.kinds}
    if "depth" in scene:
        known = scene["depth"] > 0
        assert 0.9 < known.mean() < 1 and len(truth.classes) == 13
        np.testing.assert_array_equal(known, scene["normals"].any(2))
