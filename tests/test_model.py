"""Model and Result: one picture in, everything out; the same answer by every road."""

import hashlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

import pagnp
from pagnp import nn
from pagnp.budget import search
from pagnp.contract import CONTRACT_NAME, compare
from pagnp.errors import DtypeError, ImageError, ShapeError, UsageError

HEADS = {
    "labels": {"task": "segmentation", "classes": ["a", "b", "c"], "hidden": [8, 8]},
    "depth": {"task": "depth", "hidden": [8, 8]},
    "normals": {"task": "normals", "hidden": [8, 8]},
    "edges": {"task": "boundary", "hidden": [8, 8]},
}
MULTIPOOL = {"block": "layer4.1", "rates": [0, 1, 2, 4], "mode": "hard", "hidden": [8, 8]}


@pytest.fixture(scope="module")
def graph():
    return nn.pag_resnet(depth=26, width=0.125, gated="all", multipool=MULTIPOOL, heads=HEADS, gate_bias=0, seed=4)


@pytest.fixture(scope="module")
def model(graph):
    return pagnp.Model(graph)


@pytest.fixture(scope="module")
def image():
    rng = np.random.default_rng(8)
    y, x = np.mgrid[0:43, 0:51]
    base = np.stack([y * 5, x * 4, (y + x) * 2], 2) + rng.integers(0, 40, (43, 51, 3))
    return base.astype(np.uint8)


@pytest.fixture(scope="module")
def result(model, image):
    return model(image)


def assert_equal(a, b):
    """Every field of two Results, bit by bit."""
    for name in ("outputs", "logits", "masks", "rates", "layers"):
        left, right = getattr(a, name), getattr(b, name)
        assert list(left) == list(right)
        for key in left:
            assert not (found := compare(left[key], right[key])), f"{name} {key}: {found}"
    assert (a.ponder == b.ponder).all() and a.macs == b.macs and a.thresholds == b.thresholds
    assert (a.size, a.pixels, a.digest) == (b.size, b.pixels, b.digest)


def test_outputs(result):
    shapes = {name: (array.dtype, array.shape) for name, array in result.outputs.items()}
    assert shapes == {
        "labels": (np.uint8, (43, 51)),
        "depth": (np.float32, (43, 51)),
        "normals": (np.float32, (43, 51, 3)),
        "edges": (np.float32, (43, 51)),
    }
    assert result.logits["labels"].shape == (6, 7, 3)
    assert result.classes == {"labels": ["a", "b", "c"]}
    lengths = np.sqrt((result.outputs["normals"].astype(np.float64) ** 2).sum(2))
    assert np.abs(lengths - 1).max() < 1e-3
    assert (result.outputs["depth"] > 0).all()
    assert ((result.outputs["edges"] >= 0) & (result.outputs["edges"] <= 1)).all()


def test_gates_and_ponder(result, graph):
    assert list(result.masks) == graph.gates() and len(result.masks) == 7
    assert result.masks["layer1.0.gate"].shape == (12, 14) and result.masks["layer1.0.gate"].dtype == bool
    assert any(0 < kept < 1 for kept in result.kept.values())
    assert set(np.unique(next(iter(result.rates.values())))) <= {0, 1, 2, 4}
    assert result.ponder.shape == (43, 51) and result.ponder.max() <= 7
    count = np.zeros((48, 56), int)
    for mask in result.masks.values():
        factor = 48 // mask.shape[0]
        count += np.kron(mask, np.ones((factor, factor), int))
    assert (result.ponder == count[:43, :51]).all()


def test_digest_is_the_written_one(result):
    def digest(array):
        head = f"{CONTRACT_NAME}\0{array.dtype.str}\0{','.join(map(str, array.shape))}\0".encode()
        return hashlib.sha256(head + array.tobytes()).hexdigest()

    lines = []
    for kind in ("logits", "outputs", "masks"):
        lines += [f"{kind}/{name} {digest(array)}\n" for name, array in getattr(result, kind).items()]
    assert result.digest == hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


@pytest.mark.parametrize("backend", ("numpy", "numba"))
@pytest.mark.parametrize("threads", (1, 2))
def test_backends_and_threads(graph, image, result, backend, threads):
    assert_equal(pagnp.Model(graph, backend, threads)(image), result)


def test_dense_gives_the_same_bits_for_more_work(model, image, result):
    dense = model(image, dense=True)
    assert dense.digest == result.digest
    assert dense.macs["executed"] == dense.macs["dense"] == result.macs["dense"] > result.macs["executed"]
    assert dense.macs["gated_dense"] == result.macs["gated_dense"] > result.macs["gated_executed"]


