"""What a GPU can do at most, measured on it: fused multiply-adds from registers, and a long copy."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pagnp.backends.gpu.device import Device

SOURCE = Path(__file__).parent / "scripts" / "peak.cu"
CHAINS = 32  # of a thread
THREADS, BLOCKS = 256, 32  # of a block; blocks for each multiprocessor, of which it holds 4 at a time
STEPS = 1 << 13  # of each chain: about 10 ms on an H200
STREAM = 1 << 30  # bytes of the array that is copied: twenty times the L2 cache of an H200
PIECE = 1 << 24  # numbers that are made on the host


class FmaPeak:
    """Callable: multiply-adds on every multiprocessor of a CupyDevice. `flops`: operations of a call, two each."""

    def __init__(self, device: Device, steps: int = STEPS) -> None:
        self.steps, self.blocks = steps, BLOCKS * device.multiprocessors
        self.flops = 2 * self.blocks * THREADS * CHAINS * steps
        self._launch = _loaded(device)
        numbers = np.random.Generator(np.random.PCG64(0)).standard_normal(48, np.float32)
        self._inputs = device.to_device(numbers)
        self._out = device.allocate((self.blocks * THREADS,), np.dtype(np.float32))

    def __call__(self) -> None:
        self._launch(self.blocks, THREADS, self._inputs, self._out, self.steps)


def _loaded(device: Any) -> Callable[..., None]:
    """Compile and load the kernel; return launch(blocks, threads, inputs, out, steps)."""
    import cupy

    from pagnp.backends.cupy_raw import nvrtc

    cubin = nvrtc.compile_sources({SOURCE.name: SOURCE.read_bytes()}, device.arch).cubin
    with tempfile.TemporaryDirectory(prefix="pagnp-") as folder:
        path = Path(folder) / "peak.cubin"
        path.write_bytes(cubin)
        module = cupy.RawModule(path=str(path))
        kernel = module.get_function("fma_peak_f32")

    def launch(blocks: int, threads: int, inputs: Any, out: Any, steps: int) -> None:
        kernel((blocks,), (threads,), (inputs, out, np.int32(steps)))

    return launch


class Streams:
    """Callable: a copy from one long array to another. `bytes`: those read and written by a call."""

    def __init__(self, device: Device, size: int = STREAM) -> None:
        self.bytes = 2 * size
        self._device = device
        self._arrays = tuple(device.allocate((size // 4,), np.dtype(np.float32)) for _ in range(2))
        count = min(PIECE, size // 4)
        # No zeros: memory of zeros can be faster.
        piece = device.to_device(np.random.Generator(np.random.PCG64(1)).standard_normal(count, np.float32))
        for start in range(0, size // 4, count):
            device.copy(piece[: min(count, size // 4 - start)], self._arrays[0][start : start + count])

    def __call__(self) -> None:
        self._device.copy(*self._arrays)
