"""The command line: what is written, what is printed, and what the other commands tell."""

# ruff: noqa: F811 - fixtures are imported, and arguments have their names

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from cli_folder import GATES, HEADS, MULTIPOOL, RUN, SIZE, call, graph, names, shared  # noqa: F401
from PIL import Image

import pagnp
from pagnp import modelfile, opset
from pagnp.cli.options import GATE_MODES


def test_run_writes_every_kind(call, graph, shared, tmp_path):
    code, out, err = call(RUN + " {d}/room.png --save labels,overlay,depth,normals,boundary,ponder,masks,rates,npz")
    assert (code, err) == (0, "")
    masks = [f"mask.{name}.png" for name in graph.gates()]
    rates = [f"rate.{name}.png" for name in graph.multipools()]
    kinds = ["labels.png", "overlay.png", "depth.png", "depth-color.png", "normals.png", "boundary.png", "ponder.png"]
    folder = tmp_path / "pagnp-out"
    assert names(folder) == sorted(f"room.{kind}" for kind in [*kinds, *masks, *rates, "npz"])
    assert len(masks) == 2 and len(rates) == 1
    for name in (*kinds[:1], "depth.png", "normals.png", "boundary.png", *masks):
        assert Image.open(folder / f"room.{name}").size == SIZE[::-1], name
    result = pagnp.Model(graph, backend="numpy")(str(shared / "room.png"))
    assert result.digest[:16] in out
    check_pictures(folder, result)
    assert out.splitlines()[0].split() == ["image", "h", "x", "w", "seconds", "GMAC", "done", "kept", "digest"]
    assert "24x40" in out and "kept by gate: " in out


def check_pictures(folder, result):
    """Hold what can be read back from the files against the Result."""
    label = Image.open(folder / "room.labels.png")
    assert label.mode == "P" and np.array_equal(np.asarray(label), result.outputs["labels"])
    depth = Image.open(folder / "room.depth.png")
    assert depth.mode.startswith("I") and depth.text["depth_unit"] == "m"
    step = float(depth.text["depth_scale"])
    assert np.abs(np.asarray(depth).astype(np.float64) * step - result.outputs["depth"]).max() <= step
    with np.load(folder / "room.npz") as arrays:
        assert np.array_equal(arrays["ponder"], result.ponder)
        for group in ("outputs", "logits", "masks", "rates"):
            for name, array in getattr(result, group).items():
                assert np.array_equal(arrays[f"{group}/{name}"], array), name


def test_json(call, graph, tmp_path):
    code, out, err = call(RUN + " {d}/photos --json --save labels,masks --out x")
    assert (code, err) == (0, "")
    images = json.loads(out)["images"]
    assert [Path(entry["path"]).name for entry in images] == ["one.png", "two.png"]
    for entry in images:
        assert set(entry) == {"path", "size", "seconds", "macs", "kept", "digest", "files"}
        assert entry["size"] == list(SIZE) and entry["seconds"] > 0 and len(entry["digest"]) == 64
        assert 0 < entry["macs"]["executed"] <= entry["macs"]["dense"]
        assert list(entry["kept"]["gates"]) == graph.gates()
        assert 0 <= entry["kept"]["overall"] <= 1
        assert all((tmp_path / file).is_file() for file in entry["files"]) and len(entry["files"]) == 3


def test_dense_gives_the_same_digest_and_more_macs(call):
    entries = []
    for option in ("", " --dense"):
        _, out, _ = call(RUN + " {d}/room.png --json --save labels --overwrite" + option)
        entries.append(json.loads(out)["images"][0])
    assert entries[0]["digest"] == entries[1]["digest"]
    assert entries[0]["macs"]["executed"] < entries[1]["macs"]["executed"] == entries[1]["macs"]["dense"]


def test_numba_gives_the_digest_of_numpy(call):
    digests = []
    for backend in ("numpy", "auto", "numba --threads 1"):
        code, out, _ = call(f"run --weights {{d}}/model.h5 {{d}}/room.png --json --overwrite --backend {backend}")
        assert code == 0
        digests.append(json.loads(out)["images"][0]["digest"])
    assert len(set(digests)) == 1


