"""Load the GPU from a process of its own: python -m pagnp.gpucheck.load BACKEND SECONDS"""

import sys
import time

import numpy as np

from pagnp.backends.base import Backend, get_backend
from pagnp.bench.gpu_layers import Layer, Prepared
from pagnp.gpucheck.repetition import LOADED

LAYER = Layer(60, 80, 256, 256, 3, 1, 1, 1)
BATCH, AT_ONCE = 4, 16  # launches before the host waits
COPIED = 64 << 20  # bytes


def load(backend: Backend, seconds: float, layer: Layer = LAYER) -> int:
    """Convolve and copy for so many seconds; return how many convolutions there were."""
    device, prepared, done = backend.arrays, Prepared(layer, BATCH, backend), 0
    memory = tuple(device.allocate((COPIED,), np.dtype(np.uint8)) for _ in range(2))
    prepared.launch()
    print(LOADED, flush=True)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for _ in range(AT_ONCE):
            prepared.launch()
            device.copy(*memory)
        device.to_host(prepared.out[:1])
        done += AT_ONCE
    return done


if __name__ == "__main__":
    print(load(get_backend(sys.argv[1]), float(sys.argv[2])))
