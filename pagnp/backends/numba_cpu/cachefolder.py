"""Where this user's compiled kernels lie. The folder's name makes stale entries impossible.

    $PAGNP_CACHE_DIR, or the user's cache folder + pagnp
        numba-<hash>/

Numba's own folder is one global setting of the host program, and its cache does not notice an edited helper of a cached
function. This one is ours, and the hash is of every source that a kernel can be made of, the compiler and the CPU.
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
import numpy
from numba.core.registry import cpu_target

from pagnp.contract import BLOCK

_SOURCES = ("pagnp.backends", "pagnp.backends.numba_cpu")  # the packages whose modules kernels are made of, and BLOCK
_SETTINGS = ("OPT", "LOOP_VECTORIZE", "SLP_VECTORIZE", "BOUNDSCHECK", "DEBUGINFO_DEFAULT")  # NUMBA_... that change code


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
        return Path(os.environ["PAGNP_CACHE_DIR"]).absolute()  # the host may change its folder later
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA", "~/AppData/Local")
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        return Path(base).expanduser() / "pagnp"
    except RuntimeError:  # a user without a home, as in some containers
        return Path(base) / "pagnp"


def _usable(folder, private=False):
    """Create `folder`; true if we can write there and, for `private`, only we can (entries are pickles)."""
    if "~" in folder.parts:  # no home: a folder of that name in the current one is not meant
        return False
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
