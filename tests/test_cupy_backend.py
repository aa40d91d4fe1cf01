"""CupyDevice without a GPU, on a stand-in for CuPy whose kernels are the CUDA sources run on the CPU: memory, launches,
graphs, arrays of others.
"""

# ruff: noqa: F811 - fixtures are imported, and arguments have their names

import gc
import os
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from cuda_shim.device import compiled
from fake_cupy import Array, FakeCupy, machine, refusal, require_nvrtc  # noqa: F401

import pagnp
from pagnp import modelfile, notices
from pagnp.backends.base import get_backend
from pagnp.backends.cupy_raw import nvrtc
from pagnp.backends.gpu import SIGNATURES, conv_tiles, driver
from pagnp.contract import compare
from pagnp.errors import BackendError, MemoryLimitError, UsageError
from pagnp.sessions import SESSIONS_KEPT
from pagnp.testing import sample

WEIGHTS = Path(__file__).parent.parent / "examples/models/rooms-seg.h5"

require_nvrtc()


@pytest.fixture
def gpu(machine):
    """Return a function that gives a CupyDevice on FakeCupy(**settings)."""
    return lambda **settings: (machine(FakeCupy(**settings)), get_backend("cupy").arrays)[1]


def test_a_backend(machine):
    cupy = machine()
    backend, again = get_backend("cupy"), get_backend("cupy", 4)
    assert (backend.name, backend.threads) == ("cupy", 1) and backend.arrays is again.arrays
    assert (backend.arrays.description, backend.arrays.multiprocessors) == ("Fake GPU", 132)
    assert not cupy.paths and not cupy.used  # nothing is compiled or taken before it is needed


def test_tiles_are_those_that_the_gpu_has_memory_for(gpu):
    assert [tile.kernel for tile in gpu().conv_tiles] == [tile.kernel for tile in conv_tiles.CUDA]
    small = gpu(shared=64 << 10).conv_tiles
    assert 0 < len(small) < len(conv_tiles.CUDA) and max(tile.shared for tile in small) <= 64 << 10


def test_memory(gpu):
    one = gpu()
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    there = one.to_device(x)
    x[0, 0] = 9
    assert one.pointer(there) % 256 == 0 and one.to_host(there)[0, 0] == 0
    copied = one.duplicate(there)
    one.zero(there)
    assert not one.to_host(there).any() and one.to_host(copied).sum() == 66
    one.copy(x, copied)
    one.copy(x[:0], copied[:0])
    np.testing.assert_array_equal(one.to_host(copied), x)
    np.testing.assert_array_equal(one.to_host(one.to_device(np.arange(12)[::3])), [0, 3, 6, 9])
    for empty in ((0, 4), (3, 0)):
        assert one.to_host(one.to_device(np.zeros(empty, bool))).shape == empty
    assert one.free_bytes() == (1 << 30) - one._cupy.used + 4096


def test_too_little_memory(gpu):
    one = gpu(memory=5 << 20)
    one.allocate((1 << 20,), np.float32)
    with pytest.raises(
        MemoryLimitError, match=r"needs 8 MiB \(8388608 bytes\), 1 MiB are free on Fake GPU; .*--tile"
    ) as e:
        one.allocate((1 << 21,), np.float32)
    assert e.value.exit_code == 5
    one._cupy.fault = "cudaErrorMemoryAllocation: out of memory"
    with pytest.raises(MemoryLimitError, match="out of memory: wait for the GPU, .*--tile"):
        one.to_host(one.allocate((1,), np.float32))


def test_a_kernel_that_failed_shows_when_the_host_waits(gpu):
    one = gpu()
    x = one.allocate((3,), np.float32)
    one._cupy.fault = "cudaErrorIllegalAddress: an illegal memory access was encountered"
    with refusal(r"backend 'cupy': wait for the GPU: cudaErrorIllegalAddress: an illegal .*; `pagnp doctor`"):
        one.to_host(x)


@pytest.fixture
def run_by_shim(shim_folder):
    """Return what launches a kernel by the shim."""
    return lambda name, grid, block, values, shared: compiled(shim_folder, SIGNATURES[name].source).launch(
        name, grid, block, values, shared
    )


