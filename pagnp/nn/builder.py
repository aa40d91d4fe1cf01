"""`GraphBuilder`: write a network node by node, without torch, with random weights from a seed.

g = GraphBuilder(channels=3, seed=0)
x = g.relu(g.norm(g.conv("input", 16, kernel=3, padding=1, name="conv1"), name="bn1"), name="relu")
x = g.conv(x, 5, kernel=1, bias=True, name="classify")
graph = g.finish({"labels": x})
"""

import contextlib
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pagnp import opset
from pagnp.errors import GraphError
from pagnp.graph import INPUT, Graph
from pagnp.types import GateForm, GateMode, Json, Pair, Sides, Size


def is_count(value: object) -> bool:
    """Return whether `value` is a whole number of at least 1, of Python or NumPy."""
    return bool(isinstance(value, (int, np.integer)) and not isinstance(value, bool) and value >= 1)


def pair(value: int | list[int] | tuple[int, ...]) -> list[int]:
    """Return [y, x] of a number or a pair. Raises GraphError for another number of numbers."""
    if isinstance(value, (list, tuple)) and len(value) != 2:
        raise GraphError(f"{value!r} is no number and no pair (y, x)")
    return list(value) if isinstance(value, (list, tuple)) else [value, value]


def four(value: int | list[int] | tuple[int, ...]) -> list[int]:
    """Return [top, bottom, left, right] of a number, (y, x) or four numbers. Raises GraphError for anything else."""
    if isinstance(value, (list, tuple)) and len(value) == 4:
        return list(value)
    y, x = pair(value)
    return [y, y, x, x]


class _Channels(dict[str, int]):
    """Node -> channels of its result."""

    def __missing__(self, name: str) -> int:
        raise GraphError(f"there is no node '{name}' yet; the image is '{INPUT}'")


