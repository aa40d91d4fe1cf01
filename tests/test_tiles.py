"""Every row of the convolutions on every tile shape of the Numba backend, in every order in which tiles are computed.

Which shape and order a convolution takes is a matter of speed; the conformance table alone meets only what is chosen.
"""

import numpy as np
import pytest
from conftest import load_backend
from test_conformance import KERNEL_CASES, fail_on, reference

pytest.importorskip("numba")

from pagnp.backends.numba_cpu import conv, conv_places, conv_weights
from pagnp.backends.numba_cpu.conv_tiles import ALL_TILES
from pagnp.contract import compare
from pagnp.testing import runcase

CASES = [case for case in KERNEL_CASES if case.op in ("conv2d", "conv_transpose2d")]
BY_BLOCKS = {(conv, "_WEIGHTS_IN_L2"): 0, (conv, "_SUPER_PIXELS"): 20, (conv, "_SUPER_BLOCKS"): 1}
ORDERS = {"whole": {}, "in blocks, sorted by border": BY_BLOCKS | {(conv_places, "_LEAST_SKIPPED"): 0.0}}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kind", range(len(ALL_TILES)), ids=lambda kind: "{}x{}".format(*ALL_TILES[kind]))
def test_every_tile_shape_in_every_order(kind, order, monkeypatch, fine_chunks):
    monkeypatch.setattr(conv_weights, "_TILE_SPEED", [1e6 if i == kind else 1.0 for i in range(len(ALL_TILES))])
    for (module, name), value in ORDERS[order].items():
        monkeypatch.setattr(module, name, value)
    conv_places.border_kinds.cache_clear()
    kernels, met = load_backend("numba", 2).kernels, set()
    pack = kernels["pack_conv2d"]

    def noting(*args):
        packed = pack(*args)
        met.add(packed.kind)
        return packed

    for case in CASES:
        want, _ = reference(case)
        fail_on(runcase.check_same(case, "numba", {**kernels, "pack_conv2d": noting}, want))
    conv_places.border_kinds.cache_clear()
    assert met == {kind, conv_weights.NARROW}


@pytest.mark.parametrize("sites", [False, True], ids=["dense", "sites"])
@pytest.mark.parametrize("c_out", [2, 16, 32, 64])  # a kernel each
@pytest.mark.parametrize("positive", ["nowhere", "everywhere", "in some channels"])
def test_skipped_taps_turn_minus_zero_as_their_terms_would(positive, c_out, sites):
    # Products that underflow leave every sum at -0: the last of each tap has a minus sign. In the last rows of the
    # output all taps of the last kernel row are outside: weight * +0, which makes +0 of it where a weight has no minus
    # sign. The reduction has 126 terms: in a second block the sum would start at +0.
    x, weight = np.full((1, 14, 40, 14), 1e-30, np.float32), np.full((3, 3, 14, c_out), -1e-30, np.float32)
    channels = {"nowhere": 0, "everywhere": c_out, "in some channels": c_out // 2}[positive]
    weight[:2, :, 0] = 1e-30
    weight[2, :, 0, :channels] = 1e-30
    places = np.arange(14 * 40, dtype=np.int32) if sites else None
    outs = []
    assert load_backend("numba", 2).pack_conv2d(weight, 1).skips == (positive == "everywhere")
    for backend in ("numpy", "numba"):
        kernels, out = load_backend(backend, 2), np.ones((1, 14, 40, c_out), np.float32)
        packed = kernels.pack_conv2d(weight, 1)
        kernels.conv2d(x, packed, *[None] * 4, False, places, (1, 1), (4,) * 4, (4, 4), 1, out)
        outs.append(out)
    assert not compare(outs[1], outs[0])
    assert np.signbit(outs[0][0, -1]).any() == (positive != "everywhere")
    if channels:
        assert not np.signbit(outs[0][0, -1, :, :channels]).any()


def test_the_row_of_zeros_is_as_long_as_a_tap(monkeypatch):
    seen = []
    monkeypatch.setattr(conv, "parallel", lambda *args, keep, **_: seen.append((args, keep)))
    kernels, out = load_backend("numba", 1), np.empty((1, 5, 5, 7), np.float32)
    for c_in, weight in ((3, np.ones((5, 5, 3, 7), np.float32)), (40, np.ones((5, 5, 40, 7), np.float32))):
        x = np.ones((1, 5, 5, c_in), np.float32)
        packed = kernels.pack_conv2d(weight, 1)
        kernels.conv2d(x, packed, *[None] * 4, False, None, (1, 1), (2,) * 4, (1, 1), 1, out)
    for args, keep in seen:
        run = next(part for part in args if isinstance(part, tuple) and len(part) == 7 and part[0] == 25)[1]
        assert keep[1].size >= run, "missing pixels of a tile would read beyond it"
    assert [keep[1].size for _, keep in seen] == [15, 40]
