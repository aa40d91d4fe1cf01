"""Spot checks: random elements of a layer, recomputed in exact rational arithmetic from the layer's inputs.

No second backend is needed: the oracle (oracle.py) computes an element from the written rule alone. What it takes for
granted is the layer's inputs, and these are checked as the layers before it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pagnp import contract
from pagnp.backends.base import Backend
from pagnp.canonical import norm_scale_shift
from pagnp.fuse import CONVS, Layer
from pagnp.graph import INPUT, Graph
from pagnp.testing import oracle_scalar as scalar
from pagnp.testing.oracle import MEASURED, element
from pagnp.testing.oracle_pointwise import broadcast, true_pointwise
from pagnp.types import Array, Tensor

_BINARY = ("add", "sub", "mul", "div")
_AS_TUPLES = ("kernel", "stride", "padding", "dilation")


@dataclass
class Spot:
    """What became of one layer: `agree` of the `recomputed` elements, out of `size`.

    worst   largest error against the true value in units in the last place, where the op is measured (exp and its kin)
    first   the first element that does not agree, with both bits; "" if all do
    """

    name: str
    op: str
    size: int
    recomputed: int = 0
    agree: int = 0
    worst: float | None = None
    first: str = ""

    @property
    def ok(self) -> bool:
        """True if every recomputed element agrees."""
        return self.agree == self.recomputed

    def compare(self, index: Sequence[int], got: Any, want: Any, x: float | None = None, more: str = "") -> None:
        """Count one element: `got` of the run at `index`, `want` by the rule.

        x      the input element of a measured op; more: a problem found on the way
        """
        problem, error = disagreement(self.op, got, want, x)
        self.recomputed += 1
        self.agree += not (problem or more)
        if error is not None:
            self.worst = max(error, self.worst or 0.0)
        if (problem or more) and not self.first:
            self.first = f"out[{','.join(map(str, index))}]  {problem or more}"


def disagreement(op: str, got: Any, want: Any, x: float | None) -> tuple[str, float | None]:
    """Return (what is wrong with one element or "", its error in ULP where the op is measured).

    Exact ops must give the oracle's bits. exp, exp10, log, sigmoid and gumbel_noise may be one ULP off the correctly
    rounded `want`, and no farther from the true value at `x` than contract.CONTRACT says.
    """
    one = np.asarray([got])
    difference = contract.compare(one, np.asarray([want], one.dtype))
    place = difference.first[0] if difference else None
    text = f"got {place.got_bits} ({place.got})  exact {place.want_bits} ({place.want})" if place else ""
    if op not in MEASURED:
        return text, None
    finite = np.isfinite(want) and want != 0
    if place is not None and not (finite and place.ulp is not None and place.ulp <= 1):
        return text, None
    bound = contract.CONTRACT[op][1]
    true = true_pointwise(op, x) if bound is not None and x is not None and np.isfinite(got) else None
    if true is None or bound is None:
        return "", None
    error = float(scalar.ulp_error(float(got), true))
    return ("" if error <= bound else f"{text}  {error:.7f} ulp off the true value, need {bound}"), error


class Routines:
    """The engine's exp and log for the oracle of softmax and gates; each call is measured as those ops are."""

    def __init__(self, backend: Backend) -> None:
        self.backend, self.found = backend, ""
        self.table = {name: self._routine(name) for name in ("exp", "log")}

    def _routine(self, op):
        def call(x):
            out = np.empty((1, 1, 1, 1), np.float32)
            self.backend.kernels[op](np.full((1, 1, 1, 1), x, np.float32), out)
            got = out[0, 0, 0, 0]
            problem, _ = disagreement(op, got, getattr(scalar, op)(x), x)
            if problem:
                self.found = f"{op}({x!r}): {problem}"
            return float(got)

        return call

    def problem(self) -> str:
        """Return what was wrong since the last call, or ""."""
        found, self.found = self.found, ""
        return found


@dataclass
class Values:
    """What layers are recomputed from.

    graph       canonical; arrays: "input" and layers -> array (1, h, w, c) or (1, h, w)
    backend     its exp and log are taken inside softmax and gates, and measured there
    threshold   of the two-way hard gates, or None; noise: gate -> float32 (h, w, K), of Gumbel gates
    """

    graph: Graph
    arrays: Mapping[str, Array]
    backend: Backend
    threshold: np.float32 | None = None
    noise: dict[str, Tensor] = field(default_factory=dict)

    def member_shape(self, name: str) -> tuple[int, ...]:
        """Return the shape (1, h, w, c) of any node, also of one inside a layer."""
        return (1, *self.graph.infer(*self.arrays[INPUT].shape[1:3])[name].shape)


def places(size: int, count: int, seed: Sequence[int]) -> list[int]:
    """Return `count` different flat indices below `size`, or all; the same for the same `seed`."""
    if count >= size:
        return list(range(size))
    drawn = np.random.Generator(np.random.PCG64(seed)).choice(size, count, replace=False)
    return sorted(int(place) for place in drawn)


