"""Compiled CUDA kernels on disk. A file's name holds a hash of all that it was made of, and one of its content.

    <cache folder>/cuda/conv2d-sm_90-<hash of sources, options and NVRTC>-<hash of the content>.cubin

The second hash is in the name and not in the file because CuPy loads a file as it is.
"""

import contextlib
import functools
import hashlib
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from pagnp import notices
from pagnp.backends.cupy_raw import nvrtc
from pagnp.backends.diskcache import writable_folder, write_whole

FOLDER = "cuda"
_SHOWN = 20  # hex digits of a hash in a name
_told = threading.Event()  # that kernels are being compiled


@contextlib.contextmanager
def cubin_file(source: str, arch: str) -> Iterator[Path]:
    """Give the file with the machine code of cuda/<source>.cu for `arch`, compiled if it is not in the cache.

    Inside the block the file is there; where the cache cannot be written it is a temporary one.
    Raises: BackendError if it cannot be compiled.
    """
    folder, sources = _folder(), nvrtc.read_sources(source)
    start = f"{source}-{arch}-{_key(sources, arch)}-"
    kept = None if folder is None else _kept(folder, start)
    if kept is None:
        _tell(folder)
        content = nvrtc.compile_sources(sources, arch).cubin
        kept = None if folder is None else _keep(folder / f"{start}{_digest(content)}.cubin", content)
    if kept is not None:
        yield kept
        return
    with tempfile.TemporaryDirectory(prefix="pagnp-") as temporary:
        path = Path(temporary) / f"{source}.cubin"
        path.write_bytes(content)
        yield path


@functools.cache
def _folder():
    return writable_folder(FOLDER)


def _key(sources, arch):
    """Hash all that shapes the machine code."""
    sha = hashlib.sha256(repr((arch, nvrtc.OPTIONS, nvrtc.version())).encode())
    for name, content in sources.items():
        sha.update(f"{name}\0{len(content)}\0".encode() + content)
    return sha.hexdigest()[:_SHOWN]


def _digest(content):
    return hashlib.sha256(content).hexdigest()[:_SHOWN]


def _kept(folder, start):
    """Return the file whose name begins with `start` and whose content is as its name says, or None."""
    with contextlib.suppress(OSError):  # a file that goes meanwhile is one that is not there
        for path in folder.glob(f"{start}*.cubin"):
            if path.name == f"{start}{_digest(path.read_bytes())}.cubin":
                return path
    return None


def _keep(path, content):
    """Write the file and return its path, or None where there is no room."""
    try:
        write_whole(path, content)
    except OSError:
        return None
    return path


def _tell(folder):
    """Say, once in a process, that it takes a while."""
    if not _told.is_set():
        _told.set()
        kept = "in every process" if folder is None else f"once; they are kept in {folder}"
        notices.tell(f"compiling kernels for this GPU, some seconds, {kept}")