def test_existing_files_are_kept_and_named(call, tmp_path):
    assert call(RUN + " {d}/room.png --save labels,ponder")[0] == 0
    before = (tmp_path / "pagnp-out/room.labels.png").stat().st_mtime_ns
    code, out, err = call(RUN + " {d}/room.png {d}/photos --save labels,depth")
    assert (code, out) == (2, "")
    assert "room.labels.png" in err and "--overwrite" in err and "room.ponder.png" not in err
    assert names(tmp_path / "pagnp-out") == ["room.labels.png", "room.ponder.png"]
    assert (tmp_path / "pagnp-out/room.labels.png").stat().st_mtime_ns == before
    assert call(RUN + " {d}/room.png --save labels --overwrite")[0] == 0
    assert (tmp_path / "pagnp-out/room.labels.png").stat().st_mtime_ns > before


def test_an_input_is_never_overwritten(call, shared, tmp_path):
    source = tmp_path / "x.labels.png"
    for name in ("x.labels.png", "x.png"):
        Image.open(shared / "room.png").save(tmp_path / name)
    before = source.read_bytes()
    code, _, err = call(RUN + " x.png x.labels.png --out . --overwrite")
    assert code == 2 and "is an input" in err
    assert source.read_bytes() == before


def test_pictures_of_an_earlier_run_are_no_input(call, shared, tmp_path):
    Image.open(shared / "room.png").save(tmp_path / "x.png")
    for option in ("", " --overwrite"):
        code, out, _ = call(RUN + " . --save labels --json" + option)
        assert code == 0
        assert [entry["path"] for entry in json.loads(out)["images"]] == ["x.png"]


def test_the_gate_modes_to_choose_from_are_those_of_the_graph():
    assert GATE_MODES == opset.GATE_MODES


STEMS = [
    ("{d}/room.png {d}/photos", ["one", "room", "two"]),
    ("{d}/a/room.png {d}/b/room.png", ["a/room", "b/room"]),
    ("{d}/b/room.png {d}/b/room.jpg", ["room.jpg", "room.png"]),
    ("{d}/room.png {d}/room.png {d}/photos/../room.png", ["room"]),
]


@pytest.mark.parametrize("images, stems", STEMS)
def test_stems_are_kept_apart(call, tmp_path, images, stems):
    code, out, _ = call(f"{RUN} {images} --save labels --json")
    assert code == 0
    assert names(tmp_path / "pagnp-out") == [f"{stem}.labels.png" for stem in stems]
    assert len(json.loads(out)["images"]) == len(stems)


def test_one_bad_image_does_not_stop_the_others(call, tmp_path):
    code, out, err = call(RUN + " {d}/none.png {d}/broken.png {d}/photos {d}/text.png --save labels --json")
    assert code == 4
    assert [Path(entry["path"]).name for entry in json.loads(out)["images"]] == ["one.png", "two.png"]
    assert len(err.splitlines()) == 3 and err.count("pagnp: error: ") == 3
    assert names(tmp_path / "pagnp-out") == ["one.labels.png", "two.labels.png"]


def test_kinds_that_the_model_lacks_are_noted(call, graph, tmp_path, shared):
    only = pagnp.nn.pag_resnet(depth=26, width=0.125, gated=None, heads={"labels": HEADS["labels"]})
    modelfile.write(only, tmp_path / "only.h5")
    code, out, err = call("run --weights only.h5 --backend numpy {d}/room.png --save labels,depth,masks")
    assert (code, err) == (0, "pagnp: note: this model has no depth, masks to save\n")
    assert " - " in out


@pytest.mark.parametrize("mode", ["soft", "gumbel_hard", "gumbel_soft"])
def test_gate_modes(call, tmp_path, mode):
    code, _, err = call(RUN + f" {{d}}/room.png --gate-mode {mode} --seed 7")
    assert (code, err) == (0, "")
    assert (tmp_path / "pagnp-out/room.labels.png").is_file()
    assert (tmp_path / "pagnp-out/room.ponder.png").is_file() == (mode == "gumbel_hard")


def test_plain_state_dict(call, graph, tmp_path):
    np.savez(tmp_path / "plain.npz", **graph.weights)
    options = {"depth": 26, "width": 0.125, "output_stride": 8, "gated": list(GATES), "multipool": MULTIPOOL}
    (tmp_path / "config.json").write_text(json.dumps({**options, "heads": HEADS}))
    assert call("convert plain.npz --arch config.json -o made.h5")[:2] == (0, "made.h5\n")
    code, _, err = call("convert plain.npz --arch config.json -o made.h5")
    assert code == 2 and "made.h5" in err and "--overwrite" in err
    assert call("convert plain.npz --arch config.json -o made.h5 --overwrite")[0] == 0
    digests = []
    for model in ("{d}/model.h5", "made.h5", "plain.npz --arch config.json"):
        code, out, _ = call(f"run --weights {model} --backend numpy {{d}}/room.png --overwrite --save labels --json")
        assert code == 0
        digests.append(json.loads(out)["images"][0]["digest"])
    assert len(set(digests)) == 1
    assert call("run --weights plain.npz --arch vgg16 {d}/room.png")[0] == 2


