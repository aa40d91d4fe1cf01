"""Every row of the convolutions on every tile shape of the Numba backend, in every order in which tiles are computed.

Which shape and order a convolution takes is a matter of speed; the conformance table alone meets only what is chosen.
"""

import pytest
from conftest import load_backend
from test_conformance import KERNEL_CASES, fail_on, reference

pytest.importorskip("numba")

from pagnp.backends.numba_cpu import conv, conv_places, conv_weights
from pagnp.backends.numba_cpu.conv_tiles import ALL_TILES
from pagnp.testing import runcase

CASES = [case for case in KERNEL_CASES if case.op in ("conv2d", "conv_transpose2d")]
BY_BLOCKS = {(conv, "_WEIGHTS_IN_L2"): 0, (conv, "_SUPER_PIXELS"): 20, (conv, "_SUPER_BLOCKS"): 1}
ORDERS = {"whole": {}, "in blocks, sorted by border": BY_BLOCKS | {(conv_places, "_LEAST_SKIPPED"): 0.0}}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kind", range(len(ALL_TILES)), ids=lambda kind: "{}x{}".format(*ALL_TILES[kind]))
def test_every_tile_shape_in_every_order(kind, order, monkeypatch):
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
    assert met == {kind, conv_weights.DEPTHWISE}
