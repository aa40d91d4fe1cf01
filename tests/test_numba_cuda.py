"""The backend numba-cuda without a GPU: its bits in Numba's simulator, its instructions as NVVM writes them, and its
memory and launches on a stand-in for NVIDIA's driver.
"""

import importlib
import importlib.metadata
import importlib.util
import inspect
import json
import math
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import SUMMARY

from pagnp import notices
from pagnp.backends import choice, numba_cuda
from pagnp.backends.base import get_backend
from pagnp.backends.gpu import SIGNATURES, driver, kernels_of
from pagnp.backends.gpu.conv_tiles import NUMBA_CUDA
from pagnp.backends.gpu.signature import NUMBA
from pagnp.backends.numpy_ref.fma import fma_f32
from pagnp.cli import doctor
from pagnp.contract import compare
from pagnp.errors import BackendError

HERE = Path(__file__).resolve().parent / "numba_gpu"
KERNELS = kernels_of(NUMBA)
if importlib.util.find_spec("numba_cuda") is None:
    if os.environ.get("CI"):
        raise ImportError("numba-cuda is not installed: pip install '.[cuda13]'")
    pytest.skip("numba-cuda is not installed: pip install '.[cuda13]'", allow_module_level=True)

from numba import cuda  # noqa: E402
from numba_gpu import ptx  # noqa: E402

from pagnp.backends.numba_cuda import arithmetic, simulated  # noqa: E402
from pagnp.backends.numba_cuda.compile import kernel  # noqa: E402
from pagnp.backends.numba_cuda.launching import function_of  # noqa: E402

# In the simulator. Each is a process: Numba chooses the simulator when it is imported.
PARTS = (("tiles",), ("ops", "plain", "between", "front", "network"))


