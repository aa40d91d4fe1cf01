"""Wrong input on the command line: exit code and message, row by row; errors of ours and of memory."""

# ruff: noqa: F811 - fixtures are imported, and arguments have their names

import os
from pathlib import Path

import pytest
from cli_folder import RUN, call, graph, names, shared  # noqa: F401

from pagnp import heads, outputs
from pagnp.cli.main import main

BAD = [
    # usage
    ("", 2, "Missing command"),
    ("paint", 2, "No such command 'paint'"),
    ("run {d}/room.png", 2, "Missing option '--weights'"),
    ("run --weights {d}/model.h5", 2, "Missing argument 'IMAGES...'"),
    (RUN + " {d}/room.png --save labels,heat", 2, "--save heat: choose from labels, overlay"),
    (RUN + " {d}/room.png --save ,", 2, "--save nothing: choose from"),
    (RUN + " {d}/room.png --budget 0.5 --threshold 1", 2, "--budget and --threshold exclude each other"),
    (RUN + " {d}/room.png --budget 1.5", 2, "Invalid value for '--budget'"),
    (RUN + " {d}/room.png --threshold nan", 2, "threshold"),
    (RUN + " {d}/room.png --budget 0.5 --gate-mode soft", 2, "hard gates"),
    (RUN + " {d}/room.png --threads 0", 2, "Invalid value for '--threads'"),
    (RUN + " {d}/room.png --seed -1", 2, "Invalid value for '--seed'"),
    (RUN + " {d}/room.png --gate-mode medium", 2, "Invalid value for '--gate-mode'"),
    (RUN + " {d}/room.png --backend abacus", 2, "Invalid value for '--backend'"),
    (RUN + " {d}/room.png --out {d}/text.png", 2, "is a file, not a folder"),
    (RUN + " {d}/room.png --out {d}/text.png/deeper", 2, "is a file, not a folder"),
    (RUN + " {d}/room.png --out=", 2, "--out is empty"),
    (RUN + " {d}/room.png --threshold -1e39", 2, "finite number"),
    ("run --weights {d}/tensor.h5 --backend numpy {d}/room.png", 2, "Model.forward"),
    ("info {d}/model.h5 --size 480", 2, "need height x width"),
    ("compare --weights {d}/model.h5 --backends numpy,numba", 2, "either an image or --random-image"),
    ("compare --weights {d}/model.h5 {d}/room.png --random-image 8x8", 2, "either an image or --random-image"),
    ("compare --weights {d}/model.h5 {d}/room.png --backends numpy", 2, "two different backends"),
    ("compare --weights {d}/model.h5 {d}/room.png --backends numpy,cuda", 2, "backend cuda is unknown"),
    ("convert {d}/model.h5 --arch pag_resnet50", 2, "Missing option '-o'"),
    ("convert {d}/model.h5 --arch pag_resnet50 -o {d}/text.h5", 2, "exists already"),
    ("convert {d}/model.h5 --arch pag_resnet50 -o {d}/empty --overwrite", 2, "need the name of a file"),
    ("convert {d}/model.h5 --arch pag_resnet50 -o {d}/nowhere/m.h5", 2, "there is no folder"),
    ("export-onnx {d}/model.h5", 2, "Missing argument 'OUT.onnx'"),
    ("export-onnx {d}/model.h5 {d}/text.h5", 2, "exists already"),
    ("export-onnx {d}/model.h5 {d}/empty --overwrite", 2, "need the name of a file"),
    ("export-onnx {d}/model.h5 {d}/nowhere/m.onnx", 2, "there is no folder"),
    ("export-onnx {d}/model.h5 m.onnx --batch 0", 2, "Invalid value for '--batch'"),
    # models
    ("run --weights {d}/none.h5 --backend numpy {d}/room.png", 3, "none.h5"),
    ("run --weights {d}/text.h5 --backend numpy {d}/room.png", 3, "text.h5"),
    ("run --weights {d}/room.png --backend numpy {d}/room.png", 3, "room.png"),
    ("run --weights {d}/empty --backend numpy {d}/room.png", 3, "empty"),
    ("info {d}/none.h5", 3, "none.h5"),
    ("compare --weights {d}/none.h5 {d}/room.png", 3, "none.h5"),
    ("convert {d}/none.h5 --arch pag_resnet50 -o m.h5", 3, "none.h5"),
    ("convert {d}/none.h5 --arch pag_resnet50 -o {d}/text.h5 --overwrite", 3, "none.h5"),
    ("convert {d}/model.h5 --arch pag_resnet50 -o m.h5", 3, "format"),
    # images
    (RUN + " {d}/none.png", 4, "none.png"),
    (RUN + " {d}/broken.png", 4, "broken.png"),
    (RUN + " {d}/text.png", 4, "text.png"),
    (RUN + " {d}/empty", 4, "empty"),
    (RUN + " {d}/" + "a" * 245 + ".png", 4, "name is too long"),
    ("compare --weights {d}/model.h5 {d}/text.png", 4, "text.png"),
]


