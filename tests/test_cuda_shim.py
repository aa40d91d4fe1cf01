"""The shim that runs the CUDA sources on the CPU sees what is wrong with a kernel, and leaves right ones alone."""

import itertools
import os
import re

import numpy as np
import pytest
from cuda_shim import build, declarations
from cuda_shim.device import CudaArray, HostAccessError, ShimDevice
from cuda_shim.library import ORDERS, KernelError, Kernels

from pagnp.backends.gpu.signature import Signature, signatures
from pagnp.errors import MemoryLimitError

if build.compiler() is None and not os.environ.get("CI"):
    pytest.skip("no g++: the CUDA sources cannot be run on the CPU", allow_module_level=True)

SOURCE = build.HERE / "bad_kernels.cu"
NAMES = re.findall(r"__global__ void (\w+)\(", SOURCE.read_text(encoding="utf-8"))
SIGNATURES = signatures("bad_kernels", "\n".join(f"{name}(f32* x, f32* out)" for name in NAMES))
THREADS = 64
X = np.arange(1, THREADS + 1, dtype=np.float32)
COPIED = X[::-1].copy()
# What each right kernel makes of X.
RIGHT = {
    "race_good": np.roll(X, -1),
    "reuse_good": 6 * X[::-1],
    "copy_good": COPIED,
    "barrier_good": X,
    "shuffle_good": np.repeat([X[:32].sum(), X[32:].sum()], 32).astype(np.float32),
    "unwritten_good": COPIED,
    "wide_good": X,
    "same_good": X,
    "lanes_good": X,
    "blocks_good": X,
}
# Wrong bits in some of the orders, or with some kind of copies: (kernel, its right twin).
SHOWS = {
    "race_bad": "race_good",
    "reuse_bad": "reuse_good",
    "copy_bad_wait": "copy_good",
    "copy_bad_commit": "copy_good",
    "copy_bad_count": "copy_good",
    "unwritten_bad": "unwritten_good",
}
# Errors, in every order.
FAULTS = {
    "copy_bad_place": "an address is not a multiple of 16",
    "barrier_bad": r"divergent barrier: .*bad_kernels.cu:\d+, but thread \(40, 0, 0\) has returned",
    "barrier_bad_return": r"divergent barrier: .*bad_kernels.cu:\d+, but thread \(40, 0, 0\) has returned",
    "barrier_bad_two": r"divergent barrier: .*but thread \(40, 0, 0\) waits in __syncthreads",
    "shuffle_bad_lane": r"lane 16, which has returned|but thread \(16, 0, 0\) has returned",
    "shuffle_bad_mask": "lane 0 reads lane 16, which is not in the mask 0x0000FFFF",
    "shuffle_bad_branch": "divergent warp: .* waits in __shfl_sync",
    "beyond_bad": "dynamic shared memory .*: written beyond its end",
    "wide_bad": "misaligned",
}
# Errors in the checked build; bits may be right.
CHECKED = {
    "race_bad": "race: .* of the __shared__ variables, which thread .* (read|wrote), with nothing",
    "reuse_bad": "race: .* of dynamic shared memory",
    "copy_bad_wait": "race: .* copies to without having waited",
    "copy_bad_commit": "race: .* copies to without having waited",
    "copy_bad_count": "race: .* copies to without having waited",
    "copy_bad_early": "race: ",
    "beyond_bad_static": "index beyond its array",
    "wide_bad": "misaligned address at .*bad_kernels.cu",
    "outside_bad_read": r"reads 4 bytes, 4 bytes beyond the end of x at .*bad_kernels.cu:\d+",
    "outside_bad_write": "writes 4 bytes, 4 bytes before the start of out",
    "same_bad": "race: writes byte .* which thread .* wrote",
    "lanes_bad_shuffle": "race: reads byte|race: writes byte",
    "blocks_bad": "race: (reads|writes) byte 0 of out, which thread",
}
WAYS = list(itertools.product(ORDERS, (False, True)))


@pytest.fixture(scope="session")
def kernels(shim_folder):
    return Kernels(SOURCE, SIGNATURES, shim_folder)


@pytest.fixture(scope="session")
def checked(shim_folder):
    return Kernels(SOURCE, SIGNATURES, shim_folder, checked=True)


