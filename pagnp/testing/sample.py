"""The built-in sample of `pagnp doctor`: a small network over all ops, and the digests that every value must have.

The digests are not a backend's word: tests/test_doctor.py recomputes elements of every layer by the exact-rational
oracle (all of them, if asked to). So a NumPy, a Python or a CPU that is wrong for all backends alike shows, too. A
changed network has new digests: `found` of `differing`, after that test has passed with PAGNP_WHOLE_SAMPLE=1.
"""

import numpy as np

from pagnp import nn
from pagnp.backends.base import Backend
from pagnp.graph import Graph
from pagnp.model import Model
from pagnp.types import Pixels

SIZE = (11, 13)
SHOWN = 16  # hex digits of a digest in EXPECTED


def differing(backend: Backend) -> list[str]:
    """Return the layers and results of the sample that are not EXPECTED on `backend`; the first is where it begins."""
    result = Model(graph(), backend)(pixels(), seed=9, trace="digests")
    found = {**result.layer_digests, **result.digests}
    return [name for name in dict.fromkeys([*found, *EXPECTED]) if found.get(name, "")[:SHOWN] != EXPECTED.get(name)]


def pixels() -> Pixels:
    """Return the sample's image, (h, w, 3) uint8."""
    return (_whole(1, (*SIZE, 3)) >> 16).astype(np.uint8)


def graph() -> Graph:
    """Return the sample's network: all ops of opset.py, all kinds of gates, long sums, a perforated branch."""
    b = _Builder()
    x = b.relu(b.norm(b.conv("input", "c1", 8, 3, stride=2, padding=1), "n1"), name="stem")
    x = b.relu(b.conv(x, "c2", 16, 3, padding=2, dilation=2, groups=4, bias=True), name="grouped")
    wide = b.conv(x, "wide", 144, 1)
    x = b.relu(b.add(b.conv(wide, "long", 4, 3, padding=1), b.conv(x, "side", 4, 1), name="sum"), name="body")
    x = _pointwise(b, _spatial(b, x))
    x = _gated(b, x)
    _heads(b, x)
    return b.graph.validate()


