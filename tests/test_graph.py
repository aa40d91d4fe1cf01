"""Graphs that are not well formed are refused with the node's name; norms join their convs as the contract says."""

import numpy as np
import pytest

from pagnp.canonical import canonical, norm_scale_shift
from pagnp.errors import GraphError
from pagnp.graph import INPUT, Graph

CONV = {"stride": (1, 1), "padding": (1, 1, 1, 1), "dilation": (1, 1), "groups": 1}
GATE = {"mode": "hard", "form": "kong2018", "temperature": 1.0, "gate_index": 0}
POOL = {"kernel": (3, 3), "stride": (2, 2), "ceil_mode": False, "dilation": (1, 1)}


def small(**weights):
    graph = Graph(3)
    graph.weights = {"w": np.ones((4, 3, 3, 3), "f4"), "b": np.zeros(4, "f4"), "v": np.ones(4, "f4"), **weights}
    graph.add("conv2d", INPUT, "conv", {"weight": "w", "bias": "b"}, **CONV)
    graph.outputs = {"out": "conv"}
    return graph


def misnamed_output(graph):
    graph.outputs = {"out": "nowhere"}


def mask_as_output(graph):
    graph.weights["g"] = np.ones((2, 4, 1, 1), "f4")
    graph.add("conv2d", "conv", "z", {"weight": "g"}, **{**CONV, "padding": (0,) * 4})
    graph.add("gate", "z", "gate", **GATE)
    graph.outputs = {"out": "gate"}


def mask_into_relu(graph):
    mask_as_output(graph)
    graph.add("relu", "gate", "r")


def tensor_steers(graph):
    graph.add("select", ("conv", "conv", "conv"), "chosen")


def three_branches_for_a_mask(graph):
    mask_as_output(graph)
    graph.add("select", ("gate", "conv", "conv", "conv"), "chosen")


def one_gate_index_twice(graph):
    mask_as_output(graph)
    graph.add("gate", "z", "again", **GATE)
    graph.outputs = {"out": "conv"}


AS_IT_IS = {"upsample": {"op": "none"}}


def head_without_decode(graph):
    graph.heads = [{"name": "seg", "task": "segmentation", "output": "out", **AS_IT_IS}]


def head_with_an_unknown_upsampling(graph):
    graph.heads = [
        {"name": "d", "task": "depth", "output": "out", "decode": "exp", "upsample": {"op": "cubic"}},
    ]


def head_that_is_no_json(graph):
    graph.heads = [{"name": {1, 2}}]


def preprocess_of_another_kind(graph):
    graph.preprocess = {"kind": "keras", "mean": [0.0] * 3, "pad_multiple": 1}


def preprocess_that_pads_to_nothing(graph):
    graph.preprocess = {"kind": "caffe", "mean": [0.0] * 3, "pad_multiple": 0}


def temperature_that_is_0_in_float32(graph):
    mask_as_output(graph)
    graph.nodes["gate"].attrs["temperature"] = 1e-60


def index_beyond_32_bits(graph):
    graph.add("argmax", "conv", "which")
    graph.add("compare", "which", "far", op="gt", value=3e9)


def head_without_output(graph):
    graph.heads = [{"name": "seg", "task": "segmentation", "output": "lost", "decode": "argmax", **AS_IT_IS}]


def classes_that_do_not_fit(graph):
    head = {"name": "seg", "task": "segmentation", "output": "out", "decode": "argmax", **AS_IT_IS}
    graph.heads = [{**head, "classes": ["a", "b"]}]


def labels_that_are_no_labels(graph):
    graph.heads = [{"name": "seg", "task": "segmentation", "output": "out", "decode": "identity", **AS_IT_IS}]


def depth_of_four_channels(graph):
    graph.heads = [{"name": "depth", "task": "depth", "output": "out", "decode": "identity", **AS_IT_IS}]


def normals_of_four_channels(graph):
    graph.heads = [{"name": "normals", "task": "normals", "output": "out", "decode": "l2_normalize", **AS_IT_IS}]


def index_beyond_the_branches(graph):
    graph.add("argmax", "conv", "which")
    graph.add("select", ("which", "conv", "conv"), "chosen")


