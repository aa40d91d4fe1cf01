"""Execute a Plan on a backend: walk the steps, hand each kernel its arrays. No numerics here."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from pagnp.backends.base import Backend
from pagnp.buffers import layer_of
from pagnp.errors import MemoryLimitError
from pagnp.graph import INPUT
from pagnp.lower import Plan, Step
from pagnp.parameters import Parameters, packed_key
from pagnp.types import Array, Index, Mask, Tensor


@dataclass
class Options:
    """What a run may vary: the gate threshold (float32 or None), the noise seed, and noise arrays by gate name."""

    threshold: np.float32 | None = None
    seed: int = 0
    noise: dict[str, Tensor] = field(default_factory=dict)


class Run:
    """One execution: arrays by buffer name, masks and lists of sites by number, and the pixels computed by a layer."""

    def __init__(self, plan: Plan, backend: Backend, parameters: Parameters, x: Tensor, options: Options) -> None:
        self.plan, self.backend, self.parameters, self.options = plan, backend, parameters, options
        self.arrays: dict[str, Array] = {INPUT: x}
        self.masks: dict[int, Mask] = {}
        self.sites: dict[int, Index] = {}
        self.counts: dict[str, int] = {}
        self.arena = _allocate(plan.arena_bytes)

    def value(self, name: str) -> Array:
        """Return the array of buffer `name`."""
        return self.arrays[name]

    def out(self, step: Step) -> Array:
        """Return the array that `step` writes: a place in the arena, or a new mask or index."""
        if step.out in self.arrays and step.kind != "kernel_rows":
            return self.arrays[step.out]
        value = self.plan.values[layer_of(step.out)]
        if value.kind != "tensor":
            dtype = np.bool_ if value.kind == "mask" else np.int32
            array: Array = np.empty((self.plan.n, value.h, value.w), dtype)
        else:
            shape: tuple[int, ...] = (self.plan.n, value.h, value.w, value.c)
            if "@" in step.out:
                shape = (len(self.sites[step.sites]), value.c)
            start = self.plan.buffers[step.out].offset // 4
            array = self.arena[start : start + int(np.prod(shape))].reshape(shape)
        self.arrays[step.out] = array
        return array


def _allocate(size):
    """Return `size` bytes of float32, 64-byte aligned."""
    try:
        raw = np.empty(size // 4 + 16, np.float32)
    except MemoryError as error:
        raise MemoryLimitError(f"the run needs {size / 2**20:.0f} MiB for feature maps; use a smaller image") from error
    start = (-raw.ctypes.data % 64) // 4
    return raw[start : start + size // 4]


def execute(
    plan: Plan,
    backend: Backend,
    parameters: Parameters,
    x: Tensor,
    options: Options | None = None,
    watch: Callable[[str, Array], object] | None = None,
) -> Run:
    """Run `plan` on x (n, h, w, c) float32 and return the Run with every surviving array.

    watch  called as watch(layer_name, array) when a layer's value is final; private layers are not shown
    """
    run = Run(plan, backend, parameters, x, options or Options())
    last_write = {step.out: i for i, step in enumerate(plan.steps) if step.out}
    for i, step in enumerate(plan.steps):
        STEPS[step.kind](run, step)
        final = step.out in plan.layers and last_write[step.out] == i and step.out not in plan.private
        if watch is not None and final:
            watch(step.out, run.value(step.out))
    return run


def _step_conv2d(run, step):
    layer, a = step.layer, step.layer.node.attrs
    sites = None if step.sites is None else run.sites[step.sites]
    out = run.out(step)
    run.counts[layer.name] = out[..., 0].size if sites is None else len(sites)
    if sites is not None and not len(sites):
        return
    scale, shift, bias = run.parameters.vectors[layer.node.name]
    residual = None if step.residual is None else run.value(step.residual)
    packed = run.parameters.packed[packed_key(layer.node)]
    run.backend.conv2d(
        run.value(step.ins[0]),
        packed,
        scale,
        shift,
        bias,
        residual,
        layer.relu,
        sites,
        tuple(a["stride"]),
        tuple(a["padding"]),
        tuple(a["dilation"]),
        a["groups"],
        out,
    )


def _step_conv_transpose2d(run, step):
    layer, a = step.layer, step.layer.node.attrs
    scale, shift, bias = run.parameters.vectors[layer.node.name]
    residual = None if step.residual is None else run.value(step.residual)
    weight = run.parameters.packed[packed_key(layer.node)]
    place = tuple(a["stride"]), tuple(a["padding"]), tuple(a["dilation"]), a["groups"]
    x, out = run.value(step.ins[0]), run.out(step)
    run.backend.conv_transpose2d(x, weight, scale, shift, bias, residual, layer.relu, *place, out)


def _step_kernel(run, step):
    _call(run, step.layer.node, [run.value(name) for name in step.ins], run.out(step))


def _step_kernel_rows(run, step):
    run.counts[step.layer.name] = len(run.sites[step.sites])
    out = run.out(step)
    if out.size:
        ins = [run.value(name)[None, None] for name in step.ins]
        _call(run, step.layer.node, ins, out[None, None])


def _step_copy(run, step):
    np.copyto(run.out(step), run.value(step.ins[0]))


def _step_zero(run, step):
    run.out(step)[...] = 0


def _step_gather(run, step):
    run.backend.gather(run.value(step.ins[0]), run.sites[step.sites], run.out(step))


def _step_scatter(run, step):
    run.backend.scatter(run.value(step.ins[0]), run.sites[step.sites], run.out(step))


def _step_pick(run, step):
    """The sites at which the control of a select or masked picks one branch."""
    sites, control = run.plan.sets[step.sites], run.value(step.ins[0])
    value = run.plan.values[sites.on]
    slot = np.int32(sites.slot) if control.dtype == np.int32 else bool(sites.slot)
    _keep_sites(run, step, np.ascontiguousarray(np.broadcast_to(control == slot, (run.plan.n, value.h, value.w))))


def _step_grow(run, step):
    """The pixels that a conv reads when it is computed at a set."""
    sites = run.plan.sets[step.sites]
    reader, value = run.plan.layers[sites.reader], run.plan.values[sites.on]
    a, mask = reader.node.attrs, np.empty((run.plan.n, value.h, value.w), np.bool_)
    place = tuple(a["stride"]), tuple(a["padding"]), tuple(a["dilation"])
    run.backend.grow_mask(run.masks[sites.parts[0]], sites.kernel, *place, mask)
    _keep_sites(run, step, mask)


def _step_union(run, step):
    first, *others = run.plan.sets[step.sites].parts
    mask = run.masks[first].copy()
    for number in others:
        mask |= run.masks[number]
    _keep_sites(run, step, mask)


def _keep_sites(run, step, mask):
    run.masks[step.sites] = mask
    run.sites[step.sites] = run.backend.mask_to_sites(mask)


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


def _call(run, node, ins, out):
    """Call the kernel of a node that is not a convolution."""
    k, a, op = run.backend, node.attrs, node.op
    if op in ("add", "sub", "mul", "div"):
        k.kernels[op](*_operands(a, ins), out)
    elif op == "compare":
        k.compare(*_operands(a, ins), a["op"], out if ins[0].ndim == 3 else out[..., None])
    elif op in ("max_pool2d", "avg_pool2d"):
        extra = tuple(a["dilation"]) if op == "max_pool2d" else a["count_include_pad"]
        k.kernels[op](ins[0], tuple(a["kernel"]), tuple(a["stride"]), tuple(a["padding"]), extra, out)
    elif op == "norm":
        k.norm(ins[0], *run.parameters.vectors[node.name], out)
    elif op == "bilinear":
        k.bilinear(ins[0], a["align_corners"], out)
    elif op == "nearest":
        k.nearest(ins[0], out)
    elif op == "bilinear_deconv":
        bilinear_deconv(k, run.parameters.vectors[node.name], a["factor"], ins[0], out)
    elif op == "concat":
        k.concat(ins, out)
    elif op == "pad":
        k.pad(ins[0], tuple(a["padding"]), out)
    elif op == "slice_channels":
        k.slice_channels(ins[0], a["start"], a["stop"], out)
    elif op in ("select", "blend"):
        k.kernels[op](ins[0], ins[1:], out)
    elif op == "masked":
        k.masked(ins[0], ins[1], out)
    elif op == "gate":
        _gate(run, node, ins[0], out)
    elif op == "logical_not":
        np.logical_not(ins[0], out=out)
    elif op == "to_float":
        out[..., 0] = ins[0]
    else:
        k.kernels[op](ins[0], out)


def _operands(attrs, ins):
    """Return the two operands of a binary op; a number becomes an array of one element."""
    if len(ins) == 2:
        return ins
    value = np.full((1,) * ins[0].ndim, attrs["value"], ins[0].dtype)
    return (value, ins[0]) if attrs.get("reverse") else (ins[0], value)


def bilinear_deconv(k: Backend, weight: Tensor, factor: int, x: Tensor, out: Tensor) -> None:
    """Upsample x by `factor` with the 2-D weight of ops.resample.bilinear_deconv_weight."""
    channels = x.shape[3]
    crop = factor // 2
    weight = np.ascontiguousarray(np.broadcast_to(weight[:, :, None, None], (*weight.shape, channels, 1)))
    place = (factor, factor), (crop,) * 4, (1, 1), channels
    k.conv_transpose2d(x, weight, None, None, None, None, False, *place, out)


def _gate(run, node, z, out):
    a, options = node.attrs, run.options
    noise = None
    if a["mode"].startswith("gumbel"):
        noise = options.noise.get(node.name)
        if noise is None:
            noise = np.empty(z.shape[1:], np.float32)
            run.backend.gumbel_noise(options.seed, a["gate_index"], a["form"], 0, 0, noise)
    threshold = None if a.get("rates") or a["mode"] != "hard" else options.threshold
    run.backend.gate(z, a["mode"], a["form"], np.float32(a["temperature"]), noise, threshold, out)
