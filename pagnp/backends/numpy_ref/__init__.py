"""The NumPy backend: the definition of every op, written to be read. One thread."""

import functools

import numpy as np

from pagnp.backends.base import INTERNAL, KERNELS, Backend
from pagnp.backends.numpy_ref import conv, flow, gate, layout, pointwise, pool, random, reduce, resample, transcendental
from pagnp.backends.numpy_ref.fma import require_subnormals

_MODULES = (conv, pool, resample, pointwise, transcendental, reduce, layout, gate, random, flow)


def _guarded(kernel):
    """Wrap a kernel: probe for flushed subnormals; silence NumPy's warnings, overflow and NaN are results here."""

    @functools.wraps(kernel)
    def call(*args, **kwargs):
        require_subnormals()
        with np.errstate(all="ignore"):
            return kernel(*args, **kwargs)

    return call


def _table():
    names = (*KERNELS, *INTERNAL)
    found = {name: getattr(module, name) for module in _MODULES for name in names if hasattr(module, name)}
    return {name: _guarded(kernel) for name, kernel in found.items()}


_TABLE = _table()


def make(threads=None):
    """Return the Backend "numpy"; `threads` is accepted for symmetry, the reference runs in the caller's thread.

    Its kernels raise ContractError if that thread flushes subnormals to zero.
    """
    return Backend("numpy", _TABLE, threads=1)
