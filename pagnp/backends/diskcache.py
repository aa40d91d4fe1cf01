"""Where this user's compiled kernels lie on disk, and how one gets there whole.

The place is $PAGNP_CACHE_DIR, or the user's cache folder + pagnp. In it are

    numba-<hash>/   kernels of the CPU (numba_cpu/cachefolder.py)
    cuda/           kernels of GPUs (cupy_raw/cubins.py)
    numba-cuda-<hash>/  the same as Numba functions (numba_cuda/kernelcache.py)
"""

import contextlib
import hashlib
import importlib.resources
import os
import secrets
import stat
import sys
import tempfile
import warnings
from collections.abc import Iterable
from pathlib import Path

_DIGEST = hashlib.sha256().digest_size


def writable_folder(name: str) -> Path | None:
    """Return the folder `name` of the cache, one in the system's temporary folder, or None; said if not the first."""
    wanted = _user_folder() / name
    if _usable(wanted):
        return wanted
    temporary = Path(tempfile.gettempdir()) / f"pagnp-{os.getuid() if hasattr(os, 'getuid') else 'user'}"
    usable = _usable(temporary, private=True) and _usable(temporary / name)
    instead = f"using {temporary}" if usable else "kernels are compiled anew in every process"
    warnings.warn(f"pagnp: cannot write {wanted}; {instead} (set PAGNP_CACHE_DIR)", RuntimeWarning, stacklevel=3)
    return temporary / name if usable else None


def version_hash(packages: Iterable[str], *facts: object) -> str:
    """Return 20 hex digits that stand for the sources of `packages`, this Python, and `facts` by their repr."""
    sha = hashlib.sha256()
    for package in packages:
        for entry in sorted(importlib.resources.files(package).iterdir(), key=lambda entry: entry.name):
            if entry.name.endswith(".py"):
                sha.update(f"{package}/{entry.name}\0".encode() + entry.read_bytes())
    sha.update(repr((sys.implementation.cache_tag, getattr(sys, "abiflags", ""), facts)).encode())
    return sha.hexdigest()[:20]


def write_whole(path: Path, content: bytes) -> None:
    """Put `content` at `path` in one step: of several processes that do, any may come last. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)  # someone may have cleaned up since we looked
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_checked(path: Path, content: bytes) -> None:
    """As `write_whole`, with the hash of `content` before it. Raises OSError."""
    write_whole(path, hashlib.sha256(content).digest() + content)


def read_checked(path: Path) -> bytes | None:
    """Return what `write_checked` put at `path`; None if it is not there, cut short or damaged."""
    try:
        entry = path.read_bytes()
    except OSError:
        return None
    digest, content = entry[:_DIGEST], entry[_DIGEST:]
    return content if hashlib.sha256(content).digest() == digest else None


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
    """Create `folder`; true if we can write there and, for `private`, only we can (entries are run as code)."""
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
