"""The AArch64 kernels, emulated, against the NumPy reference: rows of the conformance table, and the fma alone.

    python tests/aarch64/check.py FOLDER [EVERY]      reads FOLDER/<mistake>.o of emit.py, prints the findings as JSON

EVERY: each EVERY-th of the table's smaller convolutions is computed, with every shape of tile; 1, the default: all.
"""

import functools
import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import emit  # noqa: E402  first: it decides for which CPU the kernel modules are made
import numpy as np  # noqa: E402
from emulate import Arena, Convolutions, Kernels  # noqa: E402
from test_fma import KINDS, KNOWN, _triples  # noqa: E402

from pagnp.backends.base import get_backend  # noqa: E402
from pagnp.backends.numba_cpu import conv, conv_places, conv_tiles, conv_weights  # noqa: E402
from pagnp.backends.numba_cpu.depthwise import is_narrow  # noqa: E402
from pagnp.backends.numpy_ref.fma import fma_f32  # noqa: E402
from pagnp.contract import compare  # noqa: E402
from pagnp.testing import cases_conv, fills, runcase  # noqa: E402
from pagnp.testing.cases import CASES  # noqa: E402

# name: the tile's place in ALL_TILES, whether conv_rows computes what it can, the kernel
SHAPES = {
    "wide": (0, False, "tile_steps_0"),
    "slim": (2, False, "tile_steps_2"),
    "rows": (2, True, "row_steps"),
    "narrow 2": (3, False, "narrow_steps_0"),
    "narrow 4": (4, False, "narrow_steps_1"),
}
LIMIT = 60_000  # multiply-adds of a row: in larger ones the emulation takes long
# Around the cut at 128, on maps wide enough for conv_rows; with taps outside the map; several panels of each shape.
ALWAYS = [
    *(cases_conv.conv(20, 2, 14, 9, 3, fill, 1, padding=1, epilogue="norm", relu=True) for fill in fills.FILLS),
    *(cases_conv.conv(c, 1, 13, 35, 1, "hairs", 2, residual="residual", epilogue="bias") for c in (127, 128, 129)),
    cases_conv.conv(43, 6, 7, 8, 3, "near_ties", 3, padding=2, dilation=2),
]
ROW_KIND = conv.ROW_KIND


def is_in_strips(case):
    """Tell whether the groups are so narrow that strips of pixels compute them: other kernels than those here."""
    groups = case.get("groups")
    return groups > 1 and is_narrow(case.get("c_in") // groups, case.get("c_out") // groups)


def work(case):
    """Return the multiply-adds of a row of the table."""
    (k_h, k_w), out = np.broadcast_to(case.get("k"), 2), runcase.arrange(case).shape
    return int(np.prod(out)) * int(k_h * k_w) * case.get("c_in") // case.get("groups")


@functools.cache
def reference(case):
    return runcase.run(case, get_backend("numpy").kernels)[0]


def choose(kind, with_rows, by_blocks):
    """Make every convolution take one shape of tile, and its tiles one of the two orders of conv_tiles."""
    conv_weights._TILE_SPEED = [1e6 if i == kind else 1.0 for i in range(len(conv_tiles.ALL_TILES))]
    conv.ROW_KIND = ROW_KIND if with_rows else None
    conv._WEIGHTS_IN_L2, conv._SUPER_PIXELS, conv._SUPER_BLOCKS = (0, 20, 1) if by_blocks else (600_000, 288, 8)
    conv_places._LEAST_SKIPPED = 0.0 if by_blocks else 0.015
    conv_places.border_kinds.cache_clear()


def check_convolutions(kernels, table, cases):
    """Return {shape: [how many calls of its kernel, problems]} of all rows."""
    found = {}
    for place, (shape, (kind, with_rows, kernel)) in enumerate(SHAPES.items()):
        problems, before = [], kernels.calls[kernel]
        for number, case in enumerate(cases):
            choose(kind, with_rows, by_blocks=(number + place) % 2)
            problems += runcase.check_same(case, f"aarch64, {shape}", table, reference(case))
        found[shape] = [kernels.calls[kernel] - before, problems]
    return found


def check_fma(kernels, arena):
    """Return {loop: difference from the reference, or ""} of the scalar, the vector and the emulated fma."""
    known = np.array([row[:3] for row in KNOWN.values()] * 4, np.uint32).view(np.float32).T
    a, b, c = np.concatenate([known, *(_triples(kind, 4096, seed=5) for kind in KINDS)], axis=1)
    found = {}
    for name in emit.FMA_KERNELS:
        arena.clear()
        inputs, out = [arena.copy(array) for array in (a, b, c)], arena.empty(a.shape, np.float32)
        kernels.call(name, a.size, *(array.ctypes.data for array in (*inputs, out)))
        arena.check()
        found[name] = str(compare(out, fma_f32(a, b, c)) or "")
    return found


def main(folder, every):
    cases = [case for case in CASES if case.op in ("conv2d", "conv_transpose2d") and not is_in_strips(case)]
    cases = ALWAYS + (cases if every == 1 else [case for case in cases if work(case) <= LIMIT][::every])
    arena = Arena(folder / "arena")
    found = {}
    for mistake in emit.MISTAKES:
        kernels = Kernels(folder, mistake, folder / "arena")
        table = Convolutions(kernels, arena).table
        convolutions = check_convolutions(kernels, table, cases if mistake == "none" else ALWAYS)
        found[mistake] = {"convolutions": convolutions, "fma": check_fma(kernels, arena)}
        kernels.close()
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1)
