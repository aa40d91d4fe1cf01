"""A whole network against somebody's arrays, layer by layer, anchored: no bound is multiplied through the network.

Where the reference has the value of a layer, the layers that read it start from the REFERENCE's value with error 0,
so our op on the reference's inputs must lie within its own bound of the reference's result. Where the value is
missing, ours stands in for it and its bound runs on.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from pagnp import heads, ops
from pagnp.backends.base import Backend
from pagnp.canonical import canonical
from pagnp.dispatch import Options
from pagnp.errorbound import bound
from pagnp.errorbound.layers import Held, Terms, margins_of
from pagnp.errorbound.reference import ReferenceFile
from pagnp.errorbound.rounding import TINY, U, wide
from pagnp.errorbound.rows import Row, compare_decisions, compare_tensors
from pagnp.fuse import CONVS, Layer
from pagnp.graph import INPUT, Graph
from pagnp.lower import lower
from pagnp.parameters import prepare
from pagnp.runner import execute
from pagnp.types import Array, Size, Tensor

References: TypeAlias = Mapping[str, Array] | ReferenceFile  # a file is read when asked


@dataclass
class Report:
    """rows: one a value compared, in the graph's order. missing: layers that the reference has no array of."""

    rows: list[Row] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    @property
    def first(self) -> Row | None:
        """The first row that is out of its bound."""
        return next((row for row in self.rows if not row.ok), None)


def check(
    graph: Graph, x: Tensor, references: References, backend: Backend, *, seed: int = 0, size: Size | None = None
) -> Report:
    """Hold `graph`, run on x (1, h, w, c), against `references` and return a Report.

    references  node name -> array in our layout: float32 or float64 (1, h, w, c), bool or int32 (1, h, w). Nodes are
                those of the canonical graph and the convs that norms joined; outputs/<head> is what a head decodes
    seed        of the Gumbel noise, which the reference must have used, too
    size        (h, w) that heads crop to; None: that of x
    Numerics:   bounds in float64 (`errorbound.bound`); float64 references are rounded where our ops read them, and
                that rounding is an error of their inputs.
    """
    walk = _Walk(graph, x, references, backend, seed)
    decoded = [head for head in graph.heads if f"outputs/{head['name']}" in references]
    own = walk.own_run(decoded, size or x.shape[1:3])
    walk.anchored_run()
    for head in decoded:
        walk.head(head, size or x.shape[1:3])
    for row in walk.report.rows:
        row.run, row.run_flips = own.get(row.name, (None, None))
    return walk.report


