"""A backend that looks like one on a GPU and computes nothing."""

from types import SimpleNamespace

from pagnp.backends.base import INTERNAL, KERNELS, Backend


def a_gpu(name, simulated=False):
    """Return a Backend called `name` whose arrays say that they lie on "a GPU of the tests"."""
    arrays = SimpleNamespace(on_host=False, simulated=simulated, description="a GPU of the tests")
    return Backend(name, dict.fromkeys((*KERNELS, *INTERNAL)), arrays=arrays)
