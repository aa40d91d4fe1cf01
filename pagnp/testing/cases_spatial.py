"""Rows of pooling, resampling and layout."""

from pagnp.shapes import pool2d_size
from pagnp.testing import fills
from pagnp.testing.case import Arrangement, Case, pair, sides


def _x(case, role=0):
    return fills.fill(case.get("fill"), case.get("seed"), role, case.x_shape)


def _pool_shape(case, dilation):
    n, h_in, w_in, c_in = case.x_shape
    kernel, stride, padding = pair(case.get("k")), pair(case.get("stride")), sides(case.get("padding"))
    ceil_mode = bool(case.get("ceil_mode"))
    h_out, w_out = pool2d_size(case.op, h_in, w_in, kernel, stride, padding, dilation, ceil_mode)
    return (n, h_out, w_out, c_in), {"kernel": kernel, "stride": stride, "padding": padding}


def arrange_max_pool2d(case):
    """Return the arrays of a max_pool2d row."""
    dilation = pair(case.get("dilation"))
    shape, window = _pool_shape(case, dilation)
    return Arrangement({"x": _x(case), **window, "dilation": dilation}, shape)


def arrange_avg_pool2d(case):
    """Return the arrays of an avg_pool2d row."""
    shape, window = _pool_shape(case, (1, 1))
    return Arrangement({"x": _x(case), **window, "count_include_pad": bool(case.get("count_include_pad"))}, shape)


def _resized(case):
    n, _, _, c_in = case.x_shape
    return (n, *case.get("size"), c_in)


def arrange_bilinear(case):
    """Return the arrays of a bilinear row."""
    return Arrangement({"x": _x(case), "align_corners": bool(case.get("align_corners"))}, _resized(case))


def arrange_nearest(case):
    """Return the arrays of a nearest row."""
    return Arrangement({"x": _x(case)}, _resized(case))


def arrange_concat(case):
    """Return the arrays of a concat row; `parts` are the channels of the inputs."""
    n, h_in, w_in, _ = case.x_shape
    xs = [
        fills.fill(case.get("fill"), case.get("seed"), role, (n, h_in, w_in, c))
        for role, c in enumerate(case.get("parts"))
    ]
    return Arrangement({"xs": xs}, (n, h_in, w_in, sum(case.get("parts"))))


def arrange_pad(case):
    """Return the arrays of a pad row."""
    n, h_in, w_in, c_in = case.x_shape
    top, bottom, left, right = padding = sides(case.get("padding"))
    return Arrangement({"x": _x(case), "padding": padding}, (n, h_in + top + bottom, w_in + left + right, c_in))


def arrange_slice_channels(case):
    """Return the arrays of a slice_channels row; `part` is (start, stop)."""
    start, stop = case.get("part")
    return Arrangement({"x": _x(case), "start": start, "stop": stop}, (*case.x_shape[:3], stop - start))


def _row(op, c_in, h_in, w_in, fill="normal", seed=21, **more):
    return Case(op, c_in=c_in, h_in=h_in, w_in=w_in, **more, fill=fill, seed=seed)


_PADS = (0, 1, (0, 1, 0, 1), (1, 0, 0, 1))  # (0, 1, 0, 1): Caffe's pool


def _max_pool_rows():
    """Windows, four-sided pads, ceil mode, dilation, special values."""
    op = "max_pool2d"
    for padding in _PADS:
        for ceil_mode in (False, True):
            yield _row(op, 3, 8, 11, k=3, stride=2, padding=padding, ceil_mode=ceil_mode)
    yield from (_row(op, c, 5, 7, k=2, stride=2, seed=22) for c in (1, 2, 15, 16, 17, 31, 32, 33, 64, 65))
    yield from (_row(op, 2, 3, w, k=3, stride=1, padding=1, seed=23) for w in (1, 5, 6, 7, 13, 14, 15, 63, 64, 65))
    yield from (_row(op, 4, 9, 9, k=3, stride=s, padding=1, ceil_mode=True, seed=24) for s in (1, 2, 3, (3, 2)))
    yield from (
        _row(op, 2, 11, 12, k=2, stride=2, dilation=d, ceil_mode=c, seed=25) for d in (2, 3) for c in (False, True)
    )
    yield from (_row(op, 5, 6, 7, fill, 26, k=3, stride=2, padding=1) for fill in fills.FILLS)
    yield from (_row(op, 2, 6, 7, k=k, stride=1, seed=27) for k in (1, (2, 3), (3, 1), 5))
    yield from (_row(op, c, 5, 9, k=3, stride=2, padding=1, seed=27) for c in (48, 63, 79, 96, 127, 128, 129))
    yield from (_row(op, 2, 3, w, k=3, stride=2, padding=1, seed=27, n=2) for w in (8, 9, 15, 16, 17, 31, 33))
    yield _row(op, 65, 5, 9, "inf_nan", 28, k=3, stride=2, padding=1)
    yield _row(op, 3, 5, 5, "inf_nan", 28, n=3, k=2, stride=1)
    yield _row(op, 3, 7, 5, n=2, k=2, stride=3, ceil_mode=True, seed=29)


