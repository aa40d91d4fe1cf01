"""The devices of a GPU backend: one for each GPU, the same for all callers."""

import os
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from pagnp.backends.gpu import driver
from pagnp.errors import BackendError

AnyDevice = TypeVar("AnyDevice")


class Registry(Generic[AnyDevice]):
    """Makes the device of a GPU when it is first asked for. In a forked child there is none: CUDA survives no fork.

    made    GPU -> device;  forked  True in a child of a process that had one
    """

    def __init__(self, backend: str, make: Callable[[int], AnyDevice]) -> None:
        self._backend, self._make, self._making = backend, make, threading.Lock()
        self.made: dict[int, AnyDevice] = {}
        self.forked = False
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._note_fork)

    def get(self, ordinal: int) -> AnyDevice:
        """Return the device of GPU `ordinal`."""
        self.check_fork()
        with self._making:
            if ordinal not in self.made:
                self.made[ordinal] = self._make(ordinal)
            return self.made[ordinal]

    def check_fork(self) -> None:
        """Raise BackendError in a forked child."""
        if self.forked:
            raise BackendError(f"backend '{self._backend}': {driver.FORKED}")

    def _note_fork(self):
        self.forked = bool(self.made)
