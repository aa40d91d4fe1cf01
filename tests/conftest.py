"""What the tests share: the backends, and why one is not tested here."""

import os

import pytest

from pagnp.backends.base import MODULES, get_backend
from pagnp.errors import BackendError

BACKENDS = tuple(MODULES)


def load_backend(name, threads=None):
    """Return the Backend, or skip with the reason; where CI is set in the environment a missing one is a failure."""
    try:
        return get_backend(name, threads)
    except BackendError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


@pytest.fixture(params=BACKENDS)
def backend_name(request):
    """The name of each backend that is installed."""
    load_backend(request.param)
    return request.param
