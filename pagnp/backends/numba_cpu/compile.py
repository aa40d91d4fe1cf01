"""`jit`: Numba's compiler with the contract's options and an on-disk cache of our own.

Numba's own cache does not notice an edited helper of a cached function, and its folder is one global setting of the
host program. Here the folder is ours and its name holds a hash of every source that a kernel can be made of, Numba's
version and the CPU, so that an entry can never be stale.

    $PAGNP_CACHE_DIR, or the user's cache folder + pagnp
        numba-<hash>/conv.conv2d_f32-12.py311.nbi, .1.nbc
"""

import functools
import hashlib
import importlib.resources
import os
import stat
import sys
import tempfile
import warnings
from pathlib import Path

import llvmlite
import numba
from numba.core import caching
from numba.core.registry import cpu_target

from pagnp.contract import BLOCK

_SOURCES = ("pagnp.backends", "pagnp.backends.numba_cpu")  # the packages whose modules kernels are made of, and BLOCK


def jit(function=None, *, cached=True):
    """Compile a module-level function at its first call: nogil, no bounds checks, no fast-math, division as in NumPy.

    cached  keep the machine code on disk; False for a helper that only other kernels call (it is part of theirs)
    Numerics: Numba contracts no product and sum into an fma and reorders nothing without fast-math.
    """
    if function is None:
        return functools.partial(jit, cached=cached)
    dispatcher = numba.njit(nogil=True, boundscheck=False, fastmath=False, error_model="numpy")(function)
    if cached and cache_folder() is not None:
        dispatcher._cache = _KernelCache(function)  # what enable_caching() does, with our folder
    return dispatcher


@functools.cache
def cpu_features():
    """Return the set of CPU features that Numba compiles for (NUMBA_CPU_FEATURES included)."""
    _, _, features = cpu_target.target_context.codegen().magic_tuple()
    return frozenset(name[1:] for name in features.split(",") if name.startswith("+"))


def cpu_triple():
    """Return LLVM's name of the machine, x86_64-unknown-linux-gnu for one."""
    return cpu_target.target_context.codegen().magic_tuple()[0]


@functools.cache
def cache_folder():
    """Return the folder of this version's compiled kernels as a Path, or None (said once) where none can be written."""
    key = _version_key()
    wanted = _user_folder() / key
    if _usable(wanted):
        return wanted
    temporary = Path(tempfile.gettempdir()) / f"pagnp-{os.getuid() if hasattr(os, 'getuid') else 'user'}"
    usable = _usable(temporary, private=True) and _usable(temporary / key)
    instead = f"using {temporary}" if usable else "kernels are compiled anew in every process"
    warnings.warn(f"pagnp: cannot write {wanted}; {instead} (set PAGNP_CACHE_DIR)", RuntimeWarning, stacklevel=2)
    return temporary / key if usable else None


def _user_folder():
    """Return where this user's caches belong, without creating it."""
    if os.environ.get("PAGNP_CACHE_DIR"):
        return Path(os.environ["PAGNP_CACHE_DIR"])
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA", "~/AppData/Local")
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "pagnp"


def _usable(folder, private=False):
    """Create `folder`; true if we can write there and, for `private`, only we can (entries are pickles)."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        tempfile.TemporaryFile(dir=folder).close()
        if private and hasattr(os, "getuid"):
            status = folder.lstat()
            return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o077
    except OSError:
        return False
    return True


def _version_key():
    """Hash the sources of all kernels, the compiler's versions and the CPU into one folder name."""
    sha = hashlib.sha256()
    for package in _SOURCES:
        for entry in sorted(importlib.resources.files(package).iterdir(), key=lambda entry: entry.name):
            if entry.name.endswith(".py"):
                sha.update(f"{package}/{entry.name}\0".encode() + entry.read_bytes())
    sha.update(repr((BLOCK, numba.__version__, llvmlite.__version__)).encode())
    sha.update(repr(cpu_target.target_context.codegen().magic_tuple()).encode())
    return "numba-" + sha.hexdigest()[:20]


class _Locator(caching._CacheLocator):
    """Says where one function's entries lie. The folder's name is the stamp, so entries are never out of date."""

    def __init__(self, function):
        self._py_file = function.__code__.co_filename  # read by Numba for its messages
        self._lineno = function.__code__.co_firstlineno

    def get_cache_path(self):
        return str(cache_folder())

    def get_source_stamp(self):
        return cache_folder().name

    def get_disambiguator(self):
        return str(self._lineno)


class _KernelCacheImpl(caching.CompileResultCacheImpl):
    """Numba's way to store machine code, under our locator only (the parent would ask the host's settings)."""

    def __init__(self, function):
        self._lineno = function.__code__.co_firstlineno
        self._locator = _Locator(function)
        name = f"{function.__module__.rpartition('.')[2]}.{function.__qualname__}"
        self._filename_base = self.get_filename_base(name, getattr(sys, "abiflags", ""))


class _KernelCache(caching.FunctionCache):
    """A cache that can only help: an entry that cannot be read is compiled again, one that cannot be written is not."""

    _impl_class = _KernelCacheImpl

    def load_overload(self, sig, target_context):
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # a damaged pickle raises anything
            self._forget()
            return None

    def save_overload(self, sig, data):
        try:
            super().save_overload(sig, data)
        except OSError:
            self.disable()

    def _forget(self):
        try:
            self.flush()
        except OSError:
            self.disable()
