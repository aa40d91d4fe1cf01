"""Lower a canonical graph to a Plan: fused layers, perforated branches, steps in order, buffers with places.

Every rewrite here keeps the bits (docs/NUMERICS.md says why); tests/test_lower.py proves each of them.
"""

from dataclasses import dataclass, field

from pagnp import buffers, flops
from pagnp.errors import GraphError
from pagnp.graph import INPUT, Node
from pagnp.perforate import perforate

CONVS = ("conv2d", "conv_transpose2d")


@dataclass(frozen=True)
class Layer:
    """What one epilogue writes: a conv with its norm, residual and relu, or any other single node.

    name      the last member's name; other layers refer to it by this
    inputs    layers that `node` reads; `residual` is one more, added in the epilogue
    members   the names of the graph nodes inside
    """

    name: str
    node: Node
    inputs: tuple
    residual: str = None
    relu: bool = False
    members: tuple = ()

    @property
    def op(self):
        return self.node.op

    @property
    def reads(self):
        """All layers read, the residual included."""
        return self.inputs if self.residual is None else (*self.inputs, self.residual)


@dataclass(frozen=True)
class Step:
    """One call at run time. `kind` names a function in runner.STEPS.

    out    buffer written; ins: buffers read; sites: key of a site list; layer: what is computed
    """

    kind: str
    out: str
    ins: tuple = ()
    layer: Layer = None
    sites: tuple = None
    residual: str = None
    args: dict = field(default_factory=dict)


@dataclass
class Plan:
    """Steps and buffers for one input size; made by `lower`, executed by `runner.execute`.

    values   node name -> Value; layers: name -> Layer; buffers: name -> Buffer in one arena
    bytes    what a run allocates at most: arena, masks and site lists
    macs     layer name -> MACs of one image, computed densely
    private  layer name -> Private: what is perforated; gated: layers that a two-way gate may skip
    """

    n: int
    h: int
    w: int
    steps: list
    values: dict
    layers: dict
    buffers: dict
    arena_bytes: int
    bytes: int
    macs: dict
    private: dict
    gated: set


def fuse(graph):
    """Return name -> Layer, in execution order, for a canonical graph. Depends on the graph alone.

    A conv takes the `add` that is its only reader (of two convs the later one takes it), then a `relu` likewise.
    """
    values, readers, outputs = graph.infer(), graph.readers(), set(graph.outputs.values())
    spread = _spread(graph)
    position = {name: i for i, name in enumerate(graph.nodes)}

    def only_reader(name, op):
        if name in outputs or len(readers[name]) != 1:
            return None
        reader = graph.nodes[readers[name][0]]
        return reader if reader.op == op and len(reader.inputs) == len(set(reader.inputs)) else None

    def takes_add(node):
        add = only_reader(node.name, "add")
        if add is None or len(add.inputs) != 2:
            return None
        other = add.inputs[0] if add.inputs[1] == node.name else add.inputs[1]
        if other == INPUT or values[other].c != values[node.name].c or spread[other] != spread[node.name]:
            return None
        rival = graph.nodes[other].op in CONVS and only_reader(other, "add") is not None
        if rival and position[other] > position[node.name]:
            return None
        return add, other

    layers, inside = {}, set()
    for node in graph.nodes.values():
        if node.op not in CONVS:
            continue
        members, residual, relu = [node.name], None, False
        taken = takes_add(node)
        if taken:
            members.append(taken[0].name)
            residual = taken[1]
        last = only_reader(members[-1], "relu")
        if last:
            members.append(last.name)
            relu = True
        inside.update(members)
        layers[members[-1]] = Layer(members[-1], node, node.inputs, residual, relu, tuple(members))
    for node in graph.nodes.values():
        if node.name not in inside:
            layers[node.name] = Layer(node.name, node, node.inputs, members=(node.name,))
    return {name: layers[name] for name in graph.nodes if name in layers}


def _spread(graph):
    """Return name -> True where a value is a map, False where it is 1x1 because of a global mean."""
    spread = {INPUT: True}
    for node in graph.nodes.values():
        ins = [spread[name] for name in node.inputs]
        # select, masked, resize to `like`: the size comes from the last input; elementwise: from the largest
        spread[node.name] = node.op != "global_mean" and any(ins)
    return spread


def lower(graph, h, w, n=1, dense=False):
    """Return the Plan of a canonical `graph` for an input (n, h, w, channels).

    dense    switches perforation off (same bits, more work)
    Raises:  ShapeError or GraphError with the node's name, before any work.
    """
    values = graph.infer(h, w)
    layers = fuse(graph)
    found = perforate(graph, layers, values)
    private = {} if dense else found
    emit = _Emitter(graph, layers, values, private)
    for layer in layers.values():
        if layer.name not in private:
            emit.layer(layer)
    macs = {layer.name: flops.layer(graph, layer, values) for layer in layers.values()}
    places, arena_bytes = buffers.plan(emit.steps, values, n, set(graph.outputs.values()))
    total = arena_bytes + _small_bytes(emit.steps, values, n)
    gated = {name for name, place in found.items() if _steered_by_gate(graph, place.owner)}
    return Plan(n, h, w, emit.steps, values, layers, places, arena_bytes, total, macs, private, gated)


