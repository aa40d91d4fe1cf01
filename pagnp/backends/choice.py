"""Which backend "auto" and "auto-gpu" mean. What was chosen, and why, is told: nothing falls back silently."""

from pagnp.backends.base import GPU, MODULES, Backend, BackendLike, get_backend
from pagnp.errors import BackendError
from pagnp.gpuarrays import ordinal_of
from pagnp.notices import tell

AUTO, AUTO_GPU = "auto", "auto-gpu"


def choose(backend: BackendLike, threads: int | None = None, say: bool = False) -> Backend:
    """Return the Backend that `backend` names, or itself.

    "auto"      numba: images are in the host's memory as a rule; a model takes arrays of a GPU to that GPU
    "auto-gpu"  cupy, else numba-cuda, else numba
    say         tell the choice of "auto", too
    """
    if isinstance(backend, Backend):
        return backend
    if backend == AUTO:
        if say:
            tell("backend auto: numba, on the CPU; --backend auto-gpu takes a GPU where there is one")
        return get_backend("numba", threads)
    if backend == AUTO_GPU:
        return _with_gpu(threads)
    if backend not in MODULES:
        names = ", ".join((AUTO, AUTO_GPU, *MODULES))
        raise BackendError(f"backend '{backend}' is unknown; choose one of {names}")
    return get_backend(backend, threads)


def on_host(backend: Backend) -> Backend:
    """Return `backend`, or for one on a GPU the reference: for single steps on arrays that are on the host."""
    return backend if backend.arrays.on_host else get_backend("numpy")


def of_array(array: object) -> str:
    """Return the name of the GPU backend for an array of a GPU: that of its library."""
    return "numba-cuda" if type(array).__module__.partition(".")[0] == "numba" else "cupy"


def backend_of(array: object) -> Backend:
    """Return the GPU backend for an array of a GPU, on that GPU even where another one is current."""
    backend, ordinal = get_backend(of_array(array)), ordinal_of(array)
    if backend.name == "cupy" and ordinal not in (None, backend.arrays.ordinal):
        from pagnp.backends import cupy_raw

        return cupy_raw.make(ordinal=ordinal)
    return backend


def _with_gpu(threads):
    refusals = []
    for name in GPU:
        try:
            backend = get_backend(name, threads)
        except BackendError as error:
            refusals.append(str(error).partition(";")[0])
            continue
        if backend.arrays.simulated:
            refusals.append(f"backend '{name}' runs in {backend.arrays.description}")
        else:
            tell(f"backend auto-gpu: {name} on {backend.arrays.description}" + "".join(f" ({why})" for why in refusals))
            return backend
    tell(f"backend auto-gpu: numba, on the CPU, because of {'; '.join(refusals)}")
    return get_backend("numba", threads)