def test_info(call, graph):
    code, out, err = call("info {d}/model.h5 --size 24x40")
    assert (code, err) == (0, "")
    for text in (modelfile.model_hash(graph), "rates 0, 1, 2", "wall, floor, ball", "at 24x40", "GMAC", *graph.gates()):
        assert text in out
    code, out, _ = call("info {d}/model.h5 --size 24x40 --json")
    summary = json.loads(out)
    assert code == 0 and summary["at"]["size"] == [24, 40]
    assert summary["at"]["macs"] == sum(layer["macs"] for layer in summary["layers"])
    assert summary["gates"] == graph.gates()
    assert call("info {d}/tensor.h5")[0] == 0


def test_compare(call):
    code, out, err = call("compare --weights {d}/model.h5 {d}/room.png")
    assert (code, err) == (0, "")
    assert "the same to the bit on numpy, numba" in out and "DIFFERS" not in out
    lines = [
        call(f"compare --weights {{d}}/model.h5 --random-image 16x24 --seed {seed} --dense")[1] for seed in (1, 1, 2)
    ]
    assert lines[0] == lines[1] != lines[2]


def test_compare_reports_the_first_difference(call, monkeypatch):
    from pagnp.backends.numba_cpu import make as real_make

    def make(threads=None):
        backend = real_make(threads)
        return type(backend)(backend.name, {**backend.kernels, "max_pool2d": spoil(backend.kernels)}, backend.threads)

    def spoil(kernels):
        def max_pool2d(*args):
            kernels["max_pool2d"](*args)
            flat = args[-1].reshape(-1)
            flat[3] = np.nextafter(flat[3], np.float32(np.inf))

        return max_pool2d

    monkeypatch.setattr("pagnp.backends.numba_cpu.make", make)
    code, out, _ = call("compare --weights {d}/model.h5 {d}/room.png --json")
    found = json.loads(out)
    assert code == 1 and not found["equal"]
    first = found["first_difference"]
    assert first["name"] == "layers/maxpool" and "out[0,0,3]" in first["what"] and "1 ulp" in first["what"]
    code, out, _ = call("compare --weights {d}/model.h5 {d}/room.png")
    assert code == 1 and "DIFFERS" in out and "first difference: layers/maxpool, numba against numpy" in out


def test_doctor(call, monkeypatch):
    code, out, _ = call("doctor --json")
    checks = {check["name"]: check for check in json.loads(out)["checks"]}
    assert code == 0, out
    assert {"versions", "numpy: fma", "numba: fma", "numba: subnormals", "ops", "kernel cache", "gpu"} <= set(checks)
    code, out, _ = call("doctor")
    assert code == 0 and "FAIL" not in out


def test_doctor_finds_a_bad_fma(call, monkeypatch):
    from pagnp.backends import base

    real = base.get_backend

    def unfused(x, scale, shift, out):
        out[...] = x * scale + shift

    def get_backend(name, threads=None):
        backend = real(name, threads)
        return dataclasses.replace(backend, kernels={**backend.kernels, "norm": unfused})

    monkeypatch.setattr(base, "get_backend", get_backend)
    code, out, _ = call("doctor")
    assert code == 1 and "FAIL  numpy: fma" in out and "fix: " in out


def test_doctor_names_an_unwritable_cache(call, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PAGNP_CACHE_DIR", str(tmp_path / "file"))
    code, out, _ = call("doctor")
    monkeypatch.undo()
    from pagnp.backends.numba_cpu.cachefolder import cache_folder

    cache_folder.cache_clear()
    assert code == 1 and "FAIL  kernel cache" in out and "PAGNP_CACHE_DIR" in out


def test_info_keeps_its_columns_apart_at_any_size(call):
    _, out, _ = call("info {d}/model.h5 --size 4000x5000")
    last = out.splitlines()[-1]
    assert last.startswith("at 4000x5000  ") and "GMAC" in last
