"""Execute a BandPlan on a backend: a few rows of every map at a time, by the kernels that also take whole maps."""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from pagnp.backends.base import Backend
from pagnp.bands import BandPlan, Task, Unit
from pagnp.dispatch import Calls, Options, Rows
from pagnp.errors import MemoryLimitError
from pagnp.graph import INPUT
from pagnp.lower import Plan
from pagnp.parameters import Parameters
from pagnp.rowmaps import Frame, Spread, Windows, rows_of
from pagnp.types import Array, Tensor

Source: TypeAlias = Callable[[int, int], Tensor]  # (first, last) -> these rows of the input, (1, rows, w, c) float32
Watch: TypeAlias = Callable[[str, Array, int, int], object]

_DTYPES = {"tensor": np.float32, "mask": np.bool_, "index": np.int32}


class Band:
    """Rows base..top-1 of a map, in an array (1, room, ...) that moves down the map."""

    def __init__(self, shape: tuple[int, ...], dtype: Any, backend: Backend) -> None:
        self.array, self._copy = backend.arrays.empty(shape, dtype), backend.copy
        backend.zero(self.array)  # private maps hold no value but at their sites: zeros, not garbage
        self.base = self.top = 0

    def grow(self, keep: int, last: int) -> Array:
        """Forget the rows before `keep`, make room for rows up to `last` and return the new ones."""
        if keep > self.base:
            kept, shift = self.top - keep, keep - self.base
            for y in range(0, kept, shift):  # rows that overlap their new place would be copied twice
                stop = min(y + shift, kept)
                self._copy(rows_of(self.array, y + shift, stop + shift), rows_of(self.array, y, stop))
            self.base = keep
        first, self.top = self.top, last
        return self.rows(first, last)

    def rows(self, first: int, last: int) -> Array:
        """Return rows first..last-1."""
        return rows_of(self.array, first - self.base, last - self.base)


