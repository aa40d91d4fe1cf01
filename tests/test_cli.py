"""The command line: exit codes and messages row by row, what is written, what is printed."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import pagnp
from pagnp import heads, modelfile, opset, outputs
from pagnp.cli import streams
from pagnp.cli.main import main
from pagnp.cli.options import GATE_MODES

ROOT = Path(__file__).resolve().parent.parent
SIZE = (24, 40)
GATES = ("layer1.0", "layer2.0")
HEADS = {
    "labels": {"task": "segmentation", "classes": ["wall", "floor", "ball"], "hidden": [8]},
    "depth": {"task": "depth", "unit": "m", "hidden": [8]},
    "normals": {"task": "normals", "hidden": [8]},
    "boundary": {"task": "boundary", "hidden": [8]},
}
MULTIPOOL = {"block": "layer4.1", "rates": [0, 1, 2], "mode": "hard", "tied": False, "hidden": [8, 8]}


@pytest.fixture(scope="module")
def graph():
    options = {"depth": 26, "width": 0.125, "output_stride": 8, "gate_bias": 0.0}
    return pagnp.nn.pag_resnet(seed=1, gated=list(GATES), multipool=MULTIPOOL, heads=HEADS, **options)


@pytest.fixture(scope="module")
def shared(graph, tmp_path_factory):
    """A folder with a model, good images and bad ones; tests only read it."""
    folder = tmp_path_factory.mktemp("cli")
    modelfile.write(graph, folder / "model.h5")
    plain = pagnp.Graph(3)
    plain.add("relu", "input", "out")
    plain.outputs = {"y": "out"}
    modelfile.write(plain, folder / "tensor.h5")
    rng = np.random.default_rng(5)
    for name in ("room.png", "a/room.png", "b/room.png", "b/room.jpg", "photos/one.png", "photos/two.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (*SIZE, 3), np.uint8)).save(folder / name)
    Image.open(folder / "room.png").save(folder / ("a" * 245 + ".png"))
    (folder / "empty").mkdir()
    (folder / "broken.png").write_bytes((folder / "room.png").read_bytes()[:200])
    (folder / "text.png").write_text("no image")
    (folder / "text.h5").write_text("no model")
    return folder


@pytest.fixture
def call(shared, tmp_path, monkeypatch, capsys):
    """Return a function: command line with {d} for the shared folder -> (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(line):
        code = main([part.replace("{d}", str(shared)) for part in line.split()])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


RUN = "run --weights {d}/model.h5 --backend numpy"
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


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


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


def spawn(*arguments, cwd, stderr=subprocess.PIPE):
    environment = {"TERM": "xterm", **os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "pagnp", *map(str, arguments)]
    heed = _heed_ctrl_c if os.name == "posix" else None
    pipes = {"stdout": subprocess.PIPE, "stderr": stderr}
    return subprocess.Popen(command, cwd=cwd, env=environment, text=True, preexec_fn=heed, **pipes)


def _heed_ctrl_c():
    """A shell's background jobs, such as a test run started with `&`, ignore Ctrl-C, and so would their children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_python_m_pagnp(tmp_path):
    process = spawn("--version", cwd=tmp_path)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, f"pagnp, version {pagnp.__version__}\n", "")


def test_ctrl_c(shared, tmp_path):
    large = tmp_path / "zlarge.png"
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (1500, 1500, 3), np.uint8)).save(large)
    options = ("--weights", shared / "model.h5", "--backend", "numpy", "--save", "labels", "--out", "out")
    process = spawn("run", *options, shared / "room.png", large, cwd=tmp_path)
    for _ in range(3):  # the head of the table, the first image, its gates: now the large one is under way
        process.stdout.readline()
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (130, "pagnp: interrupted\n")
    assert names(tmp_path / "out") == ["room.labels.png"]


def test_a_closed_pipe_is_no_error(shared, tmp_path):
    process = spawn("info", shared / "model.h5", "--json", cwd=tmp_path)
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert (process.wait(timeout=60), err) == (141, "")


@pytest.mark.parametrize("term, name", [("xterm", "one.png"), ("xterm", "[red]\x1b[2J.png"), ("dumb", "one.png")])
def test_progress_on_a_terminal_leaves_stdout_alone(shared, tmp_path, monkeypatch, term, name):
    monkeypatch.setenv("TERM", term)
    ours, theirs = pytest.importorskip("pty").openpty()
    (tmp_path / "photos").mkdir()
    for target in ("two.png", name):
        (tmp_path / "photos" / target).write_bytes((shared / "room.png").read_bytes())
    options = ("--weights", shared / "model.h5", "--backend", "numpy", "--save", "labels", "--json")
    process = spawn("run", *options, "photos", cwd=tmp_path, stderr=theirs)
    out, _ = process.communicate(timeout=120)
    os.write(theirs, b"end")
    os.close(theirs)
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert process.returncode == 0, shown
    assert len(json.loads(out)["images"]) == 2
    if term == "dumb":
        assert shown == "end"
    else:
        assert streams.printable(name) in shown and "digest" not in shown and "\x1b[2J" not in shown


ODD_NAMES = ["line\nbreak", "\x1b[31mred", "snow\u2603man", "bytes\udcff"]


@pytest.mark.skipif(sys.platform != "linux", reason="other file systems do not take these names")
@pytest.mark.parametrize("encoding", ["utf-8:strict", "ascii"])
def test_any_file_name_can_be_told(shared, tmp_path, monkeypatch, encoding):
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    (tmp_path / "in").mkdir()
    for name in ODD_NAMES:
        (tmp_path / "in" / f"{name}.png").write_bytes((shared / "room.png").read_bytes())
        (tmp_path / "in" / f"{name}-bad.png").write_bytes(b"no image")
    process = spawn(
        "run", "--weights", shared / "model.h5", "--backend", "numpy", "--save", "labels", "in", cwd=tmp_path
    )
    out, err = process.communicate(timeout=120)
    assert process.returncode == 4
    assert len(err.splitlines()) == len(ODD_NAMES) and "unexpected" not in err
    assert [line.split()[0] for line in out.splitlines()].count("kept") == len(ODD_NAMES)
    assert "line\\nbreak.png" in out and "\\x1b[31mred.png" in out and "\x1b" not in out + err
    assert len(names(tmp_path / "pagnp-out")) == len(ODD_NAMES)


def shell(line, shared, tmp_path):
    """Run `pagnp {line}` in a shell, for its redirections; return (exit code, stdout, stderr)."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "D": str(shared)}
    command = f"'{sys.executable}' -m pagnp {line}"
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, env=environment, text=True, capture_output=True)
    return done.returncode, done.stdout, done.stderr


