"""Receipts: what `pagnp run --receipt` writes, what `pagnp verify` makes of it, and of what others make of it."""

import functools
import json
import os
import stat

import numpy as np
import pytest
from conftest import BACKENDS, load_backend
from PIL import Image
from test_model_process import FLUSH, X86, in_thread, write_mxcsr

import pagnp
from pagnp import model as model_module
from pagnp import modelfile, probes, receipt
from pagnp.backends import numba_cpu
from pagnp.cli.main import main

SIZE, TALL = (16, 24), (96, 16)
HEADS = {
    "labels": {"task": "segmentation", "classes": ["wall", "floor", "ball"], "hidden": [8]},
    "depth": {"task": "depth", "unit": "m", "hidden": [8]},
}
MULTIPOOL = {"block": "layer4.1", "rates": [0, 1, 2], "mode": "hard", "tied": False, "hidden": [8, 8]}
BRANCH = "layer1.0.relu2"  # a conv in a branch, which no receipt lists
SELECT = "layer1.0.select"  # that stands for it


def network(seed):
    options = {"depth": 26, "width": 0.125, "output_stride": 8, "gate_bias": 0.0}
    gated = ["layer1.0", "layer2.0"]
    return pagnp.nn.pag_resnet(seed=seed, gated=gated, multipool=MULTIPOOL, heads=HEADS, **options)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A folder with two models and some images; tests only read it."""
    folder = tmp_path_factory.mktemp("receipt")
    modelfile.write(network(1), folder / "model.h5")
    modelfile.write(network(2), folder / "other.h5")
    rng = np.random.default_rng(5)
    (folder / "photos").mkdir()
    for name in ("room.png", "photos/one.png", "photos/two.png", "other.png"):
        Image.fromarray(rng.integers(0, 256, (*SIZE, 3), np.uint8)).save(folder / name)
    Image.fromarray(rng.integers(0, 256, (30, 30, 3), np.uint8)).save(folder / "small.png")
    Image.fromarray(rng.integers(0, 256, (*TALL, 3), np.uint8)).save(folder / "tall.png")
    Image.open(folder / "room.png").save(folder / "room.jpg", quality=95)
    return folder


parsed = functools.cache(modelfile.read)


def read_once(path, **options):
    """The model files do not change, and reading one takes longer than all else here."""
    return parsed(os.path.realpath(path), **options)


@pytest.fixture
def call(shared, tmp_path, monkeypatch, capsys):
    """Return a function: command line with {d} for the shared folder -> (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(modelfile, "read", read_once)

    def run(line, **names):
        code = main([part.format(d=shared, **names) for part in line.split()])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


@pytest.fixture
def made(call):
    """A function: more options of `run` -> the receipt r.json in the current folder, as a dict."""

    def make(options="{d}/room.png"):
        code, _, err = call(f"run --weights {{d}}/model.h5 --save ponder --overwrite --receipt r.json {options}")
        assert code == 0, err
        return json.load(open("r.json"))

    return make


def verified(call, line="r.json"):
    """Return the exit code and the JSON of `pagnp verify`."""
    code, out, err = call(f"verify {line} --json")
    assert err == "", err
    return code, json.loads(out)


def changed(document, path, value):
    """Write r.json with one thing changed; `path` leads there."""
    *steps, last = path
    place = document
    for step in steps:
        place = place[step]
    if value is None:
        del place[last]
    else:
        place[last] = value
    json.dump(document, open("r.json", "w"))


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


@pytest.mark.parametrize(("first", "second"), [("numpy", "numba"), ("numba", "numpy")])
@pytest.mark.parametrize("options", REPLAYS)
def test_replays(call, made, options, first, second):
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
    assert code == 3 and "model.h5" in err
    assert call("verify sub/r.json --weights {d}/model.h5 --image {d}/room.png")[0] == 0
    for name in ("model.h5", "room.png"):
        (tmp_path / "sub" / name).symlink_to(shared / name)
    assert call("verify sub/r.json")[0] == 0


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
    changed(made(), ("contract",), "pagnp-bits/2")
    code, found = verified(call)
    assert code == 1 and found["finding"]["cause"] == "contract" and "pagnp-bits/2" in found["finding"]["text"]


def test_another_version_is_only_noted(call, made):
    changed(made(), ("pagnp",), "9.9.9")
    code, _, err = call("verify r.json")
    assert code == 0 and err == f"pagnp: note: the receipt is by pagnp 9.9.9, this is {pagnp.__version__}\n"


ZERO = "0" * 64
TAMPERED = [
    (("layers", 9, "digest"), ZERO, None, "numpy gives the same as numba here"),
    (("digests", "outputs/depth"), ZERO, "outputs/depth", "upsampling or decoding, all layers agree; numpy gives"),
    (("digests", "logits/depth"), ZERO, "logits/depth", "contradicts itself"),
    (("digests", "masks/layer1.0.gate"), ZERO, "masks/layer1.0.gate", "contradicts itself"),
    (("digest",), ZERO, "digest", "contradicts itself"),
    (("layers", 9), None, None, "the receipt does not list it"),
    (("layers", 9, "name"), "stranger", "layers/stranger", "this pagnp has no such value"),
    (("thresholds", "layer1.0.gate"), 0.5, "thresholds", "the search for the budget ended elsewhere"),
]


@pytest.mark.parametrize(("path", "value", "name", "text"), TAMPERED)
def test_a_changed_receipt_fails(call, made, path, value, name, text):
    document = made("{d}/room.png --budget 0.5")
    name = name or f"layers/{document['images'][0]['layers'][9]['name']}"
    changed(document, ("images", 0, *path), value)
    code, found = verified(call)
    [image] = found["images"]
    assert code == 1 and image["first_difference"]["name"] == name
    assert image["finding"]["cause"] == "receipt" and text in image["finding"]["text"]
    if path[-1] == "digest" and len(path) == 3:
        assert image["finding"]["places"] == ["exact arithmetic agrees with this machine at 8 of 8 elements"]
    code, out, _ = call("verify r.json --spot 1")
    assert code == 1 and f"first difference: {name}" in out and "cause (receipt)" in out


def test_a_machine_that_was_wrong_shows_in_its_probes(call, made, monkeypatch):
    """The receipt is made with a wrong kernel, and verified with the right ones."""
    with monkeypatch.context() as planted:
        plant(planted, "max_pool2d", all_up)
        made()
    [image] = verified(call)[1]["images"]
    assert image["first_difference"]["name"] == "layers/maxpool" and image["finding"]["cause"] == "receipt"
    [first, *_] = image["finding"]["places"]  # all elements were one unit up there: the first probe shows it
    here, there = first.split("here ")[1][:8], first.split("receipt ")[1][:8]
    assert first.startswith("layers/maxpool[0,0,0]  here ") and int(there, 16) == int(here, 16) + 1
    assert image["finding"]["places"][-1] == "exact arithmetic agrees with this machine at 8 of 8 elements"


def plant(monkeypatch, op, make):
    """Put a wrong kernel into the numba backend."""
    monkeypatch.setitem(numba_cpu._TABLE, op, make(numba_cpu._TABLE[op]))


def first_element_up(right):
    """The right kernel, then the first positive element moved by one unit in the last place."""

    def kernel(*args, threads=1):
        right(*args, threads=threads)
        out = args[-1].reshape(-1)
        if len(positive := np.flatnonzero(out > 0)):
            out[positive[0]] = np.nextafter(out[positive[0]], np.float32(np.inf))

    return kernel


def all_up(right):
    """The right kernel, then all moved by one unit in the last place."""

    def kernel(*args, threads=1):
        right(*args, threads=threads)
        args[-1][...] = np.nextafter(args[-1], np.float32(np.inf))

    return kernel


def only_at_sites(right):
    """A conv that is wrong only where a mask leaves pixels out."""

    def kernel(*args, threads=1):
        right(*args, threads=threads)
        sites, out = args[7], args[-1]
        if sites is not None and len(sites):
            flat = out.reshape(-1, out.shape[-1])
            flat[sites[0]] = np.nextafter(flat[sites[0]], np.float32(np.inf))

    return kernel


def wrong_in_bands(right):
    """A conv that is wrong where it computes a single row of a map: none of TALL's has only one."""

    def kernel(x, *args, threads=1):
        right(x, *args, threads=threads)
        if x.shape[-1] == 256 and args[-1].shape[1] == 1:
            args[-1][...] = np.nextafter(args[-1], np.float32(np.inf))

    return kernel


def test_a_wrong_kernel_here_is_named_with_place_and_bits(call, made, monkeypatch):
    document = made()
    plant(monkeypatch, "max_pool2d", first_element_up)
    [image] = verified(call)[1]["images"]
    finding = image["finding"]
    assert image["first_difference"]["name"] == "layers/maxpool" and finding["cause"] == "this backend"
    assert "numpy gives the receipt's bits, numba does not" in finding["text"]
    assert "maxpool (max_pool2d): 1 of" in finding["places"][0]
    got, want = finding["places"][1].split("got ")[1][:8], finding["places"][1].split("want ")[1][:8]
    assert int(got, 16) == int(want, 16) + 1 and finding["places"][1].endswith("1 ulp")
    assert "agrees with this machine at 0 of 1 elements" in finding["places"][2] and want in finding["places"][2]
    assert document["images"][0]["layers"][1]["name"] == "maxpool"
    code, out, _ = call("verify r.json")
    assert code == 1 and "layers/maxpool" in out and "DIFFERS" in out and f"got {got}" in out
    assert call("verify r.json --backend numpy")[0] == 0


def test_a_wrong_layer_inside_a_branch_is_named(call, made, monkeypatch):
    made()

    def wrong(right):
        def kernel(*args, threads=1):
            right(*args, threads=threads)
            weight_of_branch = args[2] is not None and args[2].shape == SCALE.shape and (args[2] == SCALE).all()
            if weight_of_branch:
                args[-1][...] = np.nextafter(args[-1], np.float32(np.inf))

        return kernel

    from pagnp.canonical import canonical
    from pagnp.fuse import fuse

    graph = canonical(network(1))
    SCALE = graph.weights[fuse(graph)[BRANCH].node.weights["scale"]]
    plant(monkeypatch, "conv2d", wrong)
    [image] = verified(call)[1]["images"]
    assert image["first_difference"]["name"] == f"layers/{SELECT}" and image["finding"]["cause"] == "this backend"
    assert f"layer {BRANCH} (conv2d), in a branch of {SELECT}" in image["finding"]["places"][0]


def test_wrong_perforation_is_named(call, made, monkeypatch):
    made("{d}/room.png --dense")
    document = made()
    assert verified(call)[0] == 0
    plant(monkeypatch, "conv2d", only_at_sites)
    [image] = verified(call)[1]["images"]
    assert image["first_difference"]["name"] == f"layers/{SELECT}"
    assert "right when computed densely: skipping pixels is what fails" in image["finding"]["places"][0]
    assert document["images"][0]["options"]["dense"] is False


def test_wrong_bands_are_named(call, made, monkeypatch):
    made("{d}/tall.png --tile 8")
    plant(monkeypatch, "conv2d", wrong_in_bands)
    [image] = verified(call)[1]["images"]
    assert image["first_difference"]["name"] == "layers/layer4.1.relu1"
    assert "right when computed whole: the bands are what fails" in image["finding"]["places"][0]


def test_wrong_decoding_is_named(call, made, monkeypatch):
    made()
    plant(monkeypatch, "argmax", lambda right: lambda x, out, threads=1: out.fill(2))
    [image] = verified(call)[1]["images"]
    assert image["first_difference"]["name"] == "outputs/labels" and image["finding"]["cause"] == "this backend"
    assert "upsampling or decoding" in image["finding"]["text"] and "got 2 (2)" in image["finding"]["places"][0]


def test_an_unsteady_machine_is_named(call, made, monkeypatch):
    made()
    calls = []

    def unsteady(right):
        def kernel(*args, threads=1):
            right(*args, threads=threads)
            calls.append(0)
            args[-1].reshape(-1)[0] += len(calls)

        return kernel

    plant(monkeypatch, "max_pool2d", unsteady)
    [image] = verified(call)[1]["images"]
    assert image["finding"]["cause"] == "unsteady" and image["first_difference"]["name"] == "layers/maxpool"


def test_spot_finds_a_wrong_kernel_alone(call, made, monkeypatch):
    """The receipt is of the same wrong machine: no digest differs, exact arithmetic does."""
    plant(monkeypatch, "max_pool2d", all_up)
    made()
    assert verified(call)[0] == 0
    code, found = verified(call, "r.json --spot 2")
    [image] = found["images"]
    assert code == 1 and image["first_difference"] is None and image["finding"]["cause"] == "this backend"
    assert "maxpool (max_pool2d) is not what exact arithmetic makes of its inputs" in image["finding"]["text"]
    assert [spot["name"] for spot in image["spots"] if spot["agree"] < spot["recomputed"]] == ["maxpool"]
    code, out, _ = call("verify r.json --spot 2")
    assert code == 1 and "DIFFERS" in out and "cause (this backend)" in out


@pytest.mark.skipif(not X86, reason="sets a register of x86")
@pytest.mark.parametrize("backend", BACKENDS)
def test_flushed_subnormals_are_named(call, made, backend):
    made()
    codes = []

    def spoilt():
        write_mxcsr(0x1F80 | FLUSH)
        codes.append(verified(call, f"r.json --backend {backend}"))

    assert in_thread(spoilt) is None
    code, found = codes[0]
    assert code == 1 and found["finding"]["cause"] == "subnormals" and "flushes" in found["finding"]["text"]


@pytest.mark.skipif(not X86, reason="sets a register of x86")
def test_subnormals_flushed_after_the_start_are_named(call, made, monkeypatch):
    """A library that is loaded between two images: here by the planted kernel, in the thread that calls."""
    made()
    codes = []

    def spoiling(right):
        def kernel(*args, threads=1):
            right(*args, threads=threads)
            write_mxcsr(0x1F80 | FLUSH)

        return kernel

    plant(monkeypatch, "max_pool2d", spoiling)
    assert in_thread(lambda: codes.append(verified(call, "r.json --threads 2"))) is None
    code, found = codes[0]
    assert code == 1 and found["images"][0]["finding"]["cause"] == "subnormals"


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


HOSTILE = [
    (b"", "is no receipt"),
    (b"\x89HDF\r\n", "is no receipt"),
    (b"{", "is not valid JSON"),
    (b"[]", "is no receipt"),
    (b'{"format": "pagnp-model"}', "is no receipt"),
    (b'{"\xff": 1}', "is not valid JSON"),
    (b'{"format": "pagnp-receipt", "format": "pagnp-receipt"}', "appears twice"),
    (b'{"format": "pagnp-receipt", "format_version": 2}', "newer than this pagnp"),
    (b'{"format": "pagnp-receipt", "format_version": 1}', "is a required property"),
    (b'{"a":' * 100000, "nested deeper"),
    (b'{"format": NaN}', "NaN is not allowed"),
    (b'{"format": "a\\u001bc"}', "control characters"),
    (b'{"format": ' + b"9" * 5000 + b"}", "is too large"),
]


@pytest.mark.parametrize(("content", "text"), HOSTILE)
def test_hostile_receipts_are_refused(call, content, text, tmp_path):
    (tmp_path / "r.json").write_bytes(content)
    code, out, err = call("verify r.json")
    assert code == 2 and out == "" and text in err and err.count("\n") == 1 and len(err) < 500


BROKEN = [
    (("images",), []),
    (("images", 0, "pixels"), "abc"),
    (("images", 0, "options", "budget"), 2),
    (("images", 0, "options", "gate_mode"), "harder"),
    (("images", 0, "options", "noise"), 1),
    (("images", 0, "size"), [0, 1]),
    (("images", 0, "layers", 0, "name"), "../../etc"),
    (("images", 0, "probes", "outputs/depth"), "3F80000"),
    (("images", 0, "probes", "outputs/depth"), "3F800000 "),
    (("images", 0, "thresholds"), [1]),
    (("model", "path"), ""),
    (("model", "hash"), None),
]


@pytest.mark.parametrize(("path", "value"), BROKEN)
def test_receipts_against_the_schema_are_refused(call, made, path, value):
    changed(made(), path, value)
    code, out, err = call("verify r.json")
    assert code == 2 and out == "" and "r.json: $" in err and err.count("\n") == 1


ODD = [
    (("images", 0, "probes", "outputs/depth"), "00 00000000 00"),
    (("images", 0, "probes"), {"outputs/stranger": "00"}),
    (("images", 0, "thresholds"), {"layer1.0.gate": 1e300, "layer2.0.gate": 1e300}),
    (("images", 0, "thresholds"), {}),
    (("images", 0, "options", "seed"), 1.0),
    (("images", 0, "layers"), []),
]


@pytest.mark.parametrize(("path", "value"), ODD)
def test_receipts_that_only_look_right_are_no_crash(call, made, path, value):
    document = made("{d}/room.png --budget 0.5")
    document["images"][0]["layers"][5]["digest"] = ZERO
    changed(document, path, value)
    assert call("verify r.json")[0] == 1


def test_files_that_are_no_receipts(call, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, text in (("nowhere.json", "No such file"), (".", "no regular file"), ("pipe", "no regular file")):
        code, _, err = call(f"verify {name}")
        assert code == 2 and text in err
    with open(tmp_path / "large.json", "wb") as file:
        file.write(b"{")
        file.truncate(receipt.MAX_BYTES + 1)
    code, _, err = call("verify large.json")
    assert code == 2 and "need at most" in err


def test_a_receipt_is_whole_or_not_there(made, tmp_path, monkeypatch):
    made()
    before = (tmp_path / "r.json").read_bytes()
    assert stat.S_ISREG(os.stat("r.json").st_mode) and sorted(os.listdir(".")) == ["pagnp-out", "r.json"]

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(receipt, "write_atomic", receipt.write_atomic)
    monkeypatch.setattr("pagnp.files._publish", full)
    model = pagnp.Model(network(1), "numpy")
    recorder = receipt.Recorder(model, "model.h5")
    recorder.add("x.png", model(np.zeros((8, 8, 3), np.uint8), trace="digests"), {})
    with pytest.raises(pagnp.errors.UsageError, match="No space left"):
        recorder.write("r.json", overwrite=True)
    assert (tmp_path / "r.json").read_bytes() == before and sorted(os.listdir(".")) == ["pagnp-out", "r.json"]


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
