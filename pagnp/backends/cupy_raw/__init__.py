"""The backend "cupy": the kernels of cuda/*.cu on an NVIDIA GPU, with CuPy's memory, streams and graphs."""

from pagnp.backends.base import Backend
from pagnp.backends.cupy_raw.device import current_device
from pagnp.backends.gpu import table


def make(threads: int | None = None, ordinal: int | None = None) -> Backend:
    """Return the Backend "cupy" on GPU `ordinal`, None: the calling thread's current one; `threads` says nothing here.

    Raises: BackendError, in one line, if a package, the driver or a GPU is missing, or too old.
    """
    device = current_device(ordinal)
    return Backend("cupy", table(device), 1, device)
