"""Import CuPy where it can work, and say in one line why not where it cannot."""

import functools
from typing import Any

from pagnp.backends.cupy_raw.nvrtc import EXTRA
from pagnp.backends.gpu import driver
from pagnp.errors import BackendError


def cupy_at_work() -> tuple[Any, int]:
    """Return the module cupy and the number of the current GPU.

    Raises: BackendError: no driver, no GPU, CuPy missing or for a newer CUDA, CUDA does not start.
    """
    driver.require("cupy")  # first: who has no GPU need not install CuPy to hear so
    cupy = _imported()
    driver.require_cuda("cupy", "CuPy", cupy.cuda.runtime.runtimeGetVersion() // 1000)
    try:
        return cupy, cupy.cuda.runtime.getDevice()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise BackendError(f"backend 'cupy': CUDA does not start ({error}); use --backend numba") from error


@functools.cache
def _imported():
    try:
        import cupy
    except ImportError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip(" =-\t")]
        missing = isinstance(error, ModuleNotFoundError) and error.name == "cupy"
        why = "CuPy is not installed" if missing else f"cannot import CuPy ({lines[0] if lines else 'no reason given'})"
        raise BackendError(f"backend 'cupy': {why}; {EXTRA}, or use --backend numba") from error
    return cupy
