"""`pagnp eval` from end to end: the shipped model on rendered rooms, small models on small sets, what is refused."""

import csv
import io
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import load_backend
from PIL import Image

import pagnp
from pagnp import modelfile
from pagnp.cli.main import main

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = ROOT / "examples/models/rooms-seg.h5"
SIZE = (24, 32)
HEADS = {
    "labels": {"task": "segmentation", "classes": ["wall", "floor", "ball"], "hidden": [8]},
    "depth": {"task": "depth", "unit": "m", "hidden": [8]},
    "normals": {"task": "normals", "hidden": [8]},
    "edges": {"task": "boundary", "hidden": [8]},
}
MULTIPOOL = {"block": "layer4.1", "rates": [0, 1, 2], "mode": "hard", "tied": False, "hidden": [8, 8]}

load_backend("numba")


@pytest.fixture(scope="module")
def rooms(tmp_path_factory):
    """Two rendered rooms."""
    folder = tmp_path_factory.mktemp("rooms")
    sys.path.insert(0, str(ROOT / "examples"))
    try:
        from rooms.make import save_scene, write_classes

        for index in (0, 1):
            save_scene((folder, 4, index, (192, 256)))
        write_classes(folder)
    finally:
        sys.path.remove(str(ROOT / "examples"))
    return folder


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """Models m.h5 (four heads, gates, a MultiPool) and flat.h5 (depth alone), and the set `plain`; only read."""
    folder = tmp_path_factory.mktemp("eval")
    options = {"depth": 26, "width": 0.125, "output_stride": 8, "gate_bias": 0.0}
    graph = pagnp.nn.pag_resnet(seed=1, gated=["layer1.0"], multipool=MULTIPOOL, heads=HEADS, **options)
    modelfile.write(graph, folder / "m.h5")
    flat = pagnp.nn.pag_resnet(seed=1, gated=[], heads={"depth": HEADS["depth"]}, **options)
    modelfile.write(flat, folder / "flat.h5")
    rng = np.random.default_rng(2)
    for name in "abc":
        save(folder / f"plain/images/{name}.png", rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8))
        save(folder / f"plain/labels/{name}.png", rng.integers(0, 3, SIZE, dtype=np.uint8))
        save(folder / f"plain/depth/{name}.png", rng.integers(0, 5000, SIZE, dtype=np.uint16))
        save(folder / f"plain/normals/{name}.png", np.full((*SIZE, 3), (128, 200, 230), np.uint8))
        for k in range(2):
            save(folder / f"plain/boundary/{name}/{k}.png", (rng.random(SIZE) < 0.1).astype(np.uint8) * 255)
    return folder


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


