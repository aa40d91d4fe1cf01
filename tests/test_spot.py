"""Spot checks by exact arithmetic: right kernels pass for every op of a graph, wrong ones do not."""

import dataclasses

import numpy as np
import pytest
from conftest import load_backend
from random_graphs import random_graph

import pagnp
from pagnp import opset
from pagnp.backends.base import get_backend
from pagnp.canonical import canonical
from pagnp.fuse import fuse
from pagnp.graph import INPUT
from pagnp.lower import lower
from pagnp.parameters import prepare
from pagnp.runner import execute
from pagnp.testing import spot, spot_run

SEEDS = range(400)  # at least LEAST of them, and until every op of opset was met
LEAST = 40
ELEMENTS = 3


def layers_of(graph, h, w, seed, backend):
    """Layer -> array (1, h, w[, c]) of a dense run on random numbers, the input among them."""
    x = np.random.default_rng(seed).standard_normal((1, h, w, graph.channels), np.float32)
    arrays = {INPUT: x}
    watch = lambda name, array: arrays.__setitem__(name, array.copy())  # noqa: E731
    execute(lower(graph, h, w, dense=True), backend, prepare(graph, backend), x, None, watch)
    return arrays


def spots_of(graph, arrays, backend, count=ELEMENTS):
    """The Spots of all layers."""
    noise = spot_run.gumbel_noise(graph, arrays, backend, 0)
    values = spot.Values(graph, arrays, backend, noise=noise)
    for number, (name, layer) in enumerate(fuse(graph).items()):
        yield spot.layer_spot(values, layer, arrays[name], spot.places(arrays[name].size, count, (5, number)))
    for name, array in noise.items():
        yield spot.noise_spot(name, graph.nodes[name].attrs, array, 0, spot.places(array.size, count, (6,)))


def test_every_op_of_the_engine_is_what_exact_arithmetic_says():
    numba, seen = load_backend("numba", 1), set()
    for seed in SEEDS:
        if seed >= LEAST and seen >= set(opset.OPS):
            break
        graph, h, w = random_graph(seed)
        for found in spots_of(graph, layers_of(graph, h, w, seed, numba), numba):
            assert found.ok and found.recomputed == min(ELEMENTS, found.size), f"seed {seed}: {found}"
            seen.add(found.op)
        seen.update(node.op for node in graph.nodes.values())  # members of layers, too
    assert seen >= set(opset.OPS), f"not met: {set(opset.OPS) - seen}"


def test_an_add_that_broadcasts_behind_a_conv():
    """Such a layer is run one by one; the oracle follows it."""
    graph = pagnp.Graph(2)
    rng = np.random.default_rng(4)
    graph.weights |= {
        "w": rng.standard_normal((3, 2, 1, 1), np.float32),
        "v": rng.standard_normal((3, 2, 1, 1), np.float32),
    }
    plain = {"stride": [1, 1], "padding": [0] * 4, "dilation": [1, 1], "groups": 1}
    small = graph.add(
        "max_pool2d", "input", "small", kernel=[3, 4], stride=[1, 1], padding=[0] * 4, dilation=[1, 1], ceil_mode=False
    )
    first = graph.add("conv2d", "input", "first", {"weight": "w"}, **plain)
    second = graph.add("conv2d", small, "second", {"weight": "v"}, **plain)
    graph.outputs = {"y": graph.add("relu", graph.add("add", (first, second), "sum"), "out")}
    graph, numba = canonical(graph.validate()), load_backend("numba", 1)
    assert fuse(graph)["out"].residual == "first"
    found = {f.name: f for f in spots_of(graph, layers_of(graph, 3, 4, 1, numba), numba, 1000)}
    assert found["out"].ok and found["out"].recomputed == 36


