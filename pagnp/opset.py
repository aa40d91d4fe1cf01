"""One row per graph op: its inputs, attributes and weights, and the kind, channels and size of its result.

A value's kind is "tensor" (float32, n h w c), "mask" (bool, n h w) or "index" (int32, n h w).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pagnp import shapes
from pagnp.errors import GraphError, ShapeError
from pagnp.types import Size

GATE_MODES = ("hard", "soft", "gumbel_hard", "gumbel_soft")
GUMBEL_FORMS = ("kong2018", "torch")
COMPARISONS = ("gt", "ge", "lt", "le", "eq", "ne")
LIMIT = 1 << 20  # no honest size, stride or channel count is larger
MOST_PIXELS = (1 << 31) - 1  # of a map: its pixels are numbered in int32


def _is_int(value, low, high=LIMIT):
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _ints(count, low):
    def check(value):
        return isinstance(value, (list, tuple)) and len(value) == count and all(_is_int(v, low) for v in value)

    return check


def _number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _integer(low):
    return lambda value: _is_int(value, low)


def _one_of(*choices):
    return lambda value: value in choices


def _rates(value):
    return isinstance(value, (list, tuple)) and len(value) >= 2 and all(_is_int(v, 0) for v in value)


def _boolean(value):
    return isinstance(value, bool)


@dataclass(frozen=True)
class OpSpec:
    """What a node of this op must look like.

    inputs   (least, most) number of inputs
    attrs    name -> check of its value; a name ending in "?" may be absent
    roles    weight roles; a name ending in "?" may be absent
    kinds    kind of each input ("tensor", "mask", "index", "any"); the last one repeats
    kind     (node) -> kind of the result
    channels (node, channels of the inputs, weight_shape) -> channels of the result, or GraphError
    size     (node, sizes of the inputs, weight_shape) -> (h, w) of the result, or ShapeError
    """

    inputs: tuple[int, int]
    kinds: tuple[str, ...] = ("tensor",)
    attrs: dict[str, Callable[[Any], bool]] = field(default_factory=dict)
    roles: tuple[str, ...] = ()
    kind: Callable[..., str] = lambda node: "tensor"
    channels: Callable[..., int] = lambda node, channels, weight_shape: channels[0]
    size: Callable[..., Size] = lambda node, sizes, weight_shape: sizes[0]


def fail(node, message):
    """Raise GraphError that names the node and its op."""
    raise GraphError(f"node '{node.name}' ({node.op}): {message}")


def _conv_channels(node, channels, weight_shape):
    c_out, c_group = weight_shape("weight")[:2]
    groups = node.attrs["groups"]
    if c_group * groups != channels[0] or c_out % groups:
        fail(node, f"weight expects {c_group * groups} input channels in {groups} groups, the input has {channels[0]}")
    _check_vectors(node, c_out, weight_shape)
    return c_out


def _transpose_channels(node, channels, weight_shape):
    c_in, c_group = weight_shape("weight")[:2]
    groups = node.attrs["groups"]
    if c_in != channels[0] or c_in % groups:
        fail(node, f"weight expects {c_in} input channels, the input has {channels[0]} (groups {groups})")
    _check_vectors(node, c_group * groups, weight_shape)
    return c_group * groups


def _norm_channels(node, channels, weight_shape):
    _check_vectors(node, channels[0], weight_shape)
    return channels[0]


def _check_vectors(node, count, weight_shape):
    for role in node.weights:
        if role != "weight" and tuple(weight_shape(role)) != (count,):
            fail(node, f"{role} has shape {tuple(weight_shape(role))}, need ({count},)")


def _broadcast_channels(node, channels, weight_shape):
    widest = max(channels)
    if any(c not in (1, widest) for c in channels):
        fail(node, f"channels {', '.join(map(str, channels))} cannot be combined")
    return widest


def _broadcast_size(node, sizes, weight_shape):
    h, w = max(s[0] for s in sizes), max(s[1] for s in sizes)
    if any(s[0] not in (1, h) or s[1] not in (1, w) for s in sizes):
        _fail_size(node, sizes)
    return h, w


def _equal_size(node, sizes, weight_shape):
    if any(s != sizes[0] for s in sizes):
        _fail_size(node, sizes)
    return sizes[0]


def _fail_size(node, sizes):
    _fail_shape(node, "the inputs' sizes differ: " + ", ".join(f"{h}x{w}" for h, w in sizes))


def _fail_shape(node, message):
    """Raise ShapeError: the node is well formed, but not for an input of this size."""
    hint = "the network fits inputs of other sizes, such as multiples of its strides"
    raise ShapeError(f"node '{node.name}' ({node.op}): {message}; {hint}")


def _select_channels(node, channels, weight_shape):
    if any(c != channels[1] for c in channels[1:]):
        fail(node, f"the branches have {', '.join(map(str, channels[1:]))} channels; need equal ones")
    return channels[1]


def _blend_channels(node, channels, weight_shape):
    if channels[0] != len(channels) - 1:
        fail(node, f"{channels[0]} probabilities for {len(channels) - 1} branches")
    return _select_channels(node, channels, weight_shape)


def _select_size(node, sizes, weight_shape):
    size = _equal_size(node, sizes[1:], weight_shape)
    if sizes[0] not in (size, (1, 1)):
        _fail_shape(node, f"the control is {sizes[0][0]}x{sizes[0][1]}, the branches are {size[0]}x{size[1]}")
    return size


def _masked_size(node, sizes, weight_shape):
    return _select_size(node, [sizes[1], sizes[0]], weight_shape)


def _gate_channels(node, channels, weight_shape):
    rates = node.attrs.get("rates")
    if channels[0] != (len(rates) if rates else 2):
        fail(node, f"the logits have {channels[0]} channels, need {len(rates) if rates else 2}")
    return 1 if _gate_kind(node) != "tensor" else channels[0]


def _gate_kind(node):
    if node.attrs["mode"] in ("soft", "gumbel_soft"):
        return "tensor"
    return "index" if node.attrs.get("rates") else "mask"


def _compare_channels(node, channels, weight_shape):
    if any(c != 1 for c in channels):
        fail(node, f"a mask has one channel, the compared values have {', '.join(map(str, channels))}")
    return 1


def _slice_channels(node, channels, weight_shape):
    start, stop = node.attrs["start"], node.attrs["stop"]
    if not 0 <= start < stop <= channels[0]:
        fail(node, f"channels {start}:{stop} of an input with {channels[0]}")
    return stop - start


def _conv_size(node, sizes, weight_shape):
    a = node.attrs
    kernel = weight_shape("weight")[2:]
    return shapes.conv2d_size(
        *sizes[0], kernel, a["stride"], a["padding"], a["dilation"], op=f"node '{node.name}' (conv2d)"
    )


def _transpose_size(node, sizes, weight_shape):
    a = node.attrs
    place = a["stride"], a["padding"], a["output_padding"], a["dilation"]
    return shapes.conv_transpose2d_size(
        *sizes[0], weight_shape("weight")[2:], *place, op=f"node '{node.name}' (conv_transpose2d)"
    )


def _pool_size(node, sizes, weight_shape):
    a = node.attrs
    op = f"node '{node.name}' ({node.op})"
    dilation = a.get("dilation", (1, 1))
    return shapes.pool2d_size(op, *sizes[0], a["kernel"], a["stride"], a["padding"], dilation, a["ceil_mode"])


def _resize_size(node, sizes, weight_shape):
    if len(sizes) == 2:
        return sizes[1]
    if "size" in node.attrs:
        return tuple(node.attrs["size"])
    return sizes[0][0] * node.attrs["scale"][0], sizes[0][1] * node.attrs["scale"][1]


def _deconv_size(node, sizes, weight_shape):
    return sizes[0][0] * node.attrs["factor"], sizes[0][1] * node.attrs["factor"]


def _pad_size(node, sizes, weight_shape):
    top, bottom, left, right = node.attrs["padding"]
    return sizes[0][0] + top + bottom, sizes[0][1] + left + right


def _even(value):
    return _is_int(value, 2, 64) and value % 2 == 0


_UNARY = OpSpec((1, 1))
_BINARY = OpSpec(
    (1, 2),
    attrs={"value?": _number, "reverse?": _boolean},
    channels=_broadcast_channels,
    size=_broadcast_size,
)
_WINDOW = {"kernel": _ints(2, 1), "stride": _ints(2, 1), "padding": _ints(4, 0), "ceil_mode": _boolean}
_RESIZE = {"scale?": _ints(2, 1), "size?": _ints(2, 1)}

OPS = {
    "conv2d": OpSpec(
        (1, 1),
        attrs={"stride": _ints(2, 1), "padding": _ints(4, 0), "dilation": _ints(2, 1), "groups": _integer(1)},
        roles=("weight", "bias?", "scale?", "shift?"),
        channels=_conv_channels,
        size=_conv_size,
    ),
    "conv_transpose2d": OpSpec(
        (1, 1),
        attrs={
            "stride": _ints(2, 1),
            "padding": _ints(4, 0),
            "output_padding": _ints(2, 0),
            "dilation": _ints(2, 1),
            "groups": _integer(1),
        },
        roles=("weight", "bias?", "scale?", "shift?"),
        channels=_transpose_channels,
        size=_transpose_size,
    ),
    "norm": OpSpec((1, 1), attrs={"eps": _number}, roles=("mean", "var", "gamma?", "beta?"), channels=_norm_channels),
    "max_pool2d": OpSpec((1, 1), attrs={**_WINDOW, "dilation": _ints(2, 1)}, size=_pool_size),
    "avg_pool2d": OpSpec((1, 1), attrs={**_WINDOW, "count_include_pad": _boolean}, size=_pool_size),
    "bilinear": OpSpec((1, 2), attrs={**_RESIZE, "align_corners": _boolean}, size=_resize_size),
    "nearest": OpSpec((1, 2), attrs=_RESIZE, size=_resize_size),
    "bilinear_deconv": OpSpec((1, 1), attrs={"factor": _even}, size=_deconv_size),
    "global_mean": OpSpec((1, 1), size=lambda node, sizes, weight_shape: (1, 1)),
    **dict.fromkeys(("relu", "sigmoid", "exp", "exp10", "log", "softmax", "l2_normalize"), _UNARY),
    **dict.fromkeys(("add", "sub", "mul", "div"), _BINARY),
    "concat": OpSpec((1, 256), channels=lambda node, channels, weight_shape: sum(channels), size=_equal_size),
    "pad": OpSpec((1, 1), attrs={"padding": _ints(4, 0)}, size=_pad_size),
    "slice_channels": OpSpec((1, 1), attrs={"start": _integer(0), "stop": _integer(1)}, channels=_slice_channels),
    "argmax": OpSpec((1, 1), kind=lambda node: "index", channels=lambda node, channels, weight_shape: 1),
    "compare": OpSpec(
        (1, 2),
        kinds=("any",),
        attrs={"op": _one_of(*COMPARISONS), "value?": _number},
        kind=lambda node: "mask",
        channels=_compare_channels,
        size=_broadcast_size,
    ),
    "logical_not": OpSpec((1, 1), kinds=("mask",), kind=lambda node: "mask"),
    "to_float": OpSpec((1, 1), kinds=("mask",)),
    "gate": OpSpec(
        (1, 1),
        attrs={
            "mode": _one_of(*GATE_MODES),
            "form": _one_of(*GUMBEL_FORMS),
            "temperature": lambda value: _number(value) and 1e-37 <= value <= 3.4e38,  # float32 has it, and not as 0
            "gate_index": _integer(0),
            "rates?": _rates,
        },
        kind=_gate_kind,
        channels=_gate_channels,
    ),
    "select": OpSpec((3, 65), kinds=("control", "tensor"), channels=_select_channels, size=_select_size),
    "blend": OpSpec((2, 65), channels=_blend_channels, size=_select_size),
    "masked": OpSpec((2, 2), kinds=("tensor", "mask"), size=_masked_size),
}


def size(node, sizes, weight_shape):
    """Return the (h, w) of the node's result for inputs of `sizes`; GraphError or ShapeError with the node's name."""
    h, w = OPS[node.op].size(node, sizes, weight_shape)
    if max(h, w) > LIMIT or h * w > MOST_PIXELS:
        raise ShapeError(
            f"node '{node.name}' ({node.op}): {h}x{w} is too large; need at most {LIMIT} a side, {MOST_PIXELS} pixels"
        )
    return h, w