def test_macs_follow_the_masks(result):
    for name, entry in result.macs["layers"].items():
        block = name.rsplit(".", 1)[0]
        mask = result.masks.get(f"{block}.gate")
        if mask is not None and 0 < entry["executed"] < entry["dense"]:
            assert entry["executed"] * mask.size == entry["dense"] * np.count_nonzero(mask)
    total = sum(entry["executed"] for entry in result.macs["layers"].values())
    assert total == result.macs["executed"]


def test_every_kind_of_input(model, image, result, tmp_path):
    path = tmp_path / "picture.png"
    Image.fromarray(image).save(path)
    for one in (path, str(path), Image.fromarray(image), np.asfortranarray(image)):
        assert_equal(model(one), result)
    for many in (np.stack([image, image[::-1]]), [path, image[::-1]]):
        batch = model(many)
        assert_equal(batch[0], result)
        assert_equal(batch[1], model(np.ascontiguousarray(image[::-1])))


def test_forward_takes_raw_tensors(model, graph):
    x = np.random.default_rng(1).standard_normal((3, 21, 18, 3)).astype(np.float32)
    whole = model.forward(x)
    assert list(whole) == list(graph.outputs)
    for i in range(3):
        for name, array in model.forward(x[i : i + 1]).items():
            assert not compare(array[0], whole[name][i])
    for name, array in model.forward(x, dense=True).items():
        assert not compare(array, whole[name])


def test_trace_holds_every_layer_that_is_not_private(model, image, result):
    traced, dense = model(image, trace=True), model(image, trace=True, dense=True)
    assert traced.digest == result.digest
    private = set(dense.layers) - set(traced.layers)
    assert "layer1.0.relu2" in private or any(name.startswith("layer1.0") for name in private)
    for name, array in traced.layers.items():
        assert not (found := compare(array, dense.layers[name])), f"{name}: {found}"


@pytest.mark.parametrize("mode", ("hard", "soft", "gumbel_hard", "gumbel_soft"))
def test_gate_modes(graph, image, mode):
    results = [pagnp.Model(graph, backend)(image, gate_mode=mode, seed=7) for backend in ("numpy", "numba")]
    assert_equal(*results)
    assert_equal(results[1], pagnp.Model(graph)(image, gate_mode=mode, seed=7, dense=True)) if "soft" in mode else None
    assert (len(results[0].masks) == 7) == ("hard" in mode)


def test_noise_comes_from_the_seed_or_from_the_caller(model, image):
    first, again, other = (model(image, gate_mode="gumbel_hard", seed=seed) for seed in (1, 1, 2))
    assert_equal(first, again)
    assert first.digest != other.digest
    mask = first.masks["layer1.0.gate"]
    noise = np.zeros((*mask.shape, 2), np.float32)
    noise[..., 0] = 1e3
    given = model(image, gate_mode="gumbel_hard", seed=1, noise={"layer1.0.gate": noise})
    assert not given.masks["layer1.0.gate"].any()


def test_threshold(model, image, result):
    zero = model(image, threshold=0)
    assert zero.digest == result.digest and set(zero.thresholds.values()) == {0.0}
    high, low = model(image, threshold=1e30), model(image, threshold=-1e30)
    assert high.macs["gated_executed"] == 0 and not high.ponder.any()
    assert low.macs["gated_executed"] == low.macs["gated_dense"] and (low.ponder == 7).all()


@pytest.mark.parametrize("budget", (0.0, 0.3, 0.6, 1.0))
def test_budget(model, image, budget):
    def share(result):
        return result.macs["gated_executed"] / result.macs["gated_dense"]

    result = model(image, budget=budget)
    (t,) = set(result.thresholds.values())
    assert (t * 16).is_integer() and -8 <= t <= 8
    best = min(abs(share(model(image, threshold=k / 16)) - budget) for k in range(-128, 129, 4))
    assert abs(share(result) - budget) <= best + 0.02
    assert model(image, threshold=t).digest == result.digest == model(image, budget=budget, dense=True).digest


@pytest.mark.parametrize("budget", (0.0, 0.2, 0.25, 0.5, 0.77, 1.0))
@pytest.mark.parametrize(
    "shares", (lambda t: 0.5 - t / 16, lambda t: float(t < 0.3), lambda t: 0.5, lambda t: t < -7.9)
)
def test_budget_search_keeps_to_its_rule(shares, budget):
    """At most 8 passes; of the tried thresholds the nearest share wins, of equally near ones the larger threshold."""
    tried = {}

    def share_at(t):
        assert t.dtype == np.float32 and t not in tried
        return tried.setdefault(t, float(shares(float(t))))

    best = search(budget, share_at)
    assert len(tried) <= 8 and all((16 * float(t)).is_integer() and abs(t) <= 8 for t in tried)
    nearest = min(abs(share - budget) for share in tried.values())
    assert best == max(t for t, share in tried.items() if abs(share - budget) == nearest)


