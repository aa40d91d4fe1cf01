"""Receipts: what `pagnp run --receipt` writes, where it does not, and that `pagnp verify` replays it."""

import json
import os
import stat

import numpy as np
import pytest
from conftest import load_backend
from receipt_files import BRANCH, GATED, HEADS, MULTIPOOL, SIZE, call, changed, made, network, shared, verified  # noqa: F401

import pagnp
from pagnp import model as model_module
from pagnp import modelfile, probes, receipt

# ruff: noqa: F811


def test_what_is_in_a_receipt(made, shared):
    found = made("{d}/room.png --threshold 0.1 --seed 18446744073709551615")
    model = pagnp.load(shared / "model.h5")
    result = model(shared / "room.png", threshold=0.1, trace=True)
    assert (found["format"], found["contract"], found["pagnp"]) == ("pagnp-receipt", "pagnp-bits/1", pagnp.__version__)
    assert found["model"] == {"path": f"{shared}/model.h5", "hash": modelfile.model_hash(model.graph)}
    assert found["machine"]["backend"] == "numba" and "fma" in found["machine"]["cpu_features"]
    [image] = found["images"]
    assert image["pixels"] == result.pixels and image["size"] == list(SIZE)
    assert image["options"]["threshold"] == 0.1 and image["options"]["seed"] == 2**64 - 1
    assert image["thresholds"] == {"layer1.0.gate": float(np.float32(0.1)), "layer2.0.gate": float(np.float32(0.1))}
    assert image["digests"] == result.digests and image["digest"] == result.digest
    assert [layer["name"] for layer in image["layers"]] == list(result.layers)
    for layer, array in zip(image["layers"], result.layers.values(), strict=True):
        assert (tuple(layer["shape"]), layer["dtype"]) == (array.shape, array.dtype.str)
        assert layer["digest"] == result.layer_digests[layer["name"]]
        assert layer["probes"] == probes.of(array)
    assert image["probes"] == {name: probes.of(array) for name, array in receipt.values_of(result).items()}


REPLAYS = (
    *("", "--flip", "--dense", "--budget 0.4", "--threshold -0.25", "--tile 8", "--flip --budget 0.7 --tile 16"),
    *("--gate-mode gumbel_hard --seed 7", "--gate-mode soft", "--gate-mode gumbel_soft --seed 3 --flip"),
)


@pytest.mark.parametrize(("number", "options"), list(enumerate(REPLAYS)))
def test_replays(call, made, number, options):
    """Made on one backend, verified on the other: by turns, for both run either way."""
    first, second = ("numpy", "numba")[:: (-1) ** number]
    load_backend(first), load_backend(second)
    made(f"{{d}}/room.png --backend {first} {options}")
    code, found = verified(call, f"r.json --backend {second}")
    assert code == 0 and found["same"], found


@pytest.mark.parametrize("options", ("--flip --budget 0.4", "--gate-mode gumbel_soft --seed 7"))
def test_spot_agrees(call, made, options):
    made(f"{{d}}/room.png {options}")
    code, found = verified(call, "r.json --spot 2 --seed 4")
    assert code == 0 and found["spot"] == {"elements": 2, "seed": 4}
    spots = {spot["name"]: spot for spot in found["images"][0]["spots"]}
    assert BRANCH in spots and "outputs/depth" in spots and ("mirror/" + BRANCH in spots) is ("--flip" in options)
    assert all(spot["agree"] == spot["recomputed"] == 2 for spot in spots.values())
    code, out, _ = call("verify r.json --spot 1")
    assert code == 0 and "exact arithmetic agrees at" in out and "(--spot 1 --seed 0)" in out


def test_several_images(call, made):
    found = made("{d}/photos {d}/room.png")
    assert len(found["images"]) == 3
    assert verified(call)[0] == 0
    changed(found, ("images", 1, "layers", 4, "digest"), "0" * 64)
    code, found = verified(call)
    assert code == 1 and [image["same"] for image in found["images"]] == [True, False, True]
    code, _, err = call("verify r.json --image {d}/room.png")
    assert code == 2 and "has 3 image(s), --image is given 1 time(s)" in err
    assert call("verify r.json --image {d}/photos/one.png --image {d}/nowhere.png --image {d}/room.png")[0] == 4


def test_paths_lead_from_the_receipt_or_from_here(call, made, shared, tmp_path, monkeypatch):
    monkeypatch.chdir(shared)
    line = "run --weights model.h5 room.png --save ponder --out {t} --overwrite --receipt {t}/sub/r.json"
    assert call(line, t=tmp_path)[0] == 0
    assert call("verify {t}/sub/r.json", t=tmp_path)[0] == 0
    monkeypatch.chdir(tmp_path)
    code, _, err = call("verify sub/r.json")
    assert (
        code == 3
        and err == "pagnp: error: model.h5: does not exist; sub/r.json names it; give the model with --weights\n"
    )
    code, _, err = call("verify sub/r.json --weights {d}/model.h5")
    assert (
        code == 4
        and err == "pagnp: error: room.png: does not exist; sub/r.json names it; give the image with --image\n"
    )
    assert call("verify sub/r.json --weights {d}/model.h5 --image {d}/room.png")[0] == 0
    for name in ("model.h5", "room.png"):
        (tmp_path / "sub" / name).symlink_to(shared / name)
    assert call("verify sub/r.json")[0] == 0


