"""A Model among threads, forks, copies, other libraries' settings and environment variables: always the same bits."""

import copy
import multiprocessing
import os
import pickle
import platform
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import pytest
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

import pagnp
from pagnp import nn
from pagnp.backends import numba_cpu
from pagnp.backends.numba_cpu import scalar_fma, threads, vectorcode
from pagnp.errors import BackendError, ContractError

HEADS = {"labels": {"task": "segmentation", "classes": 5}, "depth": {"task": "depth"}}
X86 = platform.machine() in ("x86_64", "AMD64")
FLUSH = 0x8040  # MXCSR: results (FTZ) and arguments (DAZ) that are subnormal become zero


def small_graph(seed=0):
    return nn.pag_resnet(depth=26, width=0.125, gated="all", heads=HEADS, gate_bias=0.0, seed=seed)


@pytest.fixture(scope="module")
def graph():
    return small_graph()


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(3).integers(0, 256, (75, 90, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def digest(graph, image):
    return pagnp.Model(graph, threads=1)(image).digest


@pytest.mark.parametrize("count", range(2, 9))
def test_any_number_of_threads(graph, image, digest, count):
    assert pagnp.Model(graph, threads=count)(image).digest == digest


def test_four_callers_while_models_are_built(graph, image, digest):
    """Sizes and options differ, so that plans are made and forgotten meanwhile."""
    model = pagnp.Model(graph, threads=2)
    sizes = [(75 - 3 * k, 90) for k in range(12)]
    want = {size: pagnp.Model(graph, threads=1)(image[: size[0]]).digest for size in sizes}
    stop = threading.Event()

    def build():
        while not stop.is_set():
            assert pagnp.Model(graph, threads=2)(image).digest == digest

    with ThreadPoolExecutor(5) as pool:
        builder = pool.submit(build)
        for size, result in zip(sizes * 2, pool.map(lambda size: model(image[: size[0]]), sizes * 2), strict=True):
            assert result.digest == want[size]
        stop.set()
        builder.result()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform does not fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_uses_its_parents_model(graph, image, digest):
    """The fork happens while other threads are at work with the model."""
    model, stop = pagnp.Model(graph, threads=2), threading.Event()

    def work():
        k = 0
        while not stop.is_set():
            k += 1
            model(image[: 60 + k % 12])

    busy = [threading.Thread(target=work) for _ in range(2)]
    for thread in busy:
        thread.start()
    context = multiprocessing.get_context("fork")
    try:
        for _ in range(3):
            answer = context.SimpleQueue()
            child = context.Process(target=lambda queue: queue.put(model(image).digest), args=(answer,))
            child.start()
            child.join(60)
            assert child.exitcode == 0 and answer.get() == digest
    finally:
        stop.set()
        for thread in busy:
            thread.join()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform does not fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_while_pixels_are_hashed(monkeypatch):
    """A thread is inside the digest of an image, for as long as the child lives: the child waits for nobody."""
    from pagnp import image as images

    inside, leave, parent = threading.Event(), threading.Event(), os.getpid()

    def slow(pixels):
        if os.getpid() == parent:
            inside.set()
            leave.wait(60)
        return "hash"

    monkeypatch.setattr(images, "digest", slow)
    pixels = np.zeros((2, 2, 3), np.uint8)
    thread = threading.Thread(target=lambda: images.Image(pixels).digest)
    thread.start()
    assert inside.wait(60)
    child = multiprocessing.get_context("fork").Process(target=lambda: images.Image(pixels).digest)
    child.start()
    child.join(20)
    hung = child.is_alive()
    child.kill()
    leave.set()
    thread.join()
    assert not hung and child.exitcode == 0


@pytest.mark.parametrize("backend", ("numpy", "numba"))
@pytest.mark.parametrize("remake", (copy.copy, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))))
def test_a_model_may_be_copied_and_pickled(graph, backend, remake):
    model = pagnp.Model(graph, backend, threads=2)
    x = np.random.default_rng(1).standard_normal((1, 24, 24, 3)).astype(np.float32)
    again = remake(model)
    assert (again.backend.name, again.backend.threads) == (model.backend.name, model.backend.threads)
    assert (again.forward(x)["depth"] == model.forward(x)["depth"]).all()


CHILD = """
import numpy as np, pagnp, test_model_process as t
image = np.random.default_rng(3).integers(0, 256, (75, 90, 3), dtype=np.uint8)
try:
    print(pagnp.Model(t.small_graph())(image).digest)
except pagnp.errors.PagnpError as error:
    print(type(error).__name__, error)
"""


