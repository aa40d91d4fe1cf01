"""`jit`: Numba's compiler with the contract's options and an on-disk cache of our own (`kernelcache`)."""

import functools
import os

import numba
from llvmlite.binding import ffi as llvm
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target

from pagnp.backends.numba_cpu.kernelcache import KernelCache


def _hold_compiler():
    """Wait until no thread compiles or loads a kernel, or is in LLVM: a forked child would find the locks taken."""
    global_compiler_lock.acquire()
    llvm.lib._lock.__enter__()


def _let_go():
    llvm.lib._lock.__exit__(None, None, None)
    global_compiler_lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_hold_compiler, after_in_parent=_let_go, after_in_child=_let_go)


def jit(function=None, *, cached=True):
    """Compile a module-level function at its first call: nogil, no bounds checks, no fast-math, division as in NumPy.

    cached  keep the machine code on disk; False for a helper that only other kernels call (it is part of theirs)
    Numerics: Numba contracts no product and sum into an fma and reorders nothing without fast-math.
    """
    if function is None:
        return functools.partial(jit, cached=cached)
    dispatcher = numba.njit(nogil=True, boundscheck=False, fastmath=False, error_model="numpy")(function)
    if cached and not numba.config.DISABLE_JIT:
        dispatcher._cache = KernelCache(function)  # what enable_caching() does, with our store
    return dispatcher


@functools.cache
def cpu_features():
    """Return the set of CPU features that Numba compiles for (NUMBA_CPU_FEATURES included)."""
    _, _, features = cpu_target.target_context.codegen().magic_tuple()
    return frozenset(name[1:] for name in features.split(",") if name.startswith("+"))


@functools.cache
def cpu_triple():
    """Return LLVM's name of the machine, x86_64-unknown-linux-gnu for one."""
    return cpu_target.target_context.codegen().magic_tuple()[0]