def network(op, **attrs):
    """A model of one op, or of what it needs beside, with heads that decode its output."""
    graph = pagnp.Graph(3)
    rng = np.random.default_rng(3)
    graph.weights["w"] = rng.standard_normal((4, 3, 3, 3), np.float32)
    plain = {"stride": [1, 1], "padding": [1, 1, 1, 1], "dilation": [1, 1], "groups": 1}
    x = graph.add("conv2d", "input", "first", {"weight": "w"}, **plain)
    if op == "gate":
        two = graph.add("slice_channels", x, "two", start=0, stop=2)
        gate = {"form": "torch", "temperature": 1.0, "gate_index": 0, **attrs}
        graph.add("gate", two, "op", **gate)
        kind = "blend" if attrs["mode"].endswith("soft") else "select"
        x = graph.add(kind, ("op", x, graph.add("relu", x, "branch")), "out")
    elif op == "to_float":
        mask = graph.add("compare", graph.add("slice_channels", x, "one", start=0, stop=1), "mask", op="gt", value=0.0)
        x = graph.add("mul", (x, graph.add("to_float", mask, "op")), "out")
    elif op != "conv2d":
        x = graph.add(op, x, "op", **attrs)
    graph.outputs = {"y": x}
    graph.preprocess = {"kind": "torchvision", "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.25], "pad_multiple": 4}
    head = {"name": "y", "task": "segmentation", "output": "y", "decode": "argmax"}
    graph.heads = [{**head, "upsample": {"op": "bilinear", "align_corners": False}}]
    return graph


def failing(graph, **changes):
    """Names of the Spots that fail when kernels of the numpy backend are replaced."""
    right = get_backend("numpy")
    wrong = {op: make(right.kernels[op]) for op, make in changes.items()}
    model = pagnp.Model(graph, dataclasses.replace(right, kernels={**right.kernels, **wrong}))
    pixels = np.random.default_rng(1).integers(0, 256, (9, 10, 3), np.uint8)
    result = spot_run.traced(model, pixels, {})
    found = list(spot_run.spots(model, pixels, result, {}, 200, 0))
    assert all(f.first for f in found if not f.ok)
    return [f.name for f in found if not f.ok]


def nudged(right):
    """The right kernel, then one element in eight moved by one unit in the last place."""

    def kernel(*args):
        right(*args)
        out = args[-1].reshape(-1)[3::8]
        out[...] = np.nextafter(out, np.float32(np.inf))

    return kernel


def unfused(right):
    """Products and sums rounded one by one; enough of a conv2d for `network`."""

    def kernel(x, packed, scale, shift, bias, residual, relu, sites, stride, padding, dilation, groups, out):
        k_h, k_w, c_in, _ = packed.shape
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        out[...] = 0
        for ky in range(k_h):
            for kx in range(k_w):
                for ci in range(c_in):
                    window = padded[:, ky : ky + out.shape[1], kx : kx + out.shape[2], ci : ci + 1]
                    out += window * packed[ky, kx, ci]

    return kernel


def turned(right):
    """The right kernel, then its answers inverted."""

    def kernel(*args):
        right(*args)
        args[-1][...] = ~args[-1]

    return kernel


def two_ulp_off(right):
    def kernel(*args):
        right(*args)
        args[-1][...] = (args[-1].view(np.uint32) + 2).view(np.float32)

    return kernel


def channels_reversed(right):
    return lambda x, *rest: right(np.ascontiguousarray(x[..., ::-1]), *rest)


def nudged_labels(right):
    """The last maximum instead of the first would not show; the channel after the maximum does."""

    def kernel(x, out):
        right(x, out)
        out[...] = (out + 1) % x.shape[3]

    return kernel


@pytest.mark.parametrize(
    ("graph", "changes", "where"),
    [
        (network("conv2d"), {}, []),
        (network("conv2d"), {"conv2d": unfused}, ["first"]),
        (network("log"), {"log": two_ulp_off}, ["op"]),
        (network("softmax"), {"softmax": nudged}, ["op"]),
        (network("softmax"), {"exp": two_ulp_off}, ["op"]),  # softmax is held to the engine's exp, which is measured
        (network("sigmoid"), {"sigmoid": two_ulp_off}, ["op"]),
        (network("exp"), {"exp": two_ulp_off}, ["op"]),
        (network("l2_normalize"), {"l2_normalize": nudged}, ["op"]),
        (network("global_mean"), {"global_mean": nudged}, ["op"]),
        (network("avg_pool2d", **{"kernel": [2, 2], "stride": [1, 1], "padding": [0] * 4, "ceil_mode": False}
                 | {"count_include_pad": True}), {"avg_pool2d": nudged}, ["op"]),
        (network("mul", value=0.1), {"mul": nudged}, ["op"]),
        (network("to_float"), {"compare": turned}, ["mask"]),
        (network("gate", mode="hard"), {"gate": turned}, ["op"]),
        (network("gate", mode="hard"), {"select": nudged}, ["out"]),
        (network("gate", mode="soft"), {"gate": nudged}, ["op"]),
        (network("gate", mode="gumbel_soft"), {"blend": nudged}, ["out"]),
        (network("gate", mode="gumbel_hard"), {"gumbel_noise": two_ulp_off}, ["op/noise"]),
        (network("conv2d"), {"bilinear": channels_reversed}, ["outputs/y"]),
        (network("conv2d"), {"argmax": nudged_labels}, ["outputs/y"]),
    ],
)  # fmt: skip
def test_wrong_kernels_fail(graph, changes, where):
    assert failing(graph, **changes) == where


def test_an_answer_for_the_whole_image_and_its_mirror():
    graph = network("global_mean")
    head = {"task": "classification", "output": "y", "upsample": {"op": "none"}}
    graph.heads = [{**head, "name": "kind", "decode": "argmax"}, {**head, "name": "scores", "decode": "identity"}]
    model = pagnp.Model(graph, "numpy")
    pixels = np.random.default_rng(1).integers(0, 256, (9, 10, 3), np.uint8)
    result = spot_run.traced(model, pixels, {"flip": True})
    found = {f.name: f for f in spot_run.spots(model, pixels, result, {"flip": True}, 9, 0)}
    assert all(f.ok for f in found.values())
    assert (found["outputs/kind"].recomputed, found["outputs/scores"].recomputed) == (1, 4)


def test_measured_ops_say_their_error():
    graph = network("exp")
    model = pagnp.Model(graph, "numpy")
    pixels = np.full((4, 4, 3), 77, np.uint8)
    rows = {f.name: f for f in spot_run.spots(model, pixels, spot_run.traced(model, pixels, {}), {}, 5, 0)}
    assert 0 < rows["op"].worst <= 0.5000001 and rows["first"].worst is None


def test_exact_input_is_the_engines():
    from pagnp.inference import input_scale_shift
    from pagnp.ops.pointwise import normalize_image

    pixels = np.random.default_rng(2).integers(0, 256, (30, 40, 3), np.uint8)
    for preprocess in (
        network("relu").preprocess,
        {"kind": "caffe", "mean": [104.01, 116.7, 122.7], "pad_multiple": 1},
    ):
        want = normalize_image(pixels, *input_scale_shift(preprocess))
        assert pagnp.contract.compare(spot_run.exact_input(preprocess, pixels), want).count == 0
