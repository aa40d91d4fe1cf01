"""Faults of lowering that are made on purpose: whole networks run wrong, kernel by kernel right.

FAULTS[name](monkeypatch) puts one of them into place; test_known_bad_plans.py says that the checks of networks see it.
"""

from dataclasses import replace

import numpy as np

from pagnp import buffers, fuse, lower, perforate, runner

FAULTS = {}


def fault(name):
    """Register a function monkeypatch -> None as the fault `name`."""
    return lambda function: FAULTS.setdefault(name, function)


def replace_step(monkeypatch, kind, step):
    monkeypatch.setitem(runner.STEPS, kind, step)


def change_layers(monkeypatch, change):
    """Let `lower` see change(layer) for each fused layer."""
    right = fuse.fuse
    monkeypatch.setattr(lower, "fuse", lambda graph: {name: change(layer) for name, layer in right(graph).items()})


@fault("a set of sites is not grown")
def _(monkeypatch):
    def keep(run, step):
        sites = run.plan.sets[step.sites]
        value, own = run.plan.values[sites.on], run.masks[sites.parts[0]]
        mask = np.zeros((run.plan.n, value.h, value.w), bool)
        h, w = min(mask.shape[1], own.shape[1]), min(mask.shape[2], own.shape[2])
        mask[:, :h, :w] = own[:, :h, :w]
        runner._keep_sites(run, step, mask)

    replace_step(monkeypatch, "grow", keep)


@fault("a set of sites is grown without dilation")
def _(monkeypatch):
    def grow(run, step):
        sites = run.plan.sets[step.sites]
        a, value = run.plan.layers[sites.reader].node.attrs, run.plan.values[sites.on]
        mask = np.empty((run.plan.n, value.h, value.w), bool)
        place = tuple(a["stride"]), tuple(a["padding"]), (1, 1)
        run.backend.grow_mask(run.masks[sites.parts[0]], sites.kernel, *place, mask)
        runner._keep_sites(run, step, mask)

    replace_step(monkeypatch, "grow", grow)


@fault("a union of sites takes its first part only")
def _(monkeypatch):
    def first(run, step):
        runner._keep_sites(run, step, run.masks[run.plan.sets[step.sites].parts[0]].copy())

    replace_step(monkeypatch, "union", first)


@fault("a residual's own pixels are not in the set")
def _(monkeypatch):
    right = perforate._Finder.needed

    def needed(self, layer, reader, pick):
        return right(self, layer, reader if reader.name not in self.found else replace(reader, residual=None), pick)

    monkeypatch.setattr(perforate._Finder, "needed", needed)


@fault("a branch is computed where the control picks another")
def _(monkeypatch):
    def other(run, step):
        sites, control = run.plan.sets[step.sites], run.value(step.ins[0])
        value = run.plan.values[sites.on]
        mask = np.broadcast_to(control != sites.slot, (run.plan.n, value.h, value.w))
        runner._keep_sites(run, step, np.ascontiguousarray(mask))

    replace_step(monkeypatch, "pick", other)


@fault("every image of a batch takes the first one's sites")
def _(monkeypatch):
    right = runner._keep_sites
    monkeypatch.setattr(runner, "_keep_sites", lambda run, step, mask: right(run, step, mask[:1].repeat(len(mask), 0)))


@fault("the branches are written at each other's slots")
def _(monkeypatch):
    right = lower._Emitter.steered

    def swapped(self, layer, branches):
        if layer.op == "select" and len(layer.inputs) == 3:
            control, first, second = layer.inputs
            layer = replace(layer, inputs=(control, second, first))
            branches = {1 - slot: layers for slot, layers in branches.items()}
        right(self, layer, branches)

    monkeypatch.setattr(lower._Emitter, "steered", swapped)


@fault("the dense branch is not copied")
def _(monkeypatch):
    replace_step(monkeypatch, "copy", lambda run, step: run.out(step))


@fault("what a masked leaves out is not zeroed")
def _(monkeypatch):
    replace_step(monkeypatch, "zero", lambda run, step: run.out(step))


@fault("the last layer of a branch is not scattered")
def _(monkeypatch):
    replace_step(monkeypatch, "scatter", lambda run, step: run.out(step))


@fault("rows are gathered once for all sets")
def _(monkeypatch):
    def rows(self, name, sites):
        place = self.private.get(name)
        if place is not None and place.place == "rows":
            return f"{name}@rows"
        before = [buffer for buffer in self.gathered if buffer.startswith(f"{name}@")]
        if before:
            return before[0]
        self.gathered.add(f"{name}@{sites}")
        self.emit("gather", f"{name}@{sites}", (name,), sites=sites)
        return f"{name}@{sites}"

    monkeypatch.setattr(lower._Emitter, "rows", rows)


@fault("a layer that is read outside is taken for private")
def _(monkeypatch):
    right = perforate._Finder.home

    def home(self, layer):
        for name in self.readers[layer.name]:
            reader = self.layers[name]
            if reader.op == "select" and reader.inputs[1:].count(layer.name) == 1:
                return name, reader.inputs[1:].index(layer.name)
        return right(self, layer)

    monkeypatch.setattr(perforate._Finder, "home", home)


@fault("an output is taken for private")
def _(monkeypatch):
    right = perforate._Finder.look_at

    def look_at(self, layer):
        self.outputs = set()
        right(self, layer)

    monkeypatch.setattr(perforate._Finder, "look_at", look_at)


@fault("a residual is overwritten while others still read it")
def _(monkeypatch):
    def always(step, i, last_read):
        return step.kind == "conv2d" and step.sites is None and step.residual is not None

    monkeypatch.setattr(buffers, "_adds_in_place", always)


@fault("a conv adds in place to what it convolves")
def _(monkeypatch):
    def careless(step, i, last_read):
        return step.kind == "conv2d" and step.sites is None and last_read.get(step.residual) == i

    monkeypatch.setattr(buffers, "_adds_in_place", careless)


@fault("buffers overlap: a buffer's life ends at its first reader")
def _(monkeypatch):
    right = buffers._place

    def place(found):
        for buffer in found:
            buffer.last = min(buffer.last, buffer.first + 1)
        return right(found)

    monkeypatch.setattr(buffers, "_place", place)


@fault("buffers overlap: sizes forget the batch")
def _(monkeypatch):
    right = buffers.plan
    monkeypatch.setattr(buffers, "plan", lambda steps, values, n, keep: right(steps, values, 1, keep))


@fault("an output's buffer is used again")
def _(monkeypatch):
    right = buffers._place

    def place(found):
        end = max(buffer.last for buffer in found)
        for buffer in found:
            buffer.last = buffer.first if buffer.last == end else buffer.last
        return right(found)

    monkeypatch.setattr(buffers, "_place", place)


@fault("a relu is lost in an epilogue")
def _(monkeypatch):
    change_layers(monkeypatch, lambda layer: replace(layer, relu=False))


@fault("a residual is lost in an epilogue")
def _(monkeypatch):
    change_layers(monkeypatch, lambda layer: replace(layer, residual=None))


@fault("a value that others read is fused away")
def _(monkeypatch):
    def only_reader(self, name, op):
        readers = [self.graph.nodes[reader] for reader in self.readers[name]]
        return next((reader for reader in readers if reader.op == op and reader.inputs.count(name) == 1), None)

    monkeypatch.setattr(fuse._Joiner, "only_reader", only_reader)
