"""Small graphs, a few for each op of opset.OPS, for test_onnx.py: integers where sums are exact in any order."""

from dataclasses import dataclass, field

import numpy as np

from pagnp.graph import INPUT, Graph

SIZE = (7, 6)
PLAIN = {"stride": [1, 1], "padding": [0, 0, 0, 0], "dilation": [1, 1], "groups": 1}
GATE = {"mode": "hard", "form": "torch", "temperature": 1.0, "gate_index": 0}


@dataclass
class Row:
    """One node of `op` behind the input, or behind what `before` adds.

    attrs     of the node
    channels  of the input, size (h, w) of it
    weights   role -> shape of its weights, small integers
    before    graph -> names of the node's inputs; absent: the input alone
    exact     every result is the same in any order of sums
    floats    the input is not of integers
    fixed     what must be said of the size: "" nothing, "size" it must be given
    """

    op: str
    attrs: dict = field(default_factory=dict)
    channels: int = 4
    size: tuple = SIZE
    weights: dict = field(default_factory=dict)
    before: object = None
    exact: bool = True
    floats: bool = False
    fixed: bool = False
    note: str = ""

    def graph(self):
        g = Graph(self.channels)
        rng = np.random.default_rng(len(self.note) + 7)
        inputs = self.before(g) if self.before else (INPUT,)
        for role, shape in self.weights.items():
            g.weights[role] = rng.integers(-3, 4, shape).astype(np.float32)
            if role in ("var", "gamma", "scale"):
                g.weights[role] = (2.0 ** rng.integers(0, 3, shape)).astype(np.float32) ** (2 if role == "var" else 1)
        g.add(self.op, inputs, "y", {role: role for role in self.weights}, **self.attrs)
        g.outputs = {"out": to_tensor(g, "y")}
        return g.validate()

    def input(self):
        rng = np.random.default_rng(11)
        shape = (1, *self.size, self.channels)
        x = rng.standard_normal(shape) if self.floats else rng.integers(-4, 5, shape)
        return x.astype(np.float32)


def to_tensor(g, name):
    """Make an output of a mask or index: by a select, or a masked, which read it."""
    kind = g.infer()[name].kind
    if kind == "tensor":
        return name
    if kind == "mask":
        return g.add("to_float", name, "mask_as_tensor")
    return g.add("to_float", g.add("compare", name, "chosen", op="eq", value=1), "chosen_as_tensor")


def conv(**more):
    return Row("conv2d", **{"attrs": PLAIN | more.pop("place", {}), "weights": {"weight": (6, 4, 3, 3)}, **more})


def transposed(**more):
    attrs = PLAIN | {"output_padding": [0, 0]} | more.pop("place", {})
    return Row("conv_transpose2d", **{"attrs": attrs, "weights": {"weight": (4, 3, 3, 2)}, **more})


def pool(op, **attrs):
    more = {"count_include_pad": False} if op == "avg_pool2d" else {"dilation": [1, 1]}
    place = {"kernel": [2, 4], "stride": [2, 2], "padding": [0, 0, 0, 0], "ceil_mode": False}
    return Row(op, place | more | attrs, fixed=attrs.get("stride") == [3, 3] and attrs["ceil_mode"])


def both(g):
    """Two inputs: the image and its first channel's mean."""
    return INPUT, g.add("global_mean", g.add("slice_channels", INPUT, "first", start=0, stop=1), "mean")


def pair(op):
    """Two inputs of one channel, or one of two, that depend on the image."""
    return lambda g: tuple(g.add("slice_channels", INPUT, f"c{i}", start=i, stop=i + 1) for i in (0, 1))


