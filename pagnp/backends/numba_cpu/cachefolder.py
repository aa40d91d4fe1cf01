"""The folder of this user's compiled CPU kernels (diskcache.py). Its name makes stale entries impossible.

Numba's own folder is one global setting of the host program, and its cache does not notice an edited helper of a cached
function. This one is ours, and the hash is of every source that a kernel can be made of, the compiler and the CPU.
"""

import functools

import llvmlite
import numba
import numpy
from numba.core.registry import cpu_target

from pagnp.backends.diskcache import version_hash, writable_folder
from pagnp.contract import BLOCK

# The packages whose modules kernels are made of, and BLOCK
_SOURCES = ("pagnp.backends", "pagnp.backends.numba_cpu", "pagnp.evaluate")
_SETTINGS = ("OPT", "LOOP_VECTORIZE", "SLP_VECTORIZE", "BOUNDSCHECK", "DEBUGINFO_DEFAULT")  # NUMBA_... that change code


@functools.cache
def cache_folder():
    """Return the folder of this version's compiled kernels as a Path, or None (said once) where none can be written."""
    return writable_folder(_version_key())


def _version_key():
    """Return the folder's name: of the sources, the compiler's versions and settings, Python and the CPU."""
    settings = [repr(getattr(numba.config, name, None)) for name in _SETTINGS]
    versions = numba.__version__, llvmlite.__version__, numpy.__version__
    cpu = cpu_target.target_context.codegen().magic_tuple()
    return "numba-" + version_hash(_SOURCES, BLOCK, versions, settings, cpu)
