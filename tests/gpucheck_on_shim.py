"""A stage of gpucheck whose GPU is the shim: python gpucheck_on_shim.py SHIM_FOLDER STAGE BACKEND SECONDS RECORD ..."""

import contextlib
import sys
import time

import numpy as np
from cuda_shim.recording import RecordingDevice

from pagnp.backends.base import Backend
from pagnp.backends.gpu import table
from pagnp.errors import BackendError
from pagnp.gpucheck import job, repetition, speed_convs, speed_network


class HostEvents:
    """Marks on the host's clock: what the shim launches is over when the launch returns."""

    record = staticmethod(time.perf_counter)

    def elapsed(self, first, last):
        return last - first


class Machine:
    """Stands for FmaPeak and Streams: takes no time to speak of."""

    flops, bytes = 1e6, 1e6

    def __init__(self, device):
        self.array = device.to_device(np.ones(1000, np.float32))
        self.device = device

    def __call__(self):
        self.device.copy(self.array, self.array)


def shim_backend_of(folder):
    """Return a function like get_backend whose backend "cupy" is the shim, and which has no other GPU."""

    def backend_of(name):
        if name != "cupy":
            raise BackendError(f"backend '{name}': not on the shim")
        device = RecordingDevice(folder)
        return Backend(name, table(device), arrays=device)

    return backend_of


def stand_in():
    """Let the stages do without CuPy."""
    repetition.own_stream = contextlib.nullcontext
    for module in (speed_convs, speed_network):
        module.FmaPeak = module.Streams = Machine
        module.events_of = lambda backend: HostEvents()


if __name__ == "__main__":
    stand_in()
    sys.exit(job.main(sys.argv[2:], shim_backend_of(sys.argv[1])))
