"""Plan a run band by band: which rows of which layer are computed when, and how many of them are kept.

A band of the image is brought through all layers before the next one begins. Each layer computes the rows that its
readers can use now, from rows that are there, and forgets rows that nobody reads again: no row is computed twice, and
memory goes with the band, not with the image. Sums over the whole map are taken in a pass of their own before; what
layers behind such a sum read is kept until then. Rows are computed by the same kernels from the same values, so the
bits are those of a whole run. Integers only here; `bandrun` executes.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from pagnp import scratch
from pagnp.fuse import CONVS, Layer, at_size
from pagnp.graph import INPUT, Graph
from pagnp.lower import Plan
from pagnp.rowmaps import Frame, Resize, RowMap, Same, Spread, Whole, Windows

TILES = (2048, 1024, 512, 256, 128, 64, 32)  # rows of a band that are tried when a whole image does not fit


@dataclass
class Unit:
    """One map that is computed by rows: a layer, the sites of a branch (`rule`), or the row sums of a global mean.

    reads      (name of a unit, which of its rows) in the kernel's order; a conv's residual is the last
    sites      name of the unit that says at which pixels it is computed; None: everywhere
    row_bytes  of the map; scratch: bytes beside it, a row; fixed: bytes beside it, however many rows
    kept       all rows stay to the end; shown: it is no private layer
    """

    name: str
    height: int
    row_bytes: int
    reads: tuple[tuple[str, RowMap], ...] = ()
    layer: Layer | None = None
    rule: str = ""
    sites: str | None = None
    scratch: int = 0
    fixed: int = 0
    kept: bool = False
    shown: bool = True
    users: list[tuple["Unit", RowMap]] = field(default_factory=list, repr=False)


@dataclass(frozen=True)
class Task:
    """Compute rows first..last-1 of `unit`; rows before `keep` may be forgotten, and `free` names whole maps."""

    unit: Unit
    first: int
    last: int
    keep: int
    free: tuple[str, ...]


@dataclass
class BandPlan:
    """The units in order, the tasks in order, rows that each unit has room for, bytes at the peak and at the end."""

    tile: int
    units: dict[str, Unit]
    tasks: list[Task]
    room: dict[str, int]
    bytes: int
    left: int


def site_name(number: int) -> str:
    """Return the name of the unit that holds site set `number`; no node can have it."""
    return f"sites {number}"


def plan_bands(graph: Graph, plan: Plan, tile: int) -> BandPlan:
    """Return the BandPlan of a canonical graph's `plan` (one image) in bands of `tile` rows of the input."""
    units = {unit.name: unit for unit in _units(graph, plan)}
    for unit in units.values():
        for source, rows in unit.reads:
            units[source].users.append((unit, rows))
    schedule = _Schedule(units)
    for mean in [unit for unit in units.values() if unit.rule == "mean"]:
        sums = units[mean.reads[0][0]]
        for y in range(tile, plan.h + tile, tile):
            schedule.advance({sums.name: _share(min(y, plan.h), plan.h, sums.height)})
    ends = {name: units[name] for name in graph.outputs.values()}
    for y in range(tile, plan.h, tile):
        schedule.advance({name: _share(y, plan.h, unit.height) for name, unit in ends.items()})
    schedule.advance({name: unit.height for name, unit in units.items() if unit.shown})
    return BandPlan(tile, units, schedule.tasks, schedule.room, *_peak(schedule))


