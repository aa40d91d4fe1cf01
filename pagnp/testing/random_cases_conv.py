"""Random rows of conv2d, conv_transpose2d and bilinear_deconv."""

from typing import Any

from pagnp.errors import ShapeError
from pagnp.shapes import conv2d_size, conv_transpose2d_size
from pagnp.testing.random_cases_draw import CHANNELS, FILLS, LENGTHS, Draw, compact, map_sizes

STEPS = 600_000  # fused multiply-adds of a case at most: NumPy takes about 10 ms
LARGE_STEPS = 5_000_000
LONGEST = 1300  # terms of a reduction at most; NumPy takes its time by the term

SMALL_KERNELS = ((1, 1), (1, 1), (1, 1), (3, 3), (3, 3), (3, 3), (1, 3), (3, 1), (2, 2), (2, 3), (5, 5), (1, 2))
KERNELS = (*SMALL_KERNELS, (4, 4), (3, 5), (1, 7), (7, 1), (7, 7), (6, 6))
WIDE = (*CHANNELS, 95, 96, 97, 127, 128, 129)
LONG_KERNELS = ((16, 8), (11, 12), (3, 43), (13, 10), (1, 129), (16, 16))  # depthwise chains beyond one block
STRIDES = ((1, 1), (1, 1), (1, 1), (2, 2), (2, 2), (1, 2), (2, 1), (3, 3), (4, 3))
DILATIONS = ((1, 1), (1, 1), (1, 1), (1, 1), (2, 2), (4, 4), (1, 3), (2, 1), (6, 6))
SITES = ("none", "one", "all", "random", "random", "blobby", "blobby")


