"""`GraphBuilder`: write a network node by node, without torch, with random weights from a seed.

g = GraphBuilder(channels=3, seed=0)
x = g.relu(g.norm(g.conv("input", 16, kernel=3, padding=1, name="conv1"), name="bn1"), name="relu")
x = g.conv(x, 5, kernel=1, bias=True, name="classify")
graph = g.finish({"labels": x})
"""

import numpy as np

from pagnp.graph import INPUT, Graph


def pair(value):
    """Return [y, x] of a number or a pair."""
    return list(value) if isinstance(value, (list, tuple)) else [value, value]


def four(value):
    """Return [top, bottom, left, right] of a number, (y, x) or four numbers."""
    if not isinstance(value, (list, tuple)):
        return [value] * 4
    return list(value) if len(value) == 4 else [value[0], value[0], value[1], value[1]]


class GraphBuilder:
    """Add nodes to `graph` and keep track of channel counts; each method returns the new node's name.

    channels  of the input tensor, which is called "input"
    seed      of NumPy's PCG64; the same seed and calls give the same weights on every machine
    """

    def __init__(self, channels=3, seed=0):
        self.graph = Graph(channels)
        self.channels = {INPUT: channels}
        self.rng = np.random.default_rng(seed)
        self.gate_count = 0

    def _add(self, op, inputs, name, channels, weights=None, **attrs):
        self.graph.add(op, inputs, name, weights, **attrs)
        self.channels[name] = channels
        return name

    def weight(self, key, array):
        """Store a weight under `key` as float32, unless it is there already (shared); return the key."""
        self.graph.weights.setdefault(key, np.ascontiguousarray(array, np.float32))
        return key

    def conv(
        self, x, c_out, *, kernel, name, stride=1, padding=0, dilation=1, groups=1, bias=False, shared=None, gain=2.0
    ):
        """Convolve; weights are He-normal: variance gain / fan_in, so that relu networks keep their scale.

        shared  the weight's key when several convs use one (tied MultiPool); None: `<name>.weight`
        """
        k_h, k_w = pair(kernel)
        c_in = self.channels[x] // groups
        deviation = np.sqrt(gain / (c_in * k_h * k_w))
        key = shared or f"{name}.weight"
        if key not in self.graph.weights:
            self.weight(key, self.rng.standard_normal((c_out, c_in, k_h, k_w)) * deviation)
        weights = {"weight": key}
        if bias:
            weights["bias"] = self.weight(f"{name}.bias", self.rng.standard_normal(c_out) * 0.1)
        attrs = {"stride": pair(stride), "padding": four(padding), "dilation": pair(dilation), "groups": groups}
        return self._add("conv2d", x, name, c_out, weights, **attrs)

    def norm(self, x, *, name, gain=1.0, eps=1e-5):
        """Normalise per channel with random but plausible running statistics; gamma is around `gain`."""
        count = self.channels[x]
        arrays = {
            "gamma": ("weight", self.rng.uniform(0.6, 1.4, count) * gain),
            "beta": ("bias", self.rng.standard_normal(count) * 0.1),
            "mean": ("running_mean", self.rng.standard_normal(count) * 0.1),
            "var": ("running_var", self.rng.uniform(0.6, 1.4, count)),
        }
        weights = {role: self.weight(f"{name}.{key}", array) for role, (key, array) in arrays.items()}
        return self._add("norm", x, name, count, weights, eps=eps)

    def relu(self, x, *, name):
        return self._add("relu", x, name, self.channels[x])

    def max_pool(self, x, *, kernel, name, stride=None, padding=0, dilation=1, ceil_mode=False):
        """Take the maximum over windows; stride None: the kernel."""
        return self._add(
            "max_pool2d",
            x,
            name,
            self.channels[x],
            kernel=pair(kernel),
            stride=pair(kernel if stride is None else stride),
            padding=four(padding),
            dilation=pair(dilation),
            ceil_mode=ceil_mode,
        )

    def add(self, a, b, *, name):
        return self._add("add", (a, b), name, max(self.channels[a], self.channels[b]))

    def concat(self, xs, *, name):
        return self._add("concat", tuple(xs), name, sum(self.channels[x] for x in xs))

    def bilinear(self, x, *, name, scale=None, size=None, like=None, align_corners=False):
        """Resize by an integer `scale`, to `size` (h, w), or to the size of the node `like`."""
        attrs = {"scale": pair(scale)} if scale else {"size": pair(size)} if size else {}
        inputs = (x, like) if like else (x,)
        return self._add("bilinear", inputs, name, self.channels[x], align_corners=align_corners, **attrs)

    def gate(self, z, *, name, mode="hard", form="kong2018", temperature=1.0, rates=None, index=None):
        """Decide from logits: 2 channels (skip, compute), or one a rate for a MultiPool.

        index  of the gate's noise stream; None: the next free number
        """
        index = self.gate_count if index is None else index
        self.gate_count = max(self.gate_count, index + 1)
        channels = self.channels[z] if mode.endswith("soft") else 1
        attrs = {"mode": mode, "form": form, "temperature": temperature, "gate_index": index}
        if rates is not None:
            attrs["rates"] = list(rates)
        return self._add("gate", z, name, channels, **attrs)

    def select(self, control, branches, *, name):
        """Pick a branch per pixel; with the probabilities of a soft gate, blend them."""
        soft = self.graph.nodes[control].attrs.get("mode", "").endswith("soft")
        op = "blend" if soft else "select"
        return self._add(op, (control, *branches), name, self.channels[branches[0]])

    def finish(self, outputs, heads=(), preprocess=None):
        """Name the outputs {output: node}, validate, and return the Graph."""
        self.graph.outputs = dict(outputs)
        self.graph.heads = list(heads)
        self.graph.preprocess = preprocess
        return self.graph.validate()
