"""Single layers worth timing: the shapes of ResNet-50 at output stride 8 and 480x640, small ones, and other ops."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pagnp.graph import INPUT, Graph
from pagnp.nn import blocks
from pagnp.nn.builder import GraphBuilder
from pagnp.nn.spec import GateSpec, MultiPoolSpec

RATES = (0, 1, 2, 4, 6, 8, 10)  # Kong and Fowlkes 2018: the seven of the paper
WIDTHS = {64: (120, 160, 1), 128: (60, 80, 1), 256: (60, 80, 2), 512: (60, 80, 4)}  # width -> h, w, dilation of its 3x3
WIDEST = 512


@dataclass(frozen=True)
class Case:
    """A graph of one layer and the shape (h, w, c) of its input; `op` is what `--op` picks it by."""

    op: str
    name: str
    shape: tuple[int, int, int]
    build: Callable[[], Graph]


# h, w, c_in, c_out, kernel, stride, dilation, groups; every one with its norm and relu
CONVS = (
    (480, 640, 3, 64, 7, 2, 1, 1),
    (120, 160, 64, 64, 1, 1, 1, 1),
    (120, 160, 64, 64, 3, 1, 1, 1),
    (120, 160, 64, 256, 1, 1, 1, 1),
    (120, 160, 256, 64, 1, 1, 1, 1),
    (120, 160, 256, 128, 1, 2, 1, 1),
    (60, 80, 128, 128, 3, 1, 1, 1),
    (60, 80, 128, 512, 1, 1, 1, 1),
    (60, 80, 512, 128, 1, 1, 1, 1),
    (60, 80, 256, 256, 3, 1, 2, 1),
    (60, 80, 256, 1024, 1, 1, 1, 1),
    (60, 80, 1024, 256, 1, 1, 1, 1),
    (60, 80, 512, 512, 3, 1, 4, 1),
    (60, 80, 512, 2048, 1, 1, 1, 1),
    (60, 80, 2048, 512, 1, 1, 1, 1),
    (60, 80, 2048, 128, 1, 1, 1, 1),  # a head
    (60, 80, 128, 32, 3, 1, 1, 1),
    (60, 80, 1024, 2, 1, 1, 1, 1),  # a gate
    (240, 320, 16, 16, 3, 1, 1, 1),  # few channels
    (240, 320, 16, 16, 1, 1, 1, 1),
    (16, 16, 64, 64, 3, 1, 1, 1),  # an image of 64x64
    (8, 8, 256, 256, 3, 1, 2, 1),
    (8, 8, 1024, 256, 1, 1, 1, 1),
    (120, 160, 64, 64, 3, 1, 1, 64),  # depthwise
    (60, 80, 128, 128, 3, 1, 1, 128),
    (60, 80, 128, 128, 3, 1, 1, 32),
)

# op, (h, w, c), attributes
OTHERS: tuple[tuple[str, tuple[int, int, int], dict[str, Any]], ...] = (
    (
        "max_pool2d",
        (240, 320, 64),
        {"kernel": (3, 3), "stride": (2, 2), "padding": (1, 1, 1, 1), "dilation": (1, 1), "ceil_mode": False},
    ),
    (
        "avg_pool2d",
        (120, 160, 64),
        {"kernel": (2, 2), "stride": (2, 2), "padding": (0,) * 4, "ceil_mode": False, "count_include_pad": True},
    ),
    ("global_mean", (60, 80, 512), {}),
    ("bilinear", (60, 80, 19), {"scale": (8, 8), "align_corners": False}),
    ("nearest", (60, 80, 64), {"scale": (2, 2)}),
    ("bilinear_deconv", (60, 80, 19), {"factor": 8}),
    ("relu", (120, 160, 256), {}),
    ("add", (120, 160, 256), {"value": 1.5}),
    ("mul", (120, 160, 256), {"value": 1.5}),
    ("sigmoid", (120, 160, 64), {}),
    ("exp", (120, 160, 64), {}),
    ("softmax", (60, 80, 2), {}),
    ("softmax", (480, 640, 19), {}),
    ("l2_normalize", (480, 640, 3), {}),
    ("pad", (120, 160, 64), {"padding": (1, 1, 1, 1)}),
)

PERFORATED, MULTIPOOL = "perforated", "multipool"


def conv_graph(c_in: int, c_out: int, kernel: int, stride: int, dilation: int, groups: int = 1) -> Graph:
    """Return the graph of a conv (padded so that stride 1 keeps the size) with its norm and relu."""
    g = GraphBuilder(c_in)
    padding = dilation * (kernel // 2)
    place: dict[str, Any] = {"kernel": kernel, "stride": stride, "dilation": dilation, "padding": padding}
    x = g.conv(INPUT, c_out, groups=groups, name="conv", **place)
    return g.finish({"y": g.relu(g.norm(x, name="norm"), name="relu")})


def _conv_case(h, w, c_in, c_out, kernel, stride, dilation, groups):
    parts = [f"{kernel}x{kernel}", f"{c_in}-{c_out}", f"{h}x{w}"]
    marks = ((stride, 1, "s"), (dilation, 1, "d"), (groups, 1, "g"))
    parts += [f"{letter}{value}" for value, usual, letter in marks if value != usual]
    name = f"conv2d {' '.join(parts)}"
    return Case("conv2d", name, (h, w, c_in), lambda: conv_graph(c_in, c_out, kernel, stride, dilation, groups))


def _other_case(op, shape, attrs):
    def build():
        g = GraphBuilder(shape[2])
        return g.finish({"y": g.node(op, INPUT, name="y", **attrs)})

    return Case(op, f"{op} {'x'.join(map(str, shape))}", shape, build)


def _transposed():
    g = GraphBuilder(64)
    weight = g.weight("w", g.rng.standard_normal((64, 64, 4, 4)) * 0.03)
    place = {"stride": (2, 2), "padding": (1,) * 4, "output_padding": (0, 0), "dilation": (1, 1), "groups": 1}
    return g.finish({"y": g.node("conv_transpose2d", INPUT, name="y", weights={"weight": weight}, **place)})


CASES = (
    *(_conv_case(*row) for row in CONVS),
    Case("conv_transpose2d", "conv_transpose2d 4x4 64-64 60x80 s2", (60, 80, 64), _transposed),
    *(_other_case(*row) for row in OTHERS),
)
OPS = (*dict.fromkeys(case.op for case in CASES), PERFORATED, MULTIPOOL)


def width_case(width: int, scale: float = 1.0) -> Case:
    """Return the dense 3x3 of one of WIDTHS, on a map that is `scale` times as high and wide."""
    h, w, dilation = WIDTHS[width]
    return _conv_case(round(h * scale), round(w * scale), width, width, 3, 1, dilation, 1)


def multipool_graph(channels: int, tied: bool) -> Graph:
    """Return the graph of a hard MultiPool over RATES with its attention head, as in a pag_resnet."""
    g = GraphBuilder(channels)
    spec = MultiPoolSpec(RATES, "hard", tied, (channels // 4, channels // 16))
    return g.finish({"y": blocks.multipool(g, INPUT, spec, GateSpec(), None, "multipool")})