class GraphBuilder:
    """Add nodes to `graph` and keep track of channel counts; each method returns the new node's name.

    A method that raises GraphError has changed nothing.

    channels  of the input tensor, which is called "input"
    seed      of NumPy's PCG64; the same seed and calls give the same weights on every machine
    """

    def __init__(self, channels: int = 3, seed: int = 0) -> None:
        self.graph = Graph(channels)
        self.channels = _Channels({INPUT: channels})
        self.rng = np.random.default_rng(seed)
        self.gate_count = 0

    def node(
        self,
        op: str,
        inputs: str | Sequence[str],
        /,
        *,
        name: str,
        weights: Mapping[str, str] | None = None,
        **attrs: Any,
    ) -> str:
        """Add any op of docs/MODEL_FORMAT.md, as in `g.node("mul", (x, p), name="attended")`.

        weights  role -> key of a weight that `weight` has stored
        attrs    all that the op has, as the table writes them: stride=[2, 2]
        Raises:  GraphError naming the node if the op, its inputs, attributes, weights or channels are wrong.
        """
        with self._whole():
            for role, key in (weights or {}).items():
                if key not in self.graph.weights:
                    raise GraphError(f"node '{name}' ({op}): there is no weight '{key}' for its {role}; store it first")
            self.graph.add(op, inputs, name, weights, **attrs)
            node = self.graph.nodes[name]
            c_in = [self.channels[source] for source in node.inputs]
            self.channels[name] = opset.OPS[op].channels(node, c_in, self.graph.weight_shape(node))
        return name

    @contextlib.contextmanager
    def _whole(self) -> Iterator[None]:
        """Leave everything as it was where the block raises: a corrected call finds no trace of the wrong one."""
        growing: tuple[MutableMapping[str, Any], ...] = (self.graph.nodes, self.graph.weights, self.channels)
        sizes, gates, state = [len(each) for each in growing], self.gate_count, self.rng.bit_generator.state
        try:
            yield
        except BaseException:
            for each, size in zip(growing, sizes, strict=True):
                while len(each) > size:
                    each.popitem()  # a dict gives the newest
            self.gate_count, self.rng.bit_generator.state = gates, state
            raise

    def weight(self, key: str, array: npt.ArrayLike) -> str:
        """Store a weight under `key` as float32, unless it is there already (shared); return the key."""
        self.graph.weights.setdefault(key, np.ascontiguousarray(array, np.float32))
        return key

    def conv(
        self,
        x: str,
        c_out: int,
        *,
        kernel: Pair,
        name: str,
        stride: Pair = 1,
        padding: Pair | Sides = 0,
        dilation: Pair = 1,
        groups: int = 1,
        bias: bool = False,
        shared: str | None = None,
        gain: float = 2.0,
    ) -> str:
        """Convolve; weights are He-normal: variance gain / fan_in, so that relu networks keep their scale.

        shared  the weight's key when several convs use one (tied MultiPool); None: `<name>.weight`
        """
        k_h, k_w = pair(kernel)
        if not all(is_count(size) for size in (k_h, k_w, c_out, groups)):
            given = f"kernel {kernel}, {c_out} channels, {groups} groups"
            raise GraphError(f"node '{name}' (conv2d): {given}; need whole numbers of 1 or more")
        k_h, k_w, c_out, groups = int(k_h), int(k_w), int(c_out), int(groups)
        shape = (c_out, self.channels[x] // groups, k_h, k_w)
        key = shared or f"{name}.weight"
        with self._whole():
            if key not in self.graph.weights:
                deviation = np.sqrt(gain / max(1, shape[1] * k_h * k_w))
                self.weight(key, self.rng.standard_normal(shape) * deviation)
            if self.graph.weights[key].shape != shape:
                have = self.graph.weights[key].shape
                raise GraphError(f"node '{name}' (conv2d): the weight '{key}' has shape {have}, need {shape}")
            weights = {"weight": key}
            if bias:
                weights["bias"] = self.weight(f"{name}.bias", self.rng.standard_normal(c_out) * 0.1)
            attrs = {"stride": pair(stride), "padding": four(padding), "dilation": pair(dilation), "groups": groups}
            return self.node("conv2d", x, name=name, weights=weights, **attrs)

    def norm(self, x: str, *, name: str, gain: float = 1.0, eps: float = 1e-5) -> str:
        """Normalise per channel with random but plausible running statistics; gamma is around `gain`."""
        count = self.channels[x]
        arrays = {
            "gamma": ("weight", self.rng.uniform(0.6, 1.4, count) * gain),
            "beta": ("bias", self.rng.standard_normal(count) * 0.1),
            "mean": ("running_mean", self.rng.standard_normal(count) * 0.1),
            "var": ("running_var", self.rng.uniform(0.6, 1.4, count)),
        }
        with self._whole():
            weights = {role: self.weight(f"{name}.{key}", array) for role, (key, array) in arrays.items()}
            return self.node("norm", x, name=name, weights=weights, eps=eps)

    def relu(self, x: str, *, name: str) -> str:
        """Replace what is below 0 by 0."""
        return self.node("relu", x, name=name)

    def max_pool(
        self,
        x: str,
        *,
        kernel: Pair,
        name: str,
        stride: Pair | None = None,
        padding: Pair | Sides = 0,
        dilation: Pair = 1,
        ceil_mode: bool = False,
    ) -> str:
        """Take the maximum over windows; stride None: the kernel."""
        return self.node(
            "max_pool2d",
            x,
            name=name,
            kernel=pair(kernel),
            stride=pair(kernel if stride is None else stride),
            padding=four(padding),
            dilation=pair(dilation),
            ceil_mode=ceil_mode,
        )

    def add(self, a: str, b: str, *, name: str) -> str:
        """Add two tensors; a channel count or side of 1 is spread."""
        return self.node("add", (a, b), name=name)

    def concat(self, xs: Sequence[str], *, name: str) -> str:
        """Put the channels of tensors of one size behind each other."""
        return self.node("concat", xs, name=name)

    def bilinear(
        self,
        x: str,
        *,
        name: str,
        scale: Pair | None = None,
        size: Size | None = None,
        like: str | None = None,
        align_corners: bool = False,
    ) -> str:
        """Resize by an integer `scale`, to `size` (h, w), or to the size of the node `like`."""
        attrs: dict[str, Any] = {"scale": pair(scale)} if scale else {"size": pair(size)} if size else {}
        inputs = (x, like) if like else (x,)
        return self.node("bilinear", inputs, name=name, align_corners=align_corners, **attrs)

    def gate(
        self,
        z: str,
        *,
        name: str,
        mode: GateMode = "hard",
        form: GateForm = "kong2018",
        temperature: float = 1.0,
        rates: Sequence[int] | None = None,
        index: int | None = None,
    ) -> str:
        """Decide from logits: 2 channels (skip, compute), or one a rate for a MultiPool.

        index  of the gate's noise stream; None: the next free number
        """
        index = self.gate_count if index is None else index
        attrs: dict[str, Any] = {"mode": mode, "form": form, "temperature": temperature, "gate_index": index}
        if rates is not None:
            attrs["rates"] = list(rates)
        self.node("gate", z, name=name, **attrs)
        self.gate_count = max(self.gate_count, index + 1)
        return name

    def select(self, control: str, branches: Sequence[str], *, name: str) -> str:
        """Pick a branch per pixel; with the probabilities of a soft gate, blend them."""
        soft = control in self.graph.nodes and self.graph.nodes[control].attrs.get("mode", "").endswith("soft")
        return self.node("blend" if soft else "select", (control, *branches), name=name)

    def finish(self, outputs: Mapping[str, str], heads: Sequence[Json] = (), preprocess: Json | None = None) -> Graph:
        """Name the outputs {output: node}, validate, and return the Graph."""
        self.graph.outputs = dict(outputs)
        self.graph.heads = list(heads)
        self.graph.preprocess = preprocess
        return self.graph.validate()
