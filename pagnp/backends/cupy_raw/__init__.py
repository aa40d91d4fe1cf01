"""The backend "cupy": the kernels of cuda/*.cu on an NVIDIA GPU, with CuPy's memory, streams and graphs."""

from pagnp.backends.base import Backend
from pagnp.backends.cupy_raw.device import current_device
from pagnp.backends.gpu import table


def make(threads: int | None = None) -> Backend:
    """Return the Backend "cupy" on the calling thread's current GPU; `threads` says nothing to a GPU.

    Raises: BackendError, in one line, if a package, the driver or a GPU is missing, or too old.
    """
    device = current_device()
    return Backend("cupy", table(device), 1, device)
