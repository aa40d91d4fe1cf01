"""Convolutions of the Numba backend with AArch64 kernels, under qemu-user.

The drivers run here, as the Python functions that they are before Numba compiles them: they point tiles at pixels and
choose kernels. Each call of a kernel is made by an AArch64 process, in memory that both share at one address.
"""

import ctypes
import functools
import mmap
import shutil
import struct
import subprocess
from pathlib import Path
from types import SimpleNamespace

import emit  # first: it decides for which CPU the kernel modules are made
import numpy as np

from pagnp.backends.numba_cpu import conv, conv_rows, conv_tiles, conv_transpose

HERE = Path(__file__).resolve().parent
EMULATOR, COMPILER = "qemu-aarch64", "aarch64-linux-gnu-gcc"
ARGUMENTS = 17  # as in kernels_server.c
GAP, FILL = 256, 0xFF  # bytes between arrays, and what they and new arrays hold: NaN, so a read too far shows


class Arena:
    """Memory that two processes have at one address; arrays in it start on cache lines and have gaps between them."""

    ADDRESS, SIZE = 1 << 36, 1 << 25  # an address that neither Linux nor qemu gives to anything else

    def __init__(self, path):
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mmap.restype, libc.mmap.argtypes = ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3]
        libc.mmap.argtypes += [ctypes.c_long]
        with path.open("w+b") as file:
            file.truncate(self.SIZE)
            fixed = mmap.MAP_SHARED | 0x100000  # MAP_FIXED_NOREPLACE
            protection = mmap.PROT_READ | mmap.PROT_WRITE
            at = libc.mmap(self.ADDRESS, self.SIZE, protection, fixed, file.fileno(), 0)
        if at != self.ADDRESS:
            raise OSError(ctypes.get_errno(), "cannot map the shared memory at its address")
        self.bytes = np.frombuffer((ctypes.c_uint8 * self.SIZE).from_address(at), np.uint8)
        self.used, self.gaps = 0, []

    def clear(self):
        """Forget all arrays."""
        self.bytes[: self.used] = FILL
        self.used, self.gaps = 0, []
        self._gap()

    def _gap(self):
        self.bytes[self.used : self.used + GAP] = FILL
        self.gaps.append((self.used, self.used + GAP))
        self.used += GAP

    def empty(self, shape, dtype):
        """Return an array in the arena: what the drivers call instead of np.empty."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        inside = self.bytes[self.used : self.used + size]
        assert inside.size == size, "the arena is full"
        inside[...] = FILL
        self.used += size
        self._gap()
        self.bytes[self.used : self.used + -self.used % 64] = FILL
        self.used += -self.used % 64
        return inside.view(dtype).reshape(shape)

    def copy(self, array):
        """Return a copy that is aligned as `array` is, and no better."""
        self.used += array.ctypes.data % 64
        inside = self.empty(array.shape, array.dtype)
        inside[...] = array
        return inside

    def check(self):
        """Raise where something wrote between the arrays."""
        for start, stop in self.gaps:
            assert (self.bytes[start:stop] == FILL).all(), "a kernel wrote beyond its arrays"


class Kernels:
    """An AArch64 process with the kernels of one object file; `call` runs one of them."""

    def __init__(self, folder, mistake, arena_path):
        program = folder / f"{mistake}.run"
        command = [COMPILER, "-O1", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-static", "-o", program]
        subprocess.run([*command, HERE / "kernels_server.c", folder / f"{mistake}.o"], check=True)
        words = [shutil.which(EMULATOR), program, arena_path, str(Arena.ADDRESS), str(Arena.SIZE)]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self.calls = dict.fromkeys(emit.NAMES, 0)

    def call(self, name, *arguments):
        numbers = [emit.NAMES.index(name), *map(int, arguments)]
        self.process.stdin.write(struct.pack(f"<{1 + ARGUMENTS}q", *numbers, *[0] * (1 + ARGUMENTS - len(numbers))))
        assert self.process.stdout.read(1), f"{name} ended the process: exit status {self.process.wait()}"
        self.calls[name] += 1

    def close(self):
        self.process.stdin.close()
        assert self.process.wait() == 0


class Convolutions:
    """`table`: the Numba backend's convolutions, as kernels of runcase, with tiles computed by the AArch64 process."""

    def __init__(self, kernels, arena):
        self.arena = arena
        call = {name: functools.partial(kernels.call, name) for name in emit.NAMES}
        conv_tiles._STEPS_0, conv_tiles._STEPS_1, conv_tiles._STEPS_2 = (call[f"tile_steps_{i}"] for i in range(3))
        conv_tiles._NARROW_2, conv_tiles._NARROW_4 = (call[f"narrow_steps_{i}"] for i in range(2))
        conv_rows.row_steps = call["row_steps"]
        conv_tiles.tile_epilogue = conv_rows.tile_epilogue = call["tile_epilogue"]
        conv_tiles.np = conv_rows.np = SimpleNamespace(**{**vars(np), "empty": arena.empty})
        conv.parallel = self.parallel
        self.table = {
            "pack_conv2d": conv.pack_conv2d,
            "conv2d": conv.conv2d,
            "conv_transpose2d": conv_transpose.conv_transpose2d,
        }

    def parallel(self, driver, total, threads, *arguments, chunk, keep, unit=None):
        """Run a driver, as `threads.parallel` would, on copies of its arrays in the arena."""
        self.arena.clear()
        addresses = tuple(0 if array is None else array.ctypes.data for array in keep)
        arrays = {at: array for at, array in zip(addresses, keep, strict=True) if at}  # `residual` may be `out`
        inside = {at: self.arena.copy(array) for at, array in arrays.items()}
        moved = tuple(inside[at].ctypes.data if at else 0 for at in addresses)
        arguments = [moved if isinstance(part, tuple) and part == addresses else part for part in arguments]
        for start in range(0, total, chunk):
            driver(start, min(start + chunk, total), *arguments)
        self.arena.check()
        for at, array in arrays.items():
            array[...] = inside[at]
