"""`kernel` and `device_function`: Numba-CUDA's compiler with the contract's options.

Importing this package needs no GPU: a kernel is compiled when it is first launched.
"""

import numba
from numba import cuda

# Set by the user's NUMBA_ENABLE_CUDASIM=1: Numba runs the kernels as Python, thread by thread.
SIMULATED = bool(numba.config.ENABLE_CUDASIM)

if not SIMULATED:
    from pagnp.backends.numba_cuda.kernelcache import KernelCache


def kernel(function=None, *, name=None, threads=None, blocks=1):
    """Compile a kernel: no fast-math, no link-time optimisation, so that the PTX which the tests read is what runs.

    name     of a kernel that a function of another name makes
    threads  of a block, `blocks` of a multiprocessor: registers are shared out for just so many
    """
    if function is None:
        return lambda function: kernel(function, name=name, threads=threads, blocks=blocks)
    if name is not None:
        function.__name__ = function.__qualname__ = name
    if SIMULATED:
        return cuda.jit(function)
    dispatcher = cuda.jit(fastmath=False, lto=False, launch_bounds=threads and (threads, blocks))(function)
    dispatcher._cache = KernelCache(function.__name__)  # what enable_caching() does, with our store
    return dispatcher


def device_function(function):
    """Make a function callable by kernels. It becomes part of them before types are inferred.

    Numba compiles an ordinary device function for the GPU that it finds; so kernels compile where there is none, too.
    In the simulator it is plain Python, and `cuda` has a meaning in a kernel's own module only.
    """
    return function if SIMULATED else cuda.jit(device=True, inline="always")(function)