def test_a_state_dict_and_the_model_file_of_it(call, shared, tmp_path):
    np.savez("plain.npz", **network(1).weights)
    options = {"depth": 26, "width": 0.125, "output_stride": 8, "gated": GATED, "multipool": MULTIPOOL, "heads": HEADS}
    (tmp_path / "config.json").write_text(json.dumps(options))
    plain = "plain.npz --arch config.json"
    assert call(f"run --weights {plain} {{d}}/room.png --save ponder --receipt sub/r.json")[0] == 0
    assert call("verify sub/r.json")[0] == 0
    assert call("verify sub/r.json --weights {d}/model.h5")[0] == 0  # brings its own network
    code, found = verified(call, "sub/r.json --weights {d}/other.h5")
    assert code == 1 and found["finding"]["cause"] == "weights"
    assert call("run --weights {d}/model.h5 {d}/room.png --save ponder --overwrite --receipt m.json")[0] == 0
    assert call(f"verify m.json --weights {plain}")[0] == 0
    assert call("verify m.json --weights=")[0] == 3


@pytest.mark.parametrize(
    ("line", "cause", "text"),
    [
        ("--weights {d}/other.h5", "weights", "other.h5 is another model: its hash is"),
        ("--image {d}/other.png", "pixels", "other.png has other pixels"),
        ("--image {d}/room.jpg", "pixels", "another JPEG decoder"),
        ("--image {d}/small.png", "pixels", "another image: 30x30 here, 16x24 in the receipt"),
        ("--image {d}/small.png --spot 3", "pixels", "another image"),
    ],
)
def test_other_files_are_named(call, made, line, cause, text):
    made()
    code, found = verified(call, f"r.json {line}")
    finding = found["finding"] or found["images"][0]["finding"]
    assert code == 1 and not found["same"] and finding["cause"] == cause and text in finding["text"]
    code, out, _ = call(f"verify r.json {line}")
    assert code == 1 and text in out


def test_another_contract_is_named(call, made):
    document = made()
    document["model"]["path"] = "gone.h5"  # not even looked for
    changed(document, ("contract",), "pagnp-bits/2")
    code, found = verified(call)
    assert code == 1 and found["finding"]["cause"] == "contract" and "pagnp-bits/2" in found["finding"]["text"]


def test_another_version_is_only_noted(call, made):
    changed(made(), ("pagnp",), "9.9.9")
    code, _, err = call("verify r.json")
    assert code == 0 and err == f"pagnp: note: the receipt is by pagnp 9.9.9, this is {pagnp.__version__}\n"


REFUSED = [
    ("{d}/room.png --receipt old.json", "old.json: exists already; add --overwrite"),
    ("{d}/room.png --receipt {d}/room.png --overwrite", "the run reads or writes"),
    ("{d}/room.png --receipt {d}/model.h5 --overwrite", "the run reads or writes"),
    ("{d}/room.png --receipt pagnp-out/room.ponder.png", "the run reads or writes"),
    ("{d}/room.png --receipt folder", "is no file name"),
    ("{d}/room.png --receipt old.json/r.json", "old.json is a file, not a folder"),
    ("{d}/room.png --receipt=", "is no file name"),
]


@pytest.mark.parametrize(("line", "text"), REFUSED)
def test_where_no_receipt_is_written(call, line, text, tmp_path):
    (tmp_path / "old.json").write_text("old")
    (tmp_path / "folder").mkdir()
    code, _, err = call(f"run --weights {{d}}/model.h5 --save ponder {line}")
    assert code == 2 and text in err and err.count("\n") == 1
    assert not (tmp_path / "pagnp-out").exists() and (tmp_path / "old.json").read_text() == "old"


def test_a_folder_without_permission(call, tmp_path, monkeypatch):
    (tmp_path / "locked").mkdir()
    allowed = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) != "locked" and allowed(path, mode))
    code, _, err = call("run --weights {d}/model.h5 --save ponder {d}/room.png --receipt locked/r.json")
    assert code == 2 and "no permission" in err


def test_receipts_need_names_that_json_can_hold(call, shared, tmp_path):
    for name in (b"a\x01b.png", b"\xff.png"):
        path = os.path.join(os.fsencode(tmp_path), name)
        with open(shared / "room.png", "rb") as source, open(path, "wb") as target:
            target.write(source.read())
        code, _, err = call("run --weights {d}/model.h5 --save ponder {name} --receipt r.json", name=os.fsdecode(path))
        assert code == 2 and "rename the file" in err and not os.path.exists("r.json")


