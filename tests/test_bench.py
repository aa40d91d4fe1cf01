"""`pagnp bench`: its documents, tables and plots, peers, and processes. No seconds."""

# ruff: noqa: F811 - fixtures are imported, and arguments have their names

import json
import sys
from xml.etree import ElementTree

import numpy as np
import pytest
from bench_network import graph, quick, subject  # noqa: F401
from PIL import Image

from pagnp import modelfile
from pagnp.bench import environment, figures, masks, opcases, ops, peers, process, session
from pagnp.bench.timing import Times
from pagnp.cli import bench_ops
from pagnp.cli.main import main
from pagnp.contract import compare
from pagnp.errors import BackendError
from pagnp.graph import Graph


@pytest.fixture
def call(graph, tmp_path, monkeypatch, capsys):
    """Return a function: command line, with {m} for a model file -> (exit code, stdout, stderr)."""
    modelfile.write(graph, tmp_path / "model.h5")
    monkeypatch.chdir(tmp_path)

    def run(line):
        code = main([part.replace("{m}", "model.h5") for part in line.split()])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


BENCH = "bench --weights {m} --size 40x56 --threads 1 --rounds 2"


def test_the_document_of_a_network(call, graph):
    code, out, err = call(f"{BENCH} --keep 0.5,0.25 --masks blobs,gates --layers --json")
    assert code == 0, err
    document = json.loads(out)
    assert set(document) == {"environment", "network", "sections", "skipped"}
    assert document["environment"]["rounds"] == 2 and document["environment"]["packages"]["numpy"] == np.__version__
    assert document["network"]["input"] == [1, 40, 56, 3] and document["network"]["gates"] == 3
    (section,) = document["sections"]
    names = ["dense", "keep 0.5 blobs", "keep 0.25 blobs", "keep 0.5 gates", "keep 0.25 gates"]
    assert section["threads"] == 1 and [row["name"] for row in section["rows"]] == [f"pagnp {name}" for name in names]
    for row in section["rows"]:
        assert len(row["seconds"]["rounds"]) == 2 and row["seconds"]["least"] <= row["seconds"]["median"]
        assert set(row["ratios"]) == {"dense"} and 0 < row["macs_share"] <= 1
        assert row["share_of_peak"] > 0 and row["share_in_round"] > 0
    assert abs(section["rows"][1]["kept"] - 0.5) < 0.03
    for name, found in section["layers"].items():
        assert name in names
        assert found["sum"] + found["outside"] == pytest.approx(found["total"])
        steps = {step["name"] for step in found["steps"]}
        assert {"relu", "layer1.0.relu2", "heads.labels.conv2"} <= steps
        assert all(step["seconds"]["median"] > 0 and step["bytes"] > 0 for step in found["steps"])


def test_the_table_of_a_network_and_its_plot(call, tmp_path):
    code, out, err = call(f"{BENCH} --keep 0.5 --layers --plot plot.svg")
    assert code == 0, err
    assert environment.cpu_name() in out and "numpy" in out.splitlines()[0] and "2 rounds" in out.splitlines()[0]
    for text in ("pagnp dense", "pagnp keep 0.5 gates", "time / dense", "steps of dense", "outside the steps", "whole"):
        assert text in out
    tree = ElementTree.parse(tmp_path / "plot.svg").getroot()
    circles = tree.findall("{http://www.w3.org/2000/svg}circle")
    assert len(circles) == 2 + 1  # two points, and one in the legend


def series_document(sections):
    """A document with invented times; every name holds what XML would trip over."""
    times = {"median": 0.1, "least": 0.09, "most": 0.2}
    rows = [{"name": "pagnp dense", "kept": 1.0, "masks": None, "seconds": times}]
    rows += [{"name": "", "kept": keep, "masks": "random", "seconds": times} for keep in (0.5, 0.1)]
    rows += [{"name": "a<b&c", "seconds": times}]
    part = {"threads": 1, "rows": rows}
    return {"network": {"macs": 100, "gated_macs": 40}, "sections": [part] * sections}