def _avg_pool_rows():
    """The same, with both counting rules."""
    op = "avg_pool2d"
    for padding in _PADS:
        for ceil_mode in (False, True):
            for include in (False, True):
                more = {"ceil_mode": ceil_mode, "count_include_pad": include}
                yield _row(op, 3, 8, 11, k=3, stride=2, padding=padding, **more)
    yield from (_row(op, c, 5, 7, k=2, stride=2, seed=32) for c in (1, 2, 15, 16, 17, 31, 32, 33, 64, 65))
    yield from (_row(op, 2, 3, w, k=3, stride=1, padding=1, seed=33) for w in (1, 5, 6, 7, 13, 14, 15, 65))
    yield from (_row(op, 5, 6, 7, fill, 36, k=3, stride=2, padding=1, count_include_pad=True) for fill in fills.FILLS)
    yield from (_row(op, 2, 6, 7, k=k, stride=1, seed=37) for k in (1, (2, 3), (3, 1), 5, 6))
    yield from (_row(op, c, 5, 9, k=3, stride=2, padding=1, seed=37) for c in (48, 63, 79, 96, 127, 128, 129))
    yield from (_row(op, 2, 3, w, k=3, stride=2, padding=1, seed=37, n=2) for w in (8, 9, 15, 16, 17, 31, 33))
    yield _row(op, 3, 7, 5, n=2, k=2, stride=3, ceil_mode=True, count_include_pad=True, seed=38)
    yield _row(op, 2, 6, 6, k=3, stride=(2, 3), padding=(1, 1, 0, 1), ceil_mode=True, seed=39)


def _resample_rows():
    """Enlarging, shrinking, single pixels, both bilinear rules."""
    sizes = (
        *((4, 5, (8, 10)), (4, 5, (4, 5)), (1, 1, (3, 4)), (3, 1, (7, 1)), (1, 4, (5, 9)), (5, 7, (1, 1))),
        *((7, 5, (3, 2)), (6, 7, (13, 15)), (3, 4, (24, 32)), (13, 2, (5, 9)), (2, 2, (65, 3)), (5, 3, (10, 1))),
    )
    for h_in, w_in, size in sizes:
        for align_corners in (False, True):
            yield _row("bilinear", 3, h_in, w_in, size=size, align_corners=align_corners, seed=41)
        yield _row("nearest", 3, h_in, w_in, size=size, seed=42)
    for fill in fills.FILLS:
        yield _row("bilinear", 2, 3, 4, fill, 43, size=(7, 8))
        yield _row("bilinear", 2, 3, 4, fill, 44, size=(7, 8), align_corners=True)
        yield _row("nearest", 2, 3, 4, fill, 45, size=(7, 9))
    for c_in in (1, 2, 15, 16, 17, 32, 33, 65):
        yield _row("bilinear", c_in, 3, 5, n=2, size=(6, 10), seed=46)
        yield _row("nearest", c_in, 3, 5, n=2, size=(6, 10), seed=47)
    yield _row("nearest", 1, 21, 14, size=(69, 46), seed=48)  # where float32 positions differ from integer ones
    yield _row("nearest", 1, 26, 2, size=(22, 1), seed=48)
    yield _row("nearest", 2, 10, 15, "hairs", size=(24, 36), seed=48)  # where a product rounds up to an integer
    yield _row("bilinear", 1, 21, 23, size=(60, 83), seed=49)


def _layout_rows():
    """Copies: every fill keeps its bits."""
    for parts in ((3,), (1, 1), (2, 3, 4), (16, 17), (1, 31, 32, 1)):
        yield _row("concat", sum(parts), 3, 5, parts=parts, n=2, seed=51)
    yield from (_row("concat", 5, 2, 3, fill, 52, parts=(2, 3)) for fill in fills.FILLS)
    for padding in (0, 1, (0, 1, 0, 1), (2, 0, 0, 3), (0, 5, 0, 0)):
        yield _row("pad", 3, 3, 5, padding=padding, n=2, seed=53)
    yield from (_row("pad", 2, 2, 3, fill, 54, padding=(1, 2, 3, 0)) for fill in fills.FILLS)
    for part in ((0, 5), (0, 1), (4, 5), (1, 4)):
        yield _row("slice_channels", 5, 3, 4, part=part, n=2, seed=55)
    yield from (_row("slice_channels", 5, 2, 3, fill, 56, part=(1, 4)) for fill in fills.FILLS)


