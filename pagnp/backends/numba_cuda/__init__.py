"""The Numba-CUDA backend: the kernels of cuda/*.cu as Numba functions of the same names, to read, change and try out.

Importing it needs neither a GPU nor the package numba-cuda; `make` does.
"""

import functools
import importlib.util

from pagnp.errors import BackendError

_INSTALL = "pip install 'pagnp[cuda13]', or use --backend numba"


def make(threads=None):
    """Return the Backend "numba-cuda" on the GPU that is current; `threads` is accepted for symmetry.

    With NUMBA_ENABLE_CUDASIM=1 in the environment it runs in Numba's simulator: thread by thread, in Python.
    Raises: BackendError if numba-cuda, the driver or a GPU is missing.
    """
    from pagnp.backends.base import Backend
    from pagnp.backends.gpu import table

    device = _device()
    return Backend("numba-cuda", table(device), 1, device)


@functools.cache
def _device():
    """Return the one Device of this process."""
    if importlib.util.find_spec("numba_cuda") is None:  # Numba's own numba.cuda is old and on its way out
        raise BackendError(f"backend 'numba-cuda': numba-cuda is not installed; {_INSTALL}")
    try:
        from numba import cuda
    except ImportError as error:
        raise BackendError(f"backend 'numba-cuda': {_first_line(error)}; {_INSTALL}") from error
    from pagnp.backends.numba_cuda.compile import SIMULATED

    if SIMULATED:
        from pagnp.backends.numba_cuda.simulator import SimulatedDevice

        return SimulatedDevice()
    _require_gpu(cuda)
    from pagnp.backends.numba_cuda.device import NumbaDevice

    return NumbaDevice()


def _require_gpu(cuda):
    """Raise BackendError, saying what is missing, where Numba can use no GPU."""
    if cuda.is_available():
        return
    reason = str(cuda.cuda_error() or "")
    if not reason:
        raise BackendError(f"backend 'numba-cuda': no compiler (libnvvm.so not found); {_INSTALL}")
    if "cannot be found" in reason:
        what = "no CUDA driver (libcuda.so not found)"
    elif "NO_DEVICE" in reason:
        what = "no CUDA device (CUDA_ERROR_NO_DEVICE)"
    else:
        what = _first_line(reason)
    raise BackendError(f"backend 'numba-cuda': {what}; use --backend numba")


def _first_line(text):
    return str(text).strip().splitlines()[0].rstrip(".")