def weight_that_is_a_list(graph):
    graph.weights["w"] = graph.weights["w"].tolist()


BAD = [
    (lambda g: g.add("conv3d", INPUT, "c"), "unknown op 'conv3d'"),
    (lambda g: g.add("relu", "later", "r"), "'r'.*input 'later' is not a node before it"),
    (lambda g: g.add("relu", "conv", "conv"), "'conv'.*used twice"),
    (lambda g: g.add("relu", "conv", INPUT), "reserved"),
    (lambda g: g.add("relu", "conv", "r", slope=0.1), "'r'.*unknown attribute 'slope'"),
    (lambda g: g.add("conv2d", "conv", "c", {"weight": "w"}, stride=(1, 1)), "'c'.*'padding' is missing"),
    (lambda g: g.add("conv2d", "conv", "c", **CONV), "'c'.*weight 'weight' is missing"),
    (lambda g: g.add("conv2d", "conv", "c", {"weight": "w", "gamma": "v"}, **CONV), "unknown weight role 'gamma'"),
    (lambda g: g.add("conv2d", "conv", "c", {"weight": "w"}, **{**CONV, "stride": (0, 1)}), "'stride' cannot be"),
    (lambda g: g.add("conv2d", "conv", "c", {"weight": "w"}, **{**CONV, "groups": True}), "'groups' cannot be"),
    (lambda g: g.add("conv2d", "conv", "c", {"weight": "w"}, **CONV), "'c'.*expects 3 input channels.*has 4"),
    (lambda g: g.add("conv2d", "conv", "c", {"weight": "lost"}, **CONV), "'c'.*weight 'lost' is not in the file"),
    (
        lambda g: g.add("norm", INPUT, "n", {"mean": "v", "var": "v"}, eps=1e-5),
        r"'n'.*mean has shape \(4,\), need \(3,\)",
    ),
    (lambda g: g.add("add", ("conv", INPUT), "a"), "'a'.*channels 4, 3 cannot be combined"),
    (lambda g: g.add("add", "conv", "a"), "'a'.*second input or the attribute 'value'"),
    (lambda g: g.add("max_pool2d", "conv", "p", padding=(3, 0, 0, 0), **POOL), "'p'.*no real pixel"),
    (lambda g: g.add("bilinear", "conv", "u", align_corners=False), "'u'.*exactly one of"),
    (lambda g: g.add("slice_channels", "conv", "s", start=2, stop=5), "'s'.*2:5 of an input with 4"),
    (lambda g: g.add("gate", "conv", "g", **GATE), "'g'.*4 channels, need 2"),
    (lambda g: g.add("gate", "conv", "g", **{**GATE, "mode": "sharp"}), "'g'.*'mode' cannot be 'sharp'"),
    (misnamed_output, "output 'out'.*no node 'nowhere'"),
    (mask_as_output, "output 'out'.*is a mask"),
    (mask_into_relu, "'r'.*input 'gate' is a mask, need a tensor"),
    (tensor_steers, "'chosen'.*steered by a mask or an index"),
    (three_branches_for_a_mask, "'chosen'.*2 branches, there are 3"),
    (one_gate_index_twice, "gate_index"),
    (index_beyond_the_branches, "'chosen'.*'which' chooses among 4, there are 2 branches"),
    (weight_that_is_a_list, "'conv'.*weight 'w' is list, need a float32 array"),
    (lambda g: g.add("relu", "conv", "r@1"), "'r@1'.*a name has letters"),
    (lambda g: g.add("relu", "conv", "../r"), "'../r'.*a name has letters"),
    (head_without_decode, "head .*'decode' is a required property"),
    (head_with_an_unknown_upsampling, r"head \$.upsample.op: 'cubic' is not one of.*MODEL_FORMAT.md"),
    (head_that_is_no_json, "head: .*not JSON serializable; write plain numbers"),
    (preprocess_of_another_kind, r"preprocess .*kind.*'keras' is not one of"),
    (preprocess_that_pads_to_nothing, r"preprocess .*pad_multiple.*minimum of 1"),
    (temperature_that_is_0_in_float32, "attribute 'temperature' cannot be 1e-60"),
    (index_beyond_32_bits, "a whole number of 32 bits, not 3000000000"),
    (head_without_output, "head 'seg'.*no output 'lost'"),
    (classes_that_do_not_fit, "head 'seg'.*2 classes for 4 channels"),
    (labels_that_are_no_labels, "head 'seg'.*decode 'identity' does not go with the task segmentation"),
    (depth_of_four_channels, "head 'depth'.*depth needs 1 channels, has 4"),
    (normals_of_four_channels, "head 'normals'.*needs 3 channels, has 4"),
]


