"""Rows of conv2d, conv_transpose2d and bilinear_deconv."""

from pagnp.shapes import conv2d_size, conv_transpose2d_size
from pagnp.testing import fills
from pagnp.testing.case import Arrangement, Case, pair, sides

EPILOGUES = [
    {"epilogue": epilogue, "residual": residual, "relu": relu}
    for epilogue in (None, "bias", "norm")
    for residual in (None, "residual", "in_place")
    for relu in (False, True)
]


def epilogue_args(case, shape):
    """Return scale, shift, bias, residual, relu of a case whose output has `shape`."""
    kind, fill, seed, c_out = case.get("epilogue"), case.get("fill"), case.get("seed"), shape[-1]
    return {
        "scale": fills.fill(fill, seed, 2, (c_out,)) if kind == "norm" else None,
        "shift": fills.fill(fill, seed, 3, (c_out,)) if kind == "norm" else None,
        "bias": fills.fill(fill, seed, 4, (c_out,)) if kind == "bias" else None,
        "residual": fills.fill(fill, seed, 5, shape) if case.get("residual") else None,
        "relu": bool(case.get("relu")),
    }


def arrange_conv2d(case):
    """Return the arrays of a conv2d row."""
    kernel, stride, dilation = pair(case.get("k")), pair(case.get("stride")), pair(case.get("dilation"))
    padding, groups, c_out = sides(case.get("padding")), case.get("groups"), case.get("c_out")
    n, h_in, w_in, c_in = case.x_shape
    h_out, w_out = conv2d_size(h_in, w_in, kernel, stride, padding, dilation)
    shape, sites = (n, h_out, w_out, c_out), None
    if case.get("sites"):
        sites = fills.sites(case.get("sites"), case.get("seed"), (n, h_out, w_out))
        shape = (len(sites), c_out) if case.get("layout") == "compact" else shape
    args = {
        "x": fills.fill(case.get("fill"), case.get("seed"), 0, case.x_shape),
        "weight": fills.fill(case.get("fill"), case.get("seed"), 1, (*kernel, c_in // groups, c_out)),
        **epilogue_args(case, shape),
        **{"sites": sites, "stride": stride, "padding": padding, "dilation": dilation, "groups": groups},
    }
    return Arrangement(args, shape, in_place=case.get("residual") == "in_place")


def arrange_conv_transpose2d(case):
    """Return the arrays of a conv_transpose2d row."""
    kernel, stride, dilation = pair(case.get("k")), pair(case.get("stride")), pair(case.get("dilation"))
    padding, groups, c_out = sides(case.get("padding")), case.get("groups"), case.get("c_out")
    n, h_in, w_in, c_in = case.x_shape
    extra = pair(case.get("output_padding", 0))
    h_out, w_out = conv_transpose2d_size(h_in, w_in, kernel, stride, padding, extra, dilation)
    shape = (n, h_out, w_out, c_out)
    args = {
        "x": fills.fill(case.get("fill"), case.get("seed"), 0, case.x_shape),
        "weight": fills.fill(case.get("fill"), case.get("seed"), 1, (*kernel, c_in, c_out // groups)),
        **epilogue_args(case, shape),
        **{"stride": stride, "padding": padding, "dilation": dilation, "groups": groups},
    }
    return Arrangement(args, shape, in_place=case.get("residual") == "in_place")


def arrange_bilinear_deconv(case):
    """Return the arrays of a bilinear_deconv row: a composite, `factor` times larger than x."""
    n, h_in, w_in, c_in = case.x_shape
    factor = case.get("factor")
    args = {"x": fills.fill(case.get("fill"), case.get("seed"), 0, case.x_shape), "factor": factor}
    return Arrangement(args, (n, h_in * factor, w_in * factor, c_in))


def conv(c_in, h_in, w_in, c_out, k, fill="normal", seed=11, **more):
    """A conv2d row, sizes first."""
    return Case("conv2d", c_in=c_in, h_in=h_in, w_in=w_in, c_out=c_out, k=k, **more, fill=fill, seed=seed)


def deconv(c_in, h_in, w_in, c_out, k, fill="normal", seed=11, **more):
    """A conv_transpose2d row, sizes first."""
    return Case("conv_transpose2d", c_in=c_in, h_in=h_in, w_in=w_in, c_out=c_out, k=k, **more, fill=fill, seed=seed)


def _size_rows():
    """Pixels, channels and lengths of the reduction around tile edges and around the cut at 128."""
    widths = (1, 2, 5, 6, 7, 8, 13, 14, 15, 16, 17, 28, 29, 31, 32, 33, 63, 64, 65)
    yield from (conv(3, 2, w, 5, 3, padding=1, seed=12) for w in widths)
    yield from (conv(16, 1, w, 33, 1, seed=13) for w in widths)
    # Rows of neighbours, 24 or 12 at a time between the columns at the border.
    yield from (conv(16, 3, w, 16, 3, padding=1, seed=13) for w in (13, 14, 25, 26, 27, 49, 50))
    yield from (conv(8, h, 3, 16, 3, padding=1, seed=14) for h in (1, 5, 6, 7, 13, 14, 15, 65))
    yield from (conv(c, 5, 6, 9, 3, padding=1, seed=15) for c in (1, 2, 3, 16, 31, 32, 33, 64, 65))
    yield from (conv(5, 4, 7, c, 3, padding=1, seed=16) for c in (1, 2, 3, 4, 15, 16, 17, 31, 32, 33, 48, 64, 65, 96))
    yield from (
        conv(c, 3, 5, 7, 1, fill, 17) for c in (126, 127, 128, 129, 130, 256, 257) for fill in ("normal", "cancelling")
    )
    yield from (
        conv(c, 4, 5, 6, 3, padding=1, seed=18) for c in (14, 15, 28, 29, 43, 57)
    )  # 126, 135, 252, 261, 387, 513
    yield from (conv(c, 9, 3, 20, (1, 3), padding=(0, 0, 1, 1), seed=19) for c in (42, 43, 86))
    yield conv(64, 13, 14, 65, 3, padding=1, seed=20)
    yield conv(129, 7, 15, 33, 3, "cancelling", 21, padding=1)


def _window_rows():
    """Kernel sizes, strides, dilations, four-sided paddings and groups."""
    yield from (conv(3, 9, 10, 4, k, padding=k // 2, seed=31) for k in (1, 2, 3, 4, 5, 6, 7))
    yield from (conv(3, 13, 15, 4, k, stride=2, padding=k // 2, seed=32) for k in (1, 2, 3, 5, 7))
    yield from (conv(3, 8, 11, 4, k, seed=33) for k in ((1, 7), (7, 1), (3, 5), (2, 3), (1, 2)))
    yield from (conv(4, 13, 11, 6, 3, stride=s, padding=1, seed=34) for s in ((1, 2), (2, 1), 3, (4, 3)))
    yield from (conv(4, 13, 15, 6, 3, dilation=d, padding=d, seed=35) for d in (2, 4, 6, 8, 10))
    yield conv(4, 13, 15, 6, 3, dilation=(1, 3), stride=(2, 1), padding=(1, 1, 3, 3), seed=36)
    yield from (
        conv(3, 6, 7, 5, 3, padding=p, seed=37)
        for p in ((0, 1, 0, 1), (1, 0, 1, 0), (2, 0, 0, 2), (0, 0, 3, 1), (4, 5, 6, 7), (2, 2, 2, 2))
    )
    yield conv(3, 1, 1, 5, 3, padding=1, seed=38)
    yield conv(3, 1, 1, 5, 7, padding=3, seed=38)
    yield conv(3, 3, 3, 5, 3, seed=38)
    yield conv(3, 33, 35, 16, 7, stride=2, padding=3, seed=39)
    yield from (
        conv(c, 6, 7, o, 3, padding=1, groups=g, seed=40) for c, o, g in ((4, 6, 2), (6, 9, 3), (8, 8, 8), (4, 12, 4))
    )
    yield from (conv(c, 5, 7, c, 3, padding=1, groups=c, seed=41) for c in (1, 3, 16, 33, 64))
    yield conv(258, 2, 3, 4, 1, groups=2, seed=42)
    yield conv(32, 4, 5, 32, 3, padding=1, groups=2, seed=43)
    yield conv(6, 9, 9, 6, 5, groups=6, stride=2, dilation=2, padding=4, seed=44, epilogue="norm", relu=True)
    yield from (conv(3, 5, 6, 7, 3, padding=1, n=n, seed=45) for n in (2, 3, 5))


def _fill_rows():
    """Every fill, on short and long chains."""
    for fill in fills.FILLS:
        yield conv(3, 5, 7, 4, 3, fill, 51, padding=1)
        yield conv(20, 4, 5, 17, 3, fill, 52, padding=1, epilogue="norm", residual="residual", relu=True)
        yield conv(130, 2, 7, 16, 1, fill, 53, epilogue="bias")
        yield conv(5, 4, 6, 5, 3, fill, 54, padding=1, groups=5, epilogue="bias", relu=True)
        yield conv(6, 5, 6, 7, 3, fill, 55, padding=1, sites="random", epilogue="norm", residual="residual")
        yield conv(16, 6, 33, 32, 3, fill, 56, padding=1)
        yield conv(1, 4, 7, 9, 1, fill, 57)  # one term: a product that underflows leaves -0


def _epilogue_rows():
    """Every epilogue, dense, on the compact rows and scattered."""
    for row in EPILOGUES:
        yield conv(6, 5, 7, 19, 3, "normal", 61, padding=1, **row)
        yield conv(6, 5, 7, 19, 1, "signed_zeros", 62, **row)
        yield conv(6, 5, 7, 19, 3, "inf_nan", 63, padding=1, sites="random", **row)
        yield conv(6, 5, 7, 19, 3, "normal", 64, padding=1, sites="random", layout="scattered", **row)


def _site_rows():
    """Site sets, with strides, dilations, groups and batches."""
    for sites in ("none", "one", "all", "random", "blobby"):
        for layout in ("compact", "scattered"):
            where = {"sites": sites, "layout": layout}
            yield conv(5, 9, 11, 17, 3, padding=1, seed=71, **where)
            yield conv(16, 8, 9, 33, 1, seed=72, **where)
            yield conv(3, 9, 11, 8, 3, stride=2, padding=1, n=3, seed=73, epilogue="norm", relu=True, **where)
    yield from (conv(8, 9, 11, 16, 3, dilation=d, padding=d, sites="blobby", seed=74) for d in (2, 4, 10))
    yield from (conv(8, 9, 11, 16, 3, padding=1, groups=g, sites="random", seed=75) for g in (2, 8))
    yield from (conv(15, 1, w, 16, 3, padding=1, sites="random", seed=76) for w in (5, 6, 7, 13, 14, 15, 33, 64, 65))
    yield conv(43, 7, 9, 40, 3, "cancelling", 77, padding=1, sites="random")
    yield conv(3, 15, 17, 8, 7, padding=(3, 2, 1, 0), stride=(2, 1), sites="random", seed=78)
    yield conv(64, 14, 15, 64, 3, padding=1, sites="blobby", seed=79)


def _deconv_rows():
    """Transposed convs: strides, crops, dilations, groups, phases without taps."""
    yield from (
        deconv(3, 4, 5, 4, k, stride=s, seed=81) for k, s in ((2, 2), (3, 2), (4, 2), (3, 1), (1, 1), (5, 3), (2, 3))
    )
    yield from (deconv(5, 4, 5, 7, 4, stride=2, padding=p, seed=82) for p in (1, 2, (1, 0, 0, 1), (0, 2, 1, 1)))
    yield from (deconv(3, 5, 4, 6, 3, stride=2, padding=1, output_padding=o, seed=83) for o in (1, (1, 0), (0, 1)))
    yield from (deconv(3, 5, 4, 6, 3, stride=s, dilation=2, padding=1, seed=84) for s in (1, 2, 3))
    yield from (
        deconv(c, 4, 3, o, 4, stride=2, padding=1, groups=g, seed=85) for c, o, g in ((4, 6, 2), (6, 6, 6), (3, 9, 3))
    )
    yield from (deconv(c, 2, 3, 5, 3, stride=2, padding=1, seed=86) for c in (31, 32, 33, 64, 128, 129))
    yield from (deconv(3, 3, w, 17, 4, stride=2, padding=1, seed=87) for w in (1, 2, 7, 8, 15, 16, 33))
    yield from (deconv(6, 3, 4, 9, 4, fill, 88, stride=2, padding=1, epilogue="bias") for fill in fills.FILLS)
    yield from (deconv(1, 2, 3, 19, 2, fill, 88, stride=2, epilogue="norm") for fill in fills.FILLS)
    yield from (deconv(4, 3, 5, 9, 4, "normal", 89, stride=(2, 1), padding=(1, 1, 0, 2), **row) for row in EPILOGUES)
    yield deconv(2, 3, 4, 3, (4, 2), stride=(2, 1), n=3, seed=90)
    yield deconv(7, 5, 6, 7, 16, stride=8, padding=4, groups=7, seed=91)


def _narrow_rows():
    """Groups narrower than a vector: strips of 8 pixels, vectors halved down to 1 channel, rows of strips, phases."""
    widths = (1, 7, 8, 9, 15, 16, 17, 23, 24, 25, 41)
    yield from (conv(5, 3, w, 5, 3, padding=1, groups=5, seed=65) for w in widths)
    yield from (conv(5, 5, w, 5, 3, padding=1, stride=2, groups=5, seed=66) for w in widths)
    yield from (conv(3, 4, w, 3, (2, 5), dilation=(1, 2), groups=3, seed=66) for w in (9, 16, 17, 33))
    for c in (2, 4, 7, 8, 9, 15, 16, 17, 19, 31, 32, 33, 48, 65):
        yield conv(c, 4, 13, c, 3, padding=1, groups=c, seed=67, epilogue="norm", relu=True)
        yield conv(c, 4, 13, c, 3, padding=1, groups=c, seed=67, epilogue="bias", residual="in_place")
    for group in (2, 4, 8):
        yield from (conv(c, 4, 11, c, 3, padding=1, groups=c // group, seed=68) for c in (2 * group, 24, 40, 56))
        yield conv(24, 9, 9, 24, 7, "cancelling", 68, padding=3, groups=24 // group, residual="in_place")  # blocks
        yield conv(24, 7, 9, 24, 3, padding=1, groups=24 // group, sites="random", layout="scattered", seed=68)
        yield from (deconv(24, 3, w, 24, 4, stride=2, padding=1, groups=24 // group, seed=68) for w in (3, 9))
    yield from (conv(6, 5, 17, 6, 3, padding=1, groups=6, seed=69, n=2, **row) for row in EPILOGUES)
    yield from (conv(9, 5, 17, 9, 3, padding=1, groups=9, sites=s, seed=69) for s in ("one", "all", "random", "blobby"))
    yield conv(
        3, 14, 15, 3, (12, 11), "cancelling", 69, groups=3, padding=5, residual="in_place"
    )  # 132 terms: no slide
    yield conv(7, 18, 17, 7, (17, 16), "cancelling", 69, groups=7)  # three blocks: a total is read and written


def _narrow_deconv_rows():
    """Depthwise transposed convs: equally many taps in every phase or not, strides around a strip, epilogues."""
    for k, stride in (
        (4, 2),
        (2, 2),
        (6, 3),
        (8, 4),
        (5, 5),
        (16, 8),
        (18, 9),
        (32, 16),
        (3, 1),
        (3, 2),
        (2, 3),
        (9, 8),
    ):
        yield from (deconv(5, 3, w, 5, k, stride=stride, padding=int(k > 2), groups=5, seed=93) for w in (1, 4, 9))
    yield from (deconv(c, 3, 9, c, 4, stride=2, padding=1, groups=c, seed=93) for c in (1, 2, 15, 16, 17, 19, 33, 64))
    yield from (deconv(6, 3, 9, 6, 4, stride=2, padding=1, groups=6, n=2, seed=94, **row) for row in EPILOGUES)
    yield from (deconv(6, 3, 9, 6, 3, stride=2, groups=6, n=2, seed=94, **row) for row in EPILOGUES)
    yield from (deconv(7, 3, 5, 7, 4, fill, 94, stride=2, padding=1, groups=7) for fill in fills.FILLS)
    yield from (deconv(7, 3, 5, 7, 3, fill, 94, stride=2, padding=1, groups=7) for fill in fills.SHARP)
    yield deconv(4, 5, 7, 4, (3, 6), stride=(1, 3), padding=(2, 0, 1, 3), groups=4, seed=94)
    yield deconv(4, 5, 9, 4, 4, stride=2, dilation=3, padding=(1, 2, 3, 4), groups=4, seed=94)
    for stride, dilation in ((2, 2), (4, 6), (3, 6), (6, 4)):  # common factors
        yield deconv(4, 5, 9, 4, 5, "hairs", 94, stride=stride, dilation=dilation, padding=2, groups=4)
    yield deconv(3, 13, 14, 3, (13, 11), "cancelling", 94, padding=5, groups=3)  # more than a block of taps


def _negative_crop_rows():
    """Transposed convs with output beyond the input's reach on each side, in phases with taps and without."""
    windows = ((1, 3, 1), (1, 3, (1, 3)), (2, 3, 1), (3, 2, 1), (4, 2, 2), (3, 1, 1))
    for far, (k, stride, dilation) in enumerate(windows, 1):
        window = {"stride": stride, "dilation": dilation, "seed": 92}
        for crop in ((-far, 0, 0, 0), (0, -far, 0, 0), (0, 0, -far, 0), (0, 0, 0, -far), (-far - 3, 1, -far - 1, 2)):
            yield deconv(4, 2, 3, 4, k, padding=crop, groups=4, **window)
            yield deconv(5, 3, 4, 5, k, padding=crop, groups=5, epilogue="bias", **window)
            yield deconv(3, 2, 3, 2, k, padding=crop, **window)
    yield deconv(6, 3, 4, 9, 3, "specials", 92, stride=2, padding=-2, groups=3, residual="residual")
    seed = 100000394  # of the random case that found taps before the first
    yield deconv(48, 7, 13, 48, 1, "ties", seed, stride=3, padding=(-1, 0, 0, 0), dilation=(1, 3), groups=48)


def _sharp_rows():
    """Small rows where each mistake of rounding and each lost special value shows, and long chains on few pixels."""
    for fill in fills.SHARP:
        yield conv(3, 4, 5, 9, 3, fill, 58, padding=1, n=2)
        yield conv(1, 5, 9, 7, 1, fill, 58, epilogue="norm", residual="residual", relu=True)
        yield conv(5, 4, 5, 5, 3, fill, 58, padding=1, groups=5, epilogue="bias")
        yield deconv(3, 2, 3, 5, 4, fill, 58, stride=2, padding=(0, 2, 1, 1), n=2)
        yield deconv(4, 3, 4, 10, 2, fill, 58, stride=2, groups=2, epilogue="norm", residual="residual", relu=True)
    yield deconv(2, 2, 3, 16, 2, "hairs", 59, stride=2)
    yield conv(1, 3, 4, 8, (1, 2), "tiny", 59, padding=(0, 0, 0, 1))  # -0 from underflow, then the padding
    yield deconv(1, 3, 4, 8, (1, 3), "tiny", 59, stride=(1, 2))
    yield deconv(3, 2, 3, 4, 1, "specials", 59, stride=2)  # phases that no tap reaches, beside Inf and NaN
    for fill in ("subnormal", "ties"):
        yield conv(700, 1, 3, 2, 1, fill, 59)
        yield conv(73, 2, 2, 2, 3, fill, 59, padding=1, sites="all", layout="scattered")
        yield deconv(700, 1, 3, 2, 1, fill, 59)
        yield deconv(86, 2, 2, 2, 4, fill, 59, stride=2, padding=1)


def _bilinear_deconv_rows():
    """Factors, sizes and channel counts of the upsampling composite."""
    for factor, c_in, h_in, w_in in (
        (2, 3, 4, 5),
        (4, 1, 3, 3),
        (8, 5, 2, 3),
        (8, 1, 1, 1),
        (6, 2, 3, 2),
        (16, 1, 2, 1),
    ):
        for fill in ("normal", "relu"):
            yield Case("bilinear_deconv", c_in=c_in, h_in=h_in, w_in=w_in, factor=factor, fill=fill, seed=92)


def _large_rows():
    """Large enough for several threads or tiles, with sizes that no tile divides."""
    yield conv(65, 23, 23, 65, 1, seed=96, groups=65)  # the reference's tiles: groups, then channels
    yield conv(2, 23, 24, 67, 1, seed=96)
    yield conv(211, 3, 5, 130, 3, seed=97, padding=1, epilogue="norm")  # weights beyond a megabyte, in superblocks
    yield conv(211, 3, 5, 130, 3, seed=97, padding=1, sites="random")
    yield conv(3, 12, 13, 3, (13, 11), "subnormal", 98, padding=(6, 6, 5, 5), groups=3)  # two blocks of a depthwise
    yield conv(48, 40, 41, 50, 3, "normal", 95, padding=1, epilogue="norm", residual="in_place", relu=True)
    yield conv(48, 40, 41, 50, 3, "normal", 96, padding=1, sites="blobby", epilogue="norm", relu=True)
    yield conv(48, 40, 41, 50, 3, "relu", 96, padding=1, sites="random", layout="scattered", epilogue="bias")
    yield conv(131, 40, 41, 67, 1, "normal", 97, epilogue="norm", n=2)
    yield conv(3, 75, 83, 33, 7, "normal", 98, stride=2, padding=3, epilogue="norm", relu=True)
    yield conv(70, 41, 43, 70, 3, "normal", 99, padding=1, groups=70, epilogue="bias")
    yield deconv(33, 21, 22, 35, 4, "normal", 95, stride=2, padding=1, epilogue="bias", relu=True)
    yield deconv(19, 12, 13, 19, 16, "normal", 96, stride=8, padding=4, groups=19)


ARRANGE = {
    "conv2d": arrange_conv2d,
    "conv_transpose2d": arrange_conv_transpose2d,
    "bilinear_deconv": arrange_bilinear_deconv,
}
ROWS = [
    *_size_rows(),
    *_window_rows(),
    *_fill_rows(),
    *_epilogue_rows(),
    *_site_rows(),
    *_deconv_rows(),
    *_narrow_rows(),
    *_narrow_deconv_rows(),
    *_negative_crop_rows(),
    *_sharp_rows(),
    *_bilinear_deconv_rows(),
    *_large_rows(),
]
