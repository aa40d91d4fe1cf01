"""Compiles the shim and the CUDA sources with g++ to shared libraries, once for each content."""

import functools
import hashlib
import os
import shutil
import subprocess
import threading
from pathlib import Path

from cuda_shim import declarations

HERE = Path(__file__).resolve().parent
SOURCES = HERE.parents[1] / "cuda"
MACHINE = ("machine.cpp", "faults.cpp", "together.cpp", "launch.cpp", "signals.cpp", "undefined.cpp", "shadow.cpp")
FLAGS = ("-std=c++17", "-O2", "-ffp-contract=off", "-fPIC", "-DPAGNP_SHIM", "-fvisibility=hidden")
WARNINGS = ("-Wall", "-Werror", "-Wno-unknown-pragmas")
CHECKS = (
    *("-fsanitize=undefined,thread", "-fsanitize=float-cast-overflow", "--param=tsan-instrument-func-entry-exit=0"),
    *("-g1", "-fno-tree-vectorize", "-fno-tree-loop-distribute-patterns"),  # every access by itself, none by memset
)


class BuildError(Exception):
    """The compiler refused a source."""


@functools.cache
def compiler():
    """Return the path of g++, or None."""
    return shutil.which("g++")


@functools.cache
def _has_fma_unit():
    """Tell whether this processor has fma; else std::fma does the same in software."""
    try:
        return " fma " in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False


def flags():
    """Return the compiler's options for this machine."""
    return [*FLAGS, *WARNINGS, *(["-mfma"] if _has_fma_unit() else [])]


def run(command):
    """Run g++; return what it prints. Raises BuildError."""
    done = subprocess.run([compiler(), *map(str, command)], capture_output=True, text=True)
    if done.returncode:
        raise BuildError(f"g++ {' '.join(map(str, command))}\n{done.stderr}")
    return done.stdout


def _key(*parts):
    """Return a short hash of texts, the flags and all files of the shim."""
    files = [path.read_bytes() for path in sorted(HERE.glob("*.h")) + [HERE / name for name in MACHINE]]
    texts = [part.encode() for part in (*parts, *flags(), compiler())]
    return hashlib.sha256(b"\0".join(files + texts)).hexdigest()[:16]


def _made(path, make):
    """Return `path`, made by make(another path) if it is not there: others who make it, too, do not see halves."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
        make(unfinished)
        os.replace(unfinished, path)
    return path


def machine(folder):
    """Return the path of the library that runs the threads."""
    sources = [HERE / name for name in MACHINE]
    key = _key("machine")
    soname = f"libpagnp-shim-{key}.so"
    command = [*flags(), "-shared", "-pthread", f"-Wl,-soname,{soname}", *sources]
    return _made(Path(folder) / soname, lambda path: run([*command, "-o", path]))


def preprocessed(source, include=SOURCES):
    """Return the source with its macros and includes written out, CUDA's own words left as they are."""
    return run(
        [
            "-E",
            "-P",
            "-nostdinc",
            "-std=c++17",
            "-DPAGNP_SHIM",
            "-fvisibility=hidden",
            "-x",
            "c++",
            f"-I{include}",
            source,
        ]
    )


def library(source, signatures, folder, checked=False, include=SOURCES):
    """Return the path of the shared library of a CUDA source.

    signatures  name -> Signature of its kernels; raises SignatureError if the source declares others
    checked     stop a kernel at undefined behaviour, at accesses beyond its arrays, and at races (shadow.cpp)
    """
    source, folder = Path(source), Path(folder)
    text = preprocessed(source, include)
    declared = declarations.kernels_declared(text)
    if problems := declarations.mismatches(source.name, declared, signatures):
        raise declarations.SignatureError("\n".join(problems))
    engine = machine(folder)
    entries = declarations.entries({name: signatures[name] for name in declared})
    options = [*flags(), *(CHECKS if checked else ())]

    def make(path):
        unit = path.with_suffix(f"{path.suffix}.cpp")
        unit.write_text(f'#include "shim.h"\n#include "{source}"\n#include "entries.h"\n{entries}', encoding="utf-8")
        objects = unit.with_suffix(".o")
        run([*options, "-c", f"-I{HERE}", f"-I{include}", unit, "-o", objects])
        run(["-shared", objects, engine, "-Wl,-rpath,$ORIGIN", "-o", path])
        unit.unlink(), objects.unlink()

    name = f"{source.stem}{'-checked' if checked else ''}-{_key(text, source.read_text(), entries, str(checked))}.so"
    return _made(folder / name, make)