class BandRun:
    """One execution in bands: what is held of each map, and the pixels that each layer computed."""

    def __init__(self, plan: Plan, bands: BandPlan, calls: Calls, source: Source) -> None:
        self.plan, self.bands, self.calls, self.source = plan, bands, calls, source
        self.backend = calls.backend
        self.held: dict[str, Band] = {}
        self.counted: dict[str, list[Any]] = {}  # of each band, as in Run

    @property
    def counts(self) -> dict[str, int]:
        """Return layer name -> how many pixels were computed."""
        of_bands = [(name, count) for name, counts in self.counted.items() for count in counts]
        totals = dict.fromkeys(self.counted, 0)
        numbers = self.backend.arrays.numbers([count for _, count in of_bands])
        for (name, _), number in zip(of_bands, numbers, strict=True):
            totals[name] += number
        return totals

    def value(self, name: str) -> Array:
        """Return the whole array of an output, mask or index."""
        return self.held[name].array

    def read(self, unit: Unit, position: int, first: int, last: int) -> Array:
        """Return the rows of input `position` that rows first..last-1 of `unit` need."""
        name, rows = unit.reads[position]
        return self.band(self.bands.units[name]).rows(*rows.needs(first, last))

    def out(self, task: Task) -> Array:
        """Return the array of the rows that `task` computes."""
        return self.band(task.unit).grow(task.keep, task.last)

    def band(self, unit: Unit) -> Band:
        """Return what is held of a unit: nothing yet, if only its padding has been read."""
        if unit.name not in self.held:
            self.held[unit.name] = self._allocate(unit)
        return self.held[unit.name]

    def _allocate(self, unit):
        room = self.bands.room[unit.name]
        try:
            if unit.rule in ("pick", "grow", "union"):
                return Band((1, room, unit.row_bytes), np.bool_, self.backend)
            if unit.rule == "row sums":
                return Band((1, room, 1, unit.row_bytes // 4), np.float32, self.backend)
            value = self.plan.values[unit.name]
            shape = (1, room, *value.shape[1:])
            return Band(shape, _DTYPES[value.kind], self.backend)
        except MemoryError as error:
            raise MemoryLimitError(f"no memory for {room} rows of '{unit.name}'; use a smaller tile") from error


def execute_bands(
    plan: Plan,
    bands: BandPlan,
    backend: Backend,
    parameters: Parameters,
    source: Source,
    options: Options | None = None,
    watch: Watch | None = None,
    progress: Callable[[float], object] | None = None,
) -> BandRun:
    """Run `plan` in bands and return the BandRun, which holds the outputs, masks and indices whole.

    source    gives rows of the input, from the top to the bottom
    watch     called as watch(layer_name, rows, first, height) for the rows of every layer that is not private
    progress  called with the share of the work that is done
    """
    run = BandRun(plan, bands, Calls(backend, parameters, options or Options()), source)
    for number, task in enumerate(bands.tasks):
        _compute(run, task)
        unit = task.unit
        if watch is not None and unit.name in plan.layers and unit.shown and unit.rule != "row sums":
            rows = backend.arrays.to_host(run.held[unit.name].rows(task.first, task.last))
            watch(unit.name, rows, task.first, unit.height)
        for name in task.free:
            del run.held[name]
        if progress is not None:
            progress((number + 1) / len(bands.tasks))
    return run


def _compute(run, task):
    """Compute the rows of a task."""
    unit, first, last = task.unit, task.first, task.last
    out = run.out(task)
    if unit.name == INPUT:
        run.backend.copy(run.source(first, last), out)
    elif unit.rule in ("pick", "grow", "union"):
        SITE_RULES[unit.rule](run, unit, first, last, out)
    elif unit.rule == "row sums":  # each row is an image of its own; dividing by 1 changes nothing
        x = run.read(unit, 0, first, last)
        run.backend.global_mean(x.reshape(-1, 1, *x.shape[2:]), out.reshape(-1, 1, 1, out.shape[-1]), 1)
    elif unit.rule == "mean":
        source = run.plan.values[unit.layer.inputs[0]]
        run.backend.global_mean(run.read(unit, 0, first, last), out, source.h * source.w)
    elif unit.layer.op in ("conv2d", "conv_transpose2d"):
        _conv(run, unit, first, last, out)
    elif unit.sites is not None:
        _at_sites(run, unit, first, last, out)
    else:
        _node(run, unit, first, last, out)


def _conv(run, unit, first, last, out):
    layer, rows = unit.layer, unit.reads[0][1]
    sites = None if unit.sites is None else run.backend.list_sites(run.held[unit.sites].rows(first, last))
    count = out.size // out.shape[-1] if sites is None else run.backend.arrays.count(sites)
    run.counted.setdefault(layer.name, []).append(count)
    if sites is not None and not len(sites):
        return
    x = run.read(unit, 0, first, last)
    residual = None if layer.residual is None else run.read(unit, 1, first, last)
    padding = layer.node.attrs["padding"]
    if isinstance(rows, Windows):
        above, below = rows.padding(first, last)
        if not x.shape[1]:  # padding alone: a row of zeros stands for it
            x, above, below = run.backend.arrays.empty((1, 1, *x.shape[2:])), above + below - 1, 0
            run.backend.zero(x)
    else:
        above, below = rows.before_band(first, last), padding[1]
    run.calls.conv(layer, x, residual, out, sites, (above, below, *padding[2:]))


def _at_sites(run, unit, first, last, out):
    """A private layer that works pixel by pixel: gather, compute rows (m, c), scatter."""
    arrays, sites = run.backend.arrays, run.backend.list_sites(run.held[unit.sites].rows(first, last))
    run.counted.setdefault(unit.name, []).append(arrays.count(sites))
    if not len(sites):
        return
    ins = []
    for position in range(len(unit.layer.inputs)):
        x = run.read(unit, position, first, last)
        ins.append(arrays.empty((1, 1, len(sites), x.shape[-1])))
        run.backend.gather(x, sites, ins[-1].reshape(ins[-1].shape[2:]))
    values = arrays.empty((1, 1, len(sites), out.shape[-1]))
    with arrays.limited(sites):
        run.calls.node(unit.layer.node, ins, values)
    run.backend.scatter(values.reshape(values.shape[2:]), sites, out)


def _node(run, unit, first, last, out):
    node, rows = unit.layer.node, unit.reads[0][1]
    ins = [run.read(unit, position, first, last) for position in range(len(unit.reads))]
    padding = node.attrs.get("padding")
    if isinstance(rows, Windows):
        lo, hi = rows.needs(first, last)
        above, below = rows.padding(first, last)
        if node.op == "avg_pool2d":  # the divisor depends on where the padding ends
            below = rows.size + padding[1] - hi
        padding = (above, below, *padding[2:])
    elif isinstance(rows, Spread):  # bilinear_deconv
        crop = node.attrs["factor"] // 2
        padding = (rows.before_band(first, last), crop, crop, crop)
    elif isinstance(rows, Frame):
        padding = (*rows.padding(first, last), *padding[2:])
    source = run.plan.values[unit.layer.inputs[0]]
    place = Rows(rows.needs(first, last)[0], source.h, first, unit.height)
    run.calls.node(node, ins, out, place, padding)


def _pick(run, unit, first, last, out):
    sites = run.plan.sets[int(unit.name.split()[1])]
    run.backend.picked(run.read(unit, 0, first, last), sites.slot, out)


def _union(run, unit, first, last, out):
    run.backend.copy(run.read(unit, 0, first, last), out)
    for position in range(1, len(unit.reads)):
        run.backend.unite(run.read(unit, position, first, last), out)


def _grow(run, unit, first, last, out):
    sites = run.plan.sets[int(unit.name.split()[1])]
    a, rows = run.plan.layers[sites.reader].node.attrs, unit.reads[0][1]
    padding = (rows.before_band(first, last), 0, *a["padding"][2:])
    mask = run.read(unit, 0, first, last)
    run.backend.grow_mask(mask, sites.kernel, tuple(a["stride"]), padding, tuple(a["dilation"]), out)


SITE_RULES = {"pick": _pick, "grow": _grow, "union": _union}