def test_flip_averages_the_mirror_image(model, image):
    flipped, plain = model(image, flip=True), model(image)
    mirror = model(np.ascontiguousarray(image[:, ::-1]), flip=True)
    for name in ("depth", "edges"):
        assert not compare(flipped.outputs[name], np.ascontiguousarray(mirror.outputs[name][:, ::-1]))
    back = mirror.outputs["normals"][:, ::-1] * np.float32([-1, 1, 1])
    assert (flipped.outputs["normals"] == back).all()
    assert all((flipped.masks[name] == plain.masks[name]).all() for name in plain.masks)
    assert (flipped.logits["depth"] == plain.logits["depth"]).all() and flipped.digest != plain.digest


@pytest.mark.parametrize("flip", (False, True))
def test_an_answer_for_the_whole_image(image, flip):
    """A classification head that is not upsampled keeps its own size, and says the same of the mirror image."""
    graph = pagnp.graph.Graph(3, weights={"w": np.random.default_rng(5).standard_normal((4, 3, 1, 1)).astype("f4")})
    graph.add("global_mean", "input", "mean")
    place = {"stride": (1, 1), "padding": (0,) * 4, "dilation": (1, 1), "groups": 1}
    graph.add("conv2d", "mean", "classify", {"weight": "w"}, **place)
    graph.outputs = {"kind": "classify"}
    head = {"name": "kind", "task": "classification", "output": "kind", "decode": "argmax"}
    graph.heads = [{**head, "upsample": {"op": "none"}}]
    graph.preprocess = {"kind": "caffe", "mean": [99.0, 100.0, 101.0], "pad_multiple": 8}
    result = pagnp.Model(graph)(image, flip=flip)
    assert result.outputs["kind"].shape == (1, 1)
    assert result.outputs["kind"] == result.logits["kind"].argmax()


def test_weights_may_be_views(image):
    """A hand-made graph with a bias cut out of a larger array: kernels want their vectors in one piece."""
    rng = np.random.default_rng(6)
    graph = pagnp.graph.Graph(3, weights={"b": rng.standard_normal((5, 7)).astype("f4")[:, 2]})
    graph.weights["w"] = rng.standard_normal((3, 3, 3, 5)).astype("f4").transpose(3, 2, 1, 0)
    place = {"stride": (1, 1), "padding": (0,) * 4, "dilation": (1, 1), "groups": 1}
    graph.add("conv2d", "input", "c", {"weight": "w", "bias": "b"}, **place)
    graph.outputs = {"out": "c"}
    x = rng.standard_normal((1, 9, 9, 3)).astype(np.float32)
    outs = [pagnp.Model(graph, backend).forward(x)["out"] for backend in ("numpy", "numba")]
    assert not compare(*outs)


@pytest.mark.parametrize("backend", ("numpy", "numba"))
def test_threshold_zero_is_the_plain_gate(backend):
    """z1 - z0 > 0 and z1 > z0 are one question with subnormals kept, and for infinities and NaN too."""
    odd = [0.0, -0.0, 1e-45, -1e-45, 1.1754944e-38, 1.1754942e-38, 1.0, np.float32(1) + np.float32(2**-23)]
    odd = np.array([*odd, 3e38, -3e38, np.inf, -np.inf, np.nan], np.float32)
    z = np.stack(np.meshgrid(odd, odd), axis=-1)[None].copy()
    plain, zero, above = (
        pagnp.ops.gate(z, mode="hard", threshold=t, backend=backend) for t in (None, np.float32(0), np.float32(1e-45))
    )
    with np.errstate(all="ignore"):
        assert (plain == (z[..., 1] > z[..., 0])).all() and (plain == zero).all()
        assert (above == (z[..., 1] - z[..., 0] > np.float32(1e-45))).all() and (above != zero).any()


@pytest.mark.parametrize("size", [(0, 5), (5.5, 5), "ab", (-8, 8)])
def test_plan_wants_a_size(model, size):
    with pytest.raises(ShapeError, match="plan: size is"):
        model.plan(size)


def test_plan_knows_bytes_and_macs(model, result):
    plan = model.plan((43, 51))
    assert plan.macs == result.macs["dense"]
    assert sum(layer["macs"] for layer in plan.layers) == plan.macs
    assert plan.bytes > sum(array.nbytes for array in result.outputs.values())


def test_several_python_threads_at_once(model, image, result):
    with ThreadPoolExecutor(4) as pool:
        for one in pool.map(lambda _: model(image), range(8)):
            assert one.digest == result.digest