class _Builder(nn.GraphBuilder):
    """A GraphBuilder whose weights are the same on every machine, whatever NumPy does to its generators."""

    def conv(self, x, name, c_out, kernel, *, bias=False, **attrs):
        c_in = self.channels[x] // attrs.get("groups", 1)
        scale = 2.0 ** (1 - (c_in * kernel * kernel).bit_length() // 2)
        self.weight(f"{name}.weight", scale * self.numbers((c_out, c_in, kernel, kernel)))
        if bias:
            self.weight(f"{name}.bias", self.numbers((c_out,)))
        return super().conv(x, c_out, kernel=kernel, name=name, shared=f"{name}.weight", bias=bias, **attrs)

    def norm(self, x, name):
        count = self.channels[x]
        for key in ("weight", "bias", "running_mean"):
            self.weight(f"{name}.{key}", self.numbers((count,)))
        self.weight(f"{name}.running_var", 1.25 + self.numbers((count,)))
        return super().norm(x, name=name)

    def numbers(self, shape):
        """New numbers between -1 and 1, multiples of 2^-23."""
        whole = _whole(len(self.graph.weights) + 10, shape)
        return ((whole >> 8).astype(np.int64) - (1 << 23)) / np.float64(1 << 23)


def _whole(stream, shape):
    """Whole numbers, uint32, by counting and mixing: SplitMix64's finaliser (Steele et al. 2014)."""
    z = np.arange(1, int(np.prod(shape)) + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z += np.uint64(stream) << np.uint64(32)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((z ^ (z >> np.uint64(31))) >> np.uint64(32)).astype(np.uint32).reshape(shape)


def _spatial(b, x):
    """Down to 3x4 and up again in every way, then padded and joined."""
    window = {"kernel": [3, 3], "stride": [2, 2], "padding": [1, 1, 1, 1], "ceil_mode": False}
    low = b.node("max_pool2d", x, name="max_pool", dilation=[1, 1], **window)
    mean = b.node("avg_pool2d", x, name="avg_pool", count_include_pad=False, **window)
    b.weight("up.weight", b.numbers((4, 3, 4, 4)))
    place = {"stride": [2, 2], "padding": [1] * 4, "output_padding": [0, 0], "dilation": [1, 1], "groups": 1}
    ups = [
        b.node("conv_transpose2d", mean, name="transposed", weights={"weight": "up.weight"}, **place),
        b.node("bilinear_deconv", low, name="deconv", factor=2),
        b.bilinear(low, like=x, name="bilinear", align_corners=True),
        b.node("nearest", mean, name="nearest", scale=[2, 2]),
        b.node("pad", low, name="pad", padding=[1, 2, 1, 3]),
    ]
    return b.node("slice_channels", b.concat([x, *ups], name="joined"), name="sliced", start=2, stop=14)


def _pointwise(b, x):
    """All arithmetic, each op on numbers that it takes."""
    s = b.node("sigmoid", x, name="sigmoid")
    e = b.node("exp", s, name="exp")
    ten = b.node("exp10", s, name="exp10")
    quotient = b.node("div", (b.node("log", s, name="log"), b.add(e, ten, name="e_and_ten")), name="quotient")
    p = b.node("mul", (b.node("softmax", x, name="softmax"), b.node("l2_normalize", x, name="unit")), name="product")
    scaled = b.node("mul", b.norm(p, "normed"), name="scaled", value=0.1)
    rest = b.node("sub", scaled, name="rest", value=0.125, reverse=True)
    shifted = b.add(x, b.node("global_mean", quotient, name="mean"), name="shifted")
    return b.node("sub", (shifted, rest), name="mixed")


def _gated(b, x):
    """A perforated branch, soft and Gumbel gates of both forms, a MultiPool, masks that are compared."""
    centred = b.node("sub", (x, b.node("global_mean", x, name="level")), name="centred")
    z = b.conv(centred, "z", 2, 1)
    branch = b.conv(b.relu(b.conv(x, "in", 6, 3, padding=1), name="inner"), "out", 12, 1)
    x = b.select(b.gate(z, name="hard"), (x, b.add(branch, x, name="branch")), name="selected")
    soft = b.gate(b.conv(centred, "z_soft", 2, 1), name="soft", mode="soft")
    drawn = b.gate(b.conv(centred, "z_drawn", 2, 1), name="drawn", mode="gumbel_soft", temperature=0.5)
    x = b.select(drawn, (x, b.select(soft, (x, b.relu(x, name="positive")), name="blended")), name="drawn_blend")
    three = b.conv(centred, "z_three", 3, 1)
    branches = [b.conv(x, f"rate{r}", 12, 3, padding=r, dilation=r) for r in (1, 2, 3)]
    pooled = b.select(b.gate(three, name="pool", rates=[1, 2, 3]), branches, name="pooled")
    coin = b.gate(z, name="coin", mode="gumbel_hard", form="torch")
    x = b.add(b.node("masked", (pooled, coin), name="kept"), x, name="after_pool")
    second = b.node("compare", b.node("argmax", three, name="best"), name="second", op="eq", value=1)
    two = [b.node("slice_channels", x, name=f"channel{i}", start=i, stop=i + 1) for i in (3, 4)]
    low = b.node("logical_not", b.node("compare", two, name="high", op="gt"), name="low")
    weight = b.add(b.node("to_float", second, name="is_second"), b.node("to_float", low, name="is_low"), name="count")
    return b.node("mul", (x, weight), name="counted")


def _heads(b, x):
    bilinear = {"op": "bilinear", "align_corners": False}
    rows = [
        ("labels", "segmentation", 5, bilinear, "argmax"),
        ("depth", "depth", 1, {"op": "nearest"}, "exp10"),
        ("normals", "normals", 3, {"op": "bilinear_deconv", "factor": 2}, "l2_normalize"),
        ("boundary", "boundary", 1, bilinear, "sigmoid"),
    ]
    for name, task, channels, upsample, decode in rows:
        b.graph.outputs[name] = b.conv(x, f"logits_{name}", channels, 1, bias=True)
        head = {"name": name, "task": task, "output": name, "upsample": upsample, "decode": decode}
        b.graph.heads.append(head)
    preprocess = {"kind": "torchvision", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    b.graph.preprocess = preprocess | {"pad_multiple": 4}


EXPECTED: dict[str, str] = {
    "stem": "6af757d1f05af219",
    "grouped": "8394506d3d46d173",
    "wide": "3fe90c7d70815f85",
    "long": "4cd4af562608baaa",
    "body": "b73a54160fe3db45",
    "max_pool": "3fda2f39d1666d3d",
    "avg_pool": "6bedee9d966f8fa4",
    "transposed": "b0f43e880963aecd",
    "deconv": "6c4ecf6ae7e1356b",
    "bilinear": "96419b4a6e7241b8",
    "nearest": "7f872ba5fea59a88",
    "pad": "80d5b7d8155a09fc",
    "joined": "931ea0d7ad465127",
    "sliced": "c242436bfa9bba9b",
    "sigmoid": "43b15d9cd76b3968",
    "exp": "f36c4c8c47fafc51",
    "exp10": "fa04785c0280ac2e",
    "log": "263c84aa6d03fdf4",
    "e_and_ten": "e37fadc9c709b4ae",
    "quotient": "252c0558b3c5c1be",
    "softmax": "996c9f9444d8a8fa",
    "unit": "cbfef8b8bf0f8db3",
    "product": "71586ff12c0b636c",
    "normed": "13a5d07457902e79",
    "scaled": "6fc4a54361b71eab",
    "rest": "868e654d7ddd154f",
    "mean": "8d3dce7ea9c13bb5",
    "shifted": "dbf7563c8b77ca67",
    "mixed": "86ba2c6a249fc1e4",
    "level": "8cd4dc2b47aa5695",
    "centred": "9c3e3374fb401e13",
    "z": "e27ac3ba033f1207",
    "hard": "8421cd428244b4a6",
    "selected": "e21276e7c2644c7e",
    "z_soft": "230429e9d0e05e31",
    "soft": "a5ebae1200fe6802",
    "z_drawn": "853bd687f00cf180",
    "drawn": "4232f7a435a0a0a0",
    "positive": "3dbe12bf7ff380ce",
    "blended": "3e94343efc58738c",
    "drawn_blend": "c74bf4f89ceff4cf",
    "z_three": "f84b81ae26a67a11",
    "pool": "e4479a4c1239a5d2",
    "pooled": "f4a7748c198e5580",
    "coin": "7ce28ce15dbe902c",
    "kept": "da20f06482ebbdf0",
    "after_pool": "0e51343fbe8b876b",
    "best": "e4479a4c1239a5d2",
    "second": "0540866578b91ae2",
    "channel3": "f39fc939984ce21a",
    "channel4": "afcd1b0258bc275a",
    "high": "77317374e0d21454",
    "low": "3cd547afa114404a",
    "is_second": "ba429e9bdacb93fd",
    "is_low": "0f39b5938337a9fc",
    "count": "238ef468edd355d7",
    "counted": "81d54b3c43a957b8",
    "logits_labels": "45611d56fb7b2007",
    "logits_depth": "c39c7c46cce525a6",
    "logits_normals": "532633bdf0740258",
    "logits_boundary": "f70fe1d93f87bcba",
    "logits/labels": "45611d56fb7b2007",
    "logits/depth": "c39c7c46cce525a6",
    "logits/normals": "532633bdf0740258",
    "logits/boundary": "f70fe1d93f87bcba",
    "outputs/labels": "fb1cdb2361d81c20",
    "outputs/depth": "e0475abc31464bf4",
    "outputs/normals": "d71b656e07b44354",
    "outputs/boundary": "c4bc7efe076eea3a",
    "masks/hard": "8421cd428244b4a6",
    "masks/coin": "7ce28ce15dbe902c",
}
