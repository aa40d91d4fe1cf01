"""Answers worked out by hand, op by op: odd attributes, ties, signed zeros, Inf and NaN.

Inputs are digits and weights are powers of ten where that helps: the decimal digits of an output then are the pixels
that it read, and the place of a digit is the tap that read it.
"""

import math
from decimal import Decimal, localcontext

import numpy as np

INF, NAN = math.inf, math.nan
UNIT = 2.0**-23
TINY = 2.0**-149
BIG = 2.0**24  # from here on the float32 numbers are the even integers


def row(*values):
    """Return one line of pixels (1, 1, w, 1); a tuple holds a pixel's channels."""
    return np.array([[[np.atleast_1d(value) for value in values]]], np.float32)


def grid(*lines):
    """Return a map (1, h, w, 1)."""
    return np.array(lines, np.float32)[None, :, :, None]


def taps(values, shape):
    """Return a weight (k_h, k_w, c_in/groups, c_out)."""
    return np.array(values, np.float32).reshape(shape)


def bools(*values):
    """Return a mask (1, 1, w)."""
    return np.array([[values]], bool)


def ints(*values):
    """Return an index (1, 1, w)."""
    return np.array([[values]], np.int32)


PLAIN = {"scale": None, "shift": None, "bias": None, "residual": None, "relu": False}
WINDOW = {"stride": (1, 1), "padding": (0, 0, 0, 0), "dilation": (1, 1), "groups": 1}


def conv(x, weight, **more):
    return "conv2d", {"x": x, "weight": weight, **PLAIN, "sites": None, **WINDOW, **more}


def transposed(x, weight, **more):
    return "conv_transpose2d", {"x": x, "weight": weight, **PLAIN, **WINDOW, **more}


