"""Where a measurement was made: the CPU, what kernels use of it, versions, and how busy the machine was."""

import os
import platform
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from pagnp import __version__
from pagnp.types import Json

PACKAGES = ("numpy", "numba", "llvmlite")
PEERS = {"torch": ("torch",), "torch-eager": ("torch",), "onnxruntime": ("onnxruntime", "onnx")}
FEATURES = ("sse4.2", "avx", "fma", "avx2", "avx512f", "neon")  # those that decide about kernels


def environment(peers: Iterable[str] = ()) -> Json:
    """Return what a reader needs to judge the numbers; packages that are not installed have version None."""
    from pagnp.backends.numba_cpu.compile import cpu_features
    from pagnp.backends.numba_cpu.microkernel import TILES
    from pagnp.backends.numba_cpu.threads import default_threads
    from pagnp.backends.numba_cpu.vectorcode import has_fma_unit

    wanted = dict.fromkeys((*PACKAGES, *(package for peer in peers for package in PEERS[peer])))
    return {
        "cpu": cpu_name(),
        "cores": default_threads(),
        "features": [name for name in FEATURES if name in cpu_features()],
        "lanes": TILES[0][2],
        "tiles": [f"{pixels}x{width}" for pixels, width, _ in TILES],
        "fma": "hardware" if has_fma_unit() else "emulated",
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "pagnp": __version__,
        "packages": {package: version(package) for package in wanted},
        "load": [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else None,
    }


def cpu_name() -> str:
    """Return the CPU's name with family and model, which tell virtual machines' CPUs apart."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    pairs = [line.partition(":") for line in lines if ":" in line]
    found = {key.strip(): value.strip() for key, _, value in reversed(pairs)}  # the first core's are left
    name = found.get("model name") or platform.processor() or platform.machine()
    known = [f"{key.removeprefix('cpu ')} {found[key]}" for key in ("cpu family", "model", "stepping") if key in found]
    return f"{name} ({', '.join(known)})" if known else str(name)


def version(package: str) -> str | None:
    """Return the version of an installed package, or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def line(found: Json) -> str:
    """Return `environment` as one line of text."""
    packages = ", ".join(f"{name} {number or 'not installed'}" for name, number in found["packages"].items())
    load = "unknown" if found["load"] is None else " ".join(f"{value:.2f}" for value in found["load"])
    return (
        f"{found['cpu']}, {found['cores']} core(s) usable; {', '.join(found['features']) or 'no known features'}: "
        f"{found['lanes']} lanes, tiles {', '.join(found['tiles'])}, fma in {found['fma']}; {found['system']}; "
        f"python {found['python']}, pagnp {found['pagnp']}, {packages}; load at the start {load}"
    )
