"""Arrays of other libraries on the GPU, seen as Numba's without a copy."""

from typing import Any

import numpy as np
from cuda.core.utils import StridedMemoryView
from numba import cuda
from numba.cuda.cudadrv import driver
from numba.cuda.cudadrv.devicearray import DeviceNDArray

from pagnp.backends.gpu.signature import NUMBA
from pagnp.errors import BackendError, UsageError
from pagnp.gpuarrays import LEGACY_STREAM, on_gpu


def foreign_array(value: Any, ordinal: int, stream: int) -> Any:
    """Return a DeviceNDArray of the memory of `value`, or None if it is no array or lies in the host's memory.

    `stream` waits for what the array's library has launched for it.
    Raises: BackendError if it is not on GPU `ordinal`; UsageError if it is not in C order, or its library refuses.
    """
    if isinstance(value, DeviceNDArray):
        return _checked(value, value.gpu_data.context.device.id if value.size else ordinal, ordinal)
    if not on_gpu(value):
        return None
    try:
        view = StridedMemoryView.from_any_interface(value, stream_ptr=stream or LEGACY_STREAM)
    except (BufferError, TypeError, ValueError, RuntimeError) as error:  # needs a gradient, a dtype unknown here, ...
        reason = " ".join(str(error).split())
        raise UsageError(f"backend '{NUMBA}': cannot take a {type(value).__name__} on the GPU: {reason}") from error
    return _checked(_of_memory(view), view.device_id, ordinal)


def _checked(array, place, ordinal):
    if place != ordinal:
        raise BackendError(f"backend '{NUMBA}': the array is on GPU {place}, the network on GPU {ordinal}; move one")
    if array.size and not array.is_c_contiguous():
        raise UsageError(
            f"backend '{NUMBA}': the array {array.shape} has strides {array.strides}, need C order; "
            f"call its contiguous(), or copy it"
        )
    return array


def _of_memory(view):
    """Return the DeviceNDArray of a StridedMemoryView, which it keeps alive."""
    dtype = np.dtype(view.dtype)
    steps = view.strides or _steps(view.shape)
    size = int(np.prod(view.shape, dtype=np.int64)) * dtype.itemsize
    memory = driver.MemoryPointer(cuda.current_context(), driver.binding.CUdeviceptr(view.ptr), size, owner=view)
    return DeviceNDArray(view.shape, tuple(step * dtype.itemsize for step in steps), dtype, gpu_data=memory)


def _steps(shape):
    """Return the elements between neighbours along each axis, in C order."""
    steps, step = [], 1
    for side in reversed(shape):
        steps.append(step)
        step *= side
    return steps[::-1]
