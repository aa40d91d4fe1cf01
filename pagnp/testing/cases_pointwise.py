"""Rows of the pointwise ops and of the reductions over channels and space."""

import numpy as np

from pagnp.testing import fills
from pagnp.testing.case import Arrangement, Case

_BINARY = ("add", "sub", "mul", "div")
_CURVES = ("exp", "exp10", "log", "sigmoid")
_CHANNELS = (1, 2, 3, 5, 7, 8, 16, 31, 32, 33, 40, 64, 65, 127, 128, 129, 257)


def _x(case, role=0, shape=None):
    return fills.fill(case.get("fill"), case.get("seed"), role, shape or case.x_shape)


def _other_shape(case):
    """Return b's shape: x's, one pixel, one channel, one batch entry, or one number."""
    n, h, w, c = case.x_shape
    kinds = {None: (n, h, w, c), "pixel": (n, 1, 1, c), "channel": (n, h, w, 1), "image": (1, h, w, c)}
    return {**kinds, "number": (1, 1, 1, 1), "row": (1, 1, w, 1)}[case.get("other")]


def arrange_binary(case):
    """Return the arrays of add, sub, mul or div; with `swapped` the smaller operand comes first."""
    a, b = _x(case), _x(case, 1, _other_shape(case))
    if case.get("swapped"):
        a, b = b, a
    return Arrangement({"a": a, "b": b}, case.x_shape)


def arrange_unary(case):
    """Return the arrays of an op from x to its own shape."""
    return Arrangement({"x": _x(case)}, case.x_shape)


def arrange_norm(case):
    """Return the arrays of a norm row."""
    c_in = case.get("c_in")
    return Arrangement({"x": _x(case), "scale": _x(case, 1, (c_in,)), "shift": _x(case, 2, (c_in,))}, case.x_shape)


def arrange_compare(case):
    """Return the arrays of a compare row: float maps of one channel, or with `index` int32 maps without channels."""
    a, b = _x(case), _x(case, 1, _other_shape(case))
    if case.get("index"):
        a, b = (
            fills.whole(case.get("seed"), role, part.shape[:3], 5).astype(np.int32) for role, part in ((0, a), (1, b))
        )
    elif case.get("fill") == "normal":
        a, b = np.round(a), np.round(b)  # many ties
    shape = a.shape
    if case.get("swapped"):
        a, b = b, a
    return Arrangement({"a": a, "b": b, "op": case.get("relation")}, shape, bool)


def arrange_argmax(case):
    """Return the arrays of an argmax row."""
    return Arrangement({"x": _x(case)}, case.x_shape[:3], np.int32)


def arrange_global_mean(case):
    """Return the arrays of a global_mean row."""
    return Arrangement({"x": _x(case)}, (case.get("n"), 1, 1, case.get("c_in")))


def _row(op, c_in, h_in, w_in, fill="normal", seed=21, **more):
    return Case(op, c_in=c_in, h_in=h_in, w_in=w_in, **more, fill=fill, seed=seed)


def _binary_rows():
    for op in _BINARY:
        yield from (_row(op, 5, 3, 7, fill, 61) for fill in (*fills.FILLS, "bits"))
        for other in ("pixel", "channel", "image", "number", "row"):
            yield _row(op, 5, 3, 7, "normal", 62, n=2, other=other)
            yield _row(op, 5, 3, 7, "inf_nan", 63, n=2, other=other, swapped=True)
        yield from (_row(op, c, 1, 3, seed=64) for c in (1, 15, 16, 17, 33))
        for other in ("pixel", "channel", "row"):
            yield from (_row(op, c, 3, 4, seed=64, n=2, other=other) for c in (1, 2, 3, 4, 16, 17, 20, 37))


def _unary_rows():
    yield from (_row("relu", 5, 3, 7, fill, 65) for fill in (*fills.FILLS, "bits"))
    for op in _CURVES:
        yield from (_row(op, 5, 3, 7, fill, 66) for fill in fills.FILLS)
        yield from (_row(op, 4, 5, 10, fill, seed) for fill in ("wide", "bits") for seed in (67, 68))
        yield _row(op, 4, 3, 4, "edges", 69)
        yield from (_row(op, c, 1, 3, "wide", 70) for c in (1, 2, 7, 9, 15, 16, 17, 33, 65))
        yield from (_row(op, c, 1, 1, "wide", 70) for c in (8, 31, 32, 47, 48, 49, 55, 96, 97))
    yield from (_row("norm", 6, 3, 7, fill, 71) for fill in fills.FILLS)
    yield from (_row("norm", c, 2, 3, n=2, seed=72) for c in (1, 2, 15, 16, 17, 33, 65))


