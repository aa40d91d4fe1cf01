"""Compiled kernels on disk: one file for a function and the types of its arguments, whole or not there.

Not Numba's own store, where an index names the files of all signatures: two processes that write at once can make it
name the wrong one. Here the name of a file is the hash of what it is for, and its first bytes are the hash of the rest.

    <cache folder>/conv_tiles.conv2d_f32_tiles-<hash>.nbc
"""

import hashlib
import pickle
import re
import warnings

from numba.core import caching, serialize
from numba.core.compiler import CompileResult
from numba.core.runtime.nrt import rtsys

from pagnp import notices
from pagnp.backends.diskcache import read_checked, write_checked
from pagnp.backends.numba_cpu.cachefolder import cache_folder


class KernelCache(caching._Cache):
    """One function's entries. It can only help: what cannot be read is compiled, what cannot be written is not kept.

    Numba calls it with its compiler lock held, so one thread is in here at a time.
    """

    told = False  # of any kernel, that one is being compiled
    warned = False  # of any kernel, that one cannot be kept

    def __init__(self, function):
        code = function.__code__
        self._name = re.sub(r"[^\w.]", "_", f"{function.__module__.rpartition('.')[2]}.{function.__qualname__}")
        # The folder stands for the sources of our kernels; these for a function that is defined elsewhere.
        self._code = (code.co_firstlineno, code.co_code, code.co_consts, code.co_names)

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
        """Return Numba's CompileResult for the argument types `sig`, or None: then Numba compiles."""
        result = self._loaded(sig, target_context)
        if result is None and not KernelCache.told:
            KernelCache.told = True
            folder = cache_folder()
            kept = "in every process" if folder is None else f"once; they are kept in {folder}"
            notices.tell(f"compiling kernels for this machine, some seconds, {kept}")
        return result

    def save_overload(self, sig, result):
        """Keep `result` if its machine code holds no address of this process and there is room."""
        folder = cache_folder()
        if folder is None or result.lifted or result.library.has_dynamic_globals:
            return
        body = serialize.dumps(result._reduce())
        try:
            write_checked(self._path(folder, sig), body)
        except OSError as error:
            if not KernelCache.warned:
                KernelCache.warned = True
                reason = error.strerror or type(error).__name__
                message = f"pagnp: cannot keep compiled kernels in {folder} ({reason}); set PAGNP_CACHE_DIR"
                warnings.warn(message, RuntimeWarning, stacklevel=2)

    def _path(self, folder, sig):
        return folder / f"{self._name}-{hashlib.sha256(repr((sig, self._code)).encode()).hexdigest()[:20]}.nbc"

    def _loaded(self, sig, target_context):
        folder = cache_folder()
        if folder is None:
            return None
        content = read_checked(self._path(folder, sig))
        if content is None:
            return None
        # Of Numba's `target_context.refresh()` loading needs this alone. The rest, 0.15 seconds, registers what source
        # code may call, and the compiler does it too.
        rtsys.initialize(target_context)
        result = CompileResult._rebuild(target_context, *pickle.loads(content))
        return result if tuple(result.signature.args) == tuple(sig) else None