def run(kernels, name, order="ascending", deferred=False, seed=1):
    device = ShimDevice(None)
    x, out = device.to_device(X), device.allocate(X.shape, X.dtype)
    arguments = device.pointer(x), device.pointer(out)
    extents = [(name, at, X.nbytes, 4) for name, at in zip(("x", "out"), arguments, strict=True)]
    size = (2, THREADS // 2) if name.startswith("blocks") else (1, THREADS)
    settings = {"order": order, "seed": seed, "deferred": deferred, "extents": extents}
    kernels.launch(name, *size, arguments, 4 * THREADS, **settings)
    return device.to_host(out)


def test_every_planted_kernel_is_judged():
    assert set(NAMES) == {*RIGHT, *SHOWS, *FAULTS, *CHECKED}


@pytest.mark.parametrize("build", ("kernels", "checked"))
@pytest.mark.parametrize("name", RIGHT)
def test_a_right_kernel_is_right_in_every_way(name, build, request):
    for order, deferred in WAYS:
        assert (run(request.getfixturevalue(build), name, order, deferred) == RIGHT[name]).all(), (order, deferred)


@pytest.mark.parametrize("name", SHOWS)
def test_wrong_bits_show(name, kernels):
    outs = [run(kernels, name, order, deferred) for order, deferred in WAYS]
    assert any((out != RIGHT[SHOWS[name]]).any() for out in outs)


@pytest.mark.parametrize("name", ("race_bad", "unwritten_bad"))
def test_memory_that_nobody_wrote_is_nan(name, kernels):
    assert np.isnan(run(kernels, name)).any()


@pytest.mark.parametrize("name", ("copy_bad_wait", "copy_bad_commit", "copy_bad_count"))
def test_a_missing_wait_shows_only_where_copies_are_deferred(name, kernels):
    assert (run(kernels, name, deferred=False) == RIGHT["copy_good"]).all()
    assert np.isnan(run(kernels, name, deferred=True)).any()


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_an_error(name, kernels):
    for order in ORDERS:
        with pytest.raises(KernelError, match=FAULTS[name]):
            run(kernels, name, order)
    assert (run(kernels, "reuse_good") == RIGHT["reuse_good"]).all()  # and nothing of it stays


@pytest.mark.parametrize("name", CHECKED)
def test_the_checked_build_sees(name, checked):
    for order, deferred in WAYS:
        with pytest.raises(KernelError, match=CHECKED[name]):
            run(checked, name, order, deferred)


def test_a_seed_is_an_order(kernels):
    outs = [run(kernels, "race_bad", "shuffled", seed=seed).tobytes() for seed in (1, 2, 1)]
    assert outs[0] == outs[2] != outs[1]


def test_a_launch_that_a_gpu_refuses_is_refused(kernels):
    for grid, block, shared in ((0, 64, 0), (1, 1025, 0), ((1, 65536), 64, 0), (1, 64, 1 << 20)):
        with pytest.raises(KernelError, match="launch refused"):
            kernels.launch("race_good", grid, block, (0, 0), shared)


def test_an_address_that_is_none_is_an_error(kernels):
    with pytest.raises(KernelError, match="no memory at address"):
        kernels.launch("race_good", 1, 64, (0, 0), 0)
    with pytest.raises(KernelError, match="race_good takes 2 arguments, not 1"):
        kernels.launch("race_good", 1, 64, (0,), 0)


class TestDeclarations:
    SIGNATURE = {"one_f32": Signature("one", (("f32*", "x"), ("i64", "rows"), ("u8*", "mask")))}

    def problems(self, text):
        declared = declarations.kernels_declared(text)
        return declarations.mismatches("one.cu", declared, self.SIGNATURE) + declarations.missing(
            "one.cu", declared, self.SIGNATURE
        )

    def test_what_agrees_is_accepted(self):
        words = "const float* __restrict__ x, long long rows, const unsigned char *mask"
        for bounds in ("", "__launch_bounds__(256, 2) "):
            assert not self.problems(f'extern "C" __global__ void {bounds}one_f32({words}) {{}}')

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("one_f32(float* x, int rows, unsigned char* mask)", "but its signature says"),
            ("one_f32(float* x, long long n, unsigned char* mask)", "but its signature says"),
            ("one_f32(float* x, long long rows)", "but its signature says"),
            ("two_f32(float* x)", "one.cu: kernel two_f32 has no signature"),
            ("two_f32(float* x)", "one.cu: no kernel one_f32, which has a signature"),
        ],
    )
    def test_what_differs_is_told(self, text, problem):
        assert any(problem in line for line in self.problems(f'extern "C" __global__ void {text} {{}}'))

    def test_a_type_without_a_name_is_refused(self):
        with pytest.raises(declarations.SignatureError, match="'float4[*] x' is of no type"):
            declarations.kernels_declared('extern "C" __global__ void one_f32(float4* x) {}')


class TestDevice:
    def test_memory_is_aligned_and_poisoned_and_counted(self):
        device = ShimDevice(None, memory=1000)
        array = device.empty((3, 5))
        assert device.pointer(array) % 256 == 0 and np.isnan(device.to_host(array)).all()
        assert device.free_bytes() == 940
        with pytest.raises(MemoryLimitError):
            device.empty(1000)
        del array
        assert device.free_bytes() == 1000

    def test_the_host_cannot_look_inside(self):
        array = ShimDevice(None).to_device(X)
        for look in (float, list, np.sum, lambda x: x + 1, lambda x: x[0] == 1, lambda x: x.max()):
            with pytest.raises((HostAccessError, TypeError)):
                look(array)

    def test_other_peoples_arrays_are_adopted(self):
        device = ShimDevice(None)
        adopted = device.adopt(CudaArray(X))
        assert device.pointer(adopted) == X.ctypes.data and device.adopt(X) is None
