"""Runs of plans on a GPU: everything that a run takes is kept for the next one.

The first run of a plan finds out which arrays it takes; the second, which takes the same ones, is recorded as a CUDA
graph where the device can do that; later ones replay it. So no run waits for the GPU or asks it for memory.
"""

import copy
import weakref

import numpy as np

from pagnp import memory
from pagnp.backends.gpu.device import Allocations
from pagnp.executors import Executor
from pagnp.runner import execute

SESSIONS_KEPT = 4  # of one model


class DeviceExecutor(Executor):
    """Runs plans on a GPU. The arrays of a Run are valid as long as the Run itself; then another may take them."""

    def __init__(self, backend, parameters):
        super().__init__(backend, parameters)
        self._free: list[_Session] = []

    def execute(self, plan, x, options, watch=None, progress=None, tick=None):
        """As Executor.execute; x on the device, or a NumPy array."""
        session = self._take(plan)
        self.backend.arrays.follow(session.mark)
        run = copy.copy(session.execute(x, options, watch, progress, tick))
        weakref.finalize(run, self._give, session).atexit = False
        return run

    def holds(self, plan):
        """As Executor.holds."""
        return any(session.plan is plan for session in self._free)

    def require(self, plan, needed):
        """As Executor.require; what is kept for other plans is given up before."""
        if not self.holds(plan) and not memory.fits(needed, self.backend.arrays):
            self._free = []
            memory.require(plan, needed, self.backend.arrays)

    def _take(self, plan):
        """Return a session of `plan` that nobody uses: the one used last, or a new one."""
        sessions = self._free
        for session in reversed(list(sessions)):
            if session.plan is plan:
                try:
                    sessions.remove(session)  # one thread alone succeeds
                    return session
                except ValueError:
                    continue
        return _Session(plan, self.backend, self.parameters)

    def _give(self, session):
        session.mark = self.backend.arrays.mark()  # copies of results may still be under way
        self._free = [*self._free, session][-SESSIONS_KEPT:]


class _Session:
    """The arrays of a plan, and its launches once they are recorded.

    key   what is written into the launches beside the arrays: threshold and seed. None: the run was not plain
    mark  of the stream that used it last, which another stream must follow
    """

    def __init__(self, plan, backend, parameters):
        self.plan, self.backend, self.parameters = plan, backend, parameters
        self.kept, self.x = Allocations(), None
        self.key = self.graph = self.run = self.mark = None

    def execute(self, x, options, watch, progress, tick):
        device = self.backend.arrays
        if self.x is None:
            self.x = device.allocate(tuple(x.shape), np.dtype(np.float32))
        device.copy(x, self.x)
        plain = not options.noise and watch is None and tick is None
        key = (None if options.threshold is None else float(options.threshold), options.seed) if plain else None
        if key is None or key != self.key:
            self.graph, self.key = None, key
            self.run = self._launch(options, watch, progress, tick)
        elif self.graph is None and device.can_record:
            self.graph = device.record(lambda: self._launch(options, None, None, None))
            device.replay(self.graph)
        elif self.graph is None:
            self.run = self._launch(options, None, progress, None)
        else:
            device.replay(self.graph)
        return self.run

    def _launch(self, options, watch, progress, tick):
        with self.backend.arrays.reusing(self.kept):
            return execute(self.plan, self.backend, self.parameters, self.x, options, watch, progress, None, tick)
