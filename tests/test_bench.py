"""`pagnp bench`: what is timed and in which order, masks and work that are exact, documents and plots. No seconds."""

import functools
import json
import sys
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

import pagnp
from pagnp import modelfile
from pagnp.bench import environment, figures, masks, network, opcases, ops, peak, peers, process, roofline, session
from pagnp.bench.timing import Ratio, Times, interleave, ratio
from pagnp.cli import bench_ops
from pagnp.cli.main import main
from pagnp.contract import compare
from pagnp.errors import BackendError, UsageError
from pagnp.flops import count_macs
from pagnp.graph import Graph

SIZE = (40, 56)
HEADS = {"labels": {"task": "segmentation", "classes": 5, "hidden": [8]}}
POOL = {"block": "layer4.1", "rates": [0, 1, 2], "hidden": [8, 8]}
GATED = ["layer1.0", "layer2.1", "layer3.0"]
SMALL = {"depth": 26, "width": 0.125, "gated": GATED, "multipool": POOL, "heads": HEADS, "gate_bias": 0.0}


@pytest.fixture(scope="module")
def graph():
    return pagnp.nn.pag_resnet(**SMALL)


@pytest.fixture
def subject(graph):
    return network.Subject(graph, network.random_input(graph, SIZE), 1)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Measure the machine's peaks on next to nothing, and nothing longer than once."""
    monkeypatch.setattr(peak, "l3_bytes", lambda: 1 << 16)
    monkeypatch.setattr(peak.FmaPeak.__init__, "__defaults__", (1 << 8,))
    monkeypatch.setattr("gc.collect", lambda: None)  # a test run has much to look through
    hasty = functools.partial(interleave, least=0.0, wait=lambda: None)
    for module in (ops, session, peers):
        monkeypatch.setattr(module, "interleave", hasty)


class Stage:
    """A clock that moves only when one of its runs is called."""

    def __init__(self):
        self.now, self.calls = 0.0, ""

    def run(self, name, seconds):
        def call():
            self.calls += name
            self.now += seconds.pop(0) if isinstance(seconds, list) else seconds

        return call


def test_rounds_are_interleaved_after_two_warm_up_calls():
    stage, seen = Stage(), []
    runs = {"a": stage.run("a", [9, 2, 1, 2, 4]), "b": stage.run("b", [9, 2, 2, 4, 2])}
    wait = lambda: stage.run(".", 100)()  # noqa: E731
    times = interleave(runs, 3, least=1.0, clock=lambda: stage.now, wait=wait, progress=seen.append)
    assert stage.calls == "aabb" + ".a.b" * 3
    assert times == {"a": Times((1, 2, 4)), "b": Times((2, 4, 2))}
    assert seen == [part / 6 for part in range(1, 7)]
    assert (times["a"].median, times["a"].least, times["a"].most) == (2, 1, 4)
    assert ratio(times["a"], times["b"]) == Ratio(1.0, (0.5, 0.5, 2.0))
    assert ratio(times["a"], times["b"]).as_json() == {"of_medians": 1.0, "median": 0.5, "least": 0.5, "most": 2.0}


def test_short_runs_are_repeated_and_the_seconds_are_of_one():
    stage = Stage()
    times = interleave({"a": stage.run("a", 0.25)}, 2, least=1.0, clock=lambda: stage.now, wait=lambda: None)
    assert stage.calls == "aa" + "a" * 2 * (1 + 4)  # before each measurement one call that is not timed
    assert times["a"].seconds == (0.25, 0.25)


@pytest.mark.parametrize("kind", ("blobs", "random"))
def test_masks_have_an_exact_share_and_are_the_same_every_time(kind):
    for h, w in ((1, 1), (3, 50), (60, 80)):
        for keep in (0.0, 0.1, 1 / 3, 0.5, 1.0):
            found = masks.mask(kind, h, w, keep, 7)
            assert found.shape == (h, w) and np.count_nonzero(found) == round(keep * h * w)
            assert np.array_equal(found, masks.mask(kind, h, w, keep, 7))
    counts = np.bincount(masks.choice(kind, 59, 83, 7, 1).ravel(), minlength=7)
    assert counts.max() - counts.min() <= 1
    assert not np.array_equal(masks.mask(kind, 60, 80, 0.5, 1), masks.mask(kind, 60, 80, 0.5, 2))


def test_blobs_hang_together():
    borders = {k: np.count_nonzero(np.diff(masks.mask(k, 60, 80, 0.5, 3))) for k in ("blobs", "random")}
    assert borders["blobs"] * 5 < borders["random"]