@pytest.mark.parametrize(("spoil", "message"), BAD, ids=[message[:40] for _, message in BAD])
def test_bad_graphs_are_refused(spoil, message):
    graph = small()
    with pytest.raises(GraphError, match=message):
        spoil(graph)
        graph.validate()


@pytest.mark.parametrize(
    "spoilt", [{"var": -1.0}, {"var": 0.0, "eps": 0.0}, {"gamma": 3e38}], ids=lambda s: "-".join(s)
)
def test_a_norm_that_is_not_finite_is_refused(spoilt):
    """Finite weights must give a finite scale and shift; NaN that a caller let in passes through."""
    parts = {"mean": 0.0, "var": 1e-4, "gamma": 1.0, **spoilt}
    roles = ("mean", "var", "gamma")
    graph = small(**{role: np.full(4, parts[role], "f4") for role in roles})
    graph.add("norm", "conv", "n", {role: role for role in roles}, eps=parts.get("eps", 1e-5))
    graph.outputs = {"out": "n"}
    with pytest.raises(GraphError, match="'n'.*no finite float32"):
        canonical(graph)
    graph.weights["gamma"] = np.full(4, np.nan, "f4")
    assert np.isnan(canonical(graph).weights["n/scale"]).all()


def test_json_round_trip():
    graph = small()
    graph.add("compare", graph.add("slice_channels", "conv", "s", start=0, stop=1), "m", op="gt", value=0.5)
    again = Graph.from_json(graph.to_json(), graph.weights)
    assert again.validate().to_json() == graph.to_json()


def test_canonical_joins_a_norm_to_its_conv():
    rng = np.random.default_rng(3)
    parts = {name: rng.standard_normal(4).astype("f4") for name in ("mean", "gamma", "beta")}
    graph = small(var=rng.random(4).astype("f4"), b=rng.standard_normal(4).astype("f4"), **parts)
    roles = {role: role for role in ("mean", "var", "gamma", "beta")}
    graph.add("norm", "conv", "n", roles, eps=1e-5)
    graph.outputs = {"out": "n"}
    joined = canonical(graph)
    assert list(joined.nodes) == ["n"] and joined.nodes["n"].op == "conv2d"
    w = {key: value.astype(np.float64) for key, value in graph.weights.items()}
    scale = w["gamma"] / np.sqrt(w["var"] + 1e-5)
    got = {role: joined.weights[key] for role, key in joined.nodes["n"].weights.items()}
    assert (got["scale"] == scale.astype("f4")).all()
    assert (got["shift"] == (w["beta"] + (w["b"] - w["mean"]) * scale).astype("f4")).all()
    assert got["weight"] is graph.weights["w"]
    assert canonical(joined).nodes == joined.nodes


def test_a_norm_stays_alone_where_others_read_the_conv():
    graph = small()
    roles = {"mean": "v", "var": "v"}
    graph.add("norm", "conv", "n", roles, eps=1e-5)
    graph.add("add", ("n", "conv"), "sum")
    graph.outputs = {"out": "sum"}
    assert list(canonical(graph).nodes) == ["conv", "n", "sum"]
    graph.outputs = {"out": "n", "raw": "conv"}
    assert list(canonical(graph).nodes) == ["conv", "n"]  # and `sum`, which nobody reads, is gone
    scale, shift = norm_scale_shift(graph.weights, graph.nodes["n"])
    assert scale.dtype == np.float32 and (shift == -scale).all()
