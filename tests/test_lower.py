"""Every rewrite of lower.py keeps the bits: against the node-by-node meaning of the graph."""

import numpy as np
import pytest

from pagnp.backends.base import get_backend
from pagnp.canonical import canonical
from pagnp.contract import compare
from pagnp.errors import ShapeError
from pagnp.graph import INPUT, Graph
from pagnp.lower import fuse, lower
from pagnp.parameters import prepare
from pagnp.runner import execute
from pagnp.testing.interpret import interpret

BACKENDS = ("numpy", "numba")


class Net:
    """A small graph under construction, with random weights."""

    def __init__(self, seed, channels=3):
        self.rng = np.random.default_rng(seed)
        self.graph = Graph(channels)
        self.widths = {INPUT: channels}
        self.count = 0

    def add(self, op, inputs, /, width, weights=None, **attrs):
        self.count += 1
        name = self.graph.add(op, inputs, f"{op}_{self.count}", weights, **attrs)
        self.widths[name] = width
        return name

    def tensor(self, *shape):
        key = f"w{len(self.graph.weights)}"
        self.graph.weights[key] = self.rng.standard_normal(shape).astype(np.float32)
        return key

    def conv(self, x, width, k=3, stride=1, dilation=1, bias=True, groups=1):
        span = dilation * (k // 2)
        weights = {"weight": self.tensor(width, self.widths[x] // groups, k, k)}
        if bias:
            weights["bias"] = self.tensor(width)
        place = {"stride": (stride, stride), "padding": (span,) * 4, "dilation": (dilation, dilation)}
        return self.add("conv2d", x, width, weights, groups=groups, **place)

    def norm(self, x):
        width = self.widths[x]
        roles = {role: self.tensor(width) for role in ("mean", "gamma", "beta")}
        roles["var"] = self.tensor(width)
        self.graph.weights[roles["var"]] **= 2
        return self.add("norm", x, width, roles, eps=1e-5)

    def pointwise(self, op, *inputs):
        return self.add(op, inputs, self.widths[inputs[0]])

    def gate(self, x, rates=None):
        extra = {"rates": rates} if rates else {}
        z = self.conv(x, len(rates) if rates else 2, k=1)
        index = sum(node.op == "gate" for node in self.graph.nodes.values())
        attrs = {"mode": "hard", "form": "kong2018", "temperature": 1.0, "gate_index": index}
        return self.add("gate", z, 1, **attrs, **extra)

    def select(self, control, *branches):
        return self.add("select", (control, *branches), self.widths[branches[0]])

    def done(self, *outputs):
        self.graph.outputs = {f"out{i}": name for i, name in enumerate(outputs)}
        return canonical(self.graph.validate())


def gated_block(seed=1):
    net = Net(seed, 5)
    x1 = net.pointwise("relu", net.norm(net.conv(INPUT, 8, k=1)))
    x2 = net.pointwise("relu", net.norm(net.conv(x1, 8)))
    y = net.select(net.gate(INPUT), x1, x2)
    shortcut = net.norm(net.conv(INPUT, 16, k=1))
    out = net.pointwise("relu", net.pointwise("add", net.norm(net.conv(y, 16, k=1)), shortcut))
    return net.done(out)


def deep_branch(seed=2):
    """Two spatial convs, pointwise ops and an inner residual inside one branch: the sites grow twice."""
    net = Net(seed, 4)
    x1 = net.conv(INPUT, 6)
    a = net.pointwise("relu", net.conv(x1, 6, dilation=2))
    b = net.conv(a, 6)
    c = net.pointwise("relu", net.pointwise("add", b, a))
    d = net.pointwise("sigmoid", net.norm(c))
    e = net.pointwise("mul", d, c)
    return net.done(net.select(net.gate(x1), x1, e))


def strided_branch(seed=3):
    net = Net(seed, 4)
    x1 = net.conv(INPUT, 6, k=1, stride=2)
    a = net.pointwise("relu", net.conv(INPUT, 6, k=5))
    b = net.conv(a, 6, stride=2)
    return net.done(net.select(net.gate(x1), x1, b))


def multipool(seed=4):
    net = Net(seed, 4)
    x1 = net.pointwise("relu", net.conv(INPUT, 6))
    index = net.gate(x1, rates=[0, 1, 2, 4])
    branches = [x1, *(net.pointwise("relu", net.norm(net.conv(x1, 6, dilation=r))) for r in (1, 2, 4))]
    return net.done(net.conv(net.select(index, *branches), 3, k=1))


def all_perforated(seed=5):
    net = Net(seed, 4)
    a, b = net.conv(INPUT, 6), net.pointwise("exp", net.conv(INPUT, 6, k=1))
    return net.done(net.select(net.gate(INPUT), a, b))


def masked_branch(seed=6):
    net = Net(seed, 4)
    a = net.pointwise("relu", net.norm(net.conv(INPUT, 4)))
    m = net.add("masked", (a, net.gate(INPUT)), 4)
    return net.done(net.pointwise("add", m, INPUT))


def whole_layer(seed=7):
    """A mask of one element a image: the layer runs everywhere or nowhere."""
    net = Net(seed, 4)
    control = net.gate(net.add("global_mean", INPUT, 4))
    return net.done(net.select(control, INPUT, net.conv(INPUT, 4)))


def shared_readers(seed=8):
    """A conv read by two layers of the branch, and one that is read outside too and so stays dense."""
    net = Net(seed, 4)
    a = net.conv(INPUT, 6)
    outside = net.conv(a, 6, k=1)
    b = net.pointwise("relu", net.conv(a, 6))
    c = net.pointwise("add", net.pointwise("exp10", net.pointwise("sigmoid", b)), net.conv(b, 6))
    chosen = net.select(net.gate(INPUT), outside, c)
    return net.done(chosen, outside)


def nested(seed=9):
    net = Net(seed, 4)
    inner = net.select(net.gate(INPUT), INPUT, net.conv(INPUT, 4))
    return net.done(net.select(net.gate(INPUT), INPUT, net.conv(inner, 4)))


def output_in_branch(seed=10):
    net = Net(seed, 4)
    a = net.conv(INPUT, 4)
    return net.done(net.select(net.gate(INPUT), INPUT, a), a)


def same_branch_twice(seed=11):
    net = Net(seed, 4)
    a = net.conv(INPUT, 4)
    return net.done(net.select(net.gate(INPUT, rates=[1, 2, 3]), a, INPUT, a))


def concat_branch(seed=12):
    net = Net(seed, 4)
    a, b = net.conv(INPUT, 3), net.conv(INPUT, 5, k=1)
    joined = net.add("concat", (a, b), 8)
    cut = net.add("slice_channels", joined, 4, start=2, stop=6)
    half = net.add("mul", cut, 4, value=0.5)
    return net.done(net.select(net.gate(INPUT), INPUT, half))


def torch_like_where(seed=13):
    """z1 > z0 by slices and a comparison, as somebody's own PAG in torch would write it."""
    net = Net(seed, 4)
    z = net.conv(INPUT, 2, k=1)
    parts = [net.add("slice_channels", z, 1, start=i, stop=i + 1) for i in (1, 0)]
    mask = net.add("compare", parts, 1, op="gt")
    other = net.add("logical_not", mask, 1)
    y = net.select(mask, INPUT, net.conv(INPUT, 4))
    return net.done(net.select(other, y, net.conv(y, 4)))


def dense_mixture(seed=14):
    """No gates: pools, resizing, a transposed conv, adds of two convs, a global branch that broadcasts."""
    net = Net(seed, 4)
    window = {"kernel": (3, 3), "stride": (2, 2), "padding": (1, 1, 1, 1), "ceil_mode": True}
    a = net.add("max_pool2d", INPUT, 4, dilation=(1, 1), **window)
    b = net.add("avg_pool2d", INPUT, 4, count_include_pad=False, **window)
    c = net.pointwise("add", net.conv(a, 4), net.conv(b, 4))
    g = net.conv(net.add("global_mean", c, 4), 4, k=1)
    d = net.pointwise("add", net.conv(c, 4), g)
    up = net.add("bilinear", (d, INPUT), 4, align_corners=False)
    weights = {"weight": net.tensor(4, 4, 4, 4)}
    place = {"stride": (2, 2), "padding": (1,) * 4, "output_padding": (0, 0), "dilation": (1, 1), "groups": 1}
    t = net.add("conv_transpose2d", d, 4, weights, **place)
    deconv = net.add("bilinear_deconv", d, 4, factor=2)
    near = net.add("nearest", net.pointwise("add", t, deconv), 4, size=(9, 11))
    return net.done(net.pointwise("add", net.pointwise("relu", up), INPUT), near)


def broadcast_by_size(seed=15):
    """Adds that broadcast only because a kernel is as large as this image: no epilogue can do that."""
    net = Net(seed, 4)
    shrunk = net.add(
        "conv2d",
        INPUT,
        4,
        {"weight": net.tensor(4, 4, 10, 13)},
        **{"stride": (1, 1), "padding": (0,) * 4, "dilation": (1, 1), "groups": 1},
    )
    a = net.pointwise("relu", net.pointwise("add", net.conv(INPUT, 4), shrunk))
    b = net.conv(net.pointwise("add", net.conv(shrunk, 4), a), 4)
    return net.done(net.select(net.gate(INPUT), a, b))


def tied_both_ways(seed=16):
    """One weight for a conv and for a transposed conv, which lay it out differently."""
    net = Net(seed, 4)
    a = net.conv(INPUT, 4)
    weights = {"weight": net.graph.nodes[a].weights["weight"]}
    place = {"stride": (1, 1), "padding": (1,) * 4, "output_padding": (0, 0), "dilation": (1, 1), "groups": 1}
    return net.done(net.add("conv_transpose2d", a, 4, weights, **place))


def residual_off_centre(seed=17):
    """A branch whose conv reads the pixels beside its own, and its input again as the residual."""
    net = Net(seed, 4)
    x1 = net.pointwise("relu", net.conv(INPUT, 4))
    weights = {"weight": net.tensor(4, 4, 1, 2)}
    place = {"stride": (1, 1), "padding": (0, 0, 3, 0), "dilation": (1, 3), "groups": 1}
    beside = net.pointwise("add", net.add("conv2d", x1, 4, weights, **place), x1)
    return net.done(net.select(net.gate(INPUT), INPUT, beside))


def gated_trunk(seed=18, blocks=6):
    """A whole trunk of residual blocks in one branch."""
    net = Net(seed, 4)
    y = net.conv(INPUT, 4)
    for _ in range(blocks):
        y = net.pointwise("relu", net.pointwise("add", net.conv(net.pointwise("relu", net.conv(y, 4)), 4), y))
    return net.done(net.select(net.gate(INPUT), INPUT, y))


GRAPHS = (
    gated_block,
    deep_branch,
    strided_branch,
    multipool,
    all_perforated,
    masked_branch,
    whole_layer,
    shared_readers,
    nested,
    output_in_branch,
    same_branch_twice,
    concat_branch,
    torch_like_where,
    dense_mixture,
    broadcast_by_size,
    tied_both_ways,
    residual_off_centre,
    gated_trunk,
)
PERFORATED = {g.__name__ for g in GRAPHS} - {"output_in_branch", "same_branch_twice", "dense_mixture", "tied_both_ways"}


def run(graph, x, backend, dense, **kwargs):
    kernels = get_backend(backend, 2)
    seen = {}
    plan = lower(graph, *x.shape[1:3], n=x.shape[0], dense=dense)
    done = execute(plan, kernels, prepare(graph, kernels), x, watch=lambda name, a: seen.__setitem__(name, a.copy()))
    return plan, done, seen


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dense", (False, True))
@pytest.mark.parametrize("make", GRAPHS, ids=lambda g: g.__name__)
@pytest.mark.parametrize("n", (1, 3))
def test_lowered_equals_node_by_node(make, n, dense, backend):
    check_lowered(make(), n, dense, backend, perforated=not dense and make.__name__ in PERFORATED)


def check_lowered(graph, n, dense, backend, perforated):
    """Hold all outputs and layers of a lowered graph against its meaning; `perforated`: are some layers private?"""
    x = np.random.default_rng(5).standard_normal((n, 10, 13, graph.channels)).astype(np.float32)
    want = interpret(graph, x)
    plan, done, seen = run(graph, x, backend, dense)
    for name in graph.outputs.values():
        assert not (found := compare(done.value(name), want[name])), f"{name}: {found}"
    for name, array in seen.items():  # every layer shown, private ones only when dense
        assert not (found := compare(array, want[name])), f"{name}: {found}"
    assert set(seen) == set(plan.layers) - set(plan.private)
    assert bool(plan.private) == perforated


@pytest.mark.parametrize("make", GRAPHS, ids=lambda g: g.__name__)
@pytest.mark.parametrize("dense", (False, True))
def test_buffers_alive_together_do_not_overlap(make, dense):
    plan = lower(make(), 10, 13, dense=dense)
    unique = list({id(b): b for b in plan.buffers.values()}.values())
    for i, a in enumerate(unique):
        assert a.offset >= 0 and a.offset + a.size <= plan.arena_bytes and a.offset % 64 == 0
        for b in unique[:i]:
            alive = a.first <= b.last and b.first <= a.last
            assert not alive or a.offset + a.size <= b.offset or b.offset + b.size <= a.offset


def test_gated_block_computes_only_the_kept_pixels():
    graph = gated_block()
    x = np.random.default_rng(5).standard_normal((1, 10, 13, 5)).astype(np.float32)
    plan, done, _ = run(graph, x, "numpy", dense=False)
    mask = interpret(graph, x)["gate_8"]
    assert 0 < mask.sum() < mask.size
    assert done.counts["relu_6"] == mask.sum()
    assert plan.private["relu_6"].place == "owner"
    assert plan.gated == {"relu_6"}


def test_site_sets_stay_few_in_a_long_branch():
    plan = lower(gated_trunk(blocks=60), 10, 13)
    assert len(plan.private) == 121  # named by what they are made of, their names would double with every block
    assert len(plan.sets) <= 3 * 60 + 2


def test_fusion_joins_norm_residual_and_relu():
    layers = fuse(gated_block())
    last = layers["relu_15"]
    assert last.members == ("norm_13", "add_14", "relu_15") and last.relu
    assert last.residual == "norm_11"
    assert "norm_11" in layers


def test_residual_is_added_in_place():
    plan = lower(gated_block(), 10, 13)
    assert plan.buffers["norm_11"] is plan.buffers["relu_15"]


def test_sizes_are_checked_before_work():
    net = Net(1, 3)
    a = net.conv(INPUT, 4, k=3, stride=2)
    graph = net.done(net.pointwise("add", net.conv(INPUT, 4), a))
    with pytest.raises(ShapeError, match=r"add_3.*sizes differ.*fits inputs of other sizes"):
        lower(graph, 9, 9)
    net = Net(1, 3)
    graph = net.done(
        net.add(
            "conv2d",
            INPUT,
            2,
            {"weight": net.tensor(2, 3, 5, 5)},
            **{"stride": (1, 1), "padding": (0,) * 4, "dilation": (1, 1), "groups": 1},
        )
    )
    with pytest.raises(ShapeError, match=r"conv2d_1.*use a larger image"):
        lower(graph, 4, 9)
    net = Net(1, 3)
    place = {"stride": (1, 1), "padding": (3,) * 4, "output_padding": (0, 0), "dilation": (1, 1), "groups": 1}
    graph = net.done(net.add("conv_transpose2d", INPUT, 2, {"weight": net.tensor(3, 2, 3, 3)}, **place))
    with pytest.raises(ShapeError, match=r"conv_transpose2d_1.*leaves nothing"):
        lower(graph, 4, 9)