@pytest.mark.parametrize("kind", ("blobs", "random"))
@pytest.mark.parametrize("keep", (0.0, 0.3, 1.0))
def test_a_forced_keep_rate_is_what_is_computed(subject, kind, keep):
    way = subject.at(keep, kind)
    run = subject.finished(way)
    for name in GATED:
        value = run.plan.values[f"{name}.gate"]
        assert (
            run.counts[f"{name}.relu2"]
            == np.count_nonzero(run.value(f"{name}.gate"))
            == round(keep * value.h * value.w)
        )
    macs = count_macs(run.plan, run.counts)
    assert abs(network.kept(macs) - keep) < 0.03 and subject.macs(way) == macs
    dense = subject.model.forward(subject.x, dense=True, **way.options)
    for output, array in subject.run(way).items():
        assert not compare(array, dense[output])
    free, forced = (run.value("layer4.1.multipool") for run in (subject.finished(subject.dense()), run))
    assert free.shape == forced.shape and len(np.unique(forced)) > 1  # the MultiPool chooses for itself


def test_the_networks_own_gates_come_near_a_keep_rate(subject):
    thresholds = {}
    dense, way = network.ways(subject, [0.4], ["gates"], thresholds)
    assert abs(network.kept(subject.macs(way)) - 0.4) < 0.1
    assert thresholds == {0.4: way.options["threshold"]}
    assert network.kept(subject.macs(dense)) == 1.0


def test_a_keep_rate_needs_gates():
    plain = pagnp.nn.pag_resnet(**{**SMALL, "gated": None, "multipool": None})
    subject = network.Subject(plain, network.random_input(plain, SIZE), 1)
    for kind in masks.KINDS:
        with pytest.raises(UsageError, match="no two-way gates"):
            subject.at(0.5, kind)


def gated_block():
    """A 3x3 conv where a gate says so, a 1x1 elsewhere, from 3 channels to 5."""
    g = pagnp.nn.GraphBuilder(3)
    carried = g.conv("input", 5, kernel=1, name="carried")
    mask = g.gate(g.conv("input", 2, kernel=1, bias=True, name="z"), name="gate")
    return g.finish({"y": g.select(mask, (carried, g.conv("input", 5, kernel=3, padding=1, name="body")), name="out")})


def test_work_counts_multiply_adds_and_bytes():
    graph = gated_block()
    model, x = pagnp.Model(graph, threads=1), np.ones((1, 4, 6, 3), np.float32)
    noise = np.zeros((4, 6, 2), np.float32)
    noise[..., 1] = -masks.CERTAIN
    noise[0, 0, 1] = masks.CERTAIN  # one pixel in a corner: its 3x3 reads four
    run = model.run(x, gate_mode="gumbel_hard", noise={"gate": noise})
    works = roofline.works(graph, run)
    found = {(work.name, work.kind): work for work in works}
    assert found["carried", "conv2d"] == roofline.Work("carried", "conv2d", 23 * 15, 4 * (23 * 3 + 15 + 23 * 5))
    assert found["body", "conv2d"] == roofline.Work("body", "conv2d", 135, 4 * (4 * 3 + 135 + 5))
    assert found["gate", "kernel"] == roofline.Work("gate", "kernel", 0, 24 * 2 * 4 + 24)
    assert [work.bytes for work in works if work.kind == "pick"] == [24 * 2 + 4 * 23, 24 * 2 + 4]
    assert sum(work.macs for work in works) == count_macs(run.plan, run.counts)["executed"]


def test_work_counts_the_residual():
    g = pagnp.nn.GraphBuilder(4)
    a = g.conv("input", 6, kernel=1, name="a")
    graph = g.finish({"y": g.relu(g.add(g.conv("input", 6, kernel=3, padding=1, name="b"), a, name="sum"), name="y")})
    run = pagnp.Model(graph, threads=1).run(np.ones((2, 5, 7, 4), np.float32))
    found = {work.name: work for work in roofline.works(graph, run)}
    assert found["y"].macs == 2 * 35 * 6 * 36
    assert found["y"].bytes == 4 * (2 * 35 * 4 + 6 * 36 + 2 * 35 * 6 * 2)


def test_the_roofline_is_bound_by_the_slower_side():
    peaks = roofline.Peaks(flops=100.0, bandwidth=10.0)
    heavy, light = roofline.Work("", "", 500, 20), roofline.Work("", "", 5, 20)
    assert (roofline.bound(heavy, peaks), roofline.attainable(heavy, peaks)) == ("compute", 10.0)
    assert (roofline.bound(light, peaks), roofline.attainable(light, peaks)) == ("memory", 2.0)


def test_the_peaks_compute_what_they_count():
    fma, streams = peak.FmaPeak(1, steps=10), peak.Streams(1, size=1200)
    fma()
    streams()
    # Chain i starts at i and gains 10 * 0.5 * 0.5.
    assert (fma.outputs[:, : peak.LANES] == sum(range(peak.CHAINS)) + 2.5 * peak.CHAINS).all()
    assert fma.flops == 2 * peak.CHUNKS * 10 * peak.CHAINS * peak.LANES
    assert streams.bytes == 1200 and (streams.arrays[2] == 3).all()


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