STREAMS = [
    ("info $D/model.h5 >/dev/full", 2, "stdout: cannot be written"),
    ("info $D/model.h5 --json >/dev/full", 2, "stdout: cannot be written"),
    ("info $D/model.h5 >&-", 0, ""),
    ("info $D/none.h5 2>&-", 3, ""),
    ("info $D/none.h5 2>/dev/full", 3, ""),
    ("run --weights $D/model.h5 --backend numpy $D/room.png $D/text.png --save labels 2>&-", 4, ""),
    ("run --weights $D/model.h5 --backend numpy $D/text.png $D/room.png --save labels 2>/dev/full", 4, ""),
]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("line, code, message", STREAMS)
def test_closed_and_full_streams(shared, tmp_path, line, code, message):
    got, out, err = shell(line, shared, tmp_path)
    assert got == code
    assert message in err and "Traceback" not in err and len(err.splitlines()) == bool(message)
    assert ("run" in line) == bool(out)
    if "run" in line:
        assert names(tmp_path / "pagnp-out") == ["room.labels.png"]


@pytest.mark.skipif(os.name != "posix", reason="needs ulimit")
def test_convert_on_a_full_disk_leaves_nothing(graph, tmp_path):
    np.savez(tmp_path / "plain.npz", **graph.weights)
    options = {"depth": 26, "width": 0.125, "output_stride": 8, "gated": list(GATES), "multipool": MULTIPOOL}
    (tmp_path / "config.json").write_text(json.dumps({**options, "heads": HEADS}))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = f"ulimit -f 20; '{sys.executable}' -m pagnp convert plain.npz --arch config.json -o m.h5"
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, env=environment, text=True, capture_output=True)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("pagnp: error: m.h5: cannot be written (File too large)")
    assert done.stderr.count("\n") == 1 and names(tmp_path) == ["config.json", "plain.npz"]


def test_json_tells_what_was_done_before_a_full_disk(call, monkeypatch):
    from pagnp import outputs
    from pagnp.errors import UsageError

    write, calls = outputs.write, []

    def full(*args):
        calls.append(args)
        if len(calls) == 2:
            raise UsageError("disk full")
        return write(*args)

    monkeypatch.setattr(outputs, "write", full)
    code, out, err = call(RUN + " {d}/photos --json --save labels")
    assert (code, err) == (2, "pagnp: error: disk full\n")
    assert [Path(entry["path"]).name for entry in json.loads(out)["images"]] == ["one.png"]


def test_warnings_are_notices_of_one_line(capsys):
    before = warnings.showwarning
    with streams.prepared():
        warnings.warn("pagnp: the cache\ncannot be written", RuntimeWarning, stacklevel=2)
    assert capsys.readouterr() == ("", "pagnp: note: the cache cannot be written\n")
    assert warnings.showwarning is before


def test_info_keeps_its_columns_apart_at_any_size(call):
    _, out, _ = call("info {d}/model.h5 --size 4000x5000")
    last = out.splitlines()[-1]
    assert last.startswith("at 4000x5000  ") and "GMAC" in last