def _compare_rows():
    for relation in ("gt", "ge", "lt", "le", "eq", "ne"):
        yield from (
            _row("compare", 1, 4, 7, fill, 73, relation=relation) for fill in ("normal", "inf_nan", "signed_zeros")
        )
        yield _row("compare", 1, 4, 7, "normal", 74, relation=relation, other="number")
        yield _row("compare", 1, 4, 7, "normal", 74, relation=relation, other="number", swapped=True)
        yield _row("compare", 1, 4, 7, "normal", 75, relation=relation, index=True)
        yield _row("compare", 1, 4, 7, "normal", 76, relation=relation, index=True, other="number")


def _channel_rows():
    for op in ("softmax", "argmax", "l2_normalize"):
        yield from (_row(op, c, 2, 3, seed=77) for c in _CHANNELS)
        yield from (_row(op, 6, 3, 5, fill, 78) for fill in (*fills.FILLS, "wide", "bits"))
        yield from (_row(op, 3, 1, w, "integers", 79, n=2) for w in (1, 5, 6, 7, 13, 14, 15, 64, 65))
        yield from (_row(op, c, 1, w, seed=79) for c in (2, 11, 12, 13) for w in (1, 2, 3, 4, 5, 11, 12, 13))
        yield _row(op, 2, 33, 32, seed=79)  # more pixels than softmax takes at once


def _mean_rows():
    op = "global_mean"
    yield from (_row(op, c, 3, 5, seed=81) for c in (1, 2, 15, 16, 17, 33, 64, 65))
    yield from (_row(op, 2, h, w, seed=82) for h, w in ((1, 1), (1, 7), (7, 1), (13, 11), (14, 15), (30, 33)))
    yield from (_row(op, 65, h, 3, seed=82, n=2) for h in (7, 8, 9, 15, 16, 17))
    yield from (_row(op, 3, 4, 5, fill, 83, n=2) for fill in fills.FILLS)


def _sharp_rows():
    """Small rows where each mistake of rounding and each lost special value shows, and long sums of squares."""
    for fill in fills.SHARP:
        yield from (_row(op, 5, 3, 7, fill, 83, n=2) for op in (*_BINARY, "relu", *_CURVES))
        yield _row("norm", 33, 2, 3, fill, 83, n=2)
        yield from (_row("compare", 1, 4, 7, fill, 83, n=2, relation=r) for r in ("gt", "ge", "lt", "le", "eq", "ne"))
        yield from (_row(op, 5, 3, 7, fill, 83, n=2) for op in ("softmax", "argmax", "l2_normalize"))
        yield from (_row("global_mean", 9, h, w, fill, 83, n=2) for h, w in ((1, 1), (1, 2), (2, 1), (3, 2)))
    yield from (_row("global_mean", 9, h, w, "signed_zeros", 83) for h, w in ((1, 1), (1, 2), (2, 1)))
    yield from (_row("l2_normalize", c, 1, 3, fill, 84) for c in (385, 700) for fill in ("subnormal", "ties"))
    yield _row("l2_normalize", 9, 4, 9, "squares", 84)
    yield from (_row("global_mean", c, 3, 2, "subnormal", 85, n=3) for c in (63, 64, 65, 128))  # whole groups, a batch


def _quad_rows():
    """Channels that loads of four take, and long rows of channels."""
    for fill in ("specials", "subnormal", "ties"):
        yield from (_row(op, c, 3, 7, fill, 86, n=2) for op in (*_BINARY, "relu", "norm") for c in (4, 12))
        yield from (_row(op, c, 3, 7, fill, 86, n=2) for op in ("softmax", "argmax", "l2_normalize") for c in (4, 36))


def _large_rows():
    """Large enough for several threads."""
    for op in (*_BINARY, "relu", *_CURVES, "norm", "softmax", "argmax", "l2_normalize", "global_mean"):
        yield _row(op, 33, 41, 53, seed=84)
    yield from (
        _row(op, 33, 41, 53, seed=85, other=other) for op in _BINARY for other in ("pixel", "channel", "number")
    )
    yield _row("compare", 1, 241, 253, seed=84, relation="gt")


ARRANGE = {
    **dict.fromkeys(_BINARY, arrange_binary),
    **dict.fromkeys(("relu", *_CURVES, "softmax", "l2_normalize"), arrange_unary),
    "norm": arrange_norm,
    "compare": arrange_compare,
    "argmax": arrange_argmax,
    "global_mean": arrange_global_mean,
}
ROWS = [
    *_binary_rows(),
    *_unary_rows(),
    *_compare_rows(),
    *_channel_rows(),
    *_mean_rows(),
    *_sharp_rows(),
    *_quad_rows(),
    *_large_rows(),
]