def test_interrupted_runs_leave_no_receipt(call, monkeypatch, tmp_path):
    real, runs = model_module.Model._run_image, []

    def interrupted(self, *args, **kwargs):
        runs.append(0)
        if len(runs) == 2:
            raise KeyboardInterrupt
        return real(self, *args, **kwargs)

    monkeypatch.setattr(model_module.Model, "_run_image", interrupted)
    code, _, _ = call("run --weights {d}/model.h5 --save ponder {d}/photos --receipt r.json")
    assert code == 130 and sorted(os.listdir(tmp_path)) == ["pagnp-out"]


def test_bad_images_are_left_out(call, tmp_path):
    (tmp_path / "bad.png").write_text("no image")
    code, _, _ = call("run --weights {d}/model.h5 --save ponder bad.png --receipt none.json")
    assert code == 4 and not os.path.exists("none.json")
    assert call("run --weights {d}/model.h5 --save ponder bad.png {d}/room.png --receipt r.json")[0] == 4
    assert verified(call)[0] == 0


def test_a_receipt_is_whole_or_not_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = pagnp.Model(network(1), "numpy")
    recorder = receipt.Recorder(model, "model.h5")
    recorder.add("x.png", model(np.zeros((8, 8, 3), np.uint8), trace="digests"), {})
    recorder.write("r.json")
    before = (tmp_path / "r.json").read_bytes()
    assert stat.S_ISREG(os.stat("r.json").st_mode) and os.listdir() == ["r.json"]

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pagnp.files._publish", full)
    with pytest.raises(pagnp.errors.UsageError, match="No space left"):
        recorder.write("r.json", overwrite=True)
    assert (tmp_path / "r.json").read_bytes() == before and os.listdir() == ["r.json"]


def test_a_tile_beyond_all_images(call, made):
    assert made("{d}/room.png --tile 1000000000000")["images"][0]["options"]["tile"] == 1 << 20
    assert verified(call)[0] == 0


def test_options_may_be_numpys_numbers(shared, tmp_path):
    model = pagnp.load(shared / "model.h5", "numpy")
    options = {"threshold": np.float32(0.5), "seed": np.int64(3), "dense": np.True_}
    result = model(np.zeros((8, 8, 3), np.uint8), trace="digests", **options)
    recorder = receipt.Recorder(model, "m.h5")
    recorder.add("x.png", result, options)
    recorder.write(tmp_path / "r.json")
    used = json.loads((tmp_path / "r.json").read_text())["images"][0]["options"]
    assert (used["threshold"], used["seed"], used["dense"]) == (0.5, 3, True)


def test_noise_arrays_have_no_place(shared):
    model = pagnp.load(shared / "model.h5", "numpy")
    result = model(np.zeros((8, 8, 3), np.uint8), trace="digests")
    with pytest.raises(pagnp.errors.UsageError, match="noise arrays"):
        receipt.Recorder(model, "m.h5").add("x.png", result, {"noise": {"g": np.zeros((1, 1, 2), np.float32)}})


def test_probes_do_not_depend_on_the_parts():
    rng = np.random.default_rng(8)
    for shape in ((2,), (3, 5), (7, 4, 3), (50, 20)):
        array = rng.standard_normal(shape).astype(np.float32)
        array.reshape(-1)[0] = -np.float32(np.nan)
        at = probes.places(array.size)
        assert at[0] == 0 and at[-1] == array.size - 1 and len(at) == min(array.size, probes.COUNT)
        words = array.reshape(-1).view(np.uint32)
        want = " ".join(["7FC00000", *(f"{words[i]:08X}" for i in at[1:])])
        assert probes.of(array) == want
        running = probes.RunningProbes(shape)
        for row in array:
            running.update(row)
        assert running.found == want
        other = array.copy()
        other.reshape(-1)[at[-1]] += 1
        assert probes.apart(probes.of(other), want, shape)[0][0] == tuple(size - 1 for size in shape)
    assert probes.of(np.array([[True, False]])) == "01 00"
    assert probes.of(np.array([-2], np.int32)) == "FFFFFFFE"


def test_too_many_images_are_refused_before_the_run(shared, monkeypatch):
    model = pagnp.load(shared / "model.h5", "numpy")
    recorder = receipt.Recorder(model, "m.h5")
    for path in ("a.png", "b.png"):
        recorder.add(path, model(np.zeros((8, 8, 3), np.uint8), dense=True, trace="digests"), {"dense": True})
    image = len(json.dumps(recorder.document())) / 2
    monkeypatch.setattr(receipt, "MAX_BYTES", 20 * image)
    with pytest.raises(pagnp.errors.UsageError, match="60 images are too many .* at a time") as error:
        recorder.require_room(["a.png"] * 60)
    most = int(str(error.value).split("receipt; run ")[1].split()[0])
    assert 6 <= most <= 20
    recorder.require_room(["a.png"] * most)
