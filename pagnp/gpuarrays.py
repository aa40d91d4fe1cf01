"""Arrays that other libraries hold on a GPU, told by their protocols.

No such library is imported here: where there is an array, its library is.
"""

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from pagnp.errors import DtypeError

_ON_CUDA = (2, 13)  # DLPack's kDLCUDA and kDLCUDAManaged
LEGACY_STREAM = 1  # CUDA's default stream, as __cuda_array_interface__ counts


@dataclass(frozen=True)
class Library:
    """What a library has for its arrays; the functions take its module first.

    to_numpy    what a user writes to get a NumPy array of `{}`
    contiguous  array -> a C-contiguous copy on the device; None: it has no such function
    take        (an array of its own, device array of another library) -> its own kind on that memory
    stream      array -> the stream that its library is working on; None: the array says so itself
    """

    to_numpy: str
    contiguous: Callable[[ModuleType, Any], Any] | None
    take: Callable[[ModuleType, Any, Any], Any]
    stream: Callable[[ModuleType, Any], int] | None = None


def _torch_takes(torch, given, array):
    # Numba's arrays have no __dlpack__. A torch tensor made by DLPack is in order with the streams of both.
    return torch.from_dlpack(array) if hasattr(array, "__dlpack__") else torch.as_tensor(array, device=given.device)


LIBRARIES = {
    "cupy": Library("{}.get()", lambda cupy, a: cupy.ascontiguousarray(a), lambda cupy, _, a: cupy.asarray(a)),
    # sync=True would wait for the stream on which the result is being made.
    "numba": Library("{}.copy_to_host()", None, lambda numba, _, a: numba.cuda.as_cuda_array(a, sync=False)),
    "torch": Library(
        "{}.cpu().numpy()",
        lambda torch, a: a.contiguous(),
        _torch_takes,
        lambda torch, a: torch.cuda.current_stream(a.device).cuda_stream,
    ),
}


def on_gpu(value: object) -> bool:
    """Return whether `value` is an array in the memory of a CUDA device."""
    if type(value) is np.ndarray:
        return False
    try:
        if hasattr(value, "__cuda_array_interface__"):
            return True
    except (KeyError, RuntimeError):  # a tensor of torch that requires grad, or of a type that NumPy has not
        return True
    if isinstance(value, np.ndarray) or not hasattr(value, "__dlpack_device__"):
        return False
    try:
        return value.__dlpack_device__()[0] in _ON_CUDA
    except (BufferError, RuntimeError, ValueError):  # torch, of what DLPack does not know
        return False


def ordinal_of(value: Any) -> int | None:
    """Return the number of the GPU that an array lies on, None where its library does not say."""
    try:
        ordinal: int = value.__dlpack_device__()[1]
    except (AttributeError, BufferError, RuntimeError, ValueError):  # Numba's arrays; as in on_gpu
        return None
    return ordinal


def type_name(value: object) -> str:
    """Return the name of an array's type with that of its library: "torch.Tensor"."""
    return f"{type(value).__module__.partition('.')[0]}.{type(value).__name__}"


def to_numpy_hint(name: str, value: object) -> str:
    """Return what to do to have the array `value`, called `name`, as a NumPy array."""
    library = _library(value)
    return "copy it to the host" if library is None else f"pass {library[0].to_numpy.format(name)}"


def stream_of(value: Any) -> int | None:
    """Return the stream on which the work that makes `value` is queued: LEGACY_STREAM, 2 for that of the thread, or an
    address; None where its library does not say.
    """
    library = _library(value)
    if library is not None and library[0].stream is not None:
        return library[0].stream(library[1], value) or LEGACY_STREAM
    interface: dict[str, Any] = getattr(value, "__cuda_array_interface__", {})
    stream: int | None = interface.get("stream")
    return stream


def contiguous(value: Any) -> Any:
    """Return `value` C-contiguous: itself, or copied on its device by its own library; itself, too, if that cannot."""
    interface: dict[str, Any] = getattr(value, "__cuda_array_interface__", {})
    library = _library(value)
    if interface.get("strides") is None or library is None or library[0].contiguous is None:
        return value
    return library[0].contiguous(library[1], value)


def adopted(device: Any, value: Any, what: str) -> Any | None:
    """Return an array on a GPU as one of `device` (gpu.device.Device), C-contiguous; None if it is no such array.

    Nothing is copied but arrays with gaps or other orders of axes, on the device and by their own library.
    Raises: DtypeError, which begins with `what` the value is; BackendError if it lies on another GPU.
    """
    try:
        array = device.adopt(contiguous(value))
    except (BufferError, RuntimeError, TypeError, ValueError) as error:  # a tensor of torch that requires grad, ...
        raise DtypeError(f"{what}, a {type_name(value)}, cannot be used: {error}") from error
    if array is not None and not array.flags["C_CONTIGUOUS"]:
        raise DtypeError(f"{what}, a {type_name(value)}, is not C-contiguous; copy it into an array that is")
    return array


def in_order_of(device: Any, value: Any) -> AbstractContextManager[None]:
    """Inside the block the work of `device` is queued on the stream of `value`, where its library tells it."""
    stream = stream_of(value) if on_gpu(value) else None
    as_it_is: AbstractContextManager[None] = nullcontext()
    return as_it_is if stream is None else device.on_stream(stream)


def like(given: Any, array: Any) -> Any:
    """Return the device array `array` as an array of the kind of `given`, on the same memory.

    A kind that is not in LIBRARIES needs the array API's from_dlpack; without it `array` is returned.
    """
    if isinstance(array, type(given)):
        return array
    library = _library(given)
    if library is not None:
        return library[0].take(library[1], given, array)
    if hasattr(given, "__array_namespace__") and hasattr(array, "__dlpack__"):
        return given.__array_namespace__().from_dlpack(array)
    return array


def to_host(value: Any) -> Any:
    """Return an array on a GPU as a NumPy array, waiting for the work that makes it; anything else as it is.

    Raises: DtypeError if its library offers no way.
    """
    if not on_gpu(value):
        return value
    if hasattr(value, "detach"):  # torch
        return value.detach().cpu().numpy()
    for name in ("get", "copy_to_host"):  # CuPy, Numba
        if hasattr(value, name):
            return getattr(value, name)()
    try:
        return np.from_dlpack(value, device="cpu", copy=True)
    except (AttributeError, BufferError, RuntimeError, TypeError) as error:  # TypeError: NumPy before 2.1
        raise DtypeError(f"a {type_name(value)} cannot be copied to the host by pagnp; give a NumPy array") from error


def _library(value):
    """Return (Library, its module) of an array, or None; a subclass of somebody's own counts as its base."""
    for base in type(value).__mro__:
        top = base.__module__.partition(".")[0]
        if top in LIBRARIES and top in sys.modules:
            return LIBRARIES[top], sys.modules[top]
    return None
