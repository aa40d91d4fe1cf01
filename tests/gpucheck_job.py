"""What the tests of gpucheck and of the GPU benchmark share: a job of a stage, on the CUDA sources run by the CPU."""

import os

import gpucheck_on_shim as on_shim
import pytest
from cuda_shim import build

from pagnp.gpucheck.job import Deadline, Job
from pagnp.gpucheck.record import Record


@pytest.fixture(scope="module")
def folder():
    """Where the compiled CUDA sources are kept."""
    if build.compiler() is None:
        assert not os.environ.get("CI"), "CI has a C++ compiler"
        pytest.skip("no g++: the CUDA sources cannot be run on the CPU")
    return on_shim.shim_folder()


@pytest.fixture
def backend(folder):
    return on_shim.shim_backend_of(folder)("cupy")


@pytest.fixture
def job(backend):
    return Job(backend, Record(), Deadline(1000), on_shim.WEIGHTS, on_shim.IMAGE, every=8)