@pytest.fixture
def call(shared, tmp_path, monkeypatch, capsys):
    """Return a function: command line with {d} for the shared folder -> (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(line, *more):
        code = main([*(part.replace("{d}", str(shared)) for part in line.split()), *map(str, more)])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


EVAL = "eval --weights {d}/m.h5 {d}/plain"


def test_the_shipped_model_on_two_rooms(call, rooms):
    code, out, _ = call("eval --json --per-image --weights", SHIPPED, rooms)
    found = json.loads(out)
    assert code == 0 and (found["images"], found["layout"]) == (2, "rooms")
    scores, work = found["heads"]["segmentation"], found["work"]
    assert scores["pixels"] == 2 * 192 * 256 and 0.3 < scores["mean_iou"] < scores["pixel_accuracy"] < 1
    assert scores["iou"]["wall"] > 0.3
    model, digests, hits = pagnp.load(SHIPPED), [], 0
    for name, row in zip(("000000.npz", "000001.npz"), found["scenes"], strict=True):
        with np.load(rooms / name) as scene:
            result = model(scene["image"])
            hits += int((result.outputs["segmentation"] == scene["labels"]).sum())
        digests.append(result.digest)
        assert row["name"] == name and row["size"] == [192, 256] and row["kept"] == result.kept
        assert row["macs"]["executed"] == result.macs["executed"]
    assert [row["digest"] for row in found["scenes"]] == digests
    assert scores["pixel_accuracy"] == pytest.approx(hits / scores["pixels"])
    assert 0 < work["share"] < 1 and 0 < work["gated_share"] < 1 and len(work["kept"]) == 7
    assert [sum(shares.values()) for shares in work["rates"].values()] == pytest.approx([1.0])


def test_four_heads_as_a_table(call):
    code, out, err = call(EVAL + " --per-image")
    assert code == 0 and "error" not in err
    scores = ("labels: mean IoU", "IoU by class: wall", "depth: abs rel", "RMSE", "normals: mean", "edges: ODS", "OIS")
    work = ("work per image: GMAC dense", "kept by gate: layer1.0.gate", "rates of layer4.1.multipool", "digest: ")
    for text in ("3 images (folders)", *scores, *work, "c: labels"):
        assert text in out, text
    assert all(len(line) <= 110 for line in out.splitlines())


def test_what_was_scored_is_told(call, shared):
    _, out, _ = call(EVAL + " --limit 2 --task depth --budget 0.5")
    assert out.startswith("2 of 3 images (folders)\n") and "not scored: labels, normals, edges\n" in out
    assert "(with the runs that search the threshold)" in out
    found = json.loads(call(EVAL + " --limit 2 --task depth --json --seed 4")[1])
    assert (found["data"], found["split"], found["images"], found["of"]) == (str(shared / "plain"), None, 2, 3)
    assert (found["run"]["limit"], found["run"]["tasks"], found["run"]["seed"]) == (2, ["depth"], 4)
    assert found["run"]["budget"] is None and found["unscored"] == ["labels", "normals", "edges"]


def test_names_of_a_file_are_no_terminal_commands(call, tmp_path):
    heads = {"labels": {"task": "segmentation", "classes": 3, "hidden": [8]}}  # without names: the set's are taken
    graph = pagnp.nn.pag_resnet(depth=26, width=0.125, output_stride=8, gated=[], heads=heads)
    modelfile.write(graph, tmp_path / "odd.h5")
    save(tmp_path / "set/images/a.png", np.zeros((*SIZE, 3), np.uint8))
    save(tmp_path / "set/labels/a.png", np.zeros(SIZE, np.uint8))
    (tmp_path / "set/classes.csv").write_text('value,name\n0,wall\n1,\x1b[31mfloor\n2,"ball\nball"\n')
    code, out, _ = call("eval --weights odd.h5 set")
    assert code == 0 and r"\x1b[31mfloor" in out and r"ball\nball" in out and "\x1b" not in out


def test_a_csv_that_cannot_be_written_takes_no_scores_along(call, monkeypatch):
    from pagnp import files

    def full(*_):
        raise OSError("no space")

    monkeypatch.setattr(files, "write_atomic", full)
    code, out, err = call(EVAL + " --limit 1 --csv s.csv")
    assert code != 0 and "digest: " in out and "no space" in err


def test_a_reader_who_is_gone_takes_no_csv_along(call, monkeypatch, tmp_path):
    from pagnp.cli import eval as eval_command

    def gone(_):
        raise BrokenPipeError

    monkeypatch.setattr(eval_command, "emit", gone)
    assert call(EVAL + " --limit 1 --csv s.csv")[0] != 0
    assert (tmp_path / "s.csv").read_text().startswith("image,head,metric,value\n")


def test_backends_threads_and_dense_agree(call):
    def scores(more):
        found = json.loads(call(EVAL + " --json --limit 2" + more)[1])
        return found["heads"], found["work"]["digest"], found["work"]["macs"]["executed"]

    plain = scores("")
    assert plain[:2] == scores(" --backend numpy --threads 1")[:2] == scores(" --dense")[:2]
    assert scores(" --dense")[2] > plain[2]
    assert plain[1] != scores(" --flip")[1] != scores(" --threshold 0.5")[1]
    assert scores(" --threshold 100")[2] < plain[2] and scores(" --budget 1")[2] >= plain[2]
    assert plain[0]["edges"] != scores(" --no-nms")[0]["edges"] and len(plain[0]["edges"]["curve"]) == 99
    assert len(scores(" --thresholds 9 --task boundary")[0]["edges"]["curve"]) == 9


def test_truth_never_enters_the_model(call, shared, tmp_path):
    import shutil

    shutil.copytree(shared / "plain", tmp_path / "other")
    for path in (tmp_path / "other/labels").iterdir():
        save(path, np.zeros(SIZE, np.uint8))
    one, two = (json.loads(call("eval --json --weights {d}/m.h5", folder)[1]) for folder in (shared / "plain", "other"))
    assert one["work"]["digest"] == two["work"]["digest"] and one["heads"]["labels"] != two["heads"]["labels"]


def test_csv(call, tmp_path):
    assert call(EVAL + " --csv scores.csv --per-image --limit 2")[0] == 0
    rows = list(csv.DictReader(io.StringIO((tmp_path / "scores.csv").read_text())))
    code, out, _ = call(EVAL + " --json --per-image --limit 2")
    found = json.loads(out)
    value = {(row["image"], row["head"], row["metric"]): row["value"] for row in rows}
    assert len(value) == len(rows)
    assert float(value["", "labels", "mean_iou"]) == found["heads"]["labels"]["mean_iou"]
    assert float(value["", "edges", "recall at 0.5"]) == found["heads"]["edges"]["curve"][49]["recall"]
    assert float(value["b", "depth", "rmse"]) == found["scenes"][1]["heads"]["depth"]["rmse"]
    assert value["", "", "work.digest"] == found["work"]["digest"]
    code, out, _ = call(EVAL + " --csv - --task depth")
    assert code == 0 and out.startswith("image,head,metric,value\n") and ",labels," not in out
    assert call(EVAL + " --csv scores.csv")[0] == 2  # it exists
    assert call(EVAL + " --csv scores.csv --overwrite --limit 1")[0] == 0


def test_names_that_are_no_text_are_in_the_csv_as_they_are(call, shared, tmp_path):
    import shutil

    try:
        for kind in ("images", "depth"):
            (tmp_path / "set" / kind).mkdir(parents=True)
            source = next(path for path in (shared / "plain" / kind).iterdir() if path.stem == "a")
            shutil.copy(source, os.fsencode(tmp_path / "set" / kind) + b"/\xff" + source.suffix.encode())
    except OSError:
        pytest.skip("the file system takes no such names")
    assert call("eval --weights {d}/flat.h5 set --csv s.csv --per-image")[0] == 0
    assert b"\n\xff,depth,rmse," in (tmp_path / "s.csv").read_bytes()


def test_humans(call):
    code, out, _ = call("eval --humans {d}/plain")
    assert code == 0 and out.startswith("annotators against each other: F 0.") and "6 maps of 3 images (folders)" in out
    code, out, _ = call("eval --humans {d}/plain --json --per-image --limit 1")
    found = json.loads(out)
    assert code == 0 and len(found["scenes"]) == found["images"] == 1 and found["f"] == found["scenes"][0]["f"]
    assert call("eval --humans {d}/plain --csv -")[1].startswith("image,head,metric,value\n,,data,")
    code, _, err = call("eval --humans {d}/plain --no-nms --thresholds 99")
    assert code == 2 and "leave out --thresholds, --nms, --no-nms" in err


BAD = [
    ("eval {d}/plain", 2, "Missing option '--weights'"),
    ("eval --weights {d}/m.h5", 2, "Missing argument 'DATA'"),
    (EVAL + " --budget 0.5 --threshold 1", 2, "--budget and --threshold exclude each other"),
    (EVAL + " --json --csv -", 2, "both want stdout"),
    (EVAL + " --csv {d}/nowhere/s.csv", 2, "there is no folder"),
    (EVAL + " --humans", 2, "--humans scores annotators, not a model"),
    ("eval {d}/plain --humans --flip", 2, "--humans scores annotators, not a model; leave out --flip"),
    (EVAL + " --csv {d}/m.h5 --overwrite", 2, "m.h5: is the model or part of DATA"),
    (EVAL + " --csv {d}/plain/labels/a.png --overwrite", 2, "a.png: is the model or part of DATA"),
    (EVAL + " --layout cityscapes", 2, "Invalid value for '--layout'"),
    (EVAL + " --task colour", 2, "Invalid value for '--task'"),
    (EVAL + " --thresholds 0", 2, "Invalid value for '--thresholds'"),
    ("eval --weights {d}/flat.h5 {d}/plain --task boundary", 2, "--task boundary: the model has depth; the truth"),
    ("eval --weights {d}/none.h5 {d}/plain", 3, "none.h5"),
    ("eval --weights {d}/m.h5 {d}/nowhere", 4, "nowhere: no such folder"),
    ("eval --weights {d}/m.h5 {d}", 4, "none of the layouts"),
    (EVAL + " --split val", 4, "images/val: no such folder"),
    (EVAL + " --layout bsds", 4, "index.csv: missing"),
]


@pytest.mark.parametrize(("line", "code", "text"), BAD, ids=[line for line, *_ in BAD])
def test_what_is_refused(call, line, code, text):
    found, out, err = call(line)
    errors = [one for one in err.splitlines() if one.startswith("pagnp: error: ")]
    assert (found, out, len(errors)) == (code, "", 1) and text in errors[0]


def test_models_and_sets_that_do_not_go_together(call, shared, rooms, tmp_path):
    code, _, err = call("eval --weights {d}/m.h5 --task segmentation", rooms)
    assert code == 2 and "head 'labels' has 3 classes, the ground truth 12 (wall, floor" in err
    save(tmp_path / "set/images/a.png", np.zeros((*SIZE, 3), np.uint8))
    save(tmp_path / "set/labels/a.png", np.full(SIZE, 3, np.uint8))
    code, _, err = call("eval --weights {d}/m.h5 set")
    assert code == 4 and "set/images/a.png: class 3 in the labels, the model knows 0..2" in err
    (tmp_path / "set/classes.csv").write_text("value,name\n0,wall\n1,road\n2,ball\n")
    code, _, err = call("eval --weights {d}/m.h5 set")
    assert code == 2 and "class 1 is 'floor' for head 'labels' and 'road' in the ground truth" in err
    code, _, err = call("eval --weights {d}/flat.h5 set")
    assert code == 2 and "the model has depth, the ground truth segmentation" in err


def test_an_image_that_cannot_be_read_ends_it(call, shared, tmp_path):
    import shutil

    shutil.copytree(shared / "plain", tmp_path / "set")
    (tmp_path / "set/images/b.png").write_text("no image")
    code, out, err = call("eval --weights {d}/m.h5 set --csv scores.csv")
    assert (code, out) == (4, "") and "set/images/b.png: is not an image" in err
    assert not (tmp_path / "scores.csv").exists()


def test_ctrl_c_leaves_nothing(call, monkeypatch, tmp_path):
    from pagnp.evaluate import evaluation

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluation.Work, "add", interrupted)
    code, out, err = call(EVAL + " --csv scores.csv")
    assert (code, out) == (130, "") and "interrupted" in err
    assert list(tmp_path.iterdir()) == []


def test_scores_without_a_value_are_null(call, tmp_path):
    save(tmp_path / "set/images/a.png", np.zeros((*SIZE, 3), np.uint8))
    save(tmp_path / "set/depth/a.png", np.zeros(SIZE, np.uint16))
    found = json.loads(call("eval --weights {d}/m.h5 set --json --per-image")[1])
    assert found["heads"]["depth"]["rmse"] is None and found["scenes"][0]["heads"]["depth"]["abs_rel"] is None
    assert "abs rel -" in call("eval --weights {d}/m.h5 set --per-image")[1]
    assert "\n,depth,rmse,\n" in call("eval --weights {d}/m.h5 set --csv -")[1]