class _Walk:
    """State of one check: the plan, the references, and what is held of every layer that is still to be read."""

    def __init__(self, raw, x, references, backend, seed):
        self.graph, self.references, self.backend = canonical(raw), references, backend
        self.plan = lower(self.graph, x.shape[1], x.shape[2], dense=True)
        self.parameters, self.options = prepare(self.graph, backend), Options(seed=seed)
        self.terms = Terms(raw, self.graph, self.noise)
        self.x, self.report = x, Report()
        self.held = {INPUT: Held(x)}
        outputs = set(self.graph.outputs.values())
        self.last_reader = {read: layer.name for layer in self.plan.layers.values() for read in layer.reads}
        self.last_reader = {name: reader for name, reader in self.last_reader.items() if name not in outputs}

    def noise(self, node, shape):
        out = np.empty(shape, np.float32)
        self.backend.gumbel_noise(self.options.seed, node.attrs["gate_index"], node.attrs["form"], 0, 0, out)
        return out

    def execute(self, watch):
        return execute(self.plan, self.backend, self.parameters, self.x, self.options, watch)

    def own_run(self, decoded, size):
        """Run the network on its own values; return name -> (largest difference, decisions that differ)."""
        found = {}

        def watch(name, array):
            if name in self.references:
                found[name] = _plain(array, self.references[name])

        run = self.execute(watch)
        for head in decoded:
            name, logits = f"outputs/{head['name']}", run.value(self.graph.outputs[head["output"]])
            found[name] = _plain(self.decoded(head, Held(logits), size)[0], self.references[name])
        return found

    def anchored_run(self):
        """Run the same plan, putting the reference's values in the place of ours as soon as these are compared."""

        def watch(name, array):
            layer = self.plan.layers[name]
            self.inside(layer)
            self.held[name] = self.compared(layer, array.copy())
            np.copyto(array, self.held[name].value)
            for read in layer.reads:
                if self.last_reader.get(read) == name:
                    self.held.pop(read, None)

        self.execute(watch)

    def compared(self, layer, ours):
        """Return what later layers hold of `layer`, whose value on the reference's inputs is `ours`; add its Row."""
        args, errors = self.terms.of(layer, self.held)
        error = bound(layer.op, args, ours.shape, errors)
        if ours.dtype == np.float32:  # a NaN beside a value, which did not become part of it, says nothing of it
            error = np.where(np.isnan(error) & np.isfinite(ours), np.inf, error)
        if not error.any():
            error = None
        if layer.name not in self.references:
            if layer.name in self.plan.layers:
                self.report.missing.append(layer.name)
            return Held(ours, error)
        return self.row(layer.name, layer.op, ours, error, margins_of(layer.op, args, errors))

    def row(self, name, op, ours, error, margin=None):
        """Compare, add the Row, and return the reference's value as ours would be held."""
        want = self.references[name]
        if ours.dtype != np.float32:
            self.report.rows.append(compare_decisions(name, op, ours, want, error, margin))
            return Held(want.astype(ours.dtype))
        error = 0.0 if error is None else error
        if want.dtype == np.float64:  # it does not share our last rounding, which may be our only one
            error = error + U * np.abs(wide(ours)) + TINY
        self.report.rows.append(compare_tensors(name, op, ours, want, error))
        with np.errstate(over="ignore", invalid="ignore"):  # infinities and NaN lose nothing
            narrow = want.astype(np.float32)
            off = np.where(narrow == want, 0.0, np.abs(narrow.astype(np.float64) - want))
        return Held(narrow, off if np.any(off > 0) else None)

    def inside(self, layer):
        """Compare what the epilogue of a conv layer hides: the sum before its norm, and each member but the last."""
        if layer.op not in CONVS:
            return
        conv = self.terms.before_norm(layer.node.name)
        first, *others = layer.members
        names = [*([conv.name] if conv is not None else []), *layer.members[:-1]]
        wanted = [name for name in names if name in self.references]
        if not wanted:
            return
        if conv is not None and conv.name in self.references:
            self.compared(Layer(conv.name, conv, conv.inputs), self.convolved(conv))
        if not others or not any(name in wanted for name in layer.members):
            return
        kept = dict(self.held)
        self.held[first] = self.compared(Layer(first, layer.node, layer.inputs), self.convolved(layer.node))
        for name in layer.members[1:-1]:
            node = self.graph.nodes[name]
            a, b = (self.held[read].value for read in node.inputs)
            self.held[name] = self.compared(Layer(name, node, node.inputs), ops.add(a, b, backend=self.backend))
        self.held = kept

    def convolved(self, node):
        """Return the conv of `node` with its norm or bias alone, on what is held of its input."""
        parts = {role: self.terms.weights(node, role) for role in ("scale", "shift", "bias") if role in node.weights}
        order = (2, 3, 1, 0) if node.op == "conv2d" else (2, 3, 0, 1)
        weight = np.ascontiguousarray(self.terms.weights(node, "weight").transpose(order))
        place = {key: tuple(value) if isinstance(value, list) else value for key, value in node.attrs.items()}
        x = self.held[node.inputs[0]].value
        return getattr(ops, node.op)(x, weight, **parts, **place, backend=self.backend)

    def head(self, head, size):
        """Compare what a head makes of its logits: upsampled, cropped, decoded."""
        name, node = f"outputs/{head['name']}", self.graph.outputs[head["output"]]
        ours, error, x, e = self.decoded(head, self.held[node], size)
        margin = margins_of(head["decode"], {"x": x}, {"x": e})
        self.row(name, head["decode"], ours, error, margin)

    def decoded(self, head, held, size):
        """Return (answer, its error, upsampled logits, their error) of a head."""
        padded, how = (self.plan.h, self.plan.w), head["upsample"]
        whole = heads.upsampled_size(head, held.value.shape[1:3], padded)
        h, w = min(size[0], whole[0]), min(size[1], whole[1])
        up = np.ascontiguousarray(heads.upsample(head, held.value, padded, 0, h, self.backend)[:, :, :w])
        args = {"x": held.value, "align_corners": how.get("align_corners", False), "factor": how.get("factor")}
        shape = (1, *whole, held.value.shape[3])
        e = held.error if how["op"] == "none" else bound(how["op"], args, shape, {"x": held.error})
        e = None if e is None else e[:, :h, :w]
        answer = heads.decode(head, up, self.backend)
        answer = answer[None] if head["decode"] == "argmax" else answer.reshape(up.shape)
        answer = answer.astype(np.int32) if head["decode"] == "argmax" else answer
        error = e if head["decode"] == "identity" else bound(head["decode"], {"x": up}, answer.shape, {"x": e})
        return answer, error, up, e


def _plain(ours: Array, want: Array) -> tuple[float, int | None]:
    """Return (largest difference, decisions that differ) of two arrays of one shape."""
    if ours.dtype != np.float32:
        count = int(np.count_nonzero(ours != want))
        return float(count), count
    with np.errstate(invalid="ignore"):
        apart = np.abs(ours.astype(np.float64) - want)
        apart = np.where((ours == want) | (np.isnan(ours) & np.isnan(want)), 0.0, apart)
    return (float(apart.max(initial=0.0)) if not np.isnan(apart).any() else float("inf")), None