def _channels(draw, taps):
    """Return groups, c_in, c_out of a conv2d: channel edges, reduction edges, groups."""
    kind = draw.number(0, 9)
    if kind < 4:
        return {"c_in": draw.pick(CHANNELS), "c_out": draw.pick(WIDE)}
    if kind < 7:  # a reduction as long as a few blocks, a term more or less
        return {"c_in": max(1, draw.pick(LENGTHS) // taps + draw.number(0, 1)), "c_out": draw.pick(WIDE)}
    if kind == 7:
        groups, c_in = draw.pick((2, 2, 3, 4, 5)), draw.pick((1, 2, 3, 4, 8, 15, 16, 17))
        if draw.one_in(3):
            c_in = max(1, draw.pick(LENGTHS[:9]) // taps + draw.number(0, 1))
        return {"c_in": groups * c_in, "c_out": groups * draw.pick((1, 2, 3, 4, 7, 16, 17, 33)), "groups": groups}
    groups = draw.pick(CHANNELS)
    return {"c_in": groups, "c_out": groups * (draw.number(2, 3) if draw.one_in(5) else 1), "groups": groups}


def _padding(draw, kernel, dilation):
    """Return four sides: none, those that keep the size, or any up to the kernel's reach and beyond."""
    reach = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    what = draw.number(0, 4)
    if what == 0:
        return (0, 0, 0, 0)
    if what < 3:
        return tuple(part for r in reach for part in (r // 2, r - r // 2))
    return tuple(draw.number(0, min(r + 2, 9)) for r in reach for _ in range(2))


def _epilogue(draw):
    """Return norm or bias, residual (in its own array or in place), relu; each may be absent."""
    return {
        "epilogue": draw.pick((None, "bias", "norm")),
        "residual": draw.pick((None, None, "residual", "in_place")),
        "relu": draw.one_in(2),
    }


def _grouped_length(draw, large, taps, channels, places):
    """Tell whether the case costs what we want to pay."""
    length = taps * (channels["c_in"] // channels.get("groups", 1))
    return length <= LONGEST and places * channels["c_out"] * length <= (LARGE_STEPS if large else STEPS)


def _heavy(draw):
    """Return a conv2d whose weights exceed a mebibyte: those are walked in parts that fit a cache."""
    kernel, c_in = draw.pick((((3, 3), 115), ((3, 3), 129), ((1, 1), 1025), ((1, 1), 1281), ((2, 2), 290)))
    c_out, places = draw.pick((256, 257, 320, 321)), draw.pick(((1, 7), (2, 13), (5, 8), (4, 33), (9, 33)))
    size = {"h_in": places[0] + kernel[0] - 1, "w_in": places[1] + kernel[1] - 1}
    where = {"sites": "random"} if draw.one_in(3) else {}
    fill = draw.pick(("normal", "cancelling", "ties", "near_ties", "subnormal", "signed_zeros"))
    return compact({"c_in": c_in, **size, "c_out": c_out, "k": kernel, **where, **_epilogue(draw), "fill": fill})


def make_conv2d(draw: Draw, large: bool) -> dict[str, Any] | None:
    """Return parameters of a conv2d case, or None if the draw does not fit or costs too much."""
    if draw.one_in(200):
        return _heavy(draw)
    kernel = draw.pick(KERNELS)
    channels = _channels(draw, kernel[0] * kernel[1])
    if channels.get("groups", 0) == channels["c_in"] and draw.one_in(4):
        kernel = draw.pick(LONG_KERNELS)
    stride, dilation = draw.pick(STRIDES), draw.pick(DILATIONS)
    padding = _padding(draw, kernel, dilation)
    sizes = {**map_sizes(draw, large, (1,), 4000), **channels}
    try:
        h_out, w_out = conv2d_size(sizes["h_in"], sizes["w_in"], kernel, stride, padding, dilation)
    except ShapeError:
        return None
    if not _grouped_length(draw, large, kernel[0] * kernel[1], channels, sizes["n"] * h_out * w_out):
        return None
    where = {}
    if draw.one_in(2):
        where = {"sites": draw.pick(SITES), "layout": draw.pick(("compact", "scattered"))}
    window = {"k": kernel, "stride": stride, "padding": padding, "dilation": dilation}
    return compact({**sizes, **window, **where, **_epilogue(draw), "fill": draw.pick(FILLS)})


def make_conv_transpose2d(draw: Draw, large: bool) -> dict[str, Any] | None:
    """Return parameters of a conv_transpose2d case, or None if the draw does not fit or costs too much."""
    kernel, dilation = draw.pick((*SMALL_KERNELS, (4, 4), (4, 4), (4, 2), (16, 16))), draw.pick(DILATIONS[:8])
    stride = draw.pick(((1, 1), (2, 2), (2, 2), (2, 2), (1, 2), (3, 2), (3, 3), (8, 8)))
    phase_taps = max(1, kernel[0] // stride[0]) * max(1, kernel[1] // stride[1])
    channels = _channels(draw, phase_taps)
    extra_y, extra_x = (draw.number(0, s - 1) if draw.one_in(3) else 0 for s in stride)
    top, bottom, left, right = (0, 0, 0, 0) if draw.one_in(3) else (draw.number(-1, 3) for _ in range(4))
    extra, padding = (extra_y, extra_x), (top, bottom, left, right)
    sizes = {**map_sizes(draw, large, (1,), 600), **channels}
    try:
        h_out, w_out = conv_transpose2d_size(sizes["h_in"], sizes["w_in"], kernel, stride, padding, extra, dilation)
    except ShapeError:
        return None
    if not _grouped_length(draw, large, phase_taps, channels, sizes["n"] * h_out * w_out):
        return None
    window = {"k": kernel, "stride": stride, "padding": padding, "dilation": dilation, "output_padding": extra}
    return compact({**sizes, **window, **_epilogue(draw), "fill": draw.pick(FILLS)})


def make_bilinear_deconv(draw: Draw, large: bool) -> dict[str, Any] | None:
    """Return parameters of a bilinear_deconv case."""
    factor = draw.pick((2, 2, 4, 4, 6, 8, 16))
    sizes = map_sizes(draw, large, CHANNELS, 6000 // factor**2)
    return compact({**sizes, "factor": factor, "fill": draw.pick(FILLS)})


TICKETS = {"conv2d": 14, "conv_transpose2d": 5, "bilinear_deconv": 1}  # shares of the draw
MAKERS = {
    "conv2d": make_conv2d,
    "conv_transpose2d": make_conv_transpose2d,
    "bilinear_deconv": make_bilinear_deconv,
}
