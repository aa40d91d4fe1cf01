"""gpucheck with the shim as its GPU. A stage: gpucheck_on_shim.py SHIM_FOLDER STAGE BACKEND SECONDS RECORD ..."""

import contextlib
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from cuda_shim.recording import RecordingDevice

from pagnp.backends.base import Backend
from pagnp.backends.gpu import table
from pagnp.errors import BackendError
from pagnp.gpucheck import job, repetition, speed_convs, speed_network

ROOT = Path(__file__).resolve().parent.parent
WEIGHTS, IMAGE = ROOT / "examples/models/rooms-seg.h5", ROOT / "examples/images/room.png"
GPU = {"name": "Fake GPU", "capability": "9.0", "memory": 1 << 36}
ABOUT = {
    **{"gpus": [GPU], "driver": "580.1", "cuda": "13.0", "nvrtc": "13.0", "nvidia-smi": {"name": "Fake GPU"}},
    **{"pagnp": "0", "commit": "abc", "python": "3", "system": "Linux", "cpu": "a CPU", "cores": 2, "packages": {}},
}


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


def staged_json(name, job, **values):
    found = {"checks": job.record.checks, "skipped": job.record.skipped, "values": {**job.record.values, **values}}
    return {"name": name, "backend": "cupy", "status": "passed", "seconds": 1.0, "reason": "", "log": [], **found}


def shim_folder():
    """Return where the shim keeps what it compiled, by its content: the same place as for other tests."""
    return Path(tempfile.gettempdir()) / "pagnp-cuda-shim"


def stand_in():
    """Let the stages do without CuPy."""
    repetition.own_stream = contextlib.nullcontext
    for module in (speed_convs, speed_network):
        module.FmaPeak = module.Streams = Machine
        module.events_of = lambda backend: HostEvents()


if __name__ == "__main__":
    stand_in()
    job.leave(job.main(sys.argv[2:], shim_backend_of(sys.argv[1])))
