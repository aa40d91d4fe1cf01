"""The room renderer: reproducible, and its truths agree with each other and with geometry."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))

from rooms import CLASSES, PALETTE, render
from rooms.make import parse_size, save_scene, scene_path
from rooms.render import camera_slopes
from rooms.scene import FIRST_OBJECT, make_scene

SIZE = (36, 48)
SCENES = [(1, 0), (1, 5), (2, 3)]
CEILING = CLASSES.index("ceiling")
FLOOR = CLASSES.index("floor")


@pytest.fixture(scope="module")
def rooms():
    return {key: render(*key, SIZE) for key in SCENES}


def test_shapes_and_dtypes(rooms):
    h, w = SIZE
    for room in rooms.values():
        assert {k: (v.shape, v.dtype.name) for k, v in room.items()} == {
            "image": ((h, w, 3), "uint8"),
            "labels": ((h, w), "uint8"),
            "depth": ((h, w), "float32"),
            "normals": ((h, w, 3), "float32"),
            "boundary": ((h, w), "bool"),
            "instances": ((h, w), "uint8"),
        }
        assert room["labels"].max() < len(CLASSES) == len(PALETTE)
        assert room["depth"].min() > 0 and room["depth"].max() < 12
        assert room["image"].std() > 10


def test_same_scene_twice_and_different_scenes(rooms):
    again = render(1, 0, SIZE)
    for name, array in rooms[1, 0].items():
        np.testing.assert_array_equal(array, again[name])
    assert (rooms[1, 0]["image"] != rooms[1, 5]["image"]).any()


def test_size_changes_sampling_only():
    small, large = render(1, 0, (20, 28))["labels"], render(1, 0, (60, 84))["labels"]
    np.testing.assert_array_equal(small, large[1::3, 1::3])  # the pixels' centres coincide


def test_normals_are_unit_and_face_the_camera(rooms):
    for key, room in rooms.items():
        normals = room["normals"]
        np.testing.assert_allclose((normals**2).sum(-1), 1, atol=1e-4)
        rays = camera_slopes(make_scene(*key), *SIZE).transpose(1, 2, 0)
        assert ((normals * rays).sum(-1) < 1e-3).all()


def test_room_faces_are_planes_at_their_distance(rooms):
    """Depth and normals give back every face's plane equation: the room's own measures."""
    for key, room in rooms.items():
        scene = make_scene(*key)
        points = (camera_slopes(scene, *SIZE) * room["depth"]).reshape(3, -1).T
        world = points @ scene.axes.astype(np.float32) + scene.eye
        faces = room["instances"].ravel()
        expected = [
            (0, scene.room[0]),
            (0, -scene.room[0]),
            (1, scene.room[1]),
            (1, -scene.room[1]),
            (2, 0.0),
            (2, scene.room[2]),
        ]
        for face, (axis, where) in enumerate(expected):
            np.testing.assert_allclose(world[faces == face, axis], where, atol=2e-4)
        normals = room["normals"].reshape(-1, 3) @ scene.axes.astype(np.float32)
        np.testing.assert_allclose(normals[faces == 4], np.broadcast_to([0, 0, 1], (np.sum(faces == 4), 3)), atol=1e-5)


def test_boundary_covers_every_change_of_class_and_instance(rooms):
    for room in rooms.values():
        for name in ("labels", "instances"):
            a, b = room[name], room["boundary"]
            assert (b[:, 1:] | b[:, :-1])[a[:, 1:] != a[:, :-1]].all()
            assert (b[1:] | b[:-1])[a[1:] != a[:-1]].all()
        assert 0.01 < room["boundary"].mean() < 0.6


def test_no_boundary_inside_a_flat_surface(rooms):
    """A pixel whose whole neighbourhood lies on one face of the room is no boundary."""
    for room in rooms.values():
        a = room["instances"]
        center = a[1:-1, 1:-1]
        around = [
            a[1 + dy : a.shape[0] - 1 + dy, 1 + dx : a.shape[1] - 1 + dx] for dy in (-1, 0, 1) for dx in (-1, 0, 1)
        ]
        flat = (center < FIRST_OBJECT) & np.all([n == center for n in around], axis=0)
        assert flat.any() and not room["boundary"][1:-1, 1:-1][flat].any()


def test_labels_match_instances(rooms):
    for room in rooms.values():
        for instance in np.unique(room["instances"]):
            labels = np.unique(room["labels"][room["instances"] == instance])
            assert labels.size == 1
            assert (instance < 4) == (labels[0] == 0)
        assert (room["labels"] == FLOOR).sum() == (room["instances"] == 4).sum()
        assert (room["labels"] == CEILING).sum() == (room["instances"] == 5).sum()


def test_stored_scene_reads_back(tmp_path):
    save_scene((tmp_path, 1, 0, (24, 32)))
    room = render(1, 0, (24, 32))
    with np.load(scene_path(tmp_path, 0)) as stored:
        for name in ("image", "labels", "depth", "boundary", "instances"):
            np.testing.assert_array_equal(stored[name], room[name])
        np.testing.assert_array_equal(stored["normals"], room["normals"].astype(np.float16))
    assert [p.name for p in tmp_path.iterdir()] == ["000000.npz"]


def make(*words):
    script = Path(__file__).resolve().parent.parent / "examples/rooms/make.py"
    return subprocess.run([sys.executable, script, *map(str, words)], capture_output=True, text=True, timeout=300)


def test_a_set_is_of_one_seed_and_size(tmp_path):
    save_scene((tmp_path, 1, 0, (24, 32)))
    before = (tmp_path / "000000.npz").read_bytes()
    for other, message in (
        (("--seed", 2, "--size", "24x32"), "000000.npz: of seed 1, 24x32, not seed 2, 24x32; choose another --out"),
        (("--seed", 1, "--size", "32x32"), "000000.npz: of seed 1, 24x32, not seed 1, 32x32; choose another --out"),
    ):
        done = make("--out", tmp_path, "--count", 2, *other)
        assert done.returncode == 1 and done.stderr.startswith("make.py: ") and message in done.stderr
        assert done.stderr.count("\n") == 1
    done = make("--out", tmp_path, "--count", 2, "--seed", 1, "--size", "24x32", "--workers", 1)
    assert done.returncode == 0 and "1 scenes present, 1 to render" in done.stdout
    assert (tmp_path / "000000.npz").read_bytes() == before and (tmp_path / "000001.npz").exists()


def test_what_is_no_scene_is_told(tmp_path):
    for content in (
        b"",
        b"PK",
        b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '<f4', 'fortran_order': False, 'shape': (0,), }".ljust(118),
    ):
        (tmp_path / "000000.npz").write_bytes(content)
        done = make("--out", tmp_path, "--count", 1, "--size", "24x32")
        assert done.returncode == 1 and "000000.npz: is no scene (" in done.stderr and done.stderr.count("\n") == 1


def test_wrong_use_of_make_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    done = make("--out", tmp_path / "file", "--count", 1)
    assert done.returncode == 1 and done.stderr.startswith("make.py: ") and done.stderr.count("\n") == 1
    for option in ("--workers", "--count"):
        done = make("--out", tmp_path / "new", option, 0)
        assert done.returncode == 2 and f"{option}: '0': need a whole number from 1 on" in done.stderr
    assert make("--out", tmp_path / "new", "--seed", -1).returncode == 2


def test_parse_size():
    assert parse_size("240x320") == (240, 320)
    for text in ("240", "axb", "4x4"):
        with pytest.raises(Exception, match="size"):
            parse_size(text)
