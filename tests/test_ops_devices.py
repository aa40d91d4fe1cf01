"""pagnp.ops with arrays on a GPU: no copies, checks as for NumPy arrays, results of the caller's kind."""

import os
import subprocess
import sys

import foreign_arrays
import numpy as np
import numpy_on_device
import pytest
import test_ops_errors
from cuda_shim import build
from cuda_shim.device import CudaArray, ShimArray, shim_backend
from device_calls import CALLS, CONTROL, MAKING, SITES, WAITING, C, W, X, count_arrays, moved, tensor
from foreign_arrays import KINDS, TORCH_STREAM, CupyArray, DlpackArray, NumbaArray, TorchTensor

from pagnp import contract, ops
from pagnp.errors import DtypeError, ShapeError

OWN = "the backend's own"
STREAMS = {"cupy": 1, "numba": 1, "torch": TORCH_STREAM, "dlpack": None}


def stay(array):
    return array


def bits(array):
    """dtype, shape and bytes of an array of any kind."""
    array = np.asarray(array.view(np.ndarray) if isinstance(array, np.ndarray) else array.array)
    return array.dtype, array.shape, array.tobytes()


@pytest.fixture
def gpu(monkeypatch):
    foreign_arrays.install(monkeypatch)
    return numpy_on_device.backend()


@pytest.mark.parametrize("name", CALLS)
def test_numpy_in_numpy_out(gpu, name):
    got = CALLS[name](stay, gpu)
    assert type(got) is np.ndarray
    assert bits(got) == bits(CALLS[name](stay, "numpy"))
    assert gpu.arrays.seen


@pytest.mark.parametrize("kind", [*KINDS, OWN])
@pytest.mark.parametrize("name", CALLS)
def test_arrays_on_the_gpu_stay_there(gpu, name, kind):
    device, given = gpu.arrays, []

    def move(array):
        given.append(KINDS[kind](array) if kind in KINDS else device.to_device(array))
        return given[-1]

    got = CALLS[name](move, gpu)
    assert type(got) is KINDS.get(kind, ShimArray)
    assert bits(got) == bits(CALLS[name](stay, "numpy"))
    assert device.sent - (0 if kind in KINDS else len(given)) <= MAKING.get(name, 0)
    assert device.waits == 0 or name in WAITING
    memory = {(array.array if kind in KINDS else array).ctypes.data for array in given}
    assert memory & device.addresses, "the kernels worked on copies"


@pytest.mark.parametrize("name", CALLS)
def test_one_array_on_the_gpu_is_enough(gpu, name):
    want = bits(CALLS[name](stay, "numpy"))
    for chosen in range(count_arrays(CALLS[name])):
        places = iter(range(1000))
        got = CALLS[name](lambda a, at=chosen, places=places: CupyArray(a) if next(places) == at else a, gpu)
        assert type(got) is CupyArray, f"array {chosen}"
        assert bits(got) == want


class OpsOnDevice:
    """`ops` as test_ops_errors calls it, with every array on the device."""

    def __init__(self, backend):
        self.backend = backend

    def __getattr__(self, name):
        def call(*args, **kwargs):
            kwargs = {"backend": self.backend, **moved(kwargs, CupyArray)}
            return getattr(ops, name)(*moved(args, CupyArray), **kwargs)

        return call


@pytest.mark.parametrize(("error", "words", "call"), test_ops_errors.BAD)
def test_bad_calls_fail_as_with_numpy_arrays(gpu, monkeypatch, error, words, call):
    monkeypatch.setattr(test_ops_errors, "ops", OpsOnDevice(gpu))
    test_ops_errors.test_bad_call(error, words, call)


@pytest.mark.parametrize("kind", KINDS)
def test_work_is_queued_on_the_callers_stream(gpu, kind):
    for name in ("conv2d full residual at sites", "fma spread", "multipool hard", "normalize_image"):
        CALLS[name](KINDS[kind], gpu)
    assert {stream for _, stream in gpu.arrays.seen} == {STREAMS[kind]}


def test_the_last_argument_may_bring_the_stream(gpu):
    places = iter(range(4))
    CALLS["conv2d full residual at sites"](lambda a: TorchTensor(a) if next(places) == 3 else a, gpu)
    assert {stream for _, stream in gpu.arrays.seen} == {TORCH_STREAM}
    assert gpu.arrays.sent_on == {TORCH_STREAM}


def test_arrays_that_are_being_made_on_two_streams(gpu):
    assert type(ops.conv2d(TorchTensor(X), CupyArray(W), bias=DlpackArray(tensor(8)), backend=gpu)) is TorchTensor
    assert gpu.arrays.followed == {(1, TORCH_STREAM), (None, TORCH_STREAM)}
    assert {stream for _, stream in gpu.arrays.seen} == {TORCH_STREAM}
    assert type(ops.mul(DlpackArray(X), TorchTensor(X), backend=gpu)) is DlpackArray
    assert (TORCH_STREAM, None) in gpu.arrays.followed and gpu.arrays.seen[-1][1] is None