def branches(control, count=2, **attrs):
    """A control made of the image, and `count` branches."""

    def before(g):
        z = g.add("slice_channels", INPUT, "z", start=0, stop=count)
        if attrs.get("whole"):
            z = g.add("global_mean", z, "mean")
        if control == "softmax":
            steering = g.add("softmax", z, "control")
        elif control == "argmax":
            steering = g.add("argmax", z, "control")
        else:
            steering = g.add("gate", z, "control", **GATE | {k: v for k, v in attrs.items() if k != "whole"})
        return (steering, *(g.add("mul", INPUT, f"b{k}", value=float(k + 1)) for k in range(count)))

    return before


def logits(count, scale=1.0):
    def before(g):
        z = g.add("slice_channels", INPUT, "z", start=0, stop=count)
        return (z if scale == 1 else g.add("mul", z, "scaled", value=scale),)

    return before


def mask_of(g):
    return (g.add("compare", g.add("slice_channels", INPUT, "c0", start=0, stop=1), "m", op="gt", value=0.0),)


ROWS = [
    conv(),
    conv(place={"stride": [2, 1], "padding": [1, 0, 2, 3], "dilation": [1, 2]}, note="asymmetric"),
    conv(place={"groups": 2}, weights={"weight": (6, 2, 3, 3), "bias": (6,)}, note="groups, bias"),
    conv(weights={"weight": (6, 4, 1, 1), "scale": (6,), "shift": (6,)}, note="scale, shift"),
    transposed(),
    transposed(place={"stride": [2, 3], "padding": [1, 0, 0, 2], "output_padding": [1, 2]}, note="asymmetric"),
    transposed(place={"output_padding": [3, 1], "padding": [0, 1, 0, 0]}, note="more output padding than stride"),
    transposed(
        place={"output_padding": [2, 0]}, weights={"weight": (4, 3, 2, 2), "bias": (3,)}, note="long and with bias"
    ),
    transposed(
        place={"groups": 2, "dilation": [2, 1]},
        weights={"weight": (4, 3, 3, 2), "scale": (6,), "shift": (6,)},
        note="groups",
    ),
    Row("norm", {"eps": 0.0}, weights=dict.fromkeys(("mean", "var", "gamma", "beta"), (4,))),
    Row("norm", {"eps": 0.0}, weights={"mean": (4,), "var": (4,)}, note="without gamma and beta"),
    Row("norm", {"eps": 1e-3}, weights={"mean": (4,), "var": (4,)}, exact=False, note="eps"),
    pool("max_pool2d"),
    pool("max_pool2d", kernel=[3, 3], ceil_mode=True, padding=[1, 0, 0, 1]),
    pool("max_pool2d", kernel=[2, 3], stride=[3, 3], ceil_mode=True, padding=[0, 1, 1, 0]),
    pool("max_pool2d", kernel=[2, 2], stride=[1, 1], dilation=[3, 2], padding=[3, 2, 0, 1]),
    pool("max_pool2d", kernel=[3, 2], stride=[1, 1], padding=[0, 1, 1, 0]),
    pool("avg_pool2d"),
    pool("avg_pool2d", kernel=[2, 2], padding=[1, 0, 0, 1], stride=[1, 1]),
    pool("avg_pool2d", kernel=[2, 2], padding=[1, 0, 0, 1], stride=[1, 1], count_include_pad=True),
    pool("avg_pool2d", kernel=[4, 4], stride=[2, 2], padding=[1, 1, 0, 1], ceil_mode=True, count_include_pad=True),
    pool("avg_pool2d", kernel=[4, 4], stride=[3, 3], padding=[1, 1, 0, 1], ceil_mode=True, count_include_pad=True),
    pool("avg_pool2d", kernel=[2, 2], stride=[2, 2], ceil_mode=True),
    Row("bilinear", {"scale": [2, 4], "align_corners": False}),
    Row("bilinear", {"size": [13, 11], "align_corners": True}),
    Row("bilinear", {"size": [5, 13], "align_corners": False}, exact=False, note="down and up"),
    Row("bilinear", {"size": [1, 9], "align_corners": True}, exact=False, note="one row"),
    Row("bilinear", {"size": [1, 9], "align_corners": False}, exact=False, note="one row, half pixel"),
    Row("bilinear", {"align_corners": False}, before=both, exact=False, note="size of another"),
    Row("nearest", {"scale": [2, 3]}),
    Row("nearest", {"scale": [41, 1]}, size=(3, 2), note="41 * f32(1 / 41) < 1"),
    Row("nearest", {"size": [82, 5]}, size=(2, 6), note="that again by size"),
    Row("nearest", {"size": [3, 17]}),
    Row("nearest", before=lambda g: both(g)[::-1], note="size of another"),
    Row("bilinear_deconv", {"factor": 2}),
    Row("bilinear_deconv", {"factor": 4}, size=(2, 3)),
    Row("global_mean", size=(4, 8)),
    Row("global_mean", exact=False, note="a quotient"),
    Row("relu"),
    Row("sigmoid", exact=False, floats=True),
    Row("exp", exact=False, floats=True),
    Row("exp10", exact=False, floats=True),
    Row("log", exact=False, before=lambda g: (g.add("exp", INPUT, "e"),), floats=True),
    Row("softmax", exact=False, floats=True),
    Row("l2_normalize", exact=False, floats=True),
    *(Row(op, before=both, exact=op != "div", size=(4, 8)) for op in ("add", "sub", "mul", "div")),
    Row("div", {"value": 4.0}),
    Row("sub", {"value": 3.0, "reverse": True}),
    Row("div", {"value": 3.0, "reverse": True}, exact=False, note="reverse"),
    Row("concat", before=lambda g: (INPUT, g.add("relu", INPUT, "r"), INPUT)),
    Row("concat"),
    Row("pad", {"padding": [1, 0, 2, 3]}),
    Row("slice_channels", {"start": 1, "stop": 3}),
    Row("argmax", channels=3, note="ties"),
    *(Row("compare", {"op": op}, before=pair(op)) for op in ("gt", "ge", "lt", "le", "eq", "ne")),
    Row("compare", {"op": "le", "value": 1.0}, channels=1),
    Row("compare", {"op": "ge", "value": 1}, before=lambda g: (g.add("argmax", INPUT, "i"),), note="an index"),
    Row("logical_not", before=mask_of),
    Row("to_float", before=mask_of),
    Row("gate", GATE, before=logits(2), note="hard, with ties"),
    Row("gate", GATE | {"rates": [0, 1, 2]}, before=logits(3)),
    Row("gate", GATE | {"rates": [1, 4]}, before=logits(2), note="a choice of two"),
    Row("gate", GATE | {"mode": "soft"}, before=logits(2, 0.25), exact=False),
    *(
        Row("gate", GATE | {"mode": f"gumbel_{kind}", "form": form, "temperature": 0.5, **rates}, exact=False)
        for kind in ("hard", "soft")
        for form in ("torch", "kong2018")
        for rates in ({"rates": [0, 1, 2, 4]},)
    ),
    Row("gate", GATE | {"mode": "gumbel_hard"}, before=logits(2), exact=False, note="gumbel mask"),
    Row("select", before=branches("gate")),
    Row("select", before=branches("gate", whole=True), note="one decision"),
    Row("select", before=branches("argmax", 4)),
    Row("select", before=branches("gate", 3, rates=[0, 1, 2], whole=True), note="one choice"),
    Row("blend", before=branches("softmax", 3), exact=False),
    Row("blend", before=branches("softmax", 2, whole=True), exact=False, note="one mixture"),
    Row("blend", before=lambda g: (*logits(1)(g), INPUT), note="one branch"),
    Row("masked", before=lambda g: (INPUT, *mask_of(g))),
]


def row_id(row):
    """A name for pytest: the op, its attributes that are not plain, the note."""
    attrs = [f"{k}{v}" for k, v in row.attrs.items() if k not in ("form", "gate_index") and v != PLAIN.get(k)]
    return "-".join([row.op, *("".join(c for c in a if c.isalnum()) for a in attrs), row.note.replace(" ", "_")])
