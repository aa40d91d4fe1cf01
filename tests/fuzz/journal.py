"""What a worker writes down in shared memory while it works, and the parent reads even when the worker is dead.

A worker says which case it is about to open; then what came of it. So a crash inside a C library names its
file, a hang is seen from outside, and no result is lost with the process.
"""

import mmap
import os
import struct

OUTCOMES = (
    "not run",
    "loads and runs",
    "loads, its run is refused",
    "refused",
    "WRONG EXCEPTION",
    "MEMORY",
    "STDERR",
    "CRASH",
    "HANG",
)
LOADED, UNRUNNABLE, REFUSED, WRONG, MEMORY, STDERR, CRASH, HANG = range(1, len(OUTCOMES))
FINDINGS = (WRONG, MEMORY, STDERR, CRASH, HANG)
IDLE = -1

_HEAD = struct.Struct("=q")  # the case at work


class Journal:
    """The journal of one run of `count` cases; workers share it. Two bytes a case: which mutator, what outcome."""

    def __init__(self, path, count, workers):
        self.path, self.count, self.workers = path, count, workers
        self._data_at = _HEAD.size * workers
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.ftruncate(descriptor, self._data_at + 2 * count)
        self._map = mmap.mmap(descriptor, self._data_at + 2 * count)
        os.close(descriptor)

    def begin(self, worker, case):
        """Say that `worker` opens `case` now (IDLE: none)."""
        _HEAD.pack_into(self._map, worker * _HEAD.size, case)

    def end(self, case, mutator, outcome):
        """Say what came of `case`."""
        place = self._data_at + 2 * case
        self._map[place : place + 2] = bytes((mutator, outcome))

    def at_work(self, worker):
        """Return the case of `worker`."""
        return _HEAD.unpack_from(self._map, worker * _HEAD.size)[0]

    def results(self):
        """Return (mutators, outcomes) of all cases as bytes."""
        content = self._map[self._data_at :]
        return content[0::2], content[1::2]
