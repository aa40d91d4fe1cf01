"""Rows of conv2d around the sizes at which the GPU's tile kernels change; and which rows a tile kernel takes.

The rows of the conformance table hold every option, but few of them have inputs that are read 16 bytes at a time.
"""

from pagnp.backends.gpu.conv_weights import NARROW
from pagnp.testing import fills
from pagnp.testing.cases_conv import EPILOGUES, conv

ROWS = [
    # pixels and channels around a tile, a warp and a thread's part of it
    *(conv(8, 1, w, 12, 1, seed=201) for w in (1, 8, 31, 32, 33, 63, 64, 65, 127, 128, 129, 257)),
    *(conv(8, 1, w, 132, 1, seed=202) for w in (9, 129)),
    *(
        conv(16, 5, 14, c, 3, padding=1, seed=203)
        for c in (1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 132)
    ),
    # terms around a step, a chain, and as many chains as there are slices
    *(conv(c, 6, 11, 33, 3, padding=1, seed=204) for c in (4, 8, 12, 16, 20)),
    *(
        conv(c, 5, 13, 20, 1, "cancelling", seed=205)
        for c in (4, 12, 16, 20, 112, 124, 128, 132, 144, 252, 256, 260, 384, 388, 512, 516, 1024, 1028, 1156)
    ),
    *(conv(c, 4, 5, 20, 1, "cancelling", seed=206) for c in (17, 127, 129, 257, 515, 1029)),  # 4 bytes at a time
    # windows
    *(conv(8, 9, 11, 20, 3, padding=p, seed=207) for p in ((0, 1, 0, 1), (1, 0, 1, 0), (4, 5, 6, 7), 0)),
    *(conv(8, 13, 12, 20, 3, padding=d, dilation=d, seed=208) for d in (2, 4, 10)),
    *(conv(8, 13, 12, 20, k, padding=k // 2, stride=2, n=2, seed=209) for k in (1, 2, 3, 5, 7)),
    conv(4, 9, 10, 20, (2, 7), stride=(2, 1), dilation=(1, 3), padding=(1, 0, 2, 9), n=3, seed=210),
    conv(132, 3, 4, 20, (2, 3), padding=(1, 0, 1, 1), seed=210),  # chains end inside taps
    # groups, of which the weight's columns are padded to 4
    *(conv(c, 6, 13, o, 3, padding=1, groups=g, seed=211) for c, o, g in ((24, 48, 2), (36, 27, 3), (16, 18, 2))),
    *(conv(c, 6, 13, o, 3, padding=1, groups=g, seed=211) for c, o, g in ((10, 20, 2), (8, 16, 8))),
    # epilogues, four channels at a time or one, dense and at sites
    *(conv(12, 5, 14, c, 1, seed=212, **row) for c in (20, 19) for row in EPILOGUES),
    *(
        conv(12, 7, 13, c, 3, padding=1, sites=sites, layout=layout, seed=213, **row)
        for c, row in ((20, EPILOGUES[-1]), (19, EPILOGUES[3]))
        for sites in ("one", "all", "random", "blobby")
        for layout in ("compact", "scattered")
    ),
    conv(64, 14, 15, 64, 3, padding=1, sites="blobby", layout="scattered", residual="in_place", n=2, seed=214),
    # values
    *(
        conv(20, 4, 17, 20, 3, fill, 215, padding=1, epilogue="norm", relu=True)
        for fill in (*fills.FILLS, *fills.SHARP)
    ),
    *(conv(260, 2, 5, 12, 1, fill, 216) for fill in (*fills.FILLS, *fills.SHARP)),
    # products that underflow leave -0: a term too many would add +0
    *(conv(c, 3, 7, 12, 1, "tiny", 216) for c in (4, 12, 17, 20, 132)),
    conv(44, 21, 20, 132, 3, "normal", 217, padding=2, dilation=2, epilogue="bias", residual="residual"),
]


def takes(tile, case):
    """Tell whether the kernel of `tile` can compute a row, if its arrays are aligned."""
    groups = case.get("groups")
    in_group, out_group = case.get("c_in") // groups, case.get("c_out") // groups
    return case.op == "conv2d" and in_group % tile.vector == 0 and (groups == 1 or out_group >= NARROW)
