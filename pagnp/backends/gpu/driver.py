"""What NVIDIA's driver says of itself and of its GPUs, asked by ctypes: with no package of an extra installed.

CuPy cannot tell: without a driver it reports cudaErrorInsufficientDriver, as with one that is too old.
"""

import ctypes
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pagnp.errors import BackendError

LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
FORKED = "CUDA was started before this process was forked, and does not survive that; start processes with 'spawn'"
NOT_INITIALIZED, NO_DEVICE = 3, 100  # CUresult; cuInit returns the first in a forked child alone
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_...


class DriverProblem(Exception):
    """Why CUDA cannot work here, in a few words."""


@dataclass(frozen=True)
class Gpu:
    """name; compute capability (major, minor); memory in bytes."""

    name: str
    capability: tuple[int, int]
    memory: int


def require(backend: str) -> None:
    """Raise BackendError unless there is a driver with a GPU."""
    try:
        gpus()
    except DriverProblem as problem:
        raise BackendError(f"backend '{backend}': {problem}; use --backend numba") from problem


def require_cuda(backend: str, package: str, major: int) -> None:
    """Raise BackendError unless the driver goes to CUDA `major`, for which `package` is made."""
    goes_to = cuda_version()
    if goes_to[0] < major:
        other = f", or pip install 'pagnp[cuda{goes_to[0]}]'" if goes_to[0] == 12 else ""
        raise BackendError(
            f"backend '{backend}': the driver is for CUDA {'.'.join(map(str, goes_to))}, "
            f"the installed {package} needs CUDA {major}; update the driver{other}"
        )


def gpus() -> list[Gpu]:
    """Return the GPUs that this process may use, at least one. Raises DriverProblem."""
    library = _started()
    count = _number(library, library.cuDeviceGetCount)
    if not count:
        raise DriverProblem("no CUDA device (CUDA_ERROR_NO_DEVICE)")
    return [_gpu(library, ordinal) for ordinal in range(count)]


def cuda_version() -> tuple[int, int]:
    """Return the (major, minor) of CUDA up to which the driver goes. Raises DriverProblem."""
    library = _library()
    version = _number(library, library.cuDriverGetVersion)
    return version // 1000, version % 1000 // 10


def release() -> str | None:
    """Return the driver's own version, 580.159.04 for one, where the system tells."""
    try:
        return Path("/sys/module/nvidia/version").read_text("ascii").strip() or None
    except (OSError, ValueError):
        return None


def _library() -> Any:
    try:
        return ctypes.CDLL(LIBRARY)
    except OSError as error:
        missing = f"{LIBRARY} not found"  # what the loader says where there is no such file, in longer words
        why = missing if "No such file" in str(error) or "not find" in str(error) else " ".join(str(error).split())
        raise DriverProblem(f"no CUDA driver ({why})") from error


def _started():
    library = _library()
    status = library.cuInit(0)
    if status == NOT_INITIALIZED:
        raise DriverProblem(FORKED)
    if status:
        what = "no CUDA device" if status == NO_DEVICE else "the CUDA driver does not start"
        raise DriverProblem(f"{what} ({_error_name(library, status)})")
    return library


def _gpu(library, ordinal):
    device = _number(library, library.cuDeviceGet, ordinal)
    name, memory = ctypes.create_string_buffer(256), ctypes.c_size_t()
    _check(library, library.cuDeviceGetName(name, len(name), device))
    _check(library, library.cuDeviceTotalMem_v2(ctypes.byref(memory), device))
    major, minor = (_number(library, library.cuDeviceGetAttribute, part, device) for part in (_MAJOR, _MINOR))
    return Gpu(name.value.decode(errors="replace"), (major, minor), memory.value)


def _number(library, function, *args):
    """Return the int that a function of the driver writes to its first argument."""
    value = ctypes.c_int()
    _check(library, function(ctypes.byref(value), *args))
    return value.value


def _check(library, status):
    if status:
        raise DriverProblem(f"the CUDA driver fails ({_error_name(library, status)})")


def _error_name(library, status):
    """Return CUDA_ERROR_UNKNOWN for 999, and so on."""
    text = ctypes.c_char_p()
    library.cuGetErrorName(status, ctypes.byref(text))
    return text.value.decode() if text.value else f"error {status}"
