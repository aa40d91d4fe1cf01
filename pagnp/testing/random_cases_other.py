"""Random rows of every op but the convolutions."""

from typing import Any

from pagnp.errors import ShapeError
from pagnp.shapes import conv2d_size, pool2d_size
from pagnp.testing.cases_gate import FORMS, MASKS, MODES
from pagnp.testing.random_cases_draw import CHANNELS, FILLS, WIDTHS, Draw, compact, map_sizes

DEEP = (*CHANNELS, 126, 127, 128, 129, 130, 255, 256, 257)  # for sums over channels
_FEW = (1, 2, 3, 4, 5, 7, 8, 16, 17)


def _plain(draw, large):
    return {**map_sizes(draw, large), "fill": draw.pick(FILLS)}


def _deep(draw, large):
    return {**map_sizes(draw, large, DEEP, 3000), "fill": draw.pick(FILLS)}


def _binary(draw, large):
    other = draw.pick((None, None, None, "pixel", "channel", "image", "number", "row"))
    return {**_plain(draw, large), "other": other, "swapped": other is not None and draw.one_in(2)}


def _compare(draw, large):
    sizes = map_sizes(draw, large, (1,), 3000)
    extra = {"other": draw.pick((None, None, "pixel", "image", "number")), "index": draw.one_in(3)}
    relation = draw.pick(("gt", "ge", "lt", "le", "eq", "ne"))
    return {**sizes, "relation": relation, **extra, "fill": draw.pick((*FILLS, "normal", "integers", "signed_zeros"))}


def _window(draw, most_dilation):
    kernel = (draw.number(1, 5), draw.number(1, 5)) if draw.one_in(2) else draw.pick(((2, 2), (3, 3)))
    stride = draw.pick(((1, 1), (2, 2), (2, 2), (1, 2), (3, 2), (4, 4)))
    dilation = tuple(draw.number(1, most_dilation) for _ in "yx") if draw.one_in(3) else (1, 1)
    padding = tuple(draw.number(0, 2) for _ in range(4)) if draw.one_in(2) else (draw.number(0, 1),) * 4
    return {"k": kernel, "stride": stride, "dilation": dilation, "padding": padding}


def _pool(op, draw, large):
    sizes, window = map_sizes(draw, large, most=3000), _window(draw, 3 if op == "max_pool2d" else 1)
    ceil_mode = draw.one_in(2)
    place = sizes["h_in"], sizes["w_in"], window["k"], window["stride"], window["padding"], window["dilation"]
    try:
        pool2d_size(op, *place, ceil_mode)
    except ShapeError:
        return None
    include = op == "avg_pool2d" and draw.one_in(2)
    return {**sizes, **window, "ceil_mode": ceil_mode, "count_include_pad": include, "fill": draw.pick(FILLS)}


def _resized(draw, large):
    sizes = map_sizes(draw, large, most=2000)
    size = (draw.pick(WIDTHS), draw.pick(WIDTHS))
    if draw.one_in(3):
        size = (sizes["h_in"] * draw.number(1, 4), sizes["w_in"] * draw.number(1, 4))
    if sizes["n"] * sizes["c_in"] * size[0] * size[1] > (80_000 if large else 8000):
        return None
    return {**sizes, "size": size, "fill": draw.pick(FILLS)}


def _bilinear(draw, large):
    params = _resized(draw, large)
    return params and {**params, "align_corners": draw.one_in(2)}


def _concat(draw, large):
    parts = tuple(draw.pick(CHANNELS) for _ in range(draw.number(1, 4)))
    sizes = map_sizes(draw, large, (sum(parts),), 8000)
    return {**sizes, "parts": parts, "fill": draw.pick(FILLS)}


def _pad(draw, large):
    sides = tuple(draw.number(0, 5) for _ in range(4)) if draw.one_in(2) else draw.pick((0, 1, (0, 1, 0, 1)))
    return {**map_sizes(draw, large, most=3000), "padding": sides, "fill": draw.pick(FILLS)}


def _slice_channels(draw, large):
    sizes = map_sizes(draw, large)
    start = draw.number(0, sizes["c_in"] - 1)
    return {**sizes, "part": (start, draw.number(start + 1, sizes["c_in"])), "fill": draw.pick(FILLS)}