def layer_spot(values: Values, layer: Layer, got: Array, where: Sequence[int]) -> Spot:
    """Recompute the elements `where` (flat indices) of `got` (1, h, w[, c]), the run's array of `layer`."""
    spot, routines = Spot(layer.name, layer.op, got.size), Routines(values.backend)
    compute = _element_of(values, layer, got.shape, routines)
    x = values.arrays[layer.inputs[0]] if layer.op in MEASURED else None
    for flat in where:
        index = tuple(int(i) for i in np.unravel_index(flat, got.shape))
        want = compute(index)
        spot.compare(index[1:], got[index], want, None if x is None else float(x[index]), routines.problem())
    return spot


def noise_spot(name: str, gate: Mapping[str, Any], noise: Tensor, seed: int, where: Sequence[int]) -> Spot:
    """Recompute elements of a Gumbel gate's noise (h, w, K) from Philox; `gate` are the node's attributes."""
    spot = Spot(name, "gumbel_noise", noise.size)
    args = {"seed": seed, "gate_index": gate["gate_index"], "form": gate["form"], "y0": 0, "x0": 0}
    for flat in where:
        index = tuple(int(i) for i in np.unravel_index(flat, noise.shape))
        spot.compare(index, noise[index], element("gumbel_noise", index, noise.shape, args))
    return spot


def _element_of(values, layer, shape, routines) -> Callable[[tuple[int, ...]], Any]:
    """Return a function index -> the element of the layer by the rule."""
    op, ins = layer.op, [values.arrays[name] for name in layer.inputs]
    if op in CONVS:
        return _conv_element(values, layer, ins[0], shape)
    if op == "logical_not":
        return lambda index: not ins[0][index]
    if op == "to_float":
        return lambda index: 1.0 if ins[0][index[:3]] else 0.0
    args = _arguments(values, layer, ins)
    if op == "compare" and args["a"].ndim == 4:  # a mask has no channel axis, what it compares has one
        return lambda index: element(op, (*index, 0), (*shape, 1), args)
    return lambda index: element(op, index, shape, args, routines.table)


def _conv_element(values, layer, x, shape):
    """A conv with its epilogue. Where the add broadcasts, which no epilogue does: conv, add, relu one by one."""
    node, a = layer.node, layer.node.attrs
    parts = {role: values.graph.weights[key] for role, key in node.weights.items()}
    order = (2, 3, 1, 0) if node.op == "conv2d" else (2, 3, 0, 1)
    args = {"x": x, "weight": parts["weight"].transpose(order), "groups": a["groups"]}
    args |= {role: parts.get(role) for role in ("scale", "shift", "bias")}
    args |= {key: tuple(a[key]) for key in ("stride", "padding", "dilation")}
    if node.op == "conv2d":
        args["sites"] = None
    residual = None if layer.residual is None else values.arrays[layer.residual]
    own = shape if residual is None else values.member_shape(node.name)
    if residual is None or residual.shape == own:
        args |= {"residual": residual, "relu": layer.relu}
        return lambda index: element(node.op, index, shape, args)
    args |= {"residual": None, "relu": False}

    def compute(index):
        at = tuple(0 if size == 1 else i for i, size in zip(index, own, strict=True))
        total = scalar.add(element(node.op, at, own, args), float(broadcast(residual, index)))
        return scalar.relu(total) if layer.relu else total

    return compute


def _arguments(values, layer, ins):
    """Return the oracle's arguments of a node that is no convolution."""
    node, a, op = layer.node, layer.node.attrs, layer.op
    if op in _BINARY or op == "compare":
        first, second = ins if len(ins) == 2 else _with_number(a, ins[0])
        return {"a": first, "b": second} | ({"op": a["op"]} if op == "compare" else {})
    if op == "concat":
        return {"xs": ins}
    if op == "select":
        return {"control": ins[0], "branches": ins[1:]}
    if op == "blend":
        return {"p": ins[0], "branches": ins[1:]}
    if op == "masked":
        return {"x": ins[0], "mask": ins[1]}
    if op == "gate":
        threshold = values.threshold if a["mode"] == "hard" and not a.get("rates") else None
        given = {key: a[key] for key in ("mode", "form", "temperature")}
        return {"z": ins[0], **given, "noise": values.noise.get(node.name), "threshold": threshold}
    if op == "norm":
        scale, shift = norm_scale_shift(values.graph.weights, node)
        return {"x": ins[0], "scale": scale, "shift": shift}
    taken = {
        "max_pool2d": ("kernel", "stride", "padding", "dilation"),
        "avg_pool2d": ("kernel", "stride", "padding", "count_include_pad"),
        "bilinear": ("align_corners",),
        "bilinear_deconv": ("factor",),
        "pad": ("padding",),
        "slice_channels": ("start", "stop"),
    }.get(op, ())
    return {"x": ins[0]} | {key: tuple(a[key]) if key in _AS_TUPLES else a[key] for key in taken}


def _with_number(attrs, x):
    value = np.full((1,) * x.ndim, attrs["value"], x.dtype)
    return (value, x) if attrs.get("reverse") else (x, value)
