"""Lower a canonical graph to a Plan: fused layers, perforated branches, steps in order, buffers with places.

Every rewrite here keeps the bits (docs/NUMERICS.md says why); tests/test_lower.py proves each of them.
"""

from dataclasses import dataclass

from pagnp import buffers, flops, scratch
from pagnp.errors import ShapeError
from pagnp.fuse import CONVS, Layer, at_size, fuse
from pagnp.graph import Graph, Value
from pagnp.opset import MOST_PIXELS
from pagnp.perforate import Private, SiteSet, perforate
from pagnp.types import MaybeNone

SITE_RULES = ("pick", "grow", "union")  # kinds of the steps that make a site set


@dataclass(frozen=True)
class Step:
    """One call at run time. `kind` names a function in runner.STEPS.

    out    buffer written; ins: buffers read; sites: number of a site set; layer: what is computed
    """

    kind: str
    out: str
    ins: tuple[str, ...] = ()
    layer: Layer | None = None
    sites: int | MaybeNone = None
    residual: str | None = None


@dataclass
class Plan:
    """Steps and buffers for one input size; made by `lower`, executed by `runner.execute`.

    values   node name -> Value; layers: name -> Layer; buffers: name -> Buffer in one arena
    bytes    what a run allocates at most: arena, masks, site lists and what kernels need beside
    macs     layer name -> MACs of one image, computed densely
    private  layer name -> Private: what is perforated; gated: layers that a two-way gate may skip
    sets     the site sets by number
    """

    n: int
    h: int
    w: int
    steps: list[Step]
    values: dict[str, Value]
    layers: dict[str, Layer]
    buffers: dict[str, buffers.Buffer]
    arena_bytes: int
    bytes: int
    macs: dict[str, int]
    private: dict[str, Private]
    gated: set[str]
    sets: list[SiteSet]


def lower(graph: Graph, h: int, w: int, n: int = 1, dense: bool = False) -> Plan:
    """Return the Plan of a canonical `graph` for an input (n, h, w, channels).

    dense    switches perforation off (same bits, more work)
    Raises:  ShapeError or GraphError with the node's name, before any work.
    """
    values = graph.infer(h, w)
    _check_sites(graph, values, n)
    layers = fuse(graph)
    found, sets = perforate(graph, layers, values)
    private = {} if dense else found
    emit = _Emitter(graph, layers, values, private, sets)
    for layer in layers.values():
        if layer.name not in private:
            emit.layer(layer)
    macs = {layer.name: flops.layer(graph, layer, values) for layer in layers.values()}
    places, arena_bytes = buffers.plan(emit.steps, values, n, set(graph.outputs.values()))
    beside = max((_scratch_bytes(graph, step, sets, values, n) for step in emit.steps), default=0)
    total = arena_bytes + _small_bytes(emit.steps, sets, values, n) + beside
    gated = {name for name, place in found.items() if _steered_by_gate(graph, place.owner)}
    return Plan(n, h, w, emit.steps, values, layers, places, arena_bytes, total, macs, private, gated, sets)


def _check_sites(graph, values, n):
    """Raise ShapeError if a batch has more pixels than int32 numbers: infer checks the single image."""
    for node in graph.nodes.values():
        value = values[node.name]
        if n * value.h * value.w > MOST_PIXELS:
            raise ShapeError(f"node '{node.name}' ({node.op}): {n} maps of {value.h}x{value.w} are too many; use fewer")


def _steered_by_gate(graph, owner):
    """True if a two-way gate steers the select or masked `owner`."""
    node = graph.nodes[owner]
    control = graph.nodes[node.inputs[1] if node.op == "masked" else node.inputs[0]]
    return control.op == "gate" and not control.attrs.get("rates")


def _small_bytes(steps, sets, values, n):
    """Bytes of masks, indices and site lists, which live outside the arena."""
    total = sum(n * v.h * v.w * (1 if v.kind == "mask" else 4) for v in values.values() if v.kind != "tensor")
    maps = [values[sets[step.sites].on] for step in steps if step.kind in SITE_RULES]
    return total + sum(5 * n * v.h * v.w for v in maps)  # a mask, and at most every pixel as int32


