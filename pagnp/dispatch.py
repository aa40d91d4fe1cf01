"""Hand the arrays of one node to its kernel: attributes become arguments. No numerics here.

`runner` calls this with whole maps, `bandrun` with bands of rows of them.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from pagnp.backends.base import Backend
from pagnp.fuse import Layer
from pagnp.graph import Node
from pagnp.parameters import Parameters, packed_key
from pagnp.types import Array, Index, Tensor

_Four: TypeAlias = tuple[int, int, int, int]


@dataclass
class Options:
    """What a run may vary: the gate threshold (float32 or None), the noise seed, and noise arrays by gate name."""

    threshold: np.float32 | None = None
    seed: int = 0
    noise: dict[str, Tensor] = field(default_factory=dict)


class Rows(NamedTuple):
    """Which rows of larger maps a band is: x holds rows from `first_in` of `h_in`, out from `first_out` of `h_out`."""

    first_in: int
    h_in: int
    first_out: int
    h_out: int


class Calls:
    """What kernels need beside their arrays: a backend, prepared weights and the options of the run."""

    def __init__(self, backend: Backend, parameters: Parameters, options: Options) -> None:
        self.backend, self.parameters, self.options = backend, parameters, options

    def conv(
        self,
        layer: Layer,
        x: Tensor,
        residual: Tensor | None,
        out: Tensor,
        sites: Index | None = None,
        padding: _Four | None = None,
    ) -> None:
        """Run the conv2d or conv_transpose2d of `layer` with its epilogue; `padding` in place of the node's own."""
        node, a = layer.node, layer.node.attrs
        weight = self.parameters.packed[packed_key(node)]
        epilogue = (*self.parameters.vectors[node.name], residual, layer.relu)
        place = tuple(a["stride"]), tuple(padding or a["padding"]), tuple(a["dilation"]), a["groups"]
        if node.op == "conv2d":
            self.backend.conv2d(x, weight, *epilogue, sites, *place, out)
        else:
            self.backend.conv_transpose2d(x, weight, *epilogue, *place, out)

    def node(
        self, node: Node, ins: list[Any], out: Array, rows: Rows | None = None, padding: _Four | None = None
    ) -> None:
        """Call the kernel of a node that is not a convolution.

        rows     where x and out are bands of rows of larger maps
        padding  in place of the node's own
        """
        k, a, op = self.backend, node.attrs, node.op
        place = tuple(padding or a.get("padding", ()))
        if op in ("add", "sub", "mul", "div"):
            k.kernels[op](*_operands(k, a, ins), out)
        elif op == "compare":
            k.compare(*_operands(k, a, ins), a["op"], out if ins[0].ndim == 3 else out.reshape(*out.shape, 1))
        elif op in ("max_pool2d", "avg_pool2d"):
            extra = tuple(a["dilation"]) if op == "max_pool2d" else a["count_include_pad"]
            k.kernels[op](ins[0], tuple(a["kernel"]), tuple(a["stride"]), place, extra, out)
        elif op == "norm":
            k.norm(ins[0], *self.parameters.vectors[node.name], out)
        elif op == "bilinear":
            k.bilinear(ins[0], a["align_corners"], out, rows)
        elif op == "nearest":
            k.nearest(ins[0], out, rows)
        elif op == "bilinear_deconv":
            bilinear_deconv(k, a["factor"], ins[0], out, padding)
        elif op == "concat":
            k.concat(ins, out)
        elif op == "pad":
            k.pad(ins[0], place, out)
        elif op == "slice_channels":
            k.slice_channels(ins[0], a["start"], a["stop"], out)
        elif op in ("select", "blend"):
            k.kernels[op](ins[0], ins[1:], out)
        elif op == "masked":
            k.masked(ins[0], ins[1], out)
        elif op == "gate":
            self._gate(node, ins[0], out, 0 if rows is None else rows.first_out)
        else:
            k.kernels[op](ins[0], out)

    def _gate(self, node, z, out, y0):
        a, options = node.attrs, self.options
        noise = None
        if a["mode"].startswith("gumbel"):
            noise = options.noise.get(node.name)
            if noise is None:
                noise = self.backend.arrays.empty(z.shape[1:], np.float32)
                self.backend.gumbel_noise(options.seed, a["gate_index"], a["form"], y0, 0, noise)
            elif noise.shape[-3] != z.shape[1]:  # of one image, as bands are: these rows lie together
                noise = noise.reshape(noise.shape[-3:])[y0 : y0 + z.shape[1]]
        threshold = None if a.get("rates") or a["mode"] != "hard" else options.threshold
        self.backend.gate(z, a["mode"], a["form"], np.float32(a["temperature"]), noise, threshold, out)


def bilinear_deconv(k: Backend, factor: int, x: Tensor, out: Tensor, crop: _Four | None = None) -> None:
    """Upsample x by `factor`; `crop`: not factor/2. The rule is that of ops.resample.bilinear_deconv."""
    channels = x.shape[3]
    crop = crop or (factor // 2,) * 4
    weight = k.arrays.constant(("bilinear_deconv", factor, channels), lambda: _deconv_weight(factor, channels))
    place = (factor, factor), crop, (1, 1), channels
    k.conv_transpose2d(x, weight, None, None, None, None, False, *place, out)


def _deconv_weight(factor, channels):
    from pagnp.ops.resample import bilinear_deconv_weight

    weight = bilinear_deconv_weight(factor)
    return np.ascontiguousarray(np.broadcast_to(weight[:, :, None, None], (*weight.shape, channels, 1)))


def _operands(k, attrs, ins):
    """Return the two operands of a binary op; a number becomes an array of one element."""
    if len(ins) == 2:
        return ins
    shape, dtype, number = (1,) * ins[0].ndim, np.dtype(ins[0].dtype), attrs["value"]
    key = "number", shape, dtype.name, float(number).hex()
    value = k.arrays.constant(key, lambda: np.full(shape, number, dtype))
    return (value, ins[0]) if attrs.get("reverse") else (ins[0], value)
