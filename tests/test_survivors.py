"""Networks that are here because a fault made on purpose, or an edit of tests/mutations, got past all other tests."""

import math

import numpy as np
import pytest
import test_bands
import test_lower
from test_lower import Net

from pagnp.canonical import norm_scale_shift
from pagnp.contract import compare
from pagnp.errors import ShapeError
from pagnp.fuse import fuse
from pagnp.graph import INPUT, Node
from pagnp.lower import lower
from pagnp.model import Model
from pagnp.testing.interpret import interpret

PLACE = {"stride": (1, 1), "padding": (0,) * 4, "dilation": (1, 1), "groups": 1}


def dilated_inside(seed=31):
    """A dilated conv over a private map: its taps lie apart."""
    net = Net(seed, 4)
    a = net.conv(INPUT, 6)
    b = net.conv(a, 4, dilation=3)
    return net.done(net.select(net.gate(INPUT), INPUT, b))


def residual_beside(seed=32):
    """A private map that is read to the left and right of each pixel by a conv, and at the pixel as its residual."""
    net = Net(seed, 4)
    x1 = net.pointwise("relu", net.conv(INPUT, 4))
    weights = {"weight": net.tensor(4, 4, 1, 2)}
    beside = net.add("conv2d", x1, 4, weights, **{**PLACE, "padding": (0, 0, 1, 2), "dilation": (1, 3)})
    return net.done(net.select(net.gate(INPUT), INPUT, net.pointwise("add", beside, x1)))


def gathered_twice(seed=33):
    """A dense map whose rows are wanted at two sets of sites."""
    net = Net(seed, 4)
    near = net.conv(net.pointwise("relu", INPUT), 4)
    both = net.pointwise("add", net.pointwise("sigmoid", INPUT), near)
    return net.done(net.select(net.gate(INPUT), INPUT, net.pointwise("exp", both)))


def residual_read_later(seed=34):
    """The residual of one conv is read again, by another conv, by a third op and as an output."""
    net = Net(seed, 4)
    a = net.conv(INPUT, 4)
    b = net.pointwise("add", net.conv(net.pointwise("sigmoid", a), 4), a)
    c = net.pointwise("add", net.conv(net.pointwise("sigmoid", b), 4), b)
    return net.done(net.pointwise("mul", c, net.pointwise("exp", a)), b)


def residual_is_the_input(seed=35):
    """conv(x) + x, in a chain: nothing else reads x, and yet it must not be overwritten while it is convolved."""
    net = Net(seed, 4)
    x = net.conv(INPUT, 20)
    for _ in range(3):
        x = net.pointwise("relu", net.pointwise("add", net.conv(x, 20), x))
    return net.done(x)


def read_besides(seed=36):
    """Convs and adds whose value is wanted by themselves, too."""
    net = Net(seed, 4)
    a = net.conv(INPUT, 4)
    b = net.pointwise("relu", a)
    c = net.pointwise("add", net.conv(b, 4), a)
    return net.done(net.pointwise("sub", net.pointwise("relu", c), c))


def strided_inside(seed=37):
    """A strided 1x1 over a private map, which reads every other pixel of it."""
    net = Net(seed, 4)
    a = net.conv(INPUT, 4)
    b = net.conv(a, 4, k=1, stride=2)
    x1 = net.conv(INPUT, 4, k=1, stride=2)
    return net.done(net.select(net.gate(x1), x1, b))


def padded_inside(seed=38):
    """A padded 1x1 over a private map: its own pixel lies beside."""
    net = Net(seed, 4)
    a = net.conv(INPUT, 4)
    b = net.add("conv2d", a, 4, {"weight": net.tensor(4, 4, 1, 1)}, **{**PLACE, "padding": (2, 1, 3, 0)})
    x1 = net.add("pad", INPUT, 4, padding=(2, 1, 3, 0))
    return net.done(net.select(net.gate(x1), x1, b))


def residual_broadcasts(seed=39):
    """A conv in a branch whose residual has one pixel, but only because the kernel before is as large as this image."""
    net = Net(seed, 4)
    shrunk = net.add("conv2d", INPUT, 4, {"weight": net.tensor(4, 4, 10, 13)}, **PLACE)
    both = net.pointwise("add", net.conv(INPUT, 4), shrunk)
    return net.done(net.select(net.gate(INPUT), INPUT, net.pointwise("relu", both)))


def rows_at_two_sets(seed=40):
    """A pointwise layer that is wanted around each site by a conv, and at the site by the end of the branch."""
    net = Net(seed, 4)
    a = net.conv(INPUT, 4)
    p = net.pointwise("sigmoid", a)
    around = net.conv(net.pointwise("exp", p), 4)
    return net.done(net.select(net.gate(INPUT), INPUT, net.pointwise("mul", net.pointwise("mul", around, p), a)))


def framed_averages(seed=41):
    """A frame thicker than bands, and means over windows that hang over the end, padding counted."""
    net = Net(seed, 4)
    a = net.add("pad", INPUT, 4, padding=(9, 7, 1, 0))
    window = {"kernel": (3, 3), "stride": (2, 2), "padding": (0, 0, 1, 0), "ceil_mode": True}
    b = net.add("avg_pool2d", INPUT, 4, count_include_pad=True, **window)
    return net.done(net.pointwise("relu", a), b)