def max_pool(x, kernel, stride=(1, 1), padding=(0, 0, 0, 0), dilation=(1, 1)):
    return "max_pool2d", {"x": x, "kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation}


def avg_pool(x, kernel, stride, padding, include):
    args = {"x": x, "kernel": kernel, "stride": stride, "padding": padding, "count_include_pad": include}
    return "avg_pool2d", args


def gate(z, mode="hard", form="torch", noise=None, temperature=1.0, threshold=None):
    limit = None if threshold is None else np.float32(threshold)
    noise = None if noise is None else np.array([noise], np.float32)
    args = {"z": z, "mode": mode, "form": form, "temperature": np.float32(temperature), "noise": noise}
    return "gate", {**args, "threshold": limit}


DIGITS = np.array([[[1, 9], [2, 8], [3, 7]], [[4, 6], [5, 5], [6, 4]], [[7, 3], [8, 2], [9, 1]]], np.float32)[None]
MINUS_ZERO_SUM = (row(TINY), taps([-0.25], (1, 1, 1, 1)))  # a chain whose only product underflows to -0

# name -> (op, arguments), the output
CONVOLUTIONS = {
    # Rows iy = oy - 1 and oy + 1, columns 2*ox and 2*ox + 1, beyond the right edge +0. Two groups of one channel.
    "conv: groups, dilation, stride and padding on one side": (
        conv(
            DIGITS,
            taps([[[1000, 1]], [[100, 10]], [[10, 100]], [[1, 1000]]], (2, 2, 1, 2)),
            **{"stride": (1, 2), "padding": (1, 0, 0, 1), "dilation": (2, 1), "groups": 2},
        ),
        np.array([[[45, 5600], [60, 400]], [[1278, 2389], [3090, 107]]], np.float32)[None],
    ),
    "conv: two groups of two channels": (
        conv(row((1, 2, 3, 4)), taps([[1, 100, 1, 100], [10, 1000, 10, 1000]], (1, 1, 2, 4)), groups=2),
        row((21, 2100, 43, 4300)),
    ),
    "conv: norm, then residual, then relu": (
        conv(
            row(3, 5),
            taps([1], (1, 1, 1, 1)),
            **{"scale": np.float32([2]), "shift": np.float32([-10]), "residual": row(3, 4), "relu": True},
        ),
        row(0, 4),
    ),
    "conv: sites, compact, each with its row of the residual": (
        conv(
            row(1, 2, 3, 4),
            taps([100, 10, 1], (1, 3, 1, 1)),
            **{"padding": (0, 0, 1, 1), "sites": np.int32([0, 3]), "residual": np.float32([[5000], [7000]])},
        ),
        np.float32([[5012], [7340]]),
    ),
    "conv: no bias leaves -0": (conv(*MINUS_ZERO_SUM, relu=True), row(-0.0)),
    "conv: a bias of +0 does not": (conv(*MINUS_ZERO_SUM, bias=np.float32([0])), row(0.0)),
    "conv: a weight of Inf meets the padding": (
        conv(row(1, 2), taps([INF, 1], (1, 2, 1, 1)), padding=(0, 0, 1, 0)),
        row(NAN, INF),
    ),
    "conv: relu keeps NaN": (conv(row(NAN, -1), taps([1], (1, 1, 1, 1)), relu=True), row(NAN, 0)),
    # Input i and tap k meet at 2*i + k: 100, 10, 1+200, 20, 2+300, 30, 3; the first is cropped away.
    "transposed: stride 2, a crop, output_padding 1": (
        transposed(row(1, 2, 3), taps([100, 10, 1], (1, 3, 1, 1)), stride=(1, 2), padding=(0, 0, 1, 1)),
        row(10, 201, 20, 302, 30, 3),
    ),
    # i and k meet at i + 3*k: 1, 2, nothing, 10, 20; the first two rows are cropped away.
    "transposed: dilation, cropped at the top": (
        transposed(grid([1], [2]), taps([1, 10], (2, 1, 1, 1)), padding=(2, 0, 0, 0), dilation=(3, 1)),
        grid([0], [10], [20]),
    ),
    "transposed: outputs without a term are +0": (
        transposed(row(1, 2), taps([-1], (1, 1, 1, 1)), stride=(1, 3)),
        row(-1, 0, 0, -2),
    ),
    "transposed: two groups, each of two outputs": (
        transposed(row((3, 7)), taps([[1, 10], [100, 1000]], (1, 1, 2, 2)), groups=2),
        row((3, 30, 700, 7000)),
    ),
    # Factor 2: one-dimensional weights 1/4 3/4 3/4 1/4; the map's border is +0.
    "bilinear_deconv of a line of one row": (
        ("bilinear_deconv", {"x": row(16, 32), "factor": 2}),
        np.tile(grid([9, 15, 21, 18]), (1, 2, 1, 1)),
    ),
}

POOLS_AND_SIZES = {
    "max: ceil mode's last window is cut short": (max_pool(row(1, 5, 2, 4, 3), (1, 2), (1, 2)), row(5, 4, 3)),
    "max: padding never wins": (max_pool(row(-5, -3), (1, 3), padding=(0, 0, 1, 1)), row(-3, -3)),
    "max: a window of -Inf": (max_pool(row(-INF, -INF), (1, 2)), row(-INF)),
    "max: the first of two zeros": (max_pool(row(-0.0, 0.0, -0.0), (1, 2)), row(-0.0, 0.0)),
    "max: NaN wins, wherever it stands": (max_pool(row(9, NAN, 1, 2), (1, 2)), row(NAN, NAN, 2)),
    "max: dilation steps over": (max_pool(row(1, NAN, 2, 8, 3), (1, 2), (1, 2), dilation=(1, 2)), row(2, 3)),
    "avg: padding counts": (avg_pool(row(1, 2, 3, 4, 5), (1, 3), (1, 2), (0, 0, 1, 1), True), row(1, 3, 3)),
    "avg: padding does not count": (
        avg_pool(row(1, 2, 3, 4, 5), (1, 3), (1, 2), (0, 0, 1, 1), False),
        row(1.5, 3, 4.5),
    ),
    "avg: what ceil mode adds never counts": (
        avg_pool(row(1, 2, 3, 4, 5), (1, 3), (1, 3), (0,) * 4, True),
        row(2, 4.5),
    ),
    # k 4, stride 2, padding 1: the last window holds 4, 5, a pixel of padding that counts and one that does not exist.
    "avg: ceil mode and padding": (avg_pool(row(1, 2, 3, 4, 5), (1, 4), (1, 2), (0, 0, 1, 1), True), row(1.5, 3.5, 3)),
    "avg: -0 becomes +0": (avg_pool(row(-0.0, -0.0), (1, 2), (1, 2), (0,) * 4, True), row(0.0)),
    "avg: sums in scan order": (avg_pool(grid([BIG, 1], [1, 1]), (2, 2), (2, 2), (0,) * 4, True), row(BIG / 4)),
    "bilinear: corners, one output": (("bilinear", {"x": row(10, 20, 40), "align_corners": True}), row(10)),
    "bilinear: centres, one output": (("bilinear", {"x": row(10, 20, 40), "align_corners": False}), row(20)),
    "bilinear: one input, corners": (("bilinear", {"x": row(7), "align_corners": True}), row(7, 7, 7)),
    "bilinear: one input, centres": (("bilinear", {"x": row(7), "align_corners": False}), row(7, 7, 7)),
    "bilinear: corners, 2 to 3": (("bilinear", {"x": row(10, 20), "align_corners": True}), row(10, 15, 20)),
    "bilinear: centres, 2 to 4": (("bilinear", {"x": row(0, 8), "align_corners": False}), row(0, 2, 6, 8)),
    "bilinear: centres, 3 to 2": (("bilinear", {"x": row(0, 8, 16), "align_corners": False}), row(2, 14)),
    "bilinear: a neighbour of weight 0 is read": (
        ("bilinear", {"x": row(1, INF), "align_corners": False}),
        row(NAN, NAN),  # Inf * 0; then Inf - Inf
    ),
    "nearest: 3 to 5": (("nearest", {"x": row(1, 2, 3)}), row(1, 1, 2, 2, 3)),
    "nearest: 5 to 3": (("nearest", {"x": row(1, 2, 3, 4, 5)}), row(1, 2, 4)),
    "pad: every side its own": (("pad", {"x": row(5), "padding": (1, 0, 0, 2)}), grid([0, 0, 0], [5, 0, 0])),
    "concat": (("concat", {"xs": [row((1, 2)), row(3), row((-0.0, NAN))]}), row((1, 2, 3, -0.0, NAN))),
    "slice": (("slice_channels", {"x": row((1, 2, 3, 4)), "start": 1, "stop": 3}), row((2, 3))),
}

TIED = row((1, 1), (1, 2), (2, 1), (NAN, 1), (1, NAN), (INF, INF), (-0.0, 0.0))
HALF = row((0, 0))
FAR = row((0, -200))  # softmax 1, 0; in the 2018 form log(1.001/1.001) = 0 and log(.001/1.001) = -6.9087...

GATES = {
    "hard: ties and NaN skip": (gate(TIED), bools(False, True, False, False, False, False, False)),
    "hard: a threshold holds back": (gate(row((0, 2), (0, 1), (0, 0.5)), threshold=1), bools(True, False, False)),
    "hard: a negative threshold lets ties through": (gate(row((1, 1), (2, 1)), threshold=-0.5), bools(True, False)),
    "hard: the difference is rounded": (gate(row((-(2.0**-30), 1)), threshold=1), bools(False)),
    "hard: Inf - Inf skips": (gate(row((INF, INF), (-INF, INF)), threshold=-8), bools(False, True)),
    "hard, K ways: the first maximum, NaN never beats and is never beaten": (
        gate(row((NAN, 5, 7), (1, NAN, 2), (1, 2, 2), (-INF, -INF, -INF), (-0.0, 0.0, -0.0), (1, 2, NAN))),
        ints(0, 2, 1, 0, 0, 1),
    ),
    "hard, two ways as an index": (gate(row((1, 1), (1, 2), (NAN, 3))), ints(0, 1, 0)),
    "soft": (gate(row((0, 0, 0, 0), (3, -INF, 3, -INF)), "soft"), row((0.25,) * 4, (0.5, 0, 0.5, 0))),
    "soft: Inf spoils the pixel": (gate(row((INF, 0), (NAN, 0), (0, NAN)), "soft"), row(*[(NAN, NAN)] * 3)),
    "gumbel, torch": (
        gate(row((1, 0), (1, 0)), "gumbel_hard", noise=[[[0, 1], [0, 1 + UNIT]]]),
        bools(False, True),
    ),
    "gumbel, K ways, noise for each image": (
        ("gate", {**gate(row((1, 2, 3)), "gumbel_hard")[1], "noise": row((2.5, 1, 0))}),
        ints(0),
    ),
    "gumbel, soft, temperature": (
        gate(row((0, 0), (0, 0)), "gumbel_soft", noise=[[[2, 2], [0, -100]]], temperature=0.5),
        row((0.5, 0.5), (1, 0)),  # e^-200 is 0 in float32; e^-100 is not
    ),
    "gumbel, soft, temperature 1": (
        gate(row((0, 0)), "gumbel_soft", noise=[[[0, -100]]]),
        row((1, 27 * TINY)),  # e^-100 = 3.72e-44 = 26.55 units
    ),
    "gumbel, 2018: no probability under .001": (gate(FAR, "gumbel_hard", "kong2018", [[[0, 6.9]]]), bools(False)),
    "gumbel, 2018: noise beats .001": (gate(FAR, "gumbel_hard", "kong2018", [[[0, 6.91]]]), bools(True)),
    "gumbel, torch: the same noise does not": (gate(FAR, "gumbel_hard", "torch", [[[0, 6.91]]]), bools(False)),
    "gumbel, 2018: a tie, noise tips it": (gate(HALF, "gumbel_hard", "kong2018", [[[0, UNIT]]]), bools(True)),
    "gumbel, 2018: a tie skips": (gate(HALF, "gumbel_hard", "kong2018", [[[3, 3]]]), bools(False)),
    "gumbel, 2018: NaN skips": (gate(row((0, NAN)), "gumbel_hard", "kong2018", [[[0, 99]]]), bools(False)),
    "select by a mask": (
        ("select", {"control": bools(False, True), "branches": [row(1, NAN), row(NAN, 2)]}),
        row(1, 2),
    ),
    "select by an index, (n, 1, 1)": (
        ("select", {"control": ints(2), "branches": [row(1, 2), row(3, 4), row(5, -0.0)]}),
        row(5, -0.0),
    ),
    "blend: from +0, fused, in order": (
        ("blend", {"p": row((1, 0), (-1, 1 + UNIT)), "branches": [row(-0.0, 1), row(0, 1 - UNIT)]}),
        row(0.0, -(2.0**-46)),
    ),
    "blend: weight 0 does not hide Inf": (("blend", {"p": row((1, 0)), "branches": [row(1), row(INF)]}), row(NAN)),
    "masked: chosen, not multiplied": (
        ("masked", {"x": row(NAN, -1, -0.0), "mask": bools(False, False, True)}),
        row(0, 0, -0.0),
    ),
    "sites": (("mask_to_sites", {"mask": np.array([[[1, 0]], [[0, 1]]], bool)}), np.int32([0, 3])),
    # Stride 2, dilation 2, one pixel of padding: site 0 reads -1 and 1, site 2 reads 3 and 5.
    "grow": (
        (
            "grow_mask",
            {"mask": bools(True, False, True), "kernel": (1, 2), "stride": (1, 2)}
            | {"padding": (0, 0, 1, 0), "dilation": (1, 2)},
        ),
        bools(False, True, False, True, False, True),
    ),
    "gather": (("gather", {"x": row((1, 2), (3, 4), (5, 6)), "sites": np.int32([0, 2])}), np.float32([[1, 2], [5, 6]])),
    "scatter": (
        ("scatter", {"values": np.float32([[1, 2], [3, 4]]), "sites": np.int32([0, 1])}),
        row((1, 2), (3, 4)),
    ),
}

POINTWISE = {
    **{
        op: ((op, {"a": row(*a), "b": row(*b)}), row(*want))
        for op, a, b, want in (
            ("add", (1, -0.0, INF, TINY), (UNIT / 2, -0.0, -INF, TINY), (1, -0.0, NAN, 2 * TINY)),
            ("sub", (1, 1, INF, 0.0), (-UNIT / 2 * (1 + UNIT), 1, INF, -0.0), (1 + UNIT, 0.0, NAN, 0.0)),
            ("mul", (TINY, TINY, INF, -0.0), (0.5, -0.75, 0, 5), (0.0, -TINY, NAN, -0.0)),
            ("div", (1, -1, 0, -0.0, 1), (0, 0, 0, 5, -INF), (INF, -INF, NAN, -0.0, -0.0)),
        )
    },
    "a channel and a pixel broadcast": (("sub", {"a": row((10, 20)), "b": row(1, 2)}), row((9, 19), (8, 18))),
    "relu": (("relu", {"x": row(-1, -0.0, 0, NAN, -INF, -TINY)}), row(0, -0.0, 0, NAN, 0, 0)),
    "norm is fused": (
        ("norm", {"x": row((1 + UNIT, 2)), "scale": np.float32([1 - UNIT, 3]), "shift": np.float32([-1, 4])}),
        row((-(2.0**-46), 10)),
    ),
    "compare": (
        ("compare", {"a": row(1, NAN, -0.0), "b": row(1, NAN, 0.0), "op": "ge"}),
        bools(True, False, True)[..., None],
    ),
    "compare: NaN differs from itself": (
        ("compare", {"a": row(NAN), "b": row(NAN), "op": "ne"}),
        bools(True)[..., None],
    ),
    "compare indices": (("compare", {"a": ints(1, 2), "b": ints(2), "op": "lt"}), bools(True, False)),
    "argmax": (("argmax", {"x": row((1, 3, 3), (NAN, 9, 9), (-INF, NAN, -1))}), ints(1, 0, 2)),
    "softmax": (("softmax", {"x": row((5, 5), (-INF, -INF), (0, -200))}), row((0.5, 0.5), (NAN, NAN), (1, 0))),
    # (2^24 + 1) + (1 + 1); one sum over all would stay at 2^24
    "mean: each row, then the rows": (("global_mean", {"x": grid([BIG, 1], [1, 1])}), row((BIG + 2) / 4)),
    "mean of -0": (("global_mean", {"x": row(-0.0, -0.0)}), row(0.0)),
    "l2: zeros, overflow": (
        ("l2_normalize", {"x": row((0, -0.0), (2.0**70, -1))}),
        row((0, -0.0), (0, -0.0)),
    ),
    "l2: 3 4 5": (
        ("l2_normalize", {"x": row((3, 4))}),
        row(tuple(np.float32([3, 4]) / (np.float32(5) + np.float32(1e-5)))),
    ),
    "exp": (("exp", {"x": row(0, -0.0, -INF, INF, NAN, TINY)}), row(1, 1, 0, INF, NAN, 1)),
    "exp10": (("exp10", {"x": row(0, 1, 3, -46, 39)}), row(1, 10, 1000, 0, INF)),
    "log": (("log", {"x": row(1, 0, -0.0, -TINY, INF)}), row(0, -INF, -INF, NAN, INF)),
    "sigmoid": (("sigmoid", {"x": row(0, -INF, INF, 200, NAN)}), row(0.5, 0, 1, 1, NAN)),
    "philox": (
        ("philox4x32", {"counter": np.zeros((1, 4), np.uint32), "key": np.zeros(2, np.uint32)}),
        np.array([[0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]], np.uint32),
    ),
}


def noise_by_hand(form):
    """Return the noise of pixel (0, 0), seed 0, gate 0, from Random123's words, by the decimal module."""
    values = []
    with localcontext() as context:
        context.prec = 60
        for word in (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8):
            if form == "torch":
                u = Decimal((word >> 9) * 2 + 1) / 2**24
            else:
                u = (Decimal(word >> 8) / 2**24 + Decimal("0.00001")) / Decimal("1.001")
            values.append(float(-(-u.ln()).ln()))
    return np.array(values, np.float32)[None, None]


NOISE = {
    form: (("gumbel_noise", {"seed": 0, "gate_index": 0, "form": form, "y0": 0, "x0": 0}), noise_by_hand(form))
    for form in ("torch", "kong2018")
}
KNOWN = {**CONVOLUTIONS, **POOLS_AND_SIZES, **GATES, **POINTWISE, **NOISE}