def _gate(draw, large):
    mode, channels = draw.pick(MODES), draw.pick((2, 2, 2, 3, 4, 7, 16, 33))
    sizes, extra = map_sizes(draw, large, (channels,), 3000), {}
    if mode.endswith("hard"):
        extra["index"] = channels > 2 or draw.one_in(4)
    if mode.startswith("gumbel"):
        extra |= {"form": draw.pick(FORMS), "noise_per_image": draw.one_in(3)}
        extra["temperature"] = draw.pick((None, None, 0.97, 0.5, 0.001, 3.0))
    if mode == "hard" and channels == 2 and not extra["index"] and draw.one_in(2):
        extra["threshold"] = draw.pick((0.0, 0.5, -0.5, 1.0, -8.0, 8.0, 0.0625, draw.number(-128, 128) / 16))
    fill = draw.pick((*FILLS, "normal", "integers", "integers"))  # of whole numbers many tie
    return {**sizes, "mode": mode, **extra, "fill": fill}


def _select(draw, large):
    by_index = draw.one_in(2)
    control = "index" if by_index else draw.pick(MASKS)
    branches = draw.pick((2, 3, 4, 7)) if by_index else 2
    return {**_few(draw, large), "branches": branches, "control": control, "whole_map": draw.one_in(4)}


def _few(draw, large):
    return {**map_sizes(draw, large, most=2500), "fill": draw.pick(FILLS)}


def _blend(draw, large):
    return {**_few(draw, large), "branches": draw.number(2, 5), "whole_map": draw.one_in(4)}


def _masked(draw, large):
    return {**_plain(draw, large), "control": draw.pick(MASKS), "whole_map": draw.one_in(4)}


def _mask_to_sites(draw, large):
    return {**map_sizes(draw, large, (1,)), "control": draw.pick(MASKS)}


def _grow_mask(draw, large):
    sizes, window = map_sizes(draw, large, (1,), 3000), _window(draw, 4)
    place = sizes["h_in"], sizes["w_in"], window["k"], window["stride"], window["padding"], window["dilation"]
    try:
        conv2d_size(*place)
    except ShapeError:
        return None
    return {**sizes, **window, "control": draw.pick(MASKS)}


def _at_sites(draw, large):
    return {**_plain(draw, large), "sites": draw.pick(MASKS)}


def _gumbel_noise(draw, large):
    sizes = map_sizes(draw, large, _FEW, 1500)
    key = draw.pick((0, 7, 2**32, 2**64 - 1, draw.word()))
    origin = (0, 0) if draw.one_in(3) else (draw.number(0, 70_000), draw.number(0, 70_000))
    return {**sizes, "n": 1, "form": draw.pick(FORMS), "key": key, "gate_index": draw.number(0, 40), "origin": origin}


def _philox4x32(draw, large):
    return {"counters": draw.pick((1, 2, 3, 5, 7, 8, 15, 16, 17, 31, 33, 65, 129, 1000))}


_BY_OP = {
    **dict.fromkeys(("add", "sub", "mul", "div"), _binary),
    **dict.fromkeys(("relu", "exp", "exp10", "log", "sigmoid", "norm"), _plain),
    **dict.fromkeys(("softmax", "argmax", "l2_normalize", "global_mean"), _deep),
    "max_pool2d": lambda draw, large: _pool("max_pool2d", draw, large),
    "avg_pool2d": lambda draw, large: _pool("avg_pool2d", draw, large),
    **dict.fromkeys(("gather", "scatter"), _at_sites),
    **{"compare": _compare, "bilinear": _bilinear, "nearest": _resized, "concat": _concat, "pad": _pad},
    **{"slice_channels": _slice_channels, "gate": _gate, "select": _select, "blend": _blend, "masked": _masked},
    **{"mask_to_sites": _mask_to_sites, "grow_mask": _grow_mask},
    **{"gumbel_noise": _gumbel_noise, "philox4x32": _philox4x32},
}


def _short(maker):
    def make(draw: Draw, large: bool) -> dict[str, Any] | None:
        params = maker(draw, large)
        return None if params is None else compact(params)

    return make


TICKETS = {op: 3 if op == "gate" else 1 for op in _BY_OP}
MAKERS = {op: _short(maker) for op, maker in _BY_OP.items()}
