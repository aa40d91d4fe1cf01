"""Share a kernel's work among threads.

Not Numba's prange: its workqueue layer ends the process when two Python threads call at once, and its OpenMP layer ends
a forked child. Kernels release the GIL, so ordinary Python threads are enough: a few workers per process, started on
first use, take chunks of a job from one counter; the caller takes chunks too and never waits for a worker to start.
"""

import itertools
import os
import queue
import threading
import warnings

import numpy as np

from pagnp.errors import ContractError

CHUNKS_PER_THREAD = 4  # small enough to balance uneven chunks, large enough that a call (microseconds) does not show

LOST_RING = 0.05  # seconds after which the caller looks again: Ctrl-C may have taken a ring of the bell

_SUBNORMAL = 2.0**-1060
_HALF = 0.5


def default_threads():
    """Return the number of cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return max(1, os.cpu_count() or 1)


def parallel(kernel, total, threads, *args, chunk=None, unit=None, keep=()):
    """Call kernel(start, stop, *args) over [0, total) in chunks, on up to `threads` threads; return when all is done.

    kernel   a nogil function whose chunks write to places of their own
    chunk    size of a chunk; None divides `total` into a few chunks a thread. One chunk runs in the caller alone
    unit     with it, chunks are as large as a share of what is left, in whole units, and towards the end only `chunk`
    keep     arrays that the args name by their addresses: Ctrl-C can end this call while a worker is at a chunk
    Raises:  what a chunk raised first; ContractError if subnormals are switched off in a thread.
    """
    if total <= 0:
        return
    args = tuple(_plain(arg) if isinstance(arg, np.ndarray) and not arg.flags.writeable else arg for arg in args)
    if chunk is None:
        chunk = -(-total // (threads * CHUNKS_PER_THREAD)) if threads > 1 else total
    if threads <= 1 or total <= chunk:
        check_subnormals()
        for start in range(0, total, chunk):
            kernel(start, min(start + chunk, total), *args)
        return
    job = _Job(kernel, _starts(total, threads, chunk, unit), args, keep)
    try:
        _workers.offer(job, min(threads, -(-total // chunk)) - 1)
        job.work()
    except BaseException:
        job.stopped = True
        raise
    finally:
        job.wait()
    if job.error is not None:
        raise job.error


def _starts(total, threads, chunk, unit):
    """Return where chunks start, ascending, and `total`. Large chunks first: few calls, and no long wait at the end."""
    if unit is None:
        return [*range(0, total, chunk), total]
    starts = [0]
    while starts[-1] < total:
        share = (total - starts[-1]) // (2 * threads)
        starts.append(min(starts[-1] + max(share // unit * unit, chunk), total))
    return starts


class _SameMemory:
    """What NumPy asks for the memory of `array`: not marked read-only, and alive as long as anybody uses it."""

    def __init__(self, array):
        self.array = array
        place, _ = array.__array_interface__["data"]
        self.__array_interface__ = {**array.__array_interface__, "data": (place, False)}


def _plain(array):
    """Return a view of a read-only array that Numba takes for any other: it compiles anew for every mix of the two."""
    return np.asarray(_SameMemory(array))


def check_subnormals():
    """Raise ContractError if this thread flushes subnormals to zero."""
    if _SUBNORMAL * _HALF == 0.0:
        raise ContractError(
            "this thread flushes subnormal numbers to zero, the contract keeps them; a library of the host program was "
            "built with -ffast-math: load it in another process"
        )


class _Job:
    """One call of `parallel`: the next chunk, the workers that began and ended, and the first error.

    No locks: Ctrl-C raises KeyboardInterrupt anywhere in the main thread, also where a lock was taken a moment ago.
    """

    def __init__(self, kernel, starts, args, keep):
        self.kernel, self.starts, self.args, self.keep = kernel, starts, args, keep
        self.numbers = itertools.count()
        self.stopped, self.error = False, None
        self.begun, self.ended, self.bell = [], [], queue.SimpleQueue()

    def work(self):
        """Take chunks until none is left. Late workers find none and leave at once."""
        try:
            check_subnormals()
            while not self.stopped and (number := next(self.numbers)) < len(self.starts) - 1:
                self.kernel(self.starts[number], self.starts[number + 1], *self.args)
        except BaseException as error:
            self.stopped = True
            self.error = self.error or error

    def help(self):
        """Work in a worker; the caller waits for those that have begun."""
        self.begun.append(None)
        try:
            self.work()
        finally:
            self.ended.append(None)
            self.bell.put(None)

    def wait(self):
        """Wait for the workers still at a chunk: they write to the caller's arrays."""
        while len(self.ended) < len(self.begun):
            try:
                self.bell.get(timeout=LOST_RING)
            except queue.Empty:
                pass
            except KeyboardInterrupt as error:
                self.stopped = True
                self.error = self.error or error


class _Workers:
    """Daemon threads that wait for jobs. More are started when a call asks for more than there are."""

    def __init__(self):
        self.jobs = queue.SimpleQueue()
        self.count = 0
        self.refused = False
        self.lock = threading.RLock()  # a signal handler of the host may call us while we start a thread

    def offer(self, job, helpers):
        """Ask `helpers` workers to join `job`, or as many as there can be: the caller does what nobody takes."""
        with self.lock:
            while self.count < helpers and self._start():
                pass
        for _ in range(min(helpers, self.count)):
            self.jobs.put(job)

    def _start(self):
        """Start one more worker. Where the system refuses (a limit, a process that ends), say so once, return False."""
        try:
            threading.Thread(target=self._serve, name=f"pagnp-{self.count + 1}", daemon=True).start()
        except (RuntimeError, MemoryError) as error:
            if not self.refused:
                self.refused = True
                message = f"pagnp: the system starts no more threads ({error}); working with {self.count + 1}"
                warnings.warn(message, RuntimeWarning, stacklevel=2)
            return False
        self.count += 1  # only now: jobs for a worker that was never there would stay in the queue
        return True

    def _serve(self):
        while True:
            job = self.jobs.get()
            job.help()
            del job  # its arrays must not live on while this thread waits


def _forget_workers():
    """After a fork the child has no worker threads, and the lock may have been held by one: start over."""
    global _workers
    _workers = _Workers()


_workers = _Workers()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_workers)
