"""One call of an op: its arrays checked, moved to where the kernel runs, the result given back as the caller's kind."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt

from pagnp import gpuarrays
from pagnp.backends.base import Backend, BackendLike, get_backend
from pagnp.backends.choice import of_array
from pagnp.errors import DtypeError, ShapeError, SiteError, UsageError
from pagnp.types import Array, Index, Mask, MaybeNone, Tensor


class Call:
    """A call of the op named `op` on a backend, given by name or as a Backend.

    The checks take arrays as the caller gave them and return NumPy arrays or arrays of the backend's device: both have
    shape, dtype, ndim, size and reshape, and both are annotated as NumPy's. Only `run` copies NumPy arrays to the
    device: by then all arguments are known, and with them the stream to work on. The first argument on a GPU decides of
    which kind the result is.
    """

    def __init__(self, op: str, backend: BackendLike, threads: int | None = None) -> None:
        self.op = op
        if isinstance(backend, Backend) and threads is not None:
            raise UsageError(
                f"{op}: threads is {threads!r}, the backend has its own; give its name, or leave threads out"
            )
        self.backend = backend if isinstance(backend, Backend) else get_backend(backend, threads)
        self._arrays = self.backend.arrays
        self._types: tuple[Any, ...] = (np.ndarray,)  # of the arrays that are taken
        self._given: Any = None  # the first argument on a GPU
        self._stream: int | None = None
        self._own: list[Any] = []  # arrays where the kernels run

    # Checks

    def adopt(self, name: str, value: Any) -> Any:
        """Return an array on a GPU as one of the backend's device, C-contiguous; anything else as it is.

        Nothing is copied but arrays with gaps or other orders of axes, on the device and by their own library.
        """
        if is_numpy(value):
            return value
        if self._arrays.on_host:
            return self._refuse_gpu(name, value)
        adopted = gpuarrays.adopted(self._arrays, value, f"{self.op}: {name}")
        if adopted is None:
            return value
        self._follow(value)
        self._types = (*self._types, type(adopted))
        return adopted

    def _follow(self, value):
        """Work on the stream of the first argument on a GPU, and after what makes the others on other streams."""
        stream = gpuarrays.stream_of(value)
        if self._given is None:
            self._given, self._stream = value, stream
        elif stream != self._stream:
            with self._on(stream):
                mark = self._arrays.mark()
            with self.in_order():
                self._arrays.follow(mark)

    def _refuse_gpu(self, name, value):
        if gpuarrays.on_gpu(value):
            where = f"a {gpuarrays.type_name(value)} on a GPU, backend '{self.backend.name}' takes NumPy arrays"
            hint = f"{gpuarrays.to_numpy_hint(name, value)}, or use backend='{of_array(value)}'"
            raise DtypeError(f"{self.op}: {name} is {where}; {hint}")
        return value

    def dtype(self, adopted: Any) -> Any:
        """Return the dtype of an adopted array, None for anything else."""
        return adopted.dtype if isinstance(adopted, self._types) else None

    def array(self, name: str, value: Any, dtype: npt.DTypeLike, axes: str | MaybeNone) -> Array:
        """Return `value` C-contiguous (copied if need be) after checking its dtype and its axes.

        axes  their names, as in "(n, h, w, c)"; None for any number. Only "(m,)" and "(m, c)" may be empty.
        """
        want, value = np.dtype(dtype), self.adopt(name, value)
        have = self.dtype(value)
        if have is None:
            kind = type(value).__name__
            raise DtypeError(f"{self.op}: {name} is a {kind}, need a {want} array {axes or ''}".rstrip())
        if have != want:
            raise DtypeError(f"{self.op}: {name} is {have}, need {want}; convert it with {name}.astype(np.{want})")
        ndim = value.ndim if axes is None else len(axes.removesuffix(",)").split(","))
        if value.ndim != ndim:
            batch = axes.startswith("(n, ") and value.ndim == ndim - 1
            hint = f"; add the batch axis with {name}[None]" if batch else ""
            raise ShapeError(f"{self.op}: {name} has shape {value.shape}, need {axes}{hint}")
        if value.size == 0 and axes not in ("(m,)", "(m, c)"):
            raise ShapeError(f"{self.op}: {name} has shape {value.shape}, every size must be at least 1")
        return contiguous(value)

    def tensor(self, name: str, value: Any) -> Tensor:
        """Return a checked float32 (n, h, w, c)."""
        return self.array(name, value, np.float32, "(n, h, w, c)")

    def tensors(self, name: str, values: Sequence[Any]) -> list[Tensor]:
        """Return a list of checked tensors, of at least one."""
        if not isinstance(values, (list, tuple)) or not values:
            raise UsageError(f"{self.op}: {name} is {type(values).__name__}, need a list of at least one array")
        return [self.tensor(f"{name}[{i}]", value) for i, value in enumerate(values)]

    def mask(self, name: str, value: Any, shape: tuple[int, ...] | None = None) -> Mask:
        """Return a checked bool (n, h, w); with `shape` given, of that shape or (n, 1, 1)."""
        value = self.array(name, value, np.bool_, "(n, h, w)")
        if shape is not None and value.shape not in (shape, (shape[0], 1, 1)):
            raise ShapeError(f"{self.op}: {name} has shape {value.shape}, need {shape} or {(shape[0], 1, 1)}")
        return value

    def channel_vector(self, name: str, value: Any, channels: int) -> Tensor:
        """Return a checked float32 (channels,)."""
        value = self.array(name, value, np.float32, "(c,)")
        if value.shape != (channels,):
            raise ShapeError(f"{self.op}: {name} has shape {value.shape}, need ({channels},)")
        return value

    def sites(self, value: Any, count: int) -> Index:
        """Return checked sites: int32 (m,), strictly increasing, inside 0 .. count-1."""
        value = self.array("sites", value, np.int32, "(m,)")
        seen = self.values(value)
        backwards = np.flatnonzero(seen[1:] <= seen[:-1])
        if len(backwards):
            i = int(backwards[0])
            pair = f"sites[{i + 1}] = {seen[i + 1]} follows {seen[i]}"
            raise SiteError(f"{self.op}: {pair}, need strictly increasing sites; sort them with np.unique")
        if len(seen) and not 0 <= seen[0] <= seen[-1] < count:
            place = f"the map has {count} pixels, 0 to {count - 1}"
            raise SiteError(f"{self.op}: sites run from {seen[0]} to {seen[-1]}, {place}")
        return value

    def values(self, array: Array) -> Array:
        """Return a checked array as a NumPy array: from a device a copy, after waiting for it."""
        if is_numpy(array):
            return array
        with self.in_order():
            return self._arrays.to_host(array)

    # Running

    def in_order(self) -> AbstractContextManager[None]:
        """Inside the block work is queued on the stream of the caller's arrays."""
        return self._on(self._stream)

    def _on(self, stream: int | None) -> AbstractContextManager[None]:
        as_it_is: AbstractContextManager[None] = nullcontext()
        return as_it_is if stream is None else self._arrays.on_stream(stream)

    def there(self, value: Any) -> Any:
        """Return a checked array where the kernels run; of a list each; anything else as it is."""
        if isinstance(value, list):
            return [self.there(part) for part in value]
        if not is_numpy(value) or self._is_own(value):
            return value
        return self._arrays.to_device(value)

    def _is_own(self, value):
        """Return whether an array is one of `empty`: a simulated device has NumPy arrays, too."""
        return any(value is own or value.base is own for own in self._own)

    def empty(self, shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> Any:
        """Return a new array, of any content, where the kernels run."""
        with self.in_order():
            self._own.append(self._arrays.empty(shape, dtype))
        return self._own[-1]

    def run(self, *args: Any, kernel: str | None = None) -> Any:
        """Call the op's kernel, or another one."""
        with self.in_order():
            return self.backend.kernels[kernel or self.op](*(self.there(value) for value in args))

    def result(self, out: Any) -> Any:
        """Return `out` as the caller's kind of array."""
        with self.in_order():
            return self._arrays.to_host(out) if self._given is None else gpuarrays.like(self._given, out)

    def fill(self, *args: Any, shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> Any:
        """Call the op's kernel with `args` and a new `out`, and return that."""
        out = self.empty(shape, dtype)
        self.run(*args, out)
        return self.result(out)


def contiguous(adopted: Any) -> Any:
    """Return an adopted array C-contiguous; those on a device are."""
    # ascontiguousarray makes an axis where there is none.
    return np.ascontiguousarray(adopted).reshape(adopted.shape) if is_numpy(adopted) else adopted


def is_numpy(value: object) -> bool:
    """Return whether `value` is an array in the host's memory."""
    return isinstance(value, np.ndarray) and not gpuarrays.on_gpu(value)