def _share(y, height, of):
    """Return the rows of a map of `of` rows that belong to the first y of `height`."""
    return -(-y * of // height)


class _Schedule:
    """How far each unit is, and the tasks that brought it there."""

    def __init__(self, units):
        self.units = units
        self.done = dict.fromkeys(units, 0)
        self.room = dict.fromkeys(units, 0)
        self.freed = set()
        self.tasks = []

    def advance(self, goals):
        """Compute what brings each unit of `goals` (name -> rows) there, in the units' order."""
        want = dict(self.done)
        for name, rows in goals.items():
            want[name] = max(want[name], rows)
        for name, unit in reversed(self.units.items()):
            if want[name] > self.done[name]:
                for source, rows in unit.reads:
                    want[source] = max(want[source], rows.needs(self.done[name], want[name])[1])
        for name, unit in self.units.items():
            if want[name] > self.done[name]:
                self.compute(unit, want[name])

    def compute(self, unit, last):
        first, keep = self.done[unit.name], min(self.still_read(unit), self.done[unit.name])
        self.room[unit.name] = max(self.room[unit.name], last - keep)
        self.done[unit.name] = last
        sources = [self.units[name] for name in dict.fromkeys(name for name, _ in unit.reads)]
        free = tuple(source.name for source in sources if self.is_over(source))
        self.freed.update(free)
        self.tasks.append(Task(unit, first, last, keep, free))

    def is_over(self, unit):
        """True if all of `unit` is there, nobody will read it again, and it is not kept or freed already."""
        read = all(self.done[user.name] == user.height for user, _ in unit.users)
        return read and self.done[unit.name] == unit.height and not unit.kept and unit.name not in self.freed

    def still_read(self, unit):
        """Return the first row of `unit` that some later task reads; its height if there is none."""
        if unit.kept:
            return 0
        pending = [(self.done[user.name], rows) for user, rows in unit.users if self.done[user.name] < user.height]
        return min((rows.needs(done, done + 1)[0] for done, rows in pending), default=unit.height)


def _peak(schedule):
    """Return the most bytes that maps and scratch take at once, and those of the maps that are left at the end."""
    now, peak, alive = 0, 0, set()
    for task in schedule.tasks:
        unit = task.unit
        if unit.name not in alive:
            alive.add(unit.name)
            now += unit.row_bytes * schedule.room[unit.name]
        peak = max(peak, now + unit.fixed + unit.scratch * (task.last - task.first))
        now -= sum(schedule.units[name].row_bytes * schedule.room[name] for name in task.free)
    return peak, now


def _units(graph: Graph, plan: Plan) -> Iterator[Unit]:
    """Yield the units of a plan in execution order."""
    kept = {*graph.outputs.values(), *graph.gates(), *graph.multipools()}
    x = plan.values[INPUT]
    yield Unit(INPUT, x.h, 4 * x.w * x.c, scratch=4 * x.w * x.c)
    branches: dict[str, dict[int, list[Layer]]] = {}  # owner -> slot -> private layers in execution order
    for name, place in plan.private.items():
        branches.setdefault(place.owner, {}).setdefault(place.slot, []).append(plan.layers[name])
    for layer in plan.layers.values():
        if layer.name in plan.private:
            continue  # it comes with its owner, when the control is there
        for slot, private in sorted(branches.get(layer.name, {}).items()):
            for number, sites in enumerate(plan.sets):
                if (sites.owner, sites.slot) == (layer.name, slot):
                    yield _site_unit(graph, plan, number)
            for inner in private:
                yield _layer_unit(graph, plan, inner, False)
        if layer.op == "global_mean":
            yield from _mean_units(plan, layer, layer.name in kept)
            continue
        for part in at_size(graph, layer, plan.values):
            yield _layer_unit(graph, plan, part, part.name in kept)


def _site_unit(graph, plan, number):
    sites = plan.sets[number]
    at = plan.values[sites.on]
    if sites.rule == "pick":
        node = graph.nodes[sites.owner]
        control = node.inputs[1 if node.op == "masked" else 0]
        reads = ((control, _alike(plan.values[control], at)),)
    elif sites.rule == "union":
        reads = tuple((site_name(part), Same()) for part in sites.parts)
    else:
        reader = plan.layers[sites.reader]
        a, out = reader.node.attrs, plan.values[reader.members[0]]
        rows = Spread(out.h, sites.kernel[0], a["stride"][0], a["padding"][0], a["dilation"][0])
        reads = ((site_name(sites.parts[0]), rows),)
    return Unit(site_name(number), at.h, at.w, reads, rule=sites.rule, shown=False, scratch=2 * at.w)


def _mean_units(plan, layer, kept):
    """A global mean in two steps: the sum of each row, then the sum of those."""
    source, value = plan.values[layer.inputs[0]], plan.values[layer.name]
    sums = f"row sums of {layer.name}"
    yield Unit(sums, source.h, 4 * value.c, ((layer.inputs[0], Same()),), layer, "row sums", shown=False)
    yield Unit(layer.name, 1, 4 * value.c, ((sums, Whole(source.h)),), layer, "mean", kept=kept)


def _layer_unit(graph, plan, layer, kept):
    value, place = plan.values[layer.name], plan.private.get(layer.name)
    width = value.w * (4 * value.c if value.kind == "tensor" else 4 if value.kind == "index" else 1)
    inputs = layer.inputs[:1] if layer.op in ("bilinear", "nearest") else layer.inputs  # of `like` only the size counts
    reads = [(name, _row_map(graph, plan, layer, i)) for i, name in enumerate(inputs)]
    if layer.residual is not None:
        reads.append((layer.residual, Same()))
    sites = None if place is None else site_name(place.sites)
    if sites:
        reads.append((sites, Same()))
    unit = Unit(layer.name, value.h, width, tuple(reads), layer, "", sites, kept=kept, shown=place is None)
    unit.scratch, unit.fixed = _scratch(plan, layer, unit), scratch.fixed(graph, layer, plan.values)
    return unit


def _scratch(plan, layer, unit):
    """Bytes beside the arrays for a row of the result: what the kernel takes, the list of sites, gathered rows."""
    stride = layer.node.attrs["stride"][0] if layer.op == "conv2d" else 1
    total = stride * scratch.of_row(layer, plan.values)
    if unit.sites:
        total += (scratch.LISTING + 4) * plan.values[layer.name].w
        if layer.op != "conv2d":
            total += unit.row_bytes + sum(4 * plan.values[name].w * plan.values[name].c for name in layer.inputs)
    return total


def _alike(source, out):
    """The rows of an input of an op that works pixel by pixel: a value of one row is broadcast."""
    return Same() if source.h == out.h else Whole(source.h)


def _row_map(graph, plan, layer, position):
    """Return the RowMap of input `position` of a layer."""
    a, op = layer.node.attrs, layer.op
    x, out = plan.values[layer.inputs[position]], plan.values[layer.members[0] if layer.members else layer.name]
    if op in CONVS:
        kernel = graph.weight_shape(layer.node)("weight")[2]
        kind = Windows if op == "conv2d" else Spread
        return kind(x.h, kernel, a["stride"][0], a["padding"][0], a["dilation"][0])
    if op in ("max_pool2d", "avg_pool2d"):
        return Windows(x.h, a["kernel"][0], a["stride"][0], a["padding"][0], a.get("dilation", (1, 1))[0])
    if op == "bilinear_deconv":
        return Spread(x.h, 2 * a["factor"], a["factor"], a["factor"] // 2, 1)
    if op in ("bilinear", "nearest"):
        return Resize(op, x.h, out.h, a.get("align_corners", False))
    if op == "pad":
        return Frame(x.h, a["padding"][0])
    return _alike(x, out)
