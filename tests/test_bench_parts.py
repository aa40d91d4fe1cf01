"""What `pagnp bench` is made of: order and count of the calls, exact masks and work, rooflines and peaks."""

# ruff: noqa: F811 - fixtures are imported, and arguments have their names

import numpy as np
import pytest
from bench_network import GATED, SIZE, SMALL, graph, quick, subject  # noqa: F401

import pagnp
from pagnp.bench import masks, network, peak, roofline
from pagnp.bench.timing import Ratio, Times, interleave, ratio
from pagnp.contract import compare
from pagnp.errors import UsageError
from pagnp.flops import count_macs


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