GRAPHS = (
    dilated_inside,
    residual_beside,
    gathered_twice,
    residual_read_later,
    residual_is_the_input,
    read_besides,
    strided_inside,
    padded_inside,
    residual_broadcasts,
    rows_at_two_sets,
    framed_averages,
)
DENSE = {"residual_read_later", "residual_is_the_input", "read_besides", "residual_broadcasts", "framed_averages"}


@pytest.mark.parametrize("backend", test_lower.BACKENDS)
@pytest.mark.parametrize("dense", (False, True))
@pytest.mark.parametrize("make", GRAPHS, ids=lambda g: g.__name__)
def test_lowered_equals_node_by_node(make, dense, backend):
    test_lower.check_lowered(make(), 3, dense, backend, perforated=not dense and make.__name__ not in DENSE)


@pytest.mark.parametrize("make", GRAPHS, ids=lambda g: g.__name__)
def test_buffers_alive_together_do_not_overlap(make):
    test_lower.test_buffers_alive_together_do_not_overlap(make, False)


@pytest.mark.parametrize("tile", (1, 4))
@pytest.mark.parametrize("make", (*test_lower.GRAPHS, *GRAPHS), ids=lambda g: g.__name__)
def test_bands_equal_node_by_node(make, tile):
    graph = make()
    x = np.random.default_rng(5).standard_normal((1, 10, 13, graph.channels)).astype(np.float32)
    test_bands.check_in_bands(make.__name__, graph, x, "numpy", False, tile, interpret(graph, x))


def members(graph):
    """Return the node names inside each layer, by layer."""
    return {name: layer.members for name, layer in fuse(graph).items()}


def test_no_add_is_fused_across_a_global_mean():
    """Layers depend on the graph alone, so a trace of any image lists the same."""
    net = Net(41, 4)
    small = net.conv(net.add("global_mean", INPUT, 4), 4, k=1)
    large = net.conv(INPUT, 4)
    both = net.pointwise("relu", net.pointwise("add", large, small))
    names = ("global_mean_1", "conv2d_2", "conv2d_3", "add_4", "relu_5")
    assert members(net.done(both)) == {name: (name,) for name in names}


def test_the_later_of_two_convs_takes_the_add():
    net = Net(42, 4)
    a, b = net.conv(INPUT, 4), net.conv(INPUT, 4)
    assert members(net.done(net.pointwise("add", b, a))) == {a: (a,), "add_3": (b, "add_3")}


def test_a_dead_reader_does_not_keep_a_norm_from_its_conv():
    net = Net(43, 4)
    a = net.conv(INPUT, 4)
    n = net.norm(a)
    net.pointwise("relu", a)
    assert list(net.done(n).nodes) == [n]


def test_scale_and_shift_are_rounded_once():
    """Against exact arithmetic: eps beside small variances, many channels."""
    rng = np.random.default_rng(44)
    count, eps = 400, 1e-5
    w = {role: rng.standard_normal(count).astype(np.float32) for role in ("gamma", "beta", "mean", "bias")}
    w["var"] = (10.0 ** rng.uniform(-9, 0, count)).astype(np.float32)
    roles = {role: role for role in ("gamma", "beta", "mean", "var")}
    scale, shift = norm_scale_shift(w, Node("n", "norm", (), {"eps": eps}, roles), w["bias"])
    for i in range(count):
        root = math.sqrt(float(w["var"][i]) + eps)
        want = float(w["gamma"][i]) / root
        assert scale[i] == np.float32(want)
        assert shift[i] == np.float32(float(w["beta"][i]) + (float(w["bias"][i]) - float(w["mean"][i])) * want)


def test_a_set_within_another_adds_no_union():
    """Where the branch is picked, around it, and both: `a` is wanted at both, by one reader, and where it is picked."""
    assert [sites.rule for sites in lower(rows_at_two_sets(), 10, 13).sets] == ["pick", "grow", "union"]


def test_a_multipool_is_no_part_of_the_budget():
    plan = lower(test_lower.multipool(), 10, 13)
    assert plan.private and not plan.gated


def test_noise_may_be_given_for_every_image():
    net = Net(45, 4)
    graph = net.done(net.select(net.gate(INPUT), INPUT, net.conv(INPUT, 4)))
    (gate,) = graph.gates()
    x = np.random.default_rng(45).standard_normal((2, 5, 7, 4)).astype(np.float32)
    noise = np.random.default_rng(46).standard_normal((2, 5, 7, 2)).astype(np.float32)
    model = Model(graph, "numpy")
    both = model.forward(x, gate_mode="gumbel_hard", noise={gate: noise})["out0"]
    for i in (0, 1):
        one = model.forward(x[i : i + 1], gate_mode="gumbel_hard", noise={gate: noise[i]})["out0"]
        assert not compare(both[i : i + 1], one)
    turned = np.ascontiguousarray(noise.swapaxes(1, 2))
    with pytest.raises(ShapeError, match="need"):
        model.forward(x, gate_mode="gumbel_hard", noise={gate: turned})
