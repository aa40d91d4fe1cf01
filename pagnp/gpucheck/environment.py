"""The GPU, its driver and the packages that a check ran with. Clocks and limits are read, never set."""

import os
import platform
import subprocess
from pathlib import Path

import pagnp
from pagnp.backends.gpu import driver
from pagnp.bench.environment import cpu_name, version
from pagnp.types import Json

PACKAGES = (
    *("numpy", "numba", "numba-cuda", "cupy-cuda13x", "cupy-cuda12x", "cuda-bindings", "cuda-core", "cuda-toolkit"),
    *("nvidia-cuda-nvrtc", "nvidia-nvvm", "nvidia-cudnn-cu13", "nvidia-cudnn-frontend"),
    *("torch", "triton", "onnxruntime", "onnxruntime-gpu"),
)
SMI = (
    "name",
    "driver_version",
    "memory.total",
    "power.limit",
    "clocks.sm",
    "clocks.max.sm",
    "clocks.mem",
    "ecc.mode.current",
)
PATIENCE = 15  # seconds for nvidia-smi and git


def environment(commit: str | None = None) -> Json:
    """Return what a reader needs to judge the numbers. Raises driver.DriverProblem where there is no GPU.

    commit  of the source, where git cannot be asked
    """
    gpus = driver.gpus()
    return {
        "gpus": [{"name": g.name, "capability": ".".join(map(str, g.capability)), "memory": g.memory} for g in gpus],
        "driver": driver.release(),
        "cuda": ".".join(map(str, driver.cuda_version())),
        "nvrtc": nvrtc_version(),
        "nvidia-smi": smi(),
        "pagnp": pagnp.__version__,
        "commit": commit or git_commit(),
        "python": platform.python_version(),
        "system": " ".join((platform.system(), platform.release().partition("-")[0], platform.machine())),
        "cpu": cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "packages": {name: found for name in PACKAGES if (found := version(name)) is not None},
    }


def nvrtc_version() -> str | None:
    """Return the version of the compiler of cuda/*.cu, None where there is none."""
    from pagnp.backends.cupy_raw import nvrtc
    from pagnp.errors import BackendError

    try:
        return ".".join(map(str, nvrtc.version()))
    except BackendError:
        return None


def smi() -> Json:
    """Return what nvidia-smi says of the first GPU; empty where it is not there."""
    text = _output(["nvidia-smi", f"--query-gpu={','.join(SMI)}", "--format=csv,noheader"])
    values = [value.strip() for value in text.splitlines()[0].split(",")] if text else []
    return dict(zip(SMI, values, strict=False))


def git_commit() -> str | None:
    """Return the commit of the source tree, with "+" if something in it was changed; None where it is none."""
    root = Path(pagnp.__file__).parent.parent
    commit = _output(["git", "-C", str(root), "rev-parse", "HEAD"])
    if not commit:
        return None
    return commit.strip() + ("+" if _output(["git", "-C", str(root), "status", "--porcelain", "-uno"]) else "")


def _output(words: list[str]) -> str:
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout if done.returncode == 0 else ""