SOFT = {"gate_mode": "soft"}
BAD = [
    ({"budget": 0.5, "threshold": 0.0}, UsageError, "exclude each other"),
    ({"budget": 1.5}, UsageError, "between 0 and 1"),
    ({"budget": float("nan")}, UsageError, "between 0 and 1"),
    ({"threshold": float("inf")}, UsageError, "finite"),
    ({"budget": 0.5, **SOFT}, UsageError, "need hard gates"),
    ({"gate_mode": "sharp"}, UsageError, "'sharp' is unknown"),
    ({"seed": -1}, UsageError, "seed is an integer"),
    ({"noise": {"nowhere": np.zeros(3, "f4")}}, UsageError, "no gate 'nowhere'"),
    ({"gate_mode": "gumbel_hard", "noise": {"layer1.0.gate": np.zeros((12, 14, 2))}}, DtypeError, "must be float32"),
    ({"noise": {"layer1.0.gate": np.zeros((3, 3, 2), "f4")}, "gate_mode": "gumbel_hard"}, ShapeError, "layer1.0.gate"),
    ({"noise": {"layer1.0.gate": np.zeros((12, 14, 2), "f4")}}, UsageError, "gumbel"),
    ({"noise": 5}, UsageError, "noise is a dict gate -> array, got int"),
    ({"noise": np.zeros((12, 14, 2), "f4")}, UsageError, "noise is a dict gate -> array, got ndarray"),
    ({"budget": "0.5"}, UsageError, "budget is a number, got '0.5'"),
    ({"threshold": [1]}, UsageError, r"threshold is a number, got \[1\]"),
    ({"trace": "digest"}, UsageError, "trace is True, False or 'digests', got 'digest'"),
    ({"trace": 1}, UsageError, "trace is True, False or 'digests', got 1"),
]


@pytest.mark.parametrize(("options", "error", "message"), BAD, ids=[f"{next(iter(b[0]))}-{b[2]}" for b in BAD])
def test_bad_options(model, image, options, error, message):
    with pytest.raises(error, match=message):
        model(image, **options)


def test_numpy_bools_trace_as_bools_do(model, image, result):
    assert list(model(image, trace=np.True_).layers) == list(model(image, trace=True).layers) != []
    assert model(image, trace=np.False_).digest == result.digest


def test_a_gate_that_is_an_output_cannot_become_hard():
    g = nn.GraphBuilder()
    p = g.gate(g.conv("input", 2, kernel=1, name="z"), name="p", mode="soft")
    model = pagnp.Model(g.finish({"share": p}), backend="numpy")
    x = np.zeros((1, 4, 4, 3), np.float32)
    assert model.forward(x)["share"].shape == (1, 4, 4, 2)
    for mode in ("hard", "gumbel_hard"):
        with pytest.raises(UsageError, match=f"gate_mode '{mode}' does not fit .*'p' is a mask, need a tensor"):
            model.forward(x, gate_mode=mode)


def test_a_size_that_does_not_fit_is_told_as_one():
    g = nn.GraphBuilder()
    half = g.conv("input", 3, kernel=3, padding=1, stride=2, name="half")
    graph = g.finish({"y": g.add("input", g.bilinear(half, name="up", scale=2), name="sum")})
    model = pagnp.Model(graph, backend="numpy")
    assert model.forward(np.zeros((1, 6, 6, 3), np.float32))["y"].shape == (1, 6, 6, 3)
    with pytest.raises(ShapeError, match="node 'sum' .*5x5, 6x6; the network fits inputs of other sizes"):
        model.forward(np.zeros((1, 5, 5, 3), np.float32))


def test_bad_calls(model, graph):
    with pytest.raises(ImageError):
        model(np.zeros((5, 5, 3), np.float32))
    with pytest.raises(ImageError, match="missing"):
        model("missing.png")
    with pytest.raises(DtypeError, match="float64"):
        model.forward(np.zeros((1, 8, 8, 3)))
    with pytest.raises(ShapeError, match=r"\(1, 8, 8, 4\)"):
        model.forward(np.zeros((1, 8, 8, 4), "f4"))
    for size in (5, None, (5,), (5, 6.0), (0, 3)):
        with pytest.raises(ShapeError, match="plan: size is "):
            model.plan(size)
    with pytest.raises(ImageError, match="check its name"):
        model("a\0b.png")
    with pytest.raises(UsageError, match="graph is a str, need a Graph; of a file: pagnp.load"):
        pagnp.Model("model.h5")
    with pytest.raises(pagnp.errors.BackendError, match="'cudnn' is unknown"):
        pagnp.Model(graph, backend="cudnn")
    bare = nn.pag_resnet(depth=26, width=0.125, gated=None, heads=HEADS)
    with pytest.raises(UsageError, match="no two-way gates"):
        pagnp.Model(bare)(np.zeros((16, 16, 3), "u1"), budget=0.5)
    bare.preprocess = None
    with pytest.raises(UsageError, match=r"use Model\.forward"):
        pagnp.Model(bare)(np.zeros((16, 16, 3), "u1"))
