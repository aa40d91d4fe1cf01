"""What a backend is: one flat table of kernels (docs/ARCHITECTURE.md lists every signature)."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from pagnp.backends.hostarrays import HostArrays
from pagnp.errors import BackendError

Kernel: TypeAlias = Callable[..., Any]  # signatures: docs/ARCHITECTURE.md

KERNELS = (
    *("conv2d", "conv_transpose2d"),
    *("max_pool2d", "avg_pool2d"),
    *("bilinear", "nearest"),
    *("add", "sub", "mul", "div", "relu", "sigmoid", "exp", "exp10", "log", "norm", "compare"),
    *("global_mean", "softmax", "argmax", "l2_normalize"),
    *("concat", "pad", "slice_channels"),
    *("gate", "select", "blend", "masked", "mask_to_sites", "grow_mask", "gather", "scatter"),
    *("gumbel_noise", "philox4x32"),
)

# No ops of a graph: the weights' order, and what a run does between its ops.
INTERNAL = (
    *("pack_conv2d", "copy", "zero", "list_sites", "picked", "unite", "logical_not", "to_float"),
    *("normalize_u8", "crop", "mirror", "lookup", "narrow", "ponder"),
)

HOST = {"numpy": "pagnp.backends.numpy_ref", "numba": "pagnp.backends.numba_cpu"}
GPU = {"cupy": "pagnp.backends.cupy_raw", "numba-cuda": "pagnp.backends.numba_cuda"}
MODULES = {**HOST, **GPU}


@dataclass(frozen=True)
class Backend:
    """A name and a complete table op -> kernel, on arrays that `arrays` makes.

    threads  the number of worker threads that kernels use
    arrays   HostArrays for NumPy arrays, or the Device (backends/gpu/device.py) of a GPU
    """

    name: str
    kernels: dict[str, Kernel]
    threads: int = 1
    arrays: Any = field(default_factory=HostArrays)

    def __post_init__(self) -> None:
        missing = [name for name in (*KERNELS, *INTERNAL) if name not in self.kernels]
        if missing:
            raise BackendError(f"backend '{self.name}': no kernel for {', '.join(missing)}")

    def __getattr__(self, name: str) -> Kernel:
        kernels: dict[str, Kernel] = self.__dict__.get("kernels", {})  # absent while a copy is being made
        if name not in kernels:
            raise AttributeError(f"this backend has no kernel '{name}'")
        return kernels[name]


BackendLike: TypeAlias = str | Backend


def get_backend(name: str, threads: int | None = None) -> Backend:
    """Return the Backend called `name` ("numpy", "numba", "cupy" or "numba-cuda"), loading it on first use.

    threads  number of worker threads, None = all cores this process may use
    Raises:  BackendError if the name is unknown, its packages are missing, or there is no device.
    """
    if name not in MODULES:
        raise BackendError(f"backend '{name}' is unknown; choose one of {', '.join(MODULES)}")
    try:
        module = importlib.import_module(MODULES[name])
    except ImportError as error:
        install, other = ("it", "numpy") if name in HOST else ("'pagnp[cuda13]'", "numba")
        raise BackendError(
            f"backend '{name}': cannot import {error.name or error}; pip install {install}, or use --backend {other}"
        ) from error
    return module.make(threads)
