"""Compiled GPU kernels on disk, one file each, whole or not there: <cache>/numba-cuda-<hash>/<kernel>-<hash>.nbc

As numba_cpu/kernelcache.py, for the same reasons: Numba's own cache does not notice an edited device function, and
two processes that write at once can spoil its index. The folder's name is the hash of every source that a kernel can
be made of, and of the compiler; the name of a file that of the types of the arguments and of the GPU's architecture.
"""

import functools
import hashlib
import importlib.metadata
import pickle
import warnings

import numba
from numba import cuda
from numba.cuda import dispatcher, serialize
from numba.cuda.core import caching

from pagnp import notices
from pagnp.backends.diskcache import read_checked, version_hash, writable_folder, write_checked
from pagnp.contract import BLOCK

_SOURCES = ("pagnp.backends", "pagnp.backends.gpu", "pagnp.backends.numba_cuda")  # and BLOCK
_PACKAGES = (
    "numba-cuda",
    "numba",
    "llvmlite",
    "numpy",
    "cuda-bindings",
    "cuda-core",
    "nvidia-nvvm",
    "nvidia-nvjitlink",
)
_SETTINGS = ("OPT", "CUDA_DEBUGINFO_DEFAULT")  # NUMBA_... that change code


@functools.cache
def cache_folder():
    """Return the folder of this version's compiled kernels as a Path, or None (said once) where none can be written."""
    settings = [repr(getattr(numba.config, name, None)) for name in _SETTINGS]
    versions = [_version(name) for name in _PACKAGES]
    return writable_folder("numba-cuda-" + version_hash(_SOURCES, BLOCK, versions, settings))


def _version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # the toolkit of the system, or of conda
        return None


class KernelCache(caching._Cache):
    """One kernel's entries. It can only help: what cannot be read is compiled, what cannot be written is not kept."""

    told = False  # of any kernel, that one is being compiled
    warned = False  # of any kernel, that one cannot be kept

    def __init__(self, name):
        self._name = name

    @property
    def cache_path(self):
        return str(cache_folder())

    def enable(self):
        """Do nothing: there is no way to switch this cache off."""

    def disable(self):
        """Do nothing, see `enable`."""

    def flush(self):
        """Do nothing: an entry that is damaged is written again."""

    def load_overload(self, sig, target_context):
        """Return Numba's kernel for the argument types `sig`, or None: then Numba compiles."""
        kernel = self._loaded(sig)
        if kernel is None and not KernelCache.told:
            KernelCache.told = True
            kept = "in every process" if cache_folder() is None else f"once; they are kept in {cache_folder()}"
            notices.tell(f"compiling kernels for this GPU, a second or more each, {kept}")
        return kernel

    def save_overload(self, sig, kernel):
        """Keep the kernel, with its machine code, if there is room."""
        if cache_folder() is None:
            return
        body = serialize.dumps(kernel._reduce_states())
        try:
            write_checked(self._path(sig), body)
        except OSError as error:
            if not KernelCache.warned:
                KernelCache.warned = True
                reason = error.strerror or type(error).__name__
                message = f"pagnp: cannot keep compiled kernels in {cache_folder()} ({reason}); set PAGNP_CACHE_DIR"
                warnings.warn(message, RuntimeWarning, stacklevel=2)

    def _path(self, sig):
        key = repr((sig, cuda.get_current_device().compute_capability))
        return cache_folder() / f"{self._name}-{hashlib.sha256(key.encode()).hexdigest()[:20]}.nbc"

    def _loaded(self, sig):
        if cache_folder() is None:
            return None
        content = read_checked(self._path(sig))
        if content is None:
            return None
        kernel = dispatcher._Kernel._rebuild(**pickle.loads(content))
        return kernel if tuple(kernel.signature.args) == tuple(sig) else None
