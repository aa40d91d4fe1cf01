"""The Numba CPU backend: the reference's bits at the machine's speed. Kernels are compiled when first called."""

import functools

from pagnp.backends.base import KERNELS, Backend
from pagnp.backends.numba_cpu import (
    conv,
    conv_transpose,
    gate,
    layout,
    pointwise,
    pool,
    random,
    reduce,
    resample,
    transcendental,
)
from pagnp.backends.numba_cpu.threads import check_subnormals, default_threads
from pagnp.errors import UsageError

_MODULES = (conv, conv_transpose, pool, resample, pointwise, transcendental, reduce, gate, layout, random)
_TABLE = {name: getattr(module, name) for module in _MODULES for name in KERNELS if hasattr(module, name)}


def make(threads=None):
    """Return the Backend "numba" with `threads` worker threads; None: as many as this process may use cores.

    Raises: UsageError if `threads` is no positive number; ContractError if this thread flushes subnormals to zero.
    """
    threads = default_threads() if threads is None else threads
    if not isinstance(threads, int) or isinstance(threads, bool) or threads < 1:
        raise UsageError(f"backend 'numba': threads is {threads!r}, need a whole number of at least 1")
    check_subnormals()
    return Backend(
        "numba", {name: functools.partial(kernel, threads=threads) for name, kernel in _TABLE.items()}, threads
    )