@pytest.mark.parametrize("line, code, message", BAD, ids=[f"{code}-{message[:40]}" for _, code, message in BAD])
def test_bad_input(call, tmp_path, line, code, message):
    got, out, err = call(line)
    assert (got, out) == (code, "")
    assert message in err
    assert err.startswith("pagnp: error: ") and err.count("\n") == 1
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_an_empty_name_is_no_image(shared, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    weights = ["--weights", str(shared / "model.h5"), "--backend", "numpy", "--save", "labels"]
    assert main(["run", *weights, "", str(shared / "room.png")]) == 4
    assert "an empty name is no image" in capsys.readouterr().err
    assert names(tmp_path / "pagnp-out") == ["room.labels.png"]


def test_a_file_where_a_folder_must_be(call, tmp_path):
    (tmp_path / "pagnp-out").mkdir()
    (tmp_path / "pagnp-out" / "b").write_text("")
    code, out, err = call(RUN + " {d}/a/room.png {d}/b/room.png --save labels")
    assert (code, out) == (2, "") and f"{Path('pagnp-out/b')} is a file, not a folder" in err


def test_soft_gates_have_no_masks_to_save(call):
    code, _, err = call(RUN + " {d}/room.png --save labels,masks --gate-mode soft")
    assert (code, err) == (0, "pagnp: note: with --gate-mode soft there are no masks to save\n")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to any folder")
def test_read_only_out(call, tmp_path):
    tmp_path.chmod(0o500)
    code, _, err = call(RUN + " {d}/room.png --out deep/er")
    tmp_path.chmod(0o700)
    assert code == 2 and "no permission" in err


def test_unexpected_errors_hide_their_traceback(call, monkeypatch):
    def broken(*args, **kwargs):
        raise RuntimeError("boom\nand more")

    monkeypatch.setattr("pagnp.load", broken, raising=False)
    code, _, err = call("info {d}/model.h5")
    assert code == 1 and err.count("\n") == 1 and "RuntimeError: boom and more" in err and "--debug" in err
    for line in ("--debug info {d}/model.h5", "info {d}/model.h5 --debug"):
        code, _, err = call(line)
        assert code == 1 and "Traceback" in err


def test_memory_error(call, monkeypatch):
    def hungry(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr("pagnp.load", hungry, raising=False)
    code, _, err = call("info {d}/model.h5")
    assert code == 5 and err == "pagnp: error: out of memory; use a smaller image\n"


HUNGRY = [(heads, "predict", "use a smaller image, or bands"), (outputs, "_png", "ask for fewer with --save")]


@pytest.mark.parametrize(("module", "name", "advice"), HUNGRY, ids=["call", "pictures"])
def test_memory_that_ends_in_a_run_concerns_one_image(call, monkeypatch, module, name, advice):
    calls, original = [], getattr(module, name)

    def hungry(*args, **kwargs):
        calls.append(name)
        if len(calls) == 1:
            raise MemoryError
        return original(*args, **kwargs)

    monkeypatch.setattr(module, name, hungry)
    code, out, err = call(RUN + " {d}/photos/one.png {d}/photos/two.png --out out")
    assert code == 5 and err.count("\n") == 1 and "one.png: " in err and advice in err
    assert "one.png" not in out and "two.png" in out
