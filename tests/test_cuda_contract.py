"""cuda/contract.cuh, compiled for the CPU through a shim of CUDA's intrinsics, against the NumPy reference."""

import ctypes
import os

import numpy as np
import pytest
from cuda_shim import build

from pagnp.backends.base import get_backend
from pagnp.contract import compare

UNARY = ("exp", "exp10", "log", "sigmoid", "relu")
SPECIAL = np.array([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 1e-38, 3e38, 88.7, -103.9], "f4")


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    if build.compiler() is None:
        if os.environ.get("CI"):
            pytest.fail("no g++: the CUDA sources cannot be run on the CPU")
        pytest.skip("no g++: the CUDA sources cannot be run on the CPU")
    path = tmp_path_factory.mktemp("cuda") / "contract.so"
    build.run([*build.flags(), "-shared", f"-I{build.SOURCES}", build.HERE / "contract_entry.cpp", "-o", path])
    return ctypes.CDLL(str(path))


def pointer(array):
    return None if array is None else ctypes.c_void_p(array.ctypes.data)


def samples(seed, count=200_000):
    rng = np.random.default_rng(seed)
    bits = rng.integers(0, 1 << 32, count, np.uint32).view(np.float32)
    near = (rng.standard_normal(count) * 20).astype(np.float32)
    return np.concatenate([SPECIAL, bits, near])


@pytest.mark.parametrize("op", UNARY)
def test_unary(library, op):
    x = samples(1)
    got, want = np.empty_like(x), np.empty_like(x).reshape(1, 1, -1, 1)
    library.map_unary(UNARY.index(op), ctypes.c_longlong(x.size), pointer(x), pointer(got))
    with np.errstate(all="ignore"):
        get_backend("numpy").kernels[op](x.reshape(1, 1, -1, 1), want)
    assert not (found := compare(got, want.reshape(-1))), str(found)


@pytest.mark.parametrize("terms", (1, 127, 128, 129, 300))
def test_dot_product_and_epilogue(library, terms):
    rng = np.random.default_rng(terms)
    rows, c_out = 7, 5
    x, residual = rng.standard_normal((1, 1, rows, terms), "f4"), rng.standard_normal((1, 1, rows, c_out), "f4")
    weight = rng.standard_normal((1, 1, terms, c_out), "f4")
    scale, shift = rng.standard_normal((2, c_out), "f4")
    k = get_backend("numpy")
    place = None, (1, 1), (0, 0, 0, 0), (1, 1), 1
    want = np.empty((1, 1, rows, c_out), "f4")
    k.conv2d(x, k.pack_conv2d(weight, 1), scale, shift, None, residual, True, *place, want)
    pairs_w = np.ascontiguousarray(np.broadcast_to(weight[0, 0].T, (rows, c_out, terms)))
    pairs_x = np.ascontiguousarray(np.broadcast_to(x[0, 0][:, None], (rows, c_out, terms)))
    acc, got = np.empty((rows, c_out), "f4"), np.empty((rows, c_out), "f4")
    size = ctypes.c_longlong
    library.dot(size(rows * c_out), size(terms), pointer(pairs_w), pointer(pairs_x), pointer(acc))
    parts = pointer(scale), pointer(shift), None, pointer(residual), 1
    library.epilogue(size(rows), size(c_out), pointer(acc), *parts, pointer(got))
    assert not (found := compare(got, want[0, 0])), str(found)


def test_philox_known_answers(library):
    """Random123's kat_vectors for philox4x32 10."""
    digits = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344, 0xA4093822, 0x299F31D0)
    counter = np.array([[0] * 4, [0xFFFFFFFF] * 4, digits[:4]], np.uint32)
    keys = np.array([[0] * 2, [0xFFFFFFFF] * 2, digits[4:]], np.uint32)
    want = np.array(
        [
            [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8],
            [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ],
        np.uint32,
    )
    for i in range(3):
        got = np.empty((1, 4), np.uint32)
        library.philox(ctypes.c_longlong(1), pointer(counter[i : i + 1]), pointer(keys[i : i + 1]), pointer(got))
        assert not (found := compare(got, want[i : i + 1])), str(found)


@pytest.mark.parametrize("form", ("kong2018", "torch"))
def test_gumbel(library, form):
    seed, gate = 0x123456789ABCDEF, 3
    want = np.empty((9, 7, 4), np.float32)
    k = get_backend("numpy")
    k.gumbel_noise(seed, gate, form, 0, 0, want)
    counter = np.zeros((9, 7, 4), np.uint32)
    counter[..., 0], counter[..., 1], counter[..., 3] = np.arange(7), np.arange(9)[:, None], gate
    words, got = np.empty((63, 4), np.uint32), np.empty((9, 7, 4), np.float32)
    k.philox4x32(counter.reshape(-1, 4), np.array([seed & 0xFFFFFFFF, seed >> 32], np.uint32), words)
    library.gumbel(ctypes.c_longlong(words.size), int(form == "torch"), pointer(words), pointer(got))
    assert not (found := compare(got, want)), str(found)