@pytest.mark.parametrize("sections", (1, 2, 3))
def test_plots(sections, tmp_path):
    panels = figures.network_panels(series_document(sections))
    assert panels[0].ideal == ((0.0, pytest.approx(60.0)), (1.0, pytest.approx(100.0)))
    assert [point[0] for point in panels[0].series[0].points] == [1.0, 0.5, 0.1]
    for ending in ("svg", "png"):
        figures.save(str(tmp_path / f"p.{ending}"), "a <title> & more", panels)
    tree = ElementTree.parse(tmp_path / "p.svg").getroot()
    texts = [element.text for element in tree.iter() if element.tag.endswith("text")]
    assert "a <title> & more" in texts and texts.count("a<b&c 100") == sections
    width, height = float(tree.attrib["width"]), float(tree.attrib["height"])
    for element in tree.iter():
        assert 0 <= float(element.attrib.get("x", 0)) <= width and 0 <= float(element.attrib.get("y", 0)) <= height
    with Image.open(tmp_path / "p.png") as image:
        assert image.size == (2 * width, round(2 * height))
        assert len(image.convert("RGB").getcolors(1 << 20)) > 100  # lines, text and their edges


def test_every_op_is_timed(monkeypatch):
    monkeypatch.setattr(opcases, "WIDTHS", {64: (240, 320, 1)})
    monkeypatch.setattr(ops, "WIDTHS", {64: (240, 320, 1)})
    monkeypatch.setattr(ops, "WIDEST", 64)
    document = bench_ops.run_ops(list(opcases.OPS), [1.0, 0.25], [1], [], 1, scale=0.1)
    (section,) = document["sections"]
    assert {group["op"] for group in section["groups"]} == set(opcases.OPS)
    for group in section["groups"]:
        assert all(row["seconds"]["median"] > 0 and row["bytes"] > 0 for row in group["rows"])
        if group["op"] == "perforated":
            dense, whole, quarter = group["rows"]
            assert whole["macs"] == dense["macs"] and quarter["macs"] == round(dense["macs"] * quarter["keep"])
            assert "dense" in quarter["ratios"]
        if group["op"] == "multipool":
            dense, *pools = group["rows"]
            assert len(pools) == 4
            assert all(abs(row["macs"] / dense["macs"] - 6 / 7) < 0.1 for row in pools)
    panels = figures.ops_panels(document)
    assert [len(panel.series) for panel in panels] == [2]


def test_a_layer_again_gives_the_same_and_at_a_mask_only_its_pixels():
    prepared = ops.Prepared(opcases.conv_graph(3, 4, 3, 1, 1), (9, 11, 3), 1)
    out = prepared.run.value("relu")
    want = out.copy()
    out[...] = np.nan
    prepared.again()
    assert not compare(out, want)
    mask = masks.mask("random", 9, 11, 0.3, 0)[None]
    out[...] = -1
    prepared.at(mask)
    assert not compare(out[mask], want[mask]) and (out[~mask] == -1).all()


@pytest.mark.parametrize("name, module", (("torch", "torch"), ("onnxruntime", "onnxruntime")))
def test_a_peer_that_is_missing_is_skipped_with_the_reason(call, monkeypatch, name, module):
    monkeypatch.setitem(sys.modules, module, None)
    code, out, err = call(f"{BENCH} --peers {name} --json")
    assert code == 0
    assert json.loads(out)["skipped"] == {name: f"cannot import {module}"}
    assert f"pagnp: note: {name} is skipped: cannot import {module}" in err
    code, out, err = call(f"bench ops --op softmax --threads 1 --rounds 1 --peers {name} --json")
    assert code == 0 and list(json.loads(out)["skipped"].values()) == [f"cannot import {module}"]


@pytest.mark.parametrize("name", ("torch-eager", "onnxruntime"))
def test_a_peer_computes_the_same(subject, name):
    for module in environment.PEERS[name]:
        pytest.importorskip(module, reason=f"{module} is not installed")
    peer = peers.make(name, subject.graph, subject.x, 1)
    found = peer.run()
    array = found["labels"].numpy() if isinstance(found, dict) else found[0]
    want = subject.model.forward(subject.x)["labels"]
    assert np.mean(np.abs(array.transpose(0, 2, 3, 1) - want) < 1e-3) > 0.99  # a gate may fall otherwise


def test_peers_are_in_every_row(call):
    pytest.importorskip("torch", reason="torch is not installed")
    code, out, err = call(f"{BENCH} --peers torch-eager --keep 0.5")
    assert code == 0, err
    assert "time / torch-eager" in out and "torch-eager: channels_last" in out


def test_processes_are_measured_and_a_failing_one_is_named():
    code = "x = bytearray(64 << 20); print(len(x))"
    commands = {"big": [sys.executable, "-c", code], "small": [sys.executable, "-c", "pass"]}
    found = process.run_rounds(commands, 2)
    big, small = found["big"], found["small"]
    assert len(big.times.seconds) == 2 and min(big.times.seconds) > 0
    assert min(big.peaks) - max(small.peaks) > 60 << 20 and max(small.peaks) < 100 << 20
    with pytest.raises(BackendError, match="'bad' ended with exit code 1: ValueError: so it is"):
        process.run_rounds({"bad": [sys.executable, "-c", "raise ValueError('so it is')"]}, 1)


