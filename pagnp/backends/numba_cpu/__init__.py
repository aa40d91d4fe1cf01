"""The Numba CPU backend: the reference's bits at the machine's speed. Kernels are compiled when first called."""

import functools

import numba
from llvmlite.binding import llvm_version_info

from pagnp.backends.base import INTERNAL, KERNELS, Backend
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
from pagnp.backends.numba_cpu.vectorcode import is_aarch64
from pagnp.backends.numpy_ref import flow
from pagnp.errors import BackendError, UsageError

_MODULES = (conv, conv_transpose, pool, resample, pointwise, transcendental, reduce, gate, layout, random)
_NAMES = (*KERNELS, *INTERNAL)
_TABLE = {name: getattr(module, name) for module in _MODULES for name in _NAMES if hasattr(module, name)}
_FLOW = {name: getattr(flow, name) for name in INTERNAL if hasattr(flow, name)}


def make(threads=None):
    """Return the Backend "numba" with `threads` worker threads; None: as many as this process may use cores.

    Raises: UsageError if `threads` is no positive number; BackendError if Numba's compiler is switched off or known to
            be wrong for this CPU; ContractError if this thread flushes subnormals to zero.
    """
    threads = default_threads() if threads is None else threads
    if not isinstance(threads, int) or isinstance(threads, bool) or threads < 1:
        raise UsageError(f"backend 'numba': threads is {threads!r}, need a whole number of at least 1")
    if numba.config.DISABLE_JIT:
        raise BackendError("backend 'numba': NUMBA_DISABLE_JIT is set; unset it, or use --backend numpy")
    if is_aarch64() and llvm_version_info < (20,):  # LLVM 15 makes `x < 0 ? 0 : x` one fmax, which gives +0 for -0
        raise BackendError("backend 'numba': Numba 0.61 loses the sign of -0 on aarch64; install numba 0.62 or newer")
    check_subnormals()
    kernels = {name: functools.partial(kernel, threads=threads) for name, kernel in _TABLE.items()}
    return Backend("numba", kernels | _FLOW, threads)