def _sharp_rows():
    """Small rows where each mistake of rounding and each lost special value shows."""
    for fill in fills.SHARP:
        yield _row("max_pool2d", 3, 5, 9, fill, 57, n=2, k=2, stride=1, padding=1)
        yield _row("avg_pool2d", 3, 5, 9, fill, 57, n=2, k=2, stride=1)
        yield _row("avg_pool2d", 3, 5, 9, fill, 57, n=2, k=(2, 3), stride=2, padding=1, count_include_pad=True)
        yield _row("bilinear", 3, 4, 5, fill, 57, n=2, size=(7, 9))
        yield _row("bilinear", 3, 4, 5, fill, 57, n=2, size=(9, 17), align_corners=True)
        yield _row("nearest", 3, 4, 5, fill, 57, n=2, size=(7, 9))
        yield _row("concat", 7, 3, 5, fill, 57, n=2, parts=(3, 4))
        yield _row("pad", 3, 3, 5, fill, 57, n=2, padding=(1, 0, 2, 1))
        yield _row("slice_channels", 5, 3, 5, fill, 57, n=2, part=(1, 4))
    yield _row("avg_pool2d", 3, 5, 9, "signed_zeros", 57, k=(1, 2), stride=1)
    yield from (_row("max_pool2d", 2, 8, 9, "subnormal", 57, k=3, stride=s, dilation=2, padding=1) for s in (1, 2))
    # One row in: what was kept of an image must not serve the next.
    yield from (_row(op, 2, 1, 5, "subnormal", 57, n=3, size=(4, 9)) for op in ("bilinear", "nearest"))


def _quad_rows():
    """Channels that loads of four take, in one image after another; parts of which only some can be taken so."""
    for fill in ("specials", "subnormal", "ties"):
        for c in (4, 12):
            yield _row("max_pool2d", c, 5, 9, fill, 60, n=2, k=3, stride=2, padding=1)
            yield _row("avg_pool2d", c, 5, 9, fill, 60, n=2, k=3, stride=2, padding=1, ceil_mode=True)
            yield from (_row("bilinear", c, 4, 5, fill, 60, n=2, size=(7, 9), align_corners=a) for a in (False, True))
            yield _row("nearest", c, 4, 5, fill, 60, n=2, size=(7, 9))
            yield _row("pad", c, 3, 5, fill, 60, n=2, padding=(1, 0, 2, 1))
        yield from (
            _row("concat", sum(parts), 3, 5, fill, 60, n=2, parts=parts) for parts in ((4, 8), (8, 4, 4), (4, 3, 1, 4))
        )
        yield from (_row("slice_channels", 12, 3, 5, fill, 60, n=2, part=part) for part in ((4, 12), (4, 8), (2, 6)))
        yield _row("slice_channels", 10, 3, 5, fill, 60, n=2, part=(4, 8))


def _large_rows():
    """Large enough for several threads."""
    yield _row("max_pool2d", 35, 61, 67, seed=58, k=3, stride=2, padding=1)
    yield _row("avg_pool2d", 35, 61, 67, seed=58, k=3, stride=1, padding=1)
    yield _row("bilinear", 19, 23, 29, seed=58, size=(92, 116))
    yield from (_row("bilinear", 7, 13, 17, seed=58, n=2, size=(97, 53), align_corners=a) for a in (False, True))
    yield _row("nearest", 19, 23, 29, seed=58, size=(92, 116))
    yield _row("concat", 52, 61, 67, seed=58, parts=(19, 33))
    yield _row("pad", 33, 61, 67, seed=58, padding=(1, 2, 3, 4))
    yield _row("slice_channels", 65, 61, 67, seed=58, part=(1, 50))


ARRANGE = {
    "max_pool2d": arrange_max_pool2d,
    "avg_pool2d": arrange_avg_pool2d,
    "bilinear": arrange_bilinear,
    "nearest": arrange_nearest,
    "concat": arrange_concat,
    "pad": arrange_pad,
    "slice_channels": arrange_slice_channels,
}
ROWS = [
    *_max_pool_rows(),
    *_avg_pool_rows(),
    *_resample_rows(),
    *_layout_rows(),
    *_sharp_rows(),
    *_quad_rows(),
    *_large_rows(),
]
