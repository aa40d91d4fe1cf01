"""What host programs do to a library, one function each: threads, forks, pools, signals, exits, other libraries.

`test_embedding` runs each in a process of its own, with a time limit: whatever locks up fails. By hand, longer:

    PYTHONPATH=tests python -c "import embedding; embedding.forks_of_forks(rounds=200)"
"""

import asyncio
import atexit
import functools
import multiprocessing
import os
import signal
import sys
import threading
import time
import warnings
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np

import pagnp
from pagnp import nn, ops

HEADS = {"labels": {"task": "segmentation", "classes": 5}, "depth": {"task": "depth"}}
IMAGE = np.random.default_rng(3).integers(0, 256, (75, 90, 3), dtype=np.uint8)
LONG = 100  # seconds that anything here may take


@functools.cache
def graph(seed=0):
    return nn.pag_resnet(depth=26, width=0.125, gated="all", heads=HEADS, gate_bias=0.0, seed=seed)


@functools.cache
def want(seed=0):
    """The digest that one thread gives, alone."""
    return pagnp.Model(graph(seed), threads=1)(IMAGE).digest


def check(model, seed=0):
    assert model(IMAGE).digest == want(seed)
    return True


class Busy:
    """Context: threads at work with models of their own."""

    def __init__(self, threads=2):
        self.stop, self.failed = threading.Event(), []
        self.threads = [threading.Thread(target=self._work, args=(seed,)) for seed in range(threads)]
        for seed in range(threads):
            want(seed)

    def _work(self, seed):
        try:
            model = pagnp.Model(graph(seed), threads=2)
            while not self.stop.is_set():
                check(model, seed)
        except BaseException as error:
            self.failed.append(error)
            raise

    def __enter__(self):
        for thread in self.threads:
            thread.start()

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join(LONG)
        assert not self.failed and not any(thread.is_alive() for thread in self.threads)


def in_child(function):
    """Fork; the child calls `function` and ends at once. A child that hangs or fails is an AssertionError here."""
    child = os.fork()
    if child == 0:
        signal.alarm(LONG)  # ends a child that hangs
        code = 1
        try:
            function()
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0


def many_models_in_many_threads(rounds=30):
    """Callers share some models and own others, while others call ops."""
    models = [(pagnp.Model(graph(seed), threads=threads), seed) for seed in range(2) for threads in (1, 2, 5)]
    x = np.random.default_rng(1).standard_normal((1, 30, 31, 17), np.float32)
    pooled = ops.max_pool2d(x, 3, backend="numpy")

    def call(number):
        model, seed = models[number % len(models)]
        return check(model, seed) and (ops.max_pool2d(x, 3, backend="numba") == pooled).all()

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(call, range(6 * rounds), timeout=LONG))


def forks_of_forks(rounds=3):
    """Children fork children, each with threads at work in kernels, and all use models of their parents."""
    model = pagnp.Model(graph(), threads=3)
    check(model)

    def child():
        check(model)
        assert any(thread.name.startswith("pagnp-") for thread in threading.enumerate())  # workers of its own
        with Busy():
            in_child(lambda: check(model))
        in_child(lambda: (check(model), in_child(lambda: check(model))))

    for _ in range(rounds):
        with Busy():
            in_child(child)


def a_fork_while_a_kernel_is_compiled():
    """The child needs the compiler's lock, which a thread of its parent held: for that no cache may help."""
    from pagnp.backends.numba_cpu import kernelcache

    kernelcache.cache_folder = lambda: None
    started = threading.Event()
    kernelcache.notices.tell = lambda message: started.set()
    x = np.ones((1, 9, 9, 3), np.float32)
    compiling = threading.Thread(target=lambda: ops.avg_pool2d(x, 3, backend="numba"))
    compiling.start()
    assert started.wait(LONG)
    in_child(lambda: ops.avg_pool2d(x, 3, backend="numba"))
    compiling.join(LONG)


