"""Arrays of other libraries: taken without a copy, on the caller's stream, and answered in kind."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pagnp import gpuarrays, ops
from pagnp.backends.base import get_backend
from pagnp.contract import compare
from pagnp.gpucheck.job import Job
from pagnp.model import Model
from pagnp.types import Array, Pixels


@dataclass(frozen=True)
class Library:
    """A library with arrays on the GPU.

    make     NumPy array -> its array
    address  of an array of it
    stream   returns a context in which its work, and what it makes, is on a stream of its own
    finish   waits for all work of the library
    """

    make: Callable[[Array], Any]
    address: Callable[[Any], int]
    stream: Callable[[], contextlib.AbstractContextManager[Any]]
    finish: Callable[[], object]


def _cupy() -> Library:
    import cupy

    finish = cupy.cuda.runtime.deviceSynchronize
    return Library(cupy.asarray, lambda a: a.data.ptr, lambda: cupy.cuda.Stream(non_blocking=True), finish)


def _torch() -> Library:
    import torch

    if not torch.cuda.is_available():
        raise ImportError(f"torch {torch.__version__} finds no GPU")
    stream = lambda: torch.cuda.stream(torch.cuda.Stream())  # noqa: E731
    return Library(lambda a: torch.from_numpy(a).cuda(), lambda t: t.data_ptr(), stream, torch.cuda.synchronize)


def _numba() -> Library:
    from numba import cuda

    return Library(cuda.to_device, lambda a: a.device_ctypes_pointer.value, contextlib.nullcontext, cuda.synchronize)


LIBRARIES: dict[str, Callable[[], Library]] = {"cupy": _cupy, "torch": _torch, "numba": _numba}


def check(job: Job, host: Model, pixels: Pixels, libraries: dict[str, Callable[[], Library]] = LIBRARIES) -> None:
    """Run images, tensors and an op on arrays of each library that is there."""
    model = Model(host.graph, job.backend)
    for name, load in libraries.items():
        try:
            library = load()
        except Exception as error:  # not installed, or without a GPU of its own
            job.record.skip(f"arrays of {name}", f"{type(error).__name__}: {error}")
            continue
        for place, stream in (("", contextlib.nullcontext), (", own stream", library.stream)):
            with job.record.attempt(f"arrays of {name}{place}"):
                with stream():
                    problems = _problems(job.backend, model, host, library, pixels)
                job.record.check(f"arrays of {name}{place}", problems)


def _problems(backend, model, host, library, pixels):
    image = library.make(pixels)
    adopted, found = backend.arrays.adopt(image), []
    if backend.arrays.pointer(adopted) != library.address(image):
        found.append("the array was copied")
    for how in ("launched", "recorded", "replayed"):
        result = model(image)
        found += [f"{how}: {name} is {_kind(a)}" for name, a in result.logits.items() if _kind(a) != _kind(image)]
        library.finish()
        if result.to_host().digest != host(pixels).digest:
            found.append(f"{how}: another digest")
    return found + _op_problems(backend, library, pixels)


def _op_problems(backend, library, pixels):
    x = (pixels[None].astype("float32") - 100) / 7
    given = library.make(x)
    got = ops.relu(ops.add(given, given, backend=backend), backend=backend)
    library.finish()
    reference = get_backend("numpy")
    want = ops.relu(ops.add(x, x, backend=reference), backend=reference)
    found = [] if _kind(got) == _kind(given) else [f"ops.relu gave {_kind(got)}"]
    difference = compare(gpuarrays.to_host(got), want)
    return found + ([f"ops.relu: {difference}"] if difference else [])


def _kind(array):
    return gpuarrays.type_name(array)
