"""What both GPU backends share: which kernels there are, and how each op launches them.

cupy_raw compiles the kernels from cuda/*.cu, numba_cuda has them as Numba functions; names and parameters are the same.
"""

import functools
from collections.abc import Callable
from typing import Any

from pagnp.backends.base import INTERNAL, KERNELS
from pagnp.backends.gpu import conv, flow, gate, layout, pointwise, pool, random, reduce, resample, sites
from pagnp.backends.gpu.device import Device
from pagnp.backends.gpu.signature import Signature

_FAMILIES = (conv, pool, resample, pointwise, reduce, layout, gate, sites, random, flow)

SIGNATURES: dict[str, Signature] = {
    name: signature for family in _FAMILIES for name, signature in family.KERNELS.items()
}


def table(device: Device) -> dict[str, Callable[..., Any]]:
    """Return op -> function for a Backend on `device`: the signatures of docs/ARCHITECTURE.md, with its arrays."""
    return {
        name: functools.partial(getattr(family, name), device)
        for name in (*KERNELS, *INTERNAL)
        for family in _FAMILIES
        if hasattr(family, name)
    }


def kernels_of(backend: str) -> list[str]:
    """Return the names of the kernels that `backend` ("cupy" or "numba-cuda") has."""
    return [name for name, signature in SIGNATURES.items() if backend in signature.backends]
