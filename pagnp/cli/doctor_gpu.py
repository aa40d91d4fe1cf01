"""What `pagnp doctor` says of GPUs. To have none is no failure, unless one was asked for; to have a wrong one is."""

import dataclasses
from importlib import metadata

from pagnp.backends.gpu import driver
from pagnp.errors import BackendError

PACKAGES = ("cupy-cuda13x", "cupy-cuda12x", "cupy", "numba-cuda", "cuda-bindings")


def state():
    """Return one line: the GPUs and their driver, or why there is none, and the packages for them."""
    try:
        gpus = "; ".join(
            f"{gpu.name} (compute capability {'.'.join(map(str, gpu.capability))}, {gpu.memory / 2**30:.1f} GiB)"
            for gpu in driver.gpus()
        )
        release = driver.release()
        cuda = ".".join(map(str, driver.cuda_version()))
        here = f"{gpus}; driver {f'{release}, ' if release else ''}CUDA {cuda}"
    except driver.DriverProblem as problem:
        here = f"none: {problem}"
    return f"{here}; {', '.join(_packages()) or 'no packages for one'}"


def _packages():
    found = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    try:
        from pagnp.backends.cupy_raw import nvrtc

        return [*found, f"NVRTC {'.'.join(map(str, nvrtc.version()))}"]
    except BackendError:
        return found


def on_numpy(backend):
    """Return `backend` with kernels that take NumPy arrays, for checks of single ops; one of the host as it is."""
    if backend.arrays.on_host:
        return backend
    from pagnp.testing.devicecase import on_host_arrays

    return dataclasses.replace(backend, kernels=on_host_arrays(backend))
