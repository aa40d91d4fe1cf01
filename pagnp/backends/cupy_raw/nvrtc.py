"""CUDA C to machine code, by NVRTC alone and without a GPU.

Not by CuPy: it appends -ftz=true to the options (cupy issue 9576), and NVRTC heeds the last one, so that subnormal
numbers would become zero.
"""

import functools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pagnp
from pagnp.errors import BackendError

OPTIONS = ("--fmad=false", "--ftz=false", "--prec-div=true", "--prec-sqrt=true", "--std=c++17")
OLDEST = 75  # compute capability 7.5: what NVRTC 13 still knows
EXTRA = "pip install 'pagnp[cuda13]'"
_INCLUDE = re.compile(rb'^[ \t]*#[ \t]*include[ \t]*"([^"]+)"', re.MULTILINE)
_LOG_LINES = 4  # of the compiler's messages that an error shows


class Compiled(NamedTuple):
    """Machine code (empty for a compute_XX), the PTX it was made of, and what the compiler said."""

    cubin: bytes
    ptx: str
    log: str


def source_folder() -> Path:
    """Return the folder of the CUDA C sources: the installed package's, else the source tree's."""
    package = Path(pagnp.__file__).parent
    for folder in (package / "_cuda", package.parent / "cuda"):
        if (folder / "contract.cuh").is_file():
            return folder
    raise BackendError(f"backend 'cupy': no CUDA sources in {package / '_cuda'}; install pagnp again")


def read_sources(source: str) -> dict[str, bytes]:
    """Return name -> content of cuda/<source>.cu, which is the first, and of all that it includes."""
    folder, found, wanted = source_folder(), {}, [f"{source}.cu"]
    while wanted:
        name = wanted.pop(0)
        try:
            found[name] = (folder / name).read_bytes()
        except OSError as error:
            raise BackendError(f"backend 'cupy': cannot read {folder / name}; install pagnp again") from error
        wanted += [header for match in _INCLUDE.findall(found[name]) if (header := match.decode()) not in found]
    return found


def compile_sources(sources: Mapping[str, bytes], arch: str, options: Sequence[str] = OPTIONS) -> Compiled:
    """Compile the first of `sources` for `arch`, "sm_90"; the others are what it may include.

    Raises: BackendError with the compiler's first lines.
    """
    nvrtc = _nvrtc()
    (name, text), *headers = ((name.encode(), text) for name, text in sources.items())
    contents, names = [text for _, text in headers], [name for name, _ in headers]
    program = _called(name, nvrtc.nvrtcCreateProgram(text, name, len(headers), contents, names))
    try:
        arguments = [option.encode() for option in (f"-arch={arch}", *options)]
        status = nvrtc.nvrtcCompileProgram(program, len(arguments), arguments)[0]
        log = _text(name, program, nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog).decode(errors="replace")
        if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            said = [line.strip() for line in log.splitlines() if line.strip()][:_LOG_LINES]
            raise BackendError(f"backend 'cupy': {name.decode()} for {arch}: {' | '.join(said) or status.name}")
        ptx = _text(name, program, nvrtc.nvrtcGetPTXSize, nvrtc.nvrtcGetPTX).decode()
        is_virtual = arch.startswith("compute_")
        cubin = b"" if is_virtual else _bytes(name, program, nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN)
        return Compiled(cubin, ptx, log)
    finally:
        nvrtc.nvrtcDestroyProgram(program)


@functools.cache
def version() -> tuple[int, int]:
    """Return NVRTC's (major, minor). Raises BackendError if it is not installed."""
    return _called(b"nvrtcVersion", _nvrtc().nvrtcVersion())


@functools.cache
def architectures() -> tuple[int, ...]:
    """Return the compute capabilities that NVRTC compiles for, ascending: 75, 80, ..."""
    return tuple(sorted(_called(b"nvrtcGetSupportedArchs", _nvrtc().nvrtcGetSupportedArchs())))


def architecture(capability: tuple[int, int]) -> str:
    """Return the "sm_XX" to compile for, whose code runs on a GPU of compute capability (major, minor).

    Raises: BackendError if the GPU is too old for pagnp, or too new for this NVRTC.
    """
    major, minor = capability
    if 10 * major + minor < OLDEST:
        raise BackendError(
            f"backend 'cupy': the GPU has compute capability {major}.{minor}, need {OLDEST / 10} or newer; "
            f"use --backend numba"
        )
    # Machine code runs on the same major version with the same or a higher minor one, and nowhere else.
    known = [arch for arch in architectures() if arch // 10 == major and arch % 10 <= minor]
    if not known:
        listed, number = ", ".join(map(str, architectures())), ".".join(map(str, version()))
        raise BackendError(
            f"backend 'cupy': the GPU has compute capability {major}.{minor}, NVRTC {number} compiles for {listed}; "
            f"install a newer nvidia-cuda-nvrtc, or use --backend numba"
        )
    return f"sm_{known[-1]}"


@functools.cache
def _nvrtc() -> Any:
    """Return the module cuda.bindings.nvrtc with its library loaded."""
    try:
        from cuda.bindings import nvrtc
    except ImportError as error:
        raise BackendError(f"backend 'cupy': cannot import {error.name}; {EXTRA}") from error
    try:
        nvrtc.nvrtcVersion()
    except (RuntimeError, OSError) as error:  # cuda-bindings before 13 and after raise different subclasses
        raise BackendError(f"backend 'cupy': the library NVRTC is not installed; {EXTRA}") from error
    return nvrtc


def _called(what, answer):
    """Return the results of an NVRTC function (status, result...), of which there is one or a tuple."""
    status, *results = answer
    if status != _nvrtc().nvrtcResult.NVRTC_SUCCESS:
        raise BackendError(f"backend 'cupy': {what.decode()}: {status.name}")
    return results[0] if len(results) == 1 else tuple(results)


def _bytes(what, program, get_size, get):
    """Return what `get` fills, of the size that `get_size` gives."""
    content = bytes(_called(what, get_size(program)))
    _called(what, get(program, content))
    return content


def _text(what, program, get_size, get):
    """Return a text without its end mark."""
    return _bytes(what, program, get_size, get).rstrip(b"\0")