@pytest.mark.parametrize("name", ("torch", "onnxruntime"))
def test_a_peers_program_writes_our_labels(graph, tmp_path, name):
    for module in process.PEERS[name]:
        pytest.importorskip(module, reason=f"{module} is not installed")
    model, picture = process.prepare(graph, None, None, (37, 50), 1, tmp_path)
    done = process.launch(process.peer_command(name, graph, picture, tmp_path))
    assert done["code"] == 0, done["error"]
    assert main(["run", "--weights", model, "--out", str(tmp_path / "out"), "--save", "labels", picture]) == 0
    theirs, ours = (
        np.array(Image.open(path)) for path in (tmp_path / f"{name}.png", tmp_path / "out/image.labels.png")
    )
    assert theirs.shape == ours.shape == (37, 50) and np.mean(theirs == ours) > 0.98
    assert process.our_commands(model, picture, 1, tmp_path)[process.OURS][-2:] == ["--save", "labels"]


def test_the_document_of_processes(call, monkeypatch):
    def measured(commands, rounds, progress):
        return {name: process.Measured(Times((0.5, 0.7)), (1 << 20, 3 << 20)) for name in commands}

    monkeypatch.setattr(process, "run_rounds", measured)
    monkeypatch.setattr(process, "PEERS", {"torch": ("no_such_package",)})
    code, out, err = call("bench process --weights {m} --size 40x56 --threads 1 --peers torch --json")
    assert code == 0 and "torch is skipped: no_such_package is not installed" in err
    (section,) = json.loads(out)["sections"]
    assert {row["name"] for row in section["rows"]} >= {"pagnp run", "import numpy, pagnp"}
    assert section["rows"][0]["peak_bytes"]["median"] == 2 << 20 and section["import_pagnp"]["median"] == 0
    code, out, _ = call("bench process --weights {m} --size 40x56 --threads 1")
    assert code == 0 and "2.0 (1.0 - 3.0)" in out


@pytest.mark.parametrize(
    "line, code, message",
    (
        ("bench", 2, "either --weights MODEL.h5 or --network"),
        ("bench --weights {m} --network pag_resnet50", 2, "either --weights MODEL.h5 or --network"),
        ("bench --network resnet18", 2, "--network resnet18 is unknown; choose one of pag_resnet26"),
        ("bench --weights none.h5", 3, "none.h5"),
        ("bench --weights {m} --size 480", 2, "need height x width"),
        ("bench --weights {m} --keep 1.5", 2, "--keep 1.5: need shares between 0 and 1"),
        ("bench --weights {m} --keep half", 2, "--keep half: need shares"),
        ("bench --weights {m} --threads 0", 2, "--threads 0: need whole numbers"),
        ("bench --weights {m} --masks stripes", 2, "--masks stripes is unknown"),
        ("bench --weights {m} --peers jax", 2, "--peers jax is unknown; choose from torch, torch-eager, onnxruntime"),
        ("bench --weights {m} --plot p.svg", 2, "give --keep"),
        ("bench --weights {m} --plot p.pdf --keep 0.5", 2, "need a name that ends in .svg or .png"),
        ("bench --weights {m} --rounds 0", 2, "--rounds"),
        ("bench ops --op conv3d", 2, "--op conv3d is unknown"),
        ("bench ops --op softmax --plot p.svg", 2, "perforated"),
        ("bench process --weights {m} --peers jax", 2, "--peers jax is unknown"),
    ),
)
def test_wrong_use(call, line, code, message):
    got, out, err = call(line)
    assert (got, out) == (code, "") and message in err and len(err.splitlines()) == 1


def test_processes_need_a_model_that_labels_images(call, tmp_path):
    plain = Graph(3)
    plain.add("relu", "input", "out")
    plain.outputs = {"y": "out"}
    modelfile.write(plain, tmp_path / "plain.h5")
    code, _, err = call("bench process --weights plain.h5 --threads 1")
    assert code == 2 and "a head that labels pixels" in err


def test_ctrl_c_ends_with_130(call, monkeypatch):
    def interrupted(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(session, "interleave", interrupted)
    code, _, err = call(BENCH)
    assert code == 130 and "interrupted" in err