def _steered_by_gate(graph, owner):
    """True if a two-way gate steers the select or masked `owner`."""
    node = graph.nodes[owner]
    control = graph.nodes[node.inputs[1] if node.op == "masked" else node.inputs[0]]
    return control.op == "gate" and not control.attrs.get("rates")


def _small_bytes(steps, values, n):
    """Bytes of masks, indices and site lists, which live outside the arena."""
    total = sum(n * v.h * v.w * (1 if v.kind == "mask" else 4) for v in values.values() if v.kind != "tensor")
    largest = max((v.h * v.w for v in values.values()), default=0)
    return (
        total
        + sum(5 * n * largest for step in steps if step.kind == "sites" and step.layer is None)
        + sum(
            5 * n * values[step.layer.name].h * values[step.layer.name].w
            for step in steps
            if step.kind == "sites" and step.layer is not None
        )
    )


class _Emitter:
    """Turns layers into steps. State: the steps so far, and which site lists and gathered rows exist already."""

    def __init__(self, graph, layers, values, private):
        self.graph, self.layers, self.values, self.private = graph, layers, values, private
        self.steps, self.known = [], set()

    def emit(self, kind, out, ins=(), layer=None, sites=None, residual=None, **args):
        self.steps.append(Step(kind, out, tuple(ins), layer, sites, residual, args))

    def layer(self, layer):
        """Emit a layer that is computed everywhere; a select or masked brings its private branches along."""
        slots = sorted({p.slot for p in self.private.values() if p.owner == layer.name})
        if slots:
            self.steered(layer, slots)
        elif layer.op in CONVS:
            self.check_residual(layer)
            self.emit(layer.op, layer.name, layer.inputs, layer, residual=layer.residual)
        else:
            self.emit("kernel", layer.name, layer.inputs, layer)

    def check_residual(self, layer):
        if layer.residual is not None:
            got, need = self.values[layer.residual].shape, self.values[layer.name].shape
            if got != need:
                raise GraphError(f"node '{layer.members[1]}' (add): the inputs' sizes differ: {got} and {need}")

    def steered(self, layer, slots):
        """Start the output with what is dense, then fill in each perforated branch at its sites."""
        branches = (None, layer.inputs[0]) if layer.op == "masked" else layer.inputs[1:]
        control = layer.inputs[1] if layer.op == "masked" else layer.inputs[0]
        kept = [name for slot, name in enumerate(branches) if slot not in slots]
        if layer.op == "masked":
            self.emit("zero", layer.name, (), layer)
        elif len(set(kept)) == 1:
            self.emit("copy", layer.name, (kept[0],), layer)
        elif kept:  # pixels of a perforated branch take any dense branch now and are overwritten below
            filled = [kept[0] if slot in slots else name for slot, name in enumerate(branches)]
            self.emit("kernel", layer.name, (control, *filled), layer)
        for slot in slots:
            for name, place in self.private.items():
                if (place.owner, place.slot) == (layer.name, slot):
                    self.private_layer(self.layers[name], place, control)
            self.finish(layer, branches[slot])

    def private_layer(self, layer, place, control):
        """Emit one private layer: convs read and write maps at sites, all else runs on compact rows."""
        self.sites(place.sites, control)
        if layer.op == "conv2d":
            self.check_residual(layer)
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
        buffer = f"{name}@{sites!r}"
        if buffer not in self.known:
            self.known.add(buffer)
            self.emit("gather", buffer, (name,), sites=sites, like=name)
        return buffer

    def finish(self, owner, tail):
        """Bring the last layer of a branch into the owner's output."""
        place = self.private[tail]
        if place.place != "owner":
            self.emit("scatter", owner.name, (self.rows(tail, place.pick),), owner, place.pick)

    def sites(self, key, control):
        """Emit the steps that make the mask and the site list of `key`, once."""
        if key in self.known:
            return
        self.known.add(key)
        for part in {"pick": (), "grow": key[2:], "or": key[1:]}[key[0]]:
            self.sites(part, control)
        layer = self.layers[key[1]] if key[0] != "or" else None
        args = {"kernel": self.kernel(layer)} if key[0] == "grow" else {}
        self.emit("sites", "", (control,) if key[0] == "pick" else (), layer, key, **args)

    def kernel(self, layer):
        """Return (k_h, k_w) of a conv layer."""
        return tuple(self.graph.weight_shape(layer.node)("weight")[2:])