def a_fork_while_llvm_is_at_work(rounds=40):
    """LLVM's own lock, which threads of the host (and Numba's clean-up) take without the compiler's."""
    from llvmlite import binding

    check(pagnp.Model(graph(), threads=2))
    stop = threading.Event()

    def host():
        while not stop.is_set():
            binding.get_process_triple()

    threads = [threading.Thread(target=host) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(rounds):
            in_child(binding.get_process_triple)
    finally:
        stop.set()
        for thread in threads:
            thread.join(LONG)


def _digest_of(model):
    return model(IMAGE).digest


def pools_of_processes(methods=("fork", "spawn", "forkserver")):
    """By every start method, with a model that goes there by pickle; this process has used its own workers."""
    model = pagnp.Model(graph(), threads=2)
    check(model)
    for method in methods:
        context = multiprocessing.get_context(method)
        with context.Pool(2) as pool:
            assert pool.map_async(_digest_of, [model] * 4).get(LONG) == [want()] * 4, method
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        assert list(pool.map(_digest_of, [model] * 3, timeout=LONG)) == [want()] * 3


def asyncio_threads(rounds=6):
    """Calls from a loop, which runs in a thread that is not the main one."""
    model = pagnp.Model(graph(), threads=2)

    async def gather():
        calls = [asyncio.to_thread(check, model) for _ in range(5)]
        return all(await asyncio.wait_for(asyncio.gather(*calls), LONG))

    def loop():
        for _ in range(rounds):
            assert asyncio.run(gather())
        done.append(True)

    done = []
    thread = threading.Thread(target=loop)
    thread.start()
    thread.join(LONG)
    assert done


def a_host_with_numba_of_its_own(layer, rounds=20):
    """The host runs parallel kernels on Numba's threading `layer`, in a thread of its own, then we fork."""
    import numba

    os.environ["NUMBA_THREADING_LAYER"] = layer
    numba.config.reload_config()

    @numba.njit(parallel=True)
    def sums(x, out):
        for i in numba.prange(x.shape[0]):
            out[i] = x[i].sum()

    x, out = np.ones((64, 1000)), np.zeros(64)
    sums(x, out)
    assert numba.threading_layer() == layer
    stop, model = threading.Event(), pagnp.Model(graph(), threads=2)

    def host():
        while not stop.is_set():
            out[:] = 0
            sums(x, out)
            assert (out == 1000).all()

    thread = threading.Thread(target=host)
    thread.start()
    try:
        with ThreadPoolExecutor(3) as pool:
            assert all(pool.map(lambda _: check(model), range(rounds), timeout=LONG))
        in_child(lambda: check(model))
    finally:
        stop.set()
        thread.join(LONG)


def one_core():
    """Restricted to one core the default is one thread; four threads work there too."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    model = pagnp.Model(graph())
    assert model.backend.threads == 1 and check(model)
    assert check(pagnp.Model(graph(), threads=4))


def torch_in_the_same_process(rounds=20):
    """PyTorch's own threads (OpenMP) work at the same time, and its settings stay."""
    import torch

    before, stop, model = torch.get_num_threads(), threading.Event(), pagnp.Model(graph(), threads=2)
    conv, x = torch.nn.Conv2d(16, 16, 3, padding=1), torch.ones(1, 16, 64, 64)

    def host():
        with torch.inference_mode():
            first = conv(x)
            while not stop.is_set():
                assert torch.equal(conv(x), first)

    thread = threading.Thread(target=host)
    thread.start()
    try:
        assert all(check(model) for _ in range(rounds))
    finally:
        stop.set()
        thread.join(LONG)
    assert torch.get_num_threads() == before


def a_signal_handler_that_calls_too(rounds=60):
    """The host's alarm rings all the time, and its handler runs the model that was interrupted."""
    model, rings, inside = pagnp.Model(graph(), threads=2), [], []

    def handler(*_):
        if not inside:  # alarms may ring faster than they are answered
            inside.append(True)
            rings.append(model(IMAGE[:24, :24]).digest)
            inside.clear()

    check(model)  # kernels are loaded: imports and Numba's compiler cannot be entered twice
    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
    try:
        assert all(check(model) for _ in range(rounds))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    assert signal.getsignal(signal.SIGALRM) is handler
    assert len(rings) > 3 and len(set(rings)) == 1


def no_threads_to_be_had():
    """The system refuses threads: the calls do without, say so once, and take what there is later."""
    from pagnp.backends.numba_cpu import threads as threads_module

    start, model = threading._start_new_thread, pagnp.Model(graph(), threads=4)

    def refuse(*_):
        raise RuntimeError("can't start new thread")

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        threading._start_new_thread = refuse
        assert all(check(model) for _ in range(3))
        threading._start_new_thread = start
    assert [str(w.message) for w in caught if "threads" in str(w.message)] == [
        "pagnp: the system starts no more threads (can't start new thread); working with 1"
    ]
    assert threads_module._workers.count == 0 and threads_module._workers.jobs.empty()
    assert check(model) and threads_module._workers.count == 3


def the_host_stays_as_it_was():
    """Signals, hooks, warnings, logging, the collector, Numba's settings and the environment are the host's."""
    import gc
    import logging

    import numba

    def settings():
        config = {name: value for name, value in vars(numba.config).items() if name.isupper()}
        handlers = [signal.getsignal(number) for number in sorted(signal.valid_signals())]
        hooks = sys.excepthook, threading.excepthook, sys.gettrace(), sys.getswitchinterval(), threading.stack_size()
        logs = list(logging.root.handlers), logging.root.level, logging.getLogger("pagnp").handlers
        floats = np.geterr(), np.get_printoptions()["precision"]
        return (
            *(config, numba.get_num_threads(), handlers, hooks, logs, floats),
            *(list(warnings.filters), warnings.showwarning, gc.get_threshold(), gc.isenabled(), gc.get_freeze_count()),
            *(dict(os.environ), os.getcwd(), multiprocessing.get_start_method(allow_none=True)),
        )

    before = settings()
    from pagnp.backends.numba_cpu import kernelcache

    model = pagnp.Model(graph(), threads=3)
    for options in ({}, {"budget": 0.5}, {"tile": 16}, {"flip": True, "dense": True}):
        model(IMAGE, **options)
    kernelcache.cache_folder = lambda: None
    ops.avg_pool2d(np.ones((1, 9, 9, 3), np.float32), 3, backend="numba")  # and one is compiled
    assert settings() == before


def an_exit_with_threads_at_work():
    """Python ends while daemon threads of the host are in kernels and our workers wait; a last call comes at exit."""
    model = pagnp.Model(graph(), threads=3)
    check(model)
    x = np.ones((1, 200, 200, 32), np.float32)

    def forever():
        while True:
            ops.relu(x, backend="numba")

    for _ in range(2):
        threading.Thread(target=forever, daemon=True).start()
    atexit.register(check, model)
    time.sleep(0.05)
