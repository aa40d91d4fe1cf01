"""Device: memory and launches of one GPU, as the host code of the ops sees it. Three implementations: cupy_raw.device,
numba_cuda.device, and one in the tests that runs the CUDA sources on the CPU.
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np

from pagnp.backends.gpu.conv_tiles import Tile

BLOCK = 256  # threads of a block of a kernel that works element by element
DeviceArray: TypeAlias = Any  # cupy.ndarray, numba's DeviceNDArray; shape, dtype, ndim, size, reshape, slices of axis 0


class Sites:
    """A list of sites in device memory of which the host knows only the greatest possible length.

    indices  (capacity,) int32, ascending;  count (1,) int32: how many of them are there; None: all
    """

    def __init__(self, indices: DeviceArray, count: DeviceArray | None = None) -> None:
        self.indices, self.count = indices, count

    def __len__(self) -> int:
        return int(self.indices.shape[0])


class Allocations:
    """The arrays that a run took, in order; a run that takes the same again gets the same memory.

    So the second run of a network allocates nothing, and its launches can be recorded as a CUDA graph.
    """

    def __init__(self) -> None:
        self.taken: list[DeviceArray] = []
        self._next = 0

    def restart(self) -> None:
        """Hand out from the first array again."""
        self._next = 0

    def take(self, device: "Device", shape: tuple[int, ...], dtype: Any) -> DeviceArray:
        """Return the next array; from the first one on that is not what the run before took, new ones."""
        there = self.taken[self._next] if self._next < len(self.taken) else None
        if there is None or there.shape != shape or there.dtype != dtype:
            self.taken[self._next :] = [device.allocate(shape, dtype)]
        self._next += 1
        return self.taken[self._next - 1]


class Device(ABC):
    """One GPU. Everything is in the order of the caller's stream; only `to_host` waits.

    name             of the backend;  description  what the GPU is called;  multiprocessors  how many it has
    ordinal          the GPU's number
    conv_tiles       the tile kernels of conv2d that it may use; none: plain kernels only
    simulated        True if it is none: the CPU plays it
    can_record       True if `record` and `replay` work
    """

    name: str
    description: str = ""
    ordinal: int = 0
    multiprocessors: int = 1
    conv_tiles: tuple[Tile, ...] = ()
    on_host = False
    simulated = False
    can_record = False

    def __init__(self) -> None:
        self._local = threading.local()
        self._constants: dict[Any, DeviceArray] = {}

    # Memory

    @abstractmethod
    def allocate(self, shape: tuple[int, ...], dtype: Any) -> DeviceArray:
        """Return a new C-contiguous array of any content, at least 256-byte aligned. Raises MemoryLimitError."""

    @abstractmethod
    def to_device(self, array: np.ndarray) -> DeviceArray:
        """Return a copy of a NumPy array."""

    @abstractmethod
    def to_host(self, array: DeviceArray) -> np.ndarray:
        """Return a copy as a NumPy array, waiting for what was launched before."""

    @abstractmethod
    def copy(self, source: Any, out: DeviceArray) -> None:
        """Copy `source`, on the device or a NumPy array, to `out`; both contiguous, with as many bytes."""

    @abstractmethod
    def zero(self, out: DeviceArray) -> None:
        """Set all bytes of `out` to 0."""

    @abstractmethod
    def pointer(self, array: DeviceArray) -> int:
        """Return the address of an array: kernels with wide loads want to know how it is aligned."""

    @abstractmethod
    def free_bytes(self) -> int:
        """Return how many bytes could be allocated now."""

    @abstractmethod
    def adopt(self, value: Any) -> DeviceArray | None:
        """Return `value` as an array of this device without a copy; None if it is no device array.

        value   anything with __cuda_array_interface__, or with __dlpack__ on a GPU
        Raises: BackendError if it lies on another GPU.
        """

    @contextmanager
    def on_stream(self, stream: int) -> Iterator[None]:
        """Inside the block, in this thread, queue all work on the caller's CUDA stream.

        stream  as in __cuda_array_interface__: 1 the default stream, 2 that of the thread, else an address
        """
        yield

    def empty(self, shape: Sequence[int] | int, dtype: Any = np.float32) -> DeviceArray:
        """Return an array of any content: in a run with `reusing`, that of the run before."""
        shape = (shape,) if isinstance(shape, int) else tuple(int(side) for side in shape)
        kept: Allocations | None = getattr(self._local, "kept", None)
        return self.allocate(shape, np.dtype(dtype)) if kept is None else kept.take(self, shape, np.dtype(dtype))

    def duplicate(self, array: DeviceArray) -> DeviceArray:
        """Return a copy on the device."""
        copied = self.empty(array.shape, array.dtype)
        self.copy(array, copied)
        return copied

    def constant(self, key: Any, make: Callable[[], np.ndarray]) -> DeviceArray:
        """Return the array that `make` gives, brought to the device the first time that `key` is asked for."""
        found = self._constants.get(key)
        if found is None:
            found = self._constants.setdefault(key, self.to_device(make()))
            self.wait()  # another thread may use it on another stream
        return found

    @contextmanager
    def reusing(self, kept: Allocations) -> Iterator[None]:
        """Take arrays from `kept` inside the block, in this thread."""
        before = getattr(self._local, "kept", None)
        kept.restart()
        self._local.kept = kept
        try:
            yield
        finally:
            self._local.kept = before

    def count(self, sites: Sites) -> "DeviceArray | int":
        """Return how many sites there are: a (1,) int32 on the device, or a number that is known."""
        return len(sites) if sites.count is None else sites.count

    def numbers(self, counts: "Sequence[DeviceArray | int]") -> list[int]:
        """Return what `count` gave as whole numbers, waiting once for all that are on the device."""
        there = [count for count in counts if not isinstance(count, int)]
        if not there:
            return list(counts)
        together = self.allocate((len(there),), np.dtype(np.int32))
        for i, count in enumerate(there):
            self.copy(count, together[i : i + 1])
        known = iter(self.to_host(together).tolist())
        return [count if isinstance(count, int) else next(known) for count in counts]

    # Order

    def wait(self) -> None:
        """Wait until all is done that the caller's stream was given."""
        self.to_host(self.allocate((1,), np.dtype(np.uint8)))

    def mark(self) -> Any:
        """Return a mark of all that the caller's stream was given until now, for `follow`."""
        return None

    def follow(self, mark: Any) -> None:
        """Let what the caller's stream is given from now on come after `mark`, which may be of another stream."""
        return None  # with one stream alone

    def finish(self, mark: Any) -> None:
        """Wait until all before `mark` is done."""
        return None  # with one stream alone

    # Launches

    @abstractmethod
    def launch(
        self, kernel: str, grid: int | tuple[int, ...], block: int, args: tuple[Any, ...], shared: int = 0
    ) -> None:
        """Launch a kernel of signatures.py with arrays, None (a null pointer) and numbers; `shared` in bytes.

        Raises: BackendError if the launch is refused.
        """

    def launch_elements(self, kernel: str, size: int, args: tuple[Any, ...]) -> None:
        """Launch a kernel with one thread an element."""
        if size:
            self.launch(kernel, -(-size // BLOCK), BLOCK, args)

    @contextmanager
    def limited(self, sites: Sites | None) -> Iterator[None]:
        """Inside the block, in this thread, kernels that go row by row compute only as many rows as `sites` has."""
        before = self.row_count
        self._local.row_count = None if sites is None else sites.count
        try:
            yield
        finally:
            self._local.row_count = before

    @property
    def row_count(self) -> DeviceArray | None:
        """The (1,) int32 of `limited`, or None."""
        return getattr(self._local, "row_count", None)

    # CUDA graphs

    def record(self, launches: Callable[[], object]) -> Any:
        """Return the launches of `launches()`, which are not carried out, as a graph for `replay`."""
        raise NotImplementedError(f"backend '{self.name}' records no graphs")

    def replay(self, graph: Any) -> None:
        """Launch what was recorded, on the caller's stream."""
        raise NotImplementedError(f"backend '{self.name}' records no graphs")