def start(*arguments, **environment):
    """Start a script of tests/numba_gpu."""
    path = os.pathsep.join([str(HERE.parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, str(HERE / arguments[0]), *arguments[1:]]
    environment = {**os.environ, "PYTHONPATH": path, **environment}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process, seconds=900):
    """Return what a script has written, once it is over."""
    written, complaints = process.communicate(timeout=seconds)
    assert process.returncode == 0, written + complaints
    return written


@pytest.fixture(scope="module")
def simulations():
    """What simulate.py found for each of PARTS; they run at the same time."""
    processes = [start("simulate.py", *parts) for parts in PARTS]
    return dict(zip(PARTS, [json.loads(finish(process)) for process in processes], strict=True))


@pytest.mark.parametrize("parts", PARTS, ids="-".join)
def test_rows_in_the_simulator_agree_with_numpy(parts, simulations):
    problems = simulations[parts]["problems"]
    assert not problems, "\n".join(problems)


def test_every_kernel_ran_in_the_simulator(simulations):
    launches = sum((Counter(found["launches"]) for found in simulations.values()), Counter())
    rows, seconds = (sum(found[key] for found in simulations.values()) for key in ("rows", "seconds"))
    SUMMARY.append(
        f"numba-cuda: {len(launches)} of {len(KERNELS)} kernels, {rows} rows in the simulator ({seconds:.0f} s)"
    )
    assert sorted(launches) == sorted(KERNELS)
    long = {tile.kernel for tile in NUMBA_CUDA if tile.rows <= 64}  # of 128 rows, that would take a minute
    assert set(simulations[PARTS[0]]["long"]) >= long, "no sum of more than one chain"


@pytest.mark.parametrize("wrong", ("unfused", "twice"))
def test_a_wrong_fma_is_found_in_the_simulator(wrong):
    """Product and sum rounded apart, or the float64 sum rounded again."""
    assert json.loads(finish(start("simulate.py", "--fma", wrong, "plain")))["problems"]


@pytest.mark.parametrize("name", ("midpoints", "near_midpoints", "subnormal_results", "overflow_edge", "specials"))
def test_the_simulators_fma(name, monkeypatch):
    monkeypatch.syspath_prepend(str(HERE.parents[1] / "tools"))
    a, b, c = importlib.import_module("check_fma").draw(name, 5, 0, 1 << 12)
    with np.errstate(all="ignore"):
        got = np.array([simulated.fmaf_rn(*triple) for triple in zip(a, b, c, strict=True)], np.float32)
    assert not (found := compare(got, fma_f32(a, b, c))), str(found)


# As NVVM writes it.


@pytest.mark.parametrize("name", KERNELS)
def test_instructions_registers_and_spills(name):
    """Registers and spills only where ptxas is on the PATH."""
    parameters = SIGNATURES[name].parameters
    for capability in ptx.CAPABILITIES:
        text = ptx.text_of(ptx.kernel_library(name), capability)
        problems = ptx.problems(ptx.assembled(name, text, capability), parameters)
        assert not problems, f"{capability}: " + "\n".join(problems)
    assert not ptx.fusing_changes(ptx.kernel_library(name))


def test_registers_and_spills_were_looked_at():
    if shutil.which("ptxas") is None:
        pytest.skip("no ptxas on the PATH: registers and spills were not looked at")


@pytest.mark.parametrize("name", KERNELS)
def test_parameters_have_the_names_of_the_signature(name):
    function = function_of(name)
    assert list(inspect.signature(function.py_func).parameters) == [word for _, word in SIGNATURES[name].parameters]
    assert function.py_func.__name__ == name


@pytest.mark.parametrize("tile", NUMBA_CUDA, ids=lambda tile: tile.kernel)
def test_the_inner_loop_of_a_tile_loads_16_bytes_at_a_time(tile):
    function = function_of(tile.kernel)
    assert function.targetoptions["launch_bounds"] == (tile.threads, tile.blocks)
    each = tile.rows * tile.columns // tile.threads
    for capability in ptx.CAPABILITIES:
        text = ptx.text_of(ptx.kernel_library(tile.kernel), capability)
        loop = "\n".join(ptx.inner_loop(text))
        steps, odd = divmod(loop.count("fma.rn.f32"), each)
        loads = loop.count("ld.shared.v4.f32")
        wanted = {64: 4, 32: 3, 16: 2}[each]  # quads of x and of weight a step
        assert (steps, odd) >= (1, 0) and not odd, (capability, steps, odd)
        assert loads == wanted * steps and loop.count("ld.shared") == loads, (capability, loads, steps)
        assert "ld.local" not in loop and "ld.global" not in loop, capability
        if shutil.which("ptxas"):
            assert ptx.assembled(tile.kernel, text, capability).blocks >= tile.blocks


PAIR = (("f32*", "x"), ("f32*", "y"), ("f32*", "out"))


def dot_bare(x, y, out):
    i = cuda.grid(1)
    out[i] = x[i] * y[i] + out[i]


def dot_unfused(x, y, out):
    i = cuda.grid(1)
    out[i] = arithmetic.add(arithmetic.mul(x[i], y[i]), out[i])


def add_bare(x, y, out):
    i = cuda.grid(1)
    out[i] = x[i] + y[i]


def dot_in_float64(x, y, out):
    i = cuda.grid(1)
    out[i] = x[i] * y[i] * 1.5  # a literal is float64


def exp_contracted(x, y, out):
    i = cuda.grid(1)
    r = np.float64(x[i])
    out[i] = np.float32((r * 0.5 + 1.0) * r + 1.0)


def exp_of_the_library(x, y, out):
    i = cuda.grid(1)
    out[i] = math.exp(x[i])


def relu_by_max(x, y, out):
    i = cuda.grid(1)
    out[i] = arithmetic._rounded.fmaxf(x[i], np.float32(0))


def sum_atomic(x, y, out):
    cuda.atomic.add(out, 0, x[cuda.grid(1)])


BAD = (
    (dot_bare, "", "fma.rn.f32, where none is meant"),
    (dot_unfused, "blend_", "no fma.rn.f32, which is meant"),
    (add_bare, "", "no rounding mode"),
    (dot_in_float64, "", "no rounding mode"),
    (exp_contracted, "", "fuses in float64|no rounding mode"),
    (exp_of_the_library, "", "approximate|fuses|where none is meant"),
    (relu_by_max, "", "loses NaN"),
    (sum_atomic, "", "atomic"),
)


@pytest.mark.parametrize(("function", "family", "complaint"), BAD, ids=[row[0].__name__ for row in BAD])
def test_a_bad_kernel_is_found(function, family, complaint):
    capability = (9, 0)
    text = ptx.text_of(ptx.library(kernel(function), PAIR), capability)
    problems = ptx.problems(ptx.assembled(family + function.__name__, text, capability), PAIR)
    assert any(word in problem for problem in problems for word in complaint.split("|")), problems


def test_exp_and_log_have_no_fma():
    text = "".join(
        ptx.text_of(ptx.kernel_library(name), (9, 0)) for name in ("exp_f32", "log_f32", "sigmoid_f32", "exp10_f32")
    )
    assert "fma." not in text and text.count("mul.rn.f64") > 40 and text.count("add.rn.f64") > 40
    assert "div.rn.f64" in text
    text = ptx.text_of(ptx.kernel_library("l2_normalize_f32"), (9, 0))
    assert "sqrt.rn.f32" in text and "div.rn.f32" in text


def test_a_compiler_that_may_fuse_is_found():
    for function, changes in ((dot_bare, True), (exp_contracted, True), (dot_unfused, False)):
        assert ptx.fusing_changes(ptx.library(kernel(function), PAIR)) == changes, function.__name__


# On a stand-in for the driver.


def stand_in(folder, *options):
    """Compile libcuda.c into `folder`; return the LD_LIBRARY_PATH with it."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        if os.environ.get("CI"):
            pytest.fail("no C compiler for the stand-in of libcuda.so.1")
        pytest.skip("no C compiler for the stand-in of libcuda.so.1")
    words = [compiler, "-shared", "-fPIC", "-O1", *options, "-o", folder / "libcuda.so.1", HERE / "libcuda.c", "-ldl"]
    subprocess.run(words, check=True)
    return os.pathsep.join([str(folder), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])])


def test_memory_and_launches_on_a_stand_in_for_the_driver(tmp_path):
    places = stand_in(tmp_path)
    written = finish(start("on_stub.py", LD_LIBRARY_PATH=places, PAGNP_CACHE_DIR=str(tmp_path / "cache")))
    assert written.count("check_") == (HERE / "on_stub.py").read_text().count("\ndef check_") > 5


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("CUDA=12080", "the driver is for CUDA 12.8, the installed cuda-bindings needs CUDA 13; update the driver, or"),
        ("cuGetProcAddress_v2=of_cuda_11", "Numba does not start CUDA (Failed to get cuGetProcAddress_v2); use"),
        ("CAPABILITY=6", "start: GPU compute capability 6.0 is not supported"),
    ],
)
def test_what_is_too_old_is_said_before_anything_runs(tmp_path, option, message):
    environment = {**os.environ, "LD_LIBRARY_PATH": stand_in(tmp_path, f"-D{option}"), "NUMBA_ENABLE_CUDASIM": "0"}
    load = "from pagnp.backends.base import get_backend; get_backend('numba-cuda')"
    done = subprocess.run([sys.executable, "-c", load], capture_output=True, text=True, env=environment)
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"pagnp.errors.BackendError: backend 'numba-cuda': {message}"), done.stderr


# Where something is missing.


def test_without_a_driver_one_line_says_so():
    try:
        driver.gpus()
    except driver.DriverProblem as problem:
        with pytest.raises(BackendError, match="^backend 'numba-cuda': .*; use --backend numba$") as caught:
            get_backend(NUMBA)
        assert str(problem) in str(caught.value)
    else:
        pytest.skip("there is a GPU here")


def test_without_numba_cuda_one_line_says_so(monkeypatch):
    monkeypatch.setattr(driver, "require", lambda backend: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BackendError, match=r"numba-cuda is not installed; pip install 'pagnp\[cuda13\]', or use"):
        get_backend(NUMBA)


@pytest.fixture
def failing_import(monkeypatch):
    """(module, error) -> importing it raises that, on a machine that has a GPU and CUDA."""
    monkeypatch.setattr(driver, "require", lambda backend: None)
    monkeypatch.setattr(numba_cuda, "_require_numba", lambda cuda: None)

    def install(module, error):
        def find(name, path=None, target=None):
            if name == module:
                raise error

        monkeypatch.delitem(sys.modules, module, raising=False)
        monkeypatch.setattr(sys, "meta_path", [SimpleNamespace(find_spec=find), *sys.meta_path])

    return install


@pytest.mark.parametrize("module", ["numba.cuda", "numba.cuda.cudaimpl"])
def test_a_numpy_that_numba_cuda_does_not_know_is_said(module, failing_import, monkeypatch):
    failing_import(module, AttributeError("module 'numpy' has no attribute 'row_stack'"))
    monkeypatch.setattr(np, "__version__", "2.5.2")
    said = f"backend 'numba-cuda': numba-cuda {importlib.metadata.version('numba-cuda')} does not work with NumPy 2.5"
    with pytest.raises(BackendError) as caught:
        get_backend(NUMBA)
    assert str(caught.value) == f"{said} (it needs np.row_stack); pip install 'numpy<2.5'"
    monkeypatch.setattr(choice, "GPU", (NUMBA,))
    heard = []
    with notices.heard_by(heard.append):
        assert choice.choose("auto-gpu").name == "numba"
    assert f"{said} (it needs np.row_stack)" in heard[0] and heard[0].startswith("backend auto-gpu: numba, on the CPU")
    assert doctor.load_gpu_backend(NUMBA, {}, wanted=True)["fix"] == "pip install 'numpy<2.5'"
    assert "does not work with NumPy 2.5" in doctor.load_gpu_backend(NUMBA, {}, wanted=False)["detail"]


@pytest.mark.parametrize("error", [RuntimeError("no such part\nsecond line"), ImportError("no such part"), OSError()])
def test_an_import_that_fails_in_any_way_is_one_line(error, failing_import):
    failing_import("numba.cuda.cudaimpl", error)
    why = "no reason given" if isinstance(error, OSError) else "no such part"
    with pytest.raises(BackendError) as caught:
        get_backend(NUMBA)
    told = f"backend 'numba-cuda': cannot import numba.cuda.cudaimpl ({type(error).__name__}: {why}); pip install"
    assert str(caught.value).startswith(told) and "\n" not in str(caught.value)


def test_numba_that_does_not_start_is_said(monkeypatch):
    monkeypatch.setattr(driver, "require", lambda backend: None)
    monkeypatch.setattr(driver, "require_cuda", lambda backend, package, major: None)
    if not cuda.is_available():
        with pytest.raises(BackendError, match="^backend 'numba-cuda': Numba does not start CUDA .*; use --backend"):
            numba_cuda.make()
    monkeypatch.setattr(cuda, "is_available", lambda: False)
    monkeypatch.setattr(cuda, "cuda_error", lambda: None)
    with pytest.raises(BackendError, match=r"finds no compiler \(libnvvm.so\); pip install"):
        numba_cuda.make()


IMPORT = """
import warnings, numba
from numba import cuda
def settings():
    return {name: value for name, value in vars(numba.config).items() if name.isupper()}
before = settings(), list(warnings.filters)
import pagnp.backends.numba_cuda.device, pagnp.backends.gpu
from pagnp.backends.numba_cuda.launching import function_of
for name in pagnp.backends.gpu.kernels_of("numba-cuda"):
    function_of(name)
assert (settings(), list(warnings.filters)) == before
"""


def test_importing_needs_no_driver_and_changes_no_setting():
    done = subprocess.run([sys.executable, "-W", "error", "-c", IMPORT], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
