"""Time work on a GPU: CUDA events as the clock of `timing.interleave`, and launches put into one CUDA graph."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from pagnp.backends.gpu.device import Device
from pagnp.bench.gpu_faults import Watch
from pagnp.bench.timing import Times, interleave
from pagnp.errors import BackendError

LEAST = 0.005  # seconds of one measurement: the host's part in it, about 10 us, is then 0.2 %
ROUNDS = 5


class Events(Protocol):
    """Marks in the order of the GPU's work."""

    def record(self) -> Any:
        """Return a new mark behind what was launched so far."""

    def elapsed(self, first: Any, last: Any) -> float:
        """Return the seconds between two marks, after waiting for the last."""


class CupyEvents:
    """CUDA events on CuPy's current stream: by default that on which PyTorch and Numba work, too."""

    def __init__(self) -> None:
        import cupy

        self._cuda = cupy.cuda

    def record(self) -> Any:
        """As Events.record."""
        event = self._cuda.Event()
        event.record()
        return event

    def elapsed(self, first: Any, last: Any) -> float:
        """As Events.elapsed."""
        last.synchronize()
        return float(self._cuda.get_elapsed_time(first, last)) / 1e3


class NumbaEvents:
    """CUDA events on Numba's default stream."""

    def __init__(self) -> None:
        from numba import cuda

        self._cuda: Any = cuda

    def record(self) -> Any:
        """As Events.record."""
        event = self._cuda.event(timing=True)
        event.record()
        return event

    def elapsed(self, first: Any, last: Any) -> float:
        """As Events.elapsed."""
        last.synchronize()
        return float(first.elapsed_time(last)) / 1e3


def events_of(backend: str) -> Events:
    """Return the Events in whose order the backend `backend` launches."""
    return CupyEvents() if backend == "cupy" else NumbaEvents()


class EventClock:
    """Callable: seconds of the GPU's own time since the first call, for `timing.interleave`.

    A call waits for what was launched before. Only neighbouring marks are compared: CUDA gives their distance as a
    float32, too coarse for long ones.
    """

    def __init__(self, events: Events) -> None:
        self._events, self._last, self._now = events, events.record(), 0.0

    def __call__(self) -> float:
        event = self._events.record()
        self._now += self._events.elapsed(self._last, event)
        self._last = event
        return self._now


def measure(
    runs: Mapping[str, Callable[[], object]],
    events: Events,
    rounds: int = ROUNDS,
    least: float = LEAST,
    watch: Watch | None = None,
) -> dict[str, Times]:
    """Run everything in turn, as `timing.interleave` does; return name -> Times on the GPU's own clock.

    The clock waits for a run before the next one begins, the first time, too. So with `watch` the FaultError that an
    exception becomes has the right name.
    """
    if watch is None:
        return interleave(runs, rounds, least=least, clock=EventClock(events), wait=_no_wait)
    named = {name: watch.named(name, run) for name, run in runs.items()}
    with watch.on("the clock"):
        return interleave(named, rounds, least=least, clock=EventClock(events), wait=_no_wait)


def _no_wait() -> None:
    """Nothing: the clock waits for the GPU, and no other thread of the process computes."""


def repeated(device: Device, launch: Callable[[], object], times: int) -> Callable[[], object]:
    """Return a run of `launch` so many times over: as one CUDA graph where the device records, else by a loop.

    So a kernel of some microseconds is timed, and not the host that launches it. `launch` must take no memory.
    """

    def loop() -> None:
        for _ in range(times):
            launch()

    launch()  # compiles what has to be, outside the recording
    if not device.can_record:
        return loop
    graph = device.record(loop)
    return lambda: device.replay(graph)


def shared(times: Times, among: int) -> Times:
    """Return the Times of one of `among` equal parts."""
    return Times(tuple(seconds / among for seconds in times.seconds))


def step_seconds(events: Events, stamps: list[Any]) -> list[float]:
    """Return the seconds between each mark and the next."""
    if not stamps:
        raise BackendError("no marks: nothing ran")
    events.elapsed(stamps[0], stamps[-1])  # waits for all
    return [events.elapsed(a, b) for a, b in zip(stamps, stamps[1:], strict=False)]
