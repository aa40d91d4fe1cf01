"""Execute a Plan on a backend: walk the steps, hand each kernel its arrays. No numerics here."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from pagnp.arenas import Arenas
from pagnp.backends.base import Backend
from pagnp.buffers import layer_of
from pagnp.dispatch import Calls, Options
from pagnp.graph import INPUT
from pagnp.lower import Plan, Step
from pagnp.parameters import Parameters
from pagnp.types import Array, Index, Mask, Tensor


class Run:
    """One execution: arrays by buffer name, masks and lists of sites by number, and the pixels computed by a layer."""

    def __init__(
        self,
        plan: Plan,
        backend: Backend,
        parameters: Parameters,
        x: Tensor,
        options: Options,
        arenas: Arenas | None = None,
    ) -> None:
        self.plan, self.backend, self.calls = plan, backend, Calls(backend, parameters, options)
        self.arrays: dict[str, Array] = {INPUT: x}
        self.masks: dict[int, Mask] = {}
        self.sites: dict[int, Index] = {}
        self.counted: dict[str, Any] = {}  # numbers, or (1,) int32 arrays that are still on the device
        on_host = backend.arrays.on_host
        self.arena = (arenas or Arenas()).take(plan.arena_bytes) if on_host else self._empty((plan.arena_bytes // 4,))

    def value(self, name: str) -> Array:
        """Return the array of buffer `name`."""
        return self.arrays[name]

    def residual(self, step: Step) -> Array | None:
        """Return the array that a conv's epilogue adds, if there is one."""
        return None if step.residual is None else self.value(step.residual)

    def out(self, step: Step) -> Array:
        """Return the array that `step` writes: a place in the arena, or a new mask or index."""
        if step.out in self.arrays and step.kind != "kernel_rows":
            return self.arrays[step.out]
        value = self.plan.values[layer_of(step.out)]
        if value.kind != "tensor":
            dtype = np.bool_ if value.kind == "mask" else np.int32
            array: Array = self._empty((self.plan.n, value.h, value.w), dtype)
        else:
            shape: tuple[int, ...] = (self.plan.n, value.h, value.w, value.c)
            if "@" in step.out:
                shape = (len(self.sites[step.sites]), value.c)
            start = self.plan.buffers[step.out].offset // 4
            array = self.arena[start : start + math.prod(shape)].reshape(shape)
        self.arrays[step.out] = array
        return array

    def _empty(self, shape, dtype=np.float32):
        return self.backend.arrays.empty(shape, dtype)

    @property
    def counts(self) -> dict[str, int]:
        """Return layer name -> how many pixels were computed, waiting for a GPU that still counts them."""
        numbers = self.backend.arrays.numbers(list(self.counted.values()))
        return dict(zip(self.counted, numbers, strict=True))


def execute(
    plan: Plan,
    backend: Backend,
    parameters: Parameters,
    x: Tensor,
    options: Options | None = None,
    watch: Callable[[str, Array], object] | None = None,
    progress: Callable[[float], object] | None = None,
    arenas: Arenas | None = None,
    tick: Callable[[], object] | None = None,
) -> Run:
    """Run `plan` on x (n, h, w, c) float32 and return the Run with every surviving array.

    watch  called as watch(layer_name, array) when a layer's value is final; private layers are not shown
    progress  called with the share of the steps that are done
    arenas  where the memory of feature maps comes from; None: from the system
    tick  called before the first step and after each: a benchmark reads the clock
    """
    run = Run(plan, backend, parameters, x, options or Options(), arenas)
    last_write = {step.out: i for i, step in enumerate(plan.steps) if step.out}
    if tick is not None:
        tick()
    for i, step in enumerate(plan.steps):
        STEPS[step.kind](run, step)
        if tick is not None:
            tick()
        final = step.out in plan.layers and last_write[step.out] == i and step.out not in plan.private
        if watch is not None and final:
            watch(step.out, backend.arrays.to_host(run.value(step.out)))
        if progress is not None:
            progress((i + 1) / len(plan.steps))
    return run


def _step_conv2d(run, step):
    sites = None if step.sites is None else run.sites[step.sites]
    out = run.out(step)
    run.counted[step.layer.name] = out.size // out.shape[-1] if sites is None else run.backend.arrays.count(sites)
    if sites is None or len(sites):
        run.calls.conv(step.layer, run.value(step.ins[0]), run.residual(step), out, sites)


def _step_conv_transpose2d(run, step):
    x, residual = run.value(step.ins[0]), run.residual(step)
    run.calls.conv(step.layer, x, residual, run.out(step))


def _step_kernel(run, step):
    run.calls.node(step.layer.node, [run.value(name) for name in step.ins], run.out(step))


def _step_kernel_rows(run, step):
    sites = run.sites[step.sites]
    run.counted[step.layer.name] = run.backend.arrays.count(sites)
    out = run.out(step)
    if out.size:
        with run.backend.arrays.limited(sites):
            run.calls.node(step.layer.node, [_as_map(run.value(name)) for name in step.ins], _as_map(out))


def _as_map(rows):
    """Return compact rows (m, c) as a map (1, 1, m, c)."""
    return rows.reshape(1, 1, *rows.shape)


def _step_copy(run, step):
    run.backend.copy(run.value(step.ins[0]), run.out(step))


def _step_zero(run, step):
    run.backend.zero(run.out(step))


def _step_gather(run, step):
    run.backend.gather(run.value(step.ins[0]), run.sites[step.sites], run.out(step))


def _step_scatter(run, step):
    run.backend.scatter(run.value(step.ins[0]), run.sites[step.sites], run.out(step))


def _step_pick(run, step):
    """The sites at which the control of a select or masked picks one branch."""
    control, sites = run.value(step.ins[0]), run.plan.sets[step.sites]
    if control.dtype == np.bool_ and sites.slot == 1 and control.shape == _shape_of_set(run, step):
        mask = control  # nobody changes it
    else:
        mask = run.backend.arrays.empty(_shape_of_set(run, step), np.bool_)
        run.backend.picked(control, sites.slot, mask)
    _keep_sites(run, step, mask)


def _step_grow(run, step):
    """The pixels that a conv reads when it is computed at a set."""
    sites, mask = run.plan.sets[step.sites], run.backend.arrays.empty(_shape_of_set(run, step), np.bool_)
    a = run.plan.layers[sites.reader].node.attrs
    place = tuple(a["stride"]), tuple(a["padding"]), tuple(a["dilation"])
    run.backend.grow_mask(run.masks[sites.parts[0]], sites.kernel, *place, mask)
    _keep_sites(run, step, mask)


def _step_union(run, step):
    mask = run.backend.arrays.empty(_shape_of_set(run, step), np.bool_)
    first, *others = run.plan.sets[step.sites].parts
    run.backend.copy(run.masks[first], mask)
    for number in others:
        run.backend.unite(run.masks[number], mask)
    _keep_sites(run, step, mask)


def _shape_of_set(run, step):
    value = run.plan.values[run.plan.sets[step.sites].on]
    return run.plan.n, value.h, value.w


def _keep_sites(run, step, mask):
    run.masks[step.sites] = mask
    run.sites[step.sites] = run.backend.list_sites(mask)


STEPS = {
    "conv2d": _step_conv2d,
    "conv_transpose2d": _step_conv_transpose2d,
    "kernel": _step_kernel,
    "kernel_rows": _step_kernel_rows,
    "copy": _step_copy,
    "zero": _step_zero,
    "gather": _step_gather,
    "scatter": _step_scatter,
    "pick": _step_pick,
    "grow": _step_grow,
    "union": _step_union,
}
