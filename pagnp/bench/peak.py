"""What the cores can do at most: fused multiply-adds from registers, and memory read and written in long streams."""

from pathlib import Path

import numpy as np
from numba import types
from numba.extending import intrinsic

from pagnp.backends.numba_cpu.compile import jit
from pagnp.backends.numba_cpu.microkernel import TILES
from pagnp.backends.numba_cpu.threads import parallel
from pagnp.backends.numba_cpu.vectorcode import I64, VectorCode

PIXELS, WIDTH, LANES = TILES[0]
CHAINS = PIXELS * WIDTH // LANES  # independent accumulators, as many as the tile of the convolutions keeps in registers
STEPS = 1 << 18  # of each chain in a chunk: about 2 ms
CHUNKS = 16  # a thread: one that comes late leaves the others some
L3, TIMES_L3 = 32 << 20, 4  # bytes where the machine does not tell; how much larger the streamed arrays are


@intrinsic
def fma_chains(typingctx, steps, inputs, outputs):
    """Do `steps` fused multiply-adds in each of CHAINS vectors that never leave the registers.

    inputs   address of 2 * LANES float32: what is multiplied; outputs  of LANES float32: the sum of the chains
    """

    def generate(context, builder, signature, arguments):
        _emit(VectorCode(builder, LANES), *arguments)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


def _emit(code, steps, inputs, outputs):
    a, b = code.load(inputs), code.load(inputs, 4 * LANES)
    with code.repeat(steps, *[code.constant(float(i)) for i in range(CHAINS)]) as loop:
        left, *chains = loop.values
        loop.again(code.builder.sub(left, I64(1)), *(code.fma(a, b, chain) for chain in chains))
    total = loop.after[1]
    for chain in loop.after[2:]:
        total = code.builder.fadd(total, chain)
    code.store(total, outputs)


@jit(cached=False)  # the folder of cached kernels is keyed by the sources of the backends alone
def _fma_chunks(start, stop, steps, inputs, outputs):
    for i in range(start, stop):
        fma_chains(steps, np.int64(inputs.ctypes.data), np.int64(outputs[i].ctypes.data))


def _add_streams(start, stop, a, b, out):
    np.add(a[start:stop], b[start:stop], out=out[start:stop])  # vector code, and without the GIL


class FmaPeak:
    """Callable: multiply-adds on `threads` threads. `flops` are the operations of a call, two a multiply-add."""

    def __init__(self, threads: int, steps: int = STEPS) -> None:
        self.threads, self.steps, self.chunks = threads, steps, CHUNKS * threads
        self.inputs = np.full(2 * LANES, 0.5, np.float32)
        self.outputs = np.zeros((self.chunks, 16 * -(-LANES // 16)), np.float32)
        self.flops = 2 * self.chunks * steps * CHAINS * LANES

    def __call__(self) -> None:
        parallel(_fma_chunks, self.chunks, self.threads, self.steps, self.inputs, self.outputs, chunk=1)


class Streams:
    """Callable: out = a + b over arrays much larger than the caches. `bytes` are those read and written by a call.

    That a store first reads the line that it writes is not counted, here as with layers.
    """

    def __init__(self, threads: int, size: int | None = None) -> None:
        self.threads = threads
        count = (TIMES_L3 * l3_bytes() if size is None else size) // 3 // 4
        self.arrays = tuple(np.full(count, value, np.float32) for value in (1, 2, 0))
        self.bytes = 12 * count

    def __call__(self) -> None:
        count = len(self.arrays[0])
        parallel(_add_streams, count, self.threads, *self.arrays, chunk=-(-count // (CHUNKS * self.threads)))


def l3_bytes() -> int:
    """Return the size of the last cache, 32 MiB where the machine does not tell."""
    folder = Path("/sys/devices/system/cpu/cpu0/cache/index3/size")
    try:
        text = folder.read_text("ascii").strip()
        return int(text.rstrip("KMG")) * {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(text[-1], 1)
    except (OSError, ValueError):  # not Linux, or no such cache
        return L3
