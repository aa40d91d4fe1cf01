"""The backend "numba-cuda": the kernels of cuda/*.cu as Numba functions of the same names, to read, change and try out.

Importing it needs neither a GPU nor the package numba-cuda; `make` does.
"""

import importlib.metadata
import importlib.util
import re
from typing import Any

import numba
import numpy as np

from pagnp.backends.base import Backend
from pagnp.backends.gpu import driver, table
from pagnp.backends.gpu.signature import NUMBA
from pagnp.errors import BackendError

_INSTALL = "pip install 'pagnp[cuda13]', or use --backend numba"


def make(threads: int | None = None) -> Backend:
    """Return the Backend "numba-cuda" on the calling thread's current GPU; `threads` says nothing to a GPU.

    With NUMBA_ENABLE_CUDASIM=1 in the environment the kernels run in Numba's simulator, thread by thread, in Python.
    Raises: BackendError, in one line, if a package, the driver or a GPU is missing.
    """
    simulated = bool(numba.config.ENABLE_CUDASIM)
    if not simulated:
        driver.require(NUMBA)  # first: who has no GPU need not install numba-cuda to hear so
    if importlib.util.find_spec("numba_cuda") is None:  # Numba's own numba.cuda is older, and on its way out
        raise BackendError(f"backend '{NUMBA}': numba-cuda is not installed; {_INSTALL}")
    cuda = _imported("numba.cuda")
    if simulated:
        device = _imported("pagnp.backends.numba_cuda.simulator").simulated_device()
    else:
        _require_numba(cuda)
        _imported("numba.cuda.cudaimpl")  # Numba does it for its first kernel: what fails there is better told now
        device = _imported("pagnp.backends.numba_cuda.device").current_device()
    return Backend(NUMBA, table(device), 1, device)


def _imported(module: str) -> Any:
    """Return the module, numba.cuda or what needs it; an exception of any kind becomes a BackendError."""
    try:
        return importlib.import_module(module)
    except Exception as error:
        missing = re.search(r"module 'numpy' has no attribute '(\w+)'", str(error))
        if missing is None:
            why = f"cannot import {module} ({type(error).__name__}: {_line(error)}); {_INSTALL}"
        else:
            numba_cuda, numpy = importlib.metadata.version("numba-cuda"), ".".join(np.__version__.split(".")[:2])
            needed = f"does not work with NumPy {numpy} (it needs np.{missing[1]}); pip install 'numpy<{numpy}'"
            why = f"numba-cuda {numba_cuda} {needed}"
        raise BackendError(f"backend '{NUMBA}': {why}") from error


def _require_numba(cuda):
    """Raise BackendError, saying why, where Numba cannot use the GPU that there is."""
    driver.require_cuda(NUMBA, "cuda-bindings", int(importlib.metadata.version("cuda-bindings").partition(".")[0]))
    try:
        if cuda.is_available():
            return
        reason = cuda.cuda_error()
    except RuntimeError as error:  # cuda-bindings does not find in the driver what it needs
        reason = error
    if reason is None:
        raise BackendError(f"backend '{NUMBA}': Numba finds no compiler (libnvvm.so); {_INSTALL}")
    raise BackendError(f"backend '{NUMBA}': Numba does not start CUDA ({_line(reason)}); use --backend numba")


def _line(text):
    """Return the first line of a message."""
    return next((line.strip(" .:") for line in str(text).splitlines() if line.strip()), "no reason given")