def _scratch_bytes(graph, step, sets, values, n):
    """Bytes that the kernel of a step takes for itself."""
    if step.kind in SITE_RULES:
        at = values[sets[step.sites].on]
        return scratch.LISTING * n * at.h * at.w
    if step.kind in (*CONVS, "kernel"):
        rows = n * (values[step.layer.inputs[0]].h + sum(step.layer.node.attrs.get("padding", ())[:2]))
        return scratch.fixed(graph, step.layer, values) + rows * scratch.of_row(step.layer, values)
    return 0


class _Emitter:
    """Turns layers into steps. State: the steps so far, and which rows have been gathered already."""

    def __init__(self, graph, layers, values, private, sets):
        self.graph, self.layers, self.values, self.private, self.sets = graph, layers, values, private, sets
        self.steps, self.gathered = [], set()
        self.branches = {}  # owner -> slot -> private layers in execution order
        for name, place in private.items():
            self.branches.setdefault(place.owner, {}).setdefault(place.slot, []).append(layers[name])

    def emit(self, kind, out, ins=(), layer=None, sites=None, residual=None):
        self.steps.append(Step(kind, out, tuple(ins), layer, sites, residual))

    def layer(self, layer):
        """Emit a layer that is computed everywhere; a select or masked brings its private branches along."""
        if layer.name in self.branches:
            self.steered(layer, self.branches[layer.name])
            return
        for part in at_size(self.graph, layer, self.values):
            kind = part.op if part.op in CONVS else "kernel"
            self.emit(kind, part.name, part.inputs, part, residual=part.residual)

    def steered(self, layer, branches):
        """Start the output with what is dense, then fill in each perforated branch (slot -> layers) at its sites."""
        sources = (None, layer.inputs[0]) if layer.op == "masked" else layer.inputs[1:]
        control = layer.inputs[1] if layer.op == "masked" else layer.inputs[0]
        kept = [name for slot, name in enumerate(sources) if slot not in branches]
        if layer.op == "masked":
            self.emit("zero", layer.name, (), layer)
        elif len(set(kept)) == 1:
            self.emit("copy", layer.name, (kept[0],), layer)
        elif kept:  # pixels of a perforated branch take any dense branch now and are overwritten below
            filled = [kept[0] if slot in branches else name for slot, name in enumerate(sources)]
            self.emit("kernel", layer.name, (control, *filled), layer)
        for slot in sorted(branches):
            for number, sites in enumerate(self.sets):
                if (sites.owner, sites.slot) == (layer.name, slot):
                    self.emit(sites.rule, "", (control,) if sites.rule == "pick" else (), sites=number)
            for private in branches[slot]:
                self.private_layer(private)
            self.finish(layer, sources[slot])

    def private_layer(self, layer):
        """Emit one private layer: convs read and write maps at sites, all else runs on compact rows."""
        place = self.private[layer.name]
        if layer.op == "conv2d":
            out = place.owner if place.place == "owner" else layer.name
            self.emit("conv2d", out, layer.inputs, layer, place.sites, layer.residual)
            return
        rows = [self.rows(name, place.sites) for name in layer.inputs]
        self.emit("kernel_rows", f"{layer.name}@rows", rows, layer, place.sites)
        if place.place == "map":
            self.emit("scatter", layer.name, (f"{layer.name}@rows",), layer, place.sites)

    def rows(self, name, sites):
        """Return the buffer that holds the rows of `name` at `sites`, gathering them once."""
        place = self.private.get(name)
        if place is not None and place.place == "rows":
            return f"{name}@rows"  # perforate gives "rows" only where every reader has the same sites
        buffer = f"{name}@{sites}"
        if buffer not in self.gathered:
            self.gathered.add(buffer)
            self.emit("gather", buffer, (name,), sites=sites)
        return buffer

    def finish(self, owner, tail):
        """Bring the last layer of a branch into the owner's output."""
        place = self.private[tail]
        if place.place != "owner":
            self.emit("scatter", owner.name, (self.rows(tail, place.pick),), owner, place.pick)
