"""Runs of plans on a GPU: everything that a run takes is kept for the next one.

The first run of a plan finds out which arrays it takes; the second, which takes the same ones, is recorded as a CUDA
graph where the device can do that; later ones replay it. So no run waits for the GPU or asks it for memory.
"""

import copy
import sys
import weakref

import numpy as np

from pagnp import memory
from pagnp.backends.gpu.device import Allocations
from pagnp.errors import BackendError
from pagnp.executors import Executor
from pagnp.notices import tell
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
        for mark in session.marks:
            self.backend.arrays.follow(mark)
        run = copy.copy(session.execute(x, options, watch, progress, tick))
        session.marks = [self.backend.arrays.mark()]  # now: the run may end in another thread, or on another stream
        weakref.finalize(run, self._give, session).atexit = False
        return run

    def holds(self, plan):
        """As Executor.holds."""
        return any(session.plan is plan for session in self._free)

    def require(self, plan, needed):
        """As Executor.require; what is kept for other plans is given up before."""
        if not self.holds(plan) and not memory.fits(needed, self.backend.arrays):
            self.release()
            memory.require(plan, needed, self.backend.arrays)

    def release(self):
        """As Executor.release."""
        there = bool(self._free)
        self._free.clear()
        return there

    def _take(self, plan):
        """Return a session of `plan` that nobody uses: the one used last, or a new one."""
        for session in reversed(self._free[:]):
            if session.plan is plan:
                try:
                    self._free.remove(session)  # one thread alone succeeds
                    return session
                except ValueError:
                    continue
        return _Session(plan, self.backend, self.parameters)

    def _give(self, session):
        session.marks.append(self.backend.arrays.mark())  # copies of results may still be under way
        # Changed in place: a list made anew might bring back a session that another thread has taken meanwhile.
        self._free.append(session)
        del self._free[:-SESSIONS_KEPT]


class _Session:
    """The arrays of a plan, and its launches once they are recorded.

    key    what is written into the launches beside the arrays: threshold and seed. None: the run was not plain
    marks  behind all that the streams were given that used it last: another stream must follow them
    """

    def __init__(self, plan, backend, parameters):
        self.plan, self.backend, self.parameters = plan, backend, parameters
        self.kept, self.x = Allocations(), None
        self.key = self.graph = self.run = None
        self.marks = []

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
        elif self.graph is not None or self._record(options):
            device.replay(self.graph)
        else:
            self.run = self._launch(options, None, progress, None)
        if progress is not None and self.graph is not None:  # no step has told it
            progress(1.0)
        return self.run

    def _record(self, options):
        """Record the launches; False where that cannot be done, or was disturbed: then they are made one by one."""
        device = self.backend.arrays
        if device.can_record:
            try:
                self.graph = device.record(lambda: self._launch(options, None, None, None))
            except BackendError as error:  # somebody else's work on this GPU can end a recording
                tell(f"{error}; the run is launched step by step")
        return self.graph is not None

    def __del__(self):
        # CuPy gives memory out again in the order of the stream that first asked for it, which need not be the last.
        for mark in () if sys.is_finalizing() else self.marks:
            self.backend.arrays.finish(mark)

    def _launch(self, options, watch, progress, tick):
        with self.backend.arrays.reusing(self.kept):
            return execute(self.plan, self.backend, self.parameters, self.x, options, watch, progress, None, tick)