def test_launches_have_the_types_of_the_signature(gpu, run_by_shim):
    one = gpu(run=run_by_shim)
    x = np.array([[-1.5, 2, np.nan, -0.0]], np.float32)
    there, out = one.to_device(x), one.allocate((1, 4), np.float32)
    one.launch("relu_f32", np.int64(1), 256, (there, out, np.int32(1), 4, None, False))
    assert not compare(one.to_host(out), np.array([[0, 2, np.nan, -0.0]], np.float32))
    ((grid, block, args, shared),) = one._cupy.kernels["relu_f32"].asked
    assert (grid, block, shared) == ((1,), (256,), 0)
    assert [type(arg) for arg in args] == [np.uint64, np.uint64, np.int64, np.int64, np.uint64, np.int32]
    assert [int(arg) for arg in args] == [one.pointer(there), one.pointer(out), 1, 4, 0, 0]
    with pytest.raises(ValueError, match="argument 2 is"):
        one.launch("relu_f32", 1, 256, (there, out))
    with pytest.raises(OverflowError):
        one.launch("relu_f32", 1, 256, (there, out, 1, 4, None, 1 << 40))


def test_a_source_is_loaded_once_with_all_its_kernels(gpu):
    one = gpu()
    x = one.allocate((4,), np.float32)
    threads = [
        threading.Thread(target=one.launch, args=("relu_f32", 1, 256, (x, x, 1, 4, None, False))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(one._cupy.paths) == 1 and one._cupy.paths[0].name.startswith("pointwise-sm_90-")
    assert set(one._kernels) == {name for name, signature in SIGNATURES.items() if signature.source == "pointwise"}


def test_a_launch_that_is_refused(gpu):
    one = gpu()
    x = one.allocate((4,), np.float32)
    with refusal(
        r"^backend 'cupy': relu_f32 \(grid 3, block 2048, 0 bytes of shared memory\): CUDA_ERROR_INVALID_VALUE"
    ):
        one.launch("relu_f32", 3, 2048, (x, x, 1, 4, None, False))


def test_much_shared_memory_is_asked_for(gpu):
    one = gpu()
    args = (one.allocate((4,), np.float32),) * 2 + (1, 4, None, False)
    allowed = []
    for shared in (100, 48 << 10, 100 << 10, 64 << 10, 200 << 10):
        one.launch("relu_f32", (1, 2, 3), 32, args, shared)
        allowed.append(one._cupy.kernels["relu_f32"].max_dynamic_shared_size_bytes >> 10)
    assert allowed == [48, 48, 100, 100, 200]
    assert one._cupy.kernels["relu_f32"].asked[-1][0] == (1, 2, 3)


def test_a_file_that_does_not_load(gpu, monkeypatch):
    one = gpu()
    monkeypatch.setattr(nvrtc, "compile_sources", lambda *_: nvrtc.Compiled(b"nothing", "", ""))
    with refusal("relu_f32 .*CUDA_ERROR_INVALID_IMAGE"):
        one.launch("relu_f32", 1, 32, (None, None, 1, 4, None, False))


def test_another_thread_has_another_current_gpu(machine):
    cupy = machine(FakeCupy(count=2))
    with cupy.cuda.Device(1):
        second = get_backend("cupy").arrays
        x = second.to_device(np.ones(3, np.float32))
    assert second.ordinal == 1 and get_backend("cupy").arrays.ordinal == 0
    assert second.to_host(x).sum() == 3  # the stand-in refuses if GPU 0 is the current one
    assert second.allocate((1,), np.float32).ordinal == 1 and cupy.cuda.runtime.getDevice() == 0


def test_a_model_follows_an_array_to_its_gpu(machine, monkeypatch):
    cupy = machine(FakeCupy(count=2))
    monkeypatch.setattr(nvrtc, "compile_sources", lambda *_: nvrtc.Compiled(b"\x7fELF", "", ""))
    model, outputs = pagnp.load(WEIGHTS), []
    for ordinal in (0, 1, 0):
        with cupy.cuda.Device(ordinal):
            x = get_backend("cupy").arrays.to_device(np.zeros((1, 16, 16, 3), np.float32))
        there = SimpleNamespace(__dlpack_device__=lambda ordinal=ordinal: (2, ordinal), given=lambda x=x: x)
        outputs += model.forward(there).values()
    assert [array.ordinal for array in outputs] == [0, 1, 0] and len(model._on_gpu) == 2


def test_a_graph_is_recorded_and_replayed(gpu, run_by_shim):
    one = gpu(run=run_by_shim)
    relu = get_backend("cupy").relu
    x, out, kept = one.to_device(np.array([[-1, 2]], np.float32)), one.allocate((1, 2), np.float32), []

    def launches():
        relu(x, out)
        kept.append(one.duplicate(out)) if not kept else one.copy(out, kept[0])

    launches()
    one.copy(np.array([[3, -4]], np.float32), x)
    one.zero(kept[0])
    graph = one.record(launches)
    assert not one.to_host(kept[0]).any()
    one.replay(graph)
    np.testing.assert_array_equal(one.to_host(kept[0]), [[3, 0]])
    one.copy(np.array([[5, 6]], np.float32), x)
    one.replay(graph)
    np.testing.assert_array_equal(one.to_host(kept[0]), [[5, 6]])


def test_the_sample_network(machine, run_by_shim, monkeypatch):
    """All kernels but the rare ones, by the launches that a GPU would get."""
    cupy = machine(FakeCupy(run=run_by_shim))
    monkeypatch.setattr(nvrtc, "compile_sources", lambda *_: nvrtc.Compiled(b"\x7fELF", "", ""))
    assert sample.differing(get_backend("cupy")) == []
    assert len(set(cupy.paths)) == len(cupy.paths) > 8


def test_the_runs_of_a_network_are_recorded(machine, run_by_shim, monkeypatch):
    machine(FakeCupy(run=run_by_shim))
    monkeypatch.setattr(nvrtc, "compile_sources", lambda *_: nvrtc.Compiled(b"\x7fELF", "", ""))
    backend, replayed, heard = get_backend("cupy"), [], []
    real = backend.arrays.replay
    monkeypatch.setattr(backend.arrays, "replay", lambda graph: (replayed.append(graph), real(graph)))
    model = pagnp.Model(sample.graph(), backend)
    with notices.heard_by(heard.append):
        digests = {model(sample.pixels(), seed=9).digest for _ in range(4)}
    assert len(digests) == 1 and len(replayed) == 3
    assert not [line for line in heard if "step by step" in line]


@pytest.mark.parametrize("what", ["allocate", "to_host", "to_device", "copy", "wait"])
def test_a_recorded_run_must_not_wait_or_take_memory(gpu, what):
    one = gpu()
    x = one.allocate((2,), np.float32)
    args = {"allocate": ((2,), np.float32), "copy": (np.ones(2, np.float32), x)}
    args |= {"to_host": (x,), "to_device": (np.ones(2, np.float32),), "wait": ()}
    with refusal("backend 'cupy': a run that is being recorded (allocates memory|waits|copies from the host)"):
        one.record(lambda: getattr(one, what)(*args[what]))
    assert one.to_host(one.to_device(np.ones(2, np.float32))).sum() == 2  # the capture is over
    assert one._cupy.streams()[-1].captured is None


def test_streams(gpu):
    one = gpu()
    current = one._cupy.cuda.get_current_stream
    assert current() is one._cupy.null
    with one.on_stream(2):
        assert current() is one._cupy.ptds
        with one.on_stream(1):
            assert current() is one._cupy.null
    with one.on_stream(0x7F00):
        assert current().address == 0x7F00
        first = one.mark()
        assert first.stream is current()
    one.follow(first)
    one.follow(None)
    one.wait()
    assert one._cupy.null.followed == [first] and current() is one._cupy.null
    during = []
    with one.on_stream(0x7F00):
        caller = current()
        one.record(lambda: during.append(one.mark()))  # as for a run that is forgotten then
    assert during[0].stream is caller and one.mark().stream is one._cupy.null


@pytest.fixture
def forward(gpu, monkeypatch):
    """Return (device, model, forward): what gives an array of side pixels on a stream to the model."""
    monkeypatch.setattr(nvrtc, "compile_sources", lambda *_: nvrtc.Compiled(b"\x7fELF", "", ""))
    one = gpu()  # kernels do nothing
    model = pagnp.Model(modelfile.read(WEIGHTS), "cupy")

    def forward(stream, side=16, **options):
        x = one.to_device(np.zeros((1, side, 16, 3), np.float32))
        return model.forward(SimpleNamespace(__cuda_array_interface__={"stream": stream}, given=lambda: x), **options)

    return one, model, forward


def test_a_run_is_followed_on_the_stream_that_it_was_on(forward):
    """By the stream of the next run; that of the thread says nothing of this one."""
    one, model, forward = forward
    forward(0x7F00)
    (session,) = model._executor._free
    marks = session.marks
    assert marks and {mark.stream.address for mark in marks} == {0x7F00}
    with one.on_stream(0x7F10):
        run = model.run(np.zeros((1, 16, 16, 3), np.float32))
        assert one._cupy.cuda.get_current_stream().followed == marks
    del run  # elsewhere than it was made
    assert [mark.stream.address for mark in session.marks] == [0x7F10, None]


def test_memory_of_a_run_is_given_back_when_the_run_is_over(forward):
    _, model, forward = forward
    forward(0x7F00)
    marks = model._executor._free[0].marks
    assert not any(mark.waited for mark in marks)
    for side in range(24, 24 + 8 * SESSIONS_KEPT, 8):
        forward(1, side)
    assert len(model._executor._free) == SESSIONS_KEPT and all(mark.waited for mark in marks)
    assert model._executor.release() and not model._executor.release()


def test_no_garbage_is_collected_in_a_recording(gpu):
    one, seen = gpu(), []
    one.record(lambda: seen.append(gc.isenabled()))
    with pytest.raises(ValueError):
        one.record(lambda: seen.append(gc.isenabled()) or int("x"))
    assert seen == [False, False] and gc.isenabled()


def test_arrays_of_others(gpu):
    one = gpu(count=2)
    there = one.to_device(np.ones((2, 3), np.float32))
    torch_like = SimpleNamespace(__dlpack_device__=lambda: (2, 0), given=lambda: there)
    numba_like = SimpleNamespace(__cuda_array_interface__={}, given=lambda: there)
    for value in (there, torch_like, numba_like):
        assert one.adopt(value) is there
    on_cpu = SimpleNamespace(__dlpack_device__=lambda: (1, 0)), SimpleNamespace(__dlpack_device__=lambda: (3, 0))
    for value in (np.ones(3), [1, 2], "picture.png", None, *on_cpu):
        assert one.adopt(value) is None
    with refusal("lies on a device of DLPack's type 10, need the host or a CUDA GPU"):
        one.adopt(SimpleNamespace(__dlpack_device__=lambda: (10, 0)))
    with pytest.raises(UsageError, match=r"\(3, 2\) has strides \(4, 12\), need C order; call its contiguous"):
        one.adopt(there.T)
    elsewhere = there.view(Array)
    elsewhere.ordinal = 1
    with refusal("the array is on GPU 1, the network on GPU 0; move one"):
        one.adopt(elsewhere)

    def refuse():
        raise BufferError("Can't export tensors that\nrequire gradient, use tensor.detach()")

    with pytest.raises(UsageError, match="cannot take a SimpleNamespace on the GPU: Can't export .* use tensor.detach"):
        one.adopt(SimpleNamespace(__dlpack_device__=lambda: (2, 0), given=refuse))


def test_a_tensor_of_the_host_is_none(gpu):
    torch = pytest.importorskip("torch")
    assert gpu().adopt(torch.ones(3)) is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_after_a_fork(gpu):
    """CUDA does not survive it: the child hears so in words and does not crash."""
    one = gpu()
    x = one.allocate((2,), np.float32)
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        said = []
        for call in (lambda: one.to_host(x), lambda: get_backend("cupy"), lambda: one.launch("relu_f32", 1, 1, ())):
            try:
                call()
                said.append("nothing")
            except BackendError as error:
                said.append(str(error))
        os.write(writing, "\n".join(said).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    said = os.fdopen(reading).read().splitlines()
    assert said == [f"backend 'cupy': {driver.FORKED}"] * 3
    assert one.to_host(x).shape == (2,)
