"""The folder of this user's compiled CPU kernels (diskcache.py). Its name makes stale entries impossible.

Numba's own folder is one global setting of the host program, and its cache does not notice an edited helper of a cached
function. This one is ours, and the hash is of every source that a kernel can be made of, the compiler and the CPU.
"""

import functools
import hashlib
import importlib.resources
import sys

import llvmlite
import numba
import numpy
from numba.core.registry import cpu_target

from pagnp.backends.diskcache import writable_folder
from pagnp.contract import BLOCK

_SOURCES = ("pagnp.backends", "pagnp.backends.numba_cpu")  # the packages whose modules kernels are made of, and BLOCK
_SETTINGS = ("OPT", "LOOP_VECTORIZE", "SLP_VECTORIZE", "BOUNDSCHECK", "DEBUGINFO_DEFAULT")  # NUMBA_... that change code


@functools.cache
def cache_folder():
    """Return the folder of this version's compiled kernels as a Path, or None (said once) where none can be written."""
    return writable_folder(_version_key())


def _version_key():
    """Hash the sources of all kernels, the compiler's versions and settings, Python and the CPU into a folder name."""
    sha = hashlib.sha256()
    for package in _SOURCES:
        for entry in sorted(importlib.resources.files(package).iterdir(), key=lambda entry: entry.name):
            if entry.name.endswith(".py"):
                sha.update(f"{package}/{entry.name}\0".encode() + entry.read_bytes())
    settings = [repr(getattr(numba.config, name, None)) for name in _SETTINGS]
    python = sys.implementation.cache_tag, getattr(sys, "abiflags", "")
    sha.update(repr((BLOCK, numba.__version__, llvmlite.__version__, numpy.__version__, settings, python)).encode())
    sha.update(repr(cpu_target.target_context.codegen().magic_tuple()).encode())
    return "numba-" + sha.hexdigest()[:20]