def child(**variables):
    """Return what CHILD prints under these environment variables."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), *sys.path]), **variables}
    done = subprocess.run([sys.executable, "-c", CHILD], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_environment_variables_change_no_bit(digest):
    ones = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
    assert child(**ones, NUMBA_THREADING_LAYER="tbb", NUMBA_FULL_TRACEBACKS="1") == digest


def test_a_switched_off_compiler_is_said():
    assert child(NUMBA_DISABLE_JIT="1").startswith("BackendError backend 'numba': NUMBA_DISABLE_JIT is set")


@intrinsic
def set_mxcsr(typing_context, value):
    """Write the SSE control register, as a library built with -ffast-math does when it is loaded."""

    def codegen(context, builder, signature, arguments):
        place = builder.alloca(ir.IntType(32))
        builder.store(arguments[0], place)
        pointer = builder.bitcast(place, ir.IntType(8).as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [pointer.type])
        name = "llvm.x86.sse.ldmxcsr"
        function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
        builder.call(function, [pointer])
        return context.get_dummy_value()

    return types.void(types.uint32), codegen


@numba.njit
def write_mxcsr(value):
    set_mxcsr(np.uint32(value))


def in_thread(function):
    """Return what `function` raises in a thread of its own, whose registers die with it."""
    raised = []

    def call():
        try:
            function()
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    return raised[0] if raised else None


@pytest.mark.skipif(not X86, reason="sets a register of x86")
@pytest.mark.parametrize("backend", ("numpy", "numba"))
@pytest.mark.parametrize("flags", (0x8000, 0x0040), ids=("FTZ", "DAZ"))
def test_a_thread_that_flushes_subnormals_is_refused(graph, image, backend, flags):
    model = pagnp.Model(graph, backend)
    model(image[:24, :24])

    def call():
        write_mxcsr(0x1F80 | flags)
        model(image[:24, :24])

    error = in_thread(call)
    assert isinstance(error, ContractError) and "subnormal" in str(error)


@pytest.mark.skipif(not X86, reason="sets a register of x86")
def test_a_worker_that_flushes_subnormals_is_noticed(graph, monkeypatch):
    """The spoilt workers are this test's own: threads live on."""
    monkeypatch.setattr(threads, "_workers", threads._Workers())
    model, caller = pagnp.Model(graph, threads=4), threading.get_ident()
    together = threading.Barrier(4)

    def spoil(start, stop):
        together.wait(30)  # each of the four threads takes one chunk
        if threading.get_ident() != caller:
            write_mxcsr(0x1F80 | FLUSH)

    threads.parallel(spoil, 4, 4, chunk=1)
    x = np.ones((1 << 20,), np.float32)
    with pytest.raises(ContractError, match="subnormal"):
        for _ in range(1000):  # the workers may come too late for a call
            model.backend.relu(x, np.empty_like(x))


@pytest.mark.parametrize(
    ("triple", "features", "expected"),
    [
        ("x86_64-unknown-linux-gnu", {"fma"}, True),
        ("x86_64-unknown-linux-gnu", {"sse2"}, False),
        ("aarch64-unknown-linux-gnu", {"neon"}, True),
        ("arm64-apple-darwin22", set(), True),
        ("armv7l-unknown-linux-gnueabihf", {"neon"}, False),
    ],
)
def test_which_machines_have_an_fma_unit(monkeypatch, triple, features, expected):
    monkeypatch.setattr(vectorcode, "cpu_triple", lambda: triple)
    monkeypatch.setattr(vectorcode, "cpu_features", lambda: frozenset(features))
    assert vectorcode.has_fma_unit() is expected


def test_scalar_and_vector_code_agree_about_the_fma_unit():
    expected = scalar_fma.fma32_hardware if vectorcode.has_fma_unit() else scalar_fma.fma32_round_to_odd
    assert scalar_fma.fma32 is expected


def test_a_compiler_that_loses_signs_is_refused(monkeypatch):
    monkeypatch.setattr(numba_cpu, "is_aarch64", lambda: True)
    monkeypatch.setattr(numba_cpu, "llvm_version_info", (15, 0, 7))
    with pytest.raises(BackendError, match="sign of -0 on aarch64; install numba 0.62"):
        pagnp.Model(small_graph())
    monkeypatch.setattr(numba_cpu, "llvm_version_info", (20, 1, 8))
    pagnp.Model(small_graph())


def test_numba_without_its_compiler_is_an_error(monkeypatch):
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    with pytest.raises(BackendError, match="NUMBA_DISABLE_JIT"):
        pagnp.Model(small_graph())
