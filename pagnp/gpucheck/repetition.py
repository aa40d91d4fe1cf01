"""The same network many times over while others load the GPU: every digest must be the same."""

import contextlib
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from pagnp import modelfile
from pagnp.backends.base import Backend, get_backend
from pagnp.gpucheck.job import Job
from pagnp.gpucheck.networks import HOST, NO_MODEL
from pagnp.gpucheck.record import failure
from pagnp.graph import Graph
from pagnp.image import load_image
from pagnp.model import Model
from pagnp.types import Pixels

RUNS = 1000
RESERVE = 2.0  # seconds for the record
SHOWN = 16
LOADED = "loading"  # what the loading process prints when it begins
CHECK = "runs with one digest"


def run(job: Job) -> None:
    """Run the shipped model RUNS times, or as often as there is time, beside another process and another stream."""
    if job.weights is None or job.image is None:
        job.record.skip("stage", NO_MODEL)
        job.record.skip(CHECK, NO_MODEL)
        return
    graph, pixels = modelfile.read(job.weights), load_image(job.image).pixels
    if job.every > 1:
        pixels = np.ascontiguousarray(pixels[60:84, 90:130])
    want = Model(graph, get_backend(HOST))(pixels).digest
    with loading_process(job.backend.name, job.deadline.left, job.record.skip) as process:
        other = OtherStream(job.backend, graph, pixels) if job.backend.name == "cupy" else None
        with contextlib.nullcontext() if other is None else other:
            wanted = RUNS // job.every
            digests = repeat(Model(graph, job.backend), pixels, wanted, lambda: job.deadline.left > RESERVE)
    job.record.check(CHECK, wrong_digests(digests, want), sum(digests.values()))
    if 0 < sum(digests.values()) < wanted:
        job.record.skip("stage", f"{sum(digests.values())} of {wanted} runs in the time there was, all as they should")
    found = {"runs": sum(digests.values()), "wanted": RUNS, "digests": dict(digests), "digest": want}
    found["loading process"] = process
    if other is not None:
        job.record.check("runs on another stream", wrong_digests(other.digests, want), sum(other.digests.values()))
        found["runs on another stream"] = sum(other.digests.values())
    job.record.put("repetition", found)


def repeat(model: Model, pixels: Pixels, runs: int, goes_on: Callable[[], bool]) -> Counter[str]:
    """Return digest -> how often it came out."""
    digests: Counter[str] = Counter()
    while sum(digests.values()) < runs and goes_on():
        digests[model(pixels).digest] += 1
    return digests


def wrong_digests(digests: Counter[str], want: str) -> list[str]:
    """Return a line for each digest that is not `want`; no digest at all is wrong, too."""
    if not digests:
        return ["no run came to its end"]
    return [
        f"{count} runs gave {digest[:SHOWN]}, not {want[:SHOWN]}" for digest, count in digests.items() if digest != want
    ]


class OtherStream:
    """The same network in a second thread, on a stream of its own, until the block ends."""

    def __init__(self, backend: Backend, graph: Graph, pixels: Pixels) -> None:
        self.digests: Counter[str] = Counter()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, args=(backend, graph, pixels), daemon=True)

    def _work(self, backend, graph, pixels):
        try:
            with own_stream():
                self.digests += repeat(Model(graph, backend), pixels, sys.maxsize, lambda: not self._over.is_set())
        except Exception as error:
            self.digests[failure(error)] += 1

    def __enter__(self) -> "OtherStream":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join(20)


def own_stream() -> contextlib.AbstractContextManager[object]:
    """Return a context in which this thread's work is on a stream that waits for no other."""
    import cupy

    stream: contextlib.AbstractContextManager[object] = cupy.cuda.Stream(non_blocking=True)
    return stream


@contextlib.contextmanager
def loading_process(
    backend: str, seconds: float, skip: Callable[[str, str], object], command: Sequence[str] | None = None
) -> Iterator[dict[str, object]]:
    """Keep the GPU busy from another process inside the block; the dict says whether it was there to the end."""
    command = command or [sys.executable, "-m", "pagnp.gpucheck.load", backend, str(seconds)]
    found: dict[str, object] = {"began": False, "to the end": False}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            first = process.stdout.readline().strip() if process.stdout else ""
            found["began"] = first == LOADED
            if not found["began"]:
                skip("loading process", f"it did not begin ({first or 'nothing printed'})")
            yield found
            found["to the end"] = process.poll() is None
        finally:
            process.kill()