def test_arrays_with_gaps_are_copied_by_their_library(gpu):
    want = bits(ops.relu(X[:, ::2].copy()))
    for kind in (CupyArray, TorchTensor):
        got = ops.relu(kind(X[:, ::2]), backend=gpu)
        assert type(got) is kind and bits(got) == want
    for kind in (NumbaArray, DlpackArray):
        with pytest.raises(DtypeError, match=r"relu: x, a .*Array, is not C-contiguous; copy it"):
            ops.relu(kind(X[:, ::2]), backend=gpu)
    assert gpu.arrays.sent == gpu.arrays.waits == 0


def test_a_tensor_that_requires_grad_is_refused(gpu, monkeypatch):
    monkeypatch.setattr(TorchTensor, "requires_grad", True)
    with pytest.raises(DtypeError, match=r"conv2d: weight, a torch.Tensor, cannot be used: .* Use var.detach"):
        ops.conv2d(X, TorchTensor(W), backend=gpu)
    with pytest.raises(DtypeError, match=r"weight is a torch.Tensor on a GPU, backend 'numpy'"):
        ops.conv2d(X, TorchTensor(W), backend="numpy")


REFUSALS = {
    "cupy": ("cupy.ndarray", "pass x.get(), or use backend='cupy'"),
    "numba": ("numba.DeviceNDArray", "pass x.copy_to_host(), or use backend='numba-cuda'"),
    "torch": ("torch.Tensor", "pass x.cpu().numpy(), or use backend='cupy'"),
    "dlpack": ("jaxlib.Array", "copy it to the host, or use backend='cupy'"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_backend_on_the_host_takes_no_arrays_of_a_gpu(gpu, kind):
    name, hint = REFUSALS[kind]
    with pytest.raises(DtypeError) as caught:
        ops.exp(KINDS[kind](X), backend="numpy")
    assert str(caught.value) == f"exp: x is a {name} on a GPU, backend 'numpy' takes NumPy arrays; {hint}"
    for call in (lambda a: ops.add(X, a), lambda a: ops.concat([X, a]), lambda a: ops.conv2d(X, W, bias=a)):
        with pytest.raises(DtypeError, match="is a .* on a GPU"):
            call(KINDS[kind](X))


def test_fma_spreads_up_to_four_axes_on_a_gpu(gpu):
    wide, narrow = np.ones((1, 2, 1, 2, 3), "f4"), np.ones((2, 1), "f4")
    assert bits(ops.fma(CupyArray(wide), narrow, 2, backend=gpu)) == bits(ops.fma(wide, narrow, 2))
    with pytest.raises(ShapeError, match=r"fma: the result has 5 axes"):
        ops.fma(wide, CupyArray(narrow), 2, backend=gpu)
    values = np.array([0.0, -0.0, 1e-45, -np.inf], "f4")
    spread = ops.fma(np.ones((2, 1), "f4"), CupyArray(values), -0.0, backend=gpu)
    assert bits(spread) == bits(np.tile(values, (2, 1)))


def test_no_sites(gpu):
    none = CupyArray(SITES[:0])
    empty = ops.conv2d(CupyArray(X), W, sites=none, residual=CupyArray(tensor(0, 8)), backend=gpu)
    assert bits(empty)[1] == (0, 8)
    assert bits(ops.gather(CupyArray(X), none, backend=gpu))[1] == (0, 3)
    assert bits(ops.scatter(CupyArray(tensor(0, 3)), none, X, backend=gpu)) == bits(X)


@pytest.mark.parametrize("kind", KINDS)
def test_digest_and_compare_take_them(gpu, kind):
    move = KINDS[kind]
    assert contract.digest(move(X)) == contract.digest(X)
    assert contract.digest(move(CONTROL)) == contract.digest(CONTROL)
    assert not contract.compare(move(X), X)
    assert contract.compare(move(C), move(C + 1)).count == 3


def test_a_class_of_ones_own_counts_as_its_base_and_an_unknown_one_as_the_devices(gpu):
    class Parameter(TorchTensor):
        __module__ = "mine"

    class Unknown(CudaArray):
        __module__ = "unknown"

    assert type(ops.relu(Parameter(X), backend=gpu)) is TorchTensor
    assert type(ops.relu(Unknown(X), backend=gpu)) is ShimArray


def test_no_library_is_imported():
    code = (
        "import sys, numpy, pagnp.contract, pagnp.ops as ops\n"
        "ops.relu(numpy.zeros(3, 'f4'), backend='numpy'); pagnp.contract.digest(numpy.zeros(3, 'f4'))\n"
        "sys.exit(sum(name in sys.modules for name in ('cupy', 'torch', 'numba', 'numba.cuda')))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("name", CALLS)
def test_on_the_cuda_sources(monkeypatch, name):
    if build.compiler() is None:
        assert not os.environ.get("CI"), "CI has a C++ compiler"
        pytest.skip("no g++: the CUDA sources cannot be run on the CPU")
    foreign_arrays.install(monkeypatch)
    got = CALLS[name](TorchTensor, shim_backend())
    assert type(got) is TorchTensor
    assert not contract.compare(got.array, CALLS[name](stay, "numpy"))
