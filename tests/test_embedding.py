"""Safe to embed: the scenarios of `embedding`, each in a new process that has to end in time and without an error."""

import importlib.util
import os
import subprocess
import sys

import pytest

pytest.importorskip("numba")

LIMIT = 240  # seconds a scenario may take; they need one to five
FORKS = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform does not fork")
ALARMS = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no SIGALRM")
AFFINITY = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this platform")
TORCH = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")


def run(call, before="finely.cut()"):
    """Run `embedding.<call>` in a new process; fail with what it says, or if it does not end.

    before  run first; by default: kernels are cut into many chunks, else so small an image would not need threads
    """
    path = os.pathsep.join([os.path.dirname(os.path.abspath(__file__)), *sys.path])
    code = f"import embedding, finely\nif __name__ == '__main__':\n    {before}; embedding.{call}"
    command = [sys.executable, "-X", "faulthandler", "-W", "ignore::DeprecationWarning", "-c", code]
    environment = {**os.environ, "PYTHONPATH": path}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LIMIT)
    except subprocess.TimeoutExpired as error:
        pytest.fail(f"{call} did not end: a deadlock? {error.stderr}")
    assert done.returncode == 0 and not done.stderr, done.stderr


@pytest.mark.parametrize(
    "call",
    [
        "many_models_in_many_threads()",
        pytest.param("forks_of_forks()", marks=FORKS),
        pytest.param("a_fork_while_a_kernel_is_compiled()", marks=FORKS),
        pytest.param("a_fork_while_llvm_is_at_work()", marks=FORKS),
        pytest.param("pools_of_processes()", marks=FORKS),
        "asyncio_threads()",
        pytest.param("one_core()", marks=AFFINITY),
        pytest.param("torch_in_the_same_process()", marks=TORCH),
        pytest.param("a_signal_handler_that_calls_too()", marks=ALARMS),
        "no_threads_to_be_had()",
        "an_exit_with_threads_at_work()",
    ],
)
def test_scenario(call):
    run(call)


def test_the_host_stays_as_it_was():
    run("the_host_stays_as_it_was()", before="pass")  # what importing the backend does counts, too


@FORKS
@pytest.mark.parametrize(("layer", "pool"), [("workqueue", "workqueue"), ("omp", "omppool"), ("tbb", "tbbpool")])
def test_a_host_with_numba_of_its_own(layer, pool):
    try:
        importlib.import_module(f"numba.np.ufunc.{pool}")
    except ImportError as error:
        pytest.skip(f"Numba has no threading layer {layer} here ({error})")
    run(f"a_host_with_numba_of_its_own({layer!r})")
