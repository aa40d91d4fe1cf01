"""Arrays of other libraries on the GPU, seen as CuPy's without a copy."""

from typing import Any

import numpy as np

from pagnp.errors import BackendError, UsageError

# DLDeviceType of dlpack.h: memory of the host (plain and pinned), of a CUDA GPU (plain and managed).
_HOST, _CUDA = (1, 3), (2, 13)


def foreign_array(cupy: Any, value: Any) -> Any:
    """Return a cupy.ndarray of the memory of `value`, or None if it is no array or lies in the host's memory.

    Raises: BackendError if it lies on something that is no CUDA GPU; UsageError if its library does not give it.
    """
    if isinstance(value, cupy.ndarray):
        return value
    if isinstance(value, np.ndarray):
        return None
    try:
        # DLPack first: it lets our stream wait for the owner's. Of the other protocol CuPy makes the host wait.
        if hasattr(value, "__dlpack_device__"):
            return cupy.from_dlpack(value) if _on_cuda(value) else None
        return cupy.asarray(value) if hasattr(value, "__cuda_array_interface__") else None
    except (BufferError, TypeError, ValueError, RuntimeError) as error:  # needs a gradient, a dtype unknown here, ...
        if isinstance(error, (cupy.cuda.runtime.CUDARuntimeError, cupy.cuda.driver.CUDADriverError)):
            raise
        reason = " ".join(str(error).split())
        raise UsageError(f"backend 'cupy': cannot take a {type(value).__name__} on the GPU: {reason}") from error


def _on_cuda(value):
    kind = int(value.__dlpack_device__()[0])
    if kind not in (*_HOST, *_CUDA):
        raise BackendError(
            f"backend 'cupy': the {type(value).__name__} lies on a device of DLPack's type {kind}, need the host or a "
            f"CUDA GPU; copy it"
        )
    return kind in _CUDA
