"""Time several things side by side: in turn, round by round, so that a machine whose speed drifts is fair to all."""

import gc
import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pagnp.types import Json

ROUNDS = 7
LEAST = 0.05  # seconds that one measurement takes at least: a short run is repeated within it
MOST_REPEATS = 10_000
QUIET, PATIENCE = 0.004, 0.25  # seconds: how long nobody may compute before a measurement; how long that is waited for


@dataclass(frozen=True)
class Times:
    """Seconds of one run of something, a value for each round."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def least(self) -> float:
        return min(self.seconds)

    @property
    def most(self) -> float:
        return max(self.seconds)

    def as_json(self) -> Json:
        return {"median": self.median, "least": self.least, "most": self.most, "rounds": list(self.seconds)}


@dataclass(frozen=True)
class Ratio:
    """How two things measured in the same rounds compare: of their medians, and the ratios within each round."""

    of_medians: float
    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median of the rounds' ratios: what drifts from round to round cancels in it."""
        return statistics.median(self.rounds)

    def as_json(self) -> Json:
        least, most = min(self.rounds), max(self.rounds)
        return {"of_medians": self.of_medians, "median": self.median, "least": least, "most": most}


def ratio(a: Times, b: Times) -> Ratio:
    """Return the Ratio of a's time to b's."""
    return Ratio(a.median / b.median, tuple(x / y for x, y in zip(a.seconds, b.seconds, strict=True)))


def settle() -> None:
    """Wait until no thread of this process computes.

    The worker threads of OpenMP (PyTorch) and of ONNX Runtime spin for some milliseconds after a call, in the hope of
    the next one. That makes the library faster and is left on; but whoever is timed next would share the cores with
    them.
    """
    end = time.perf_counter() + PATIENCE
    while time.perf_counter() < end:
        before = time.process_time()
        time.sleep(QUIET)
        if time.process_time() - before < QUIET / 10:
            return


def interleave(
    runs: Mapping[str, Callable[[], object]],
    rounds: int = ROUNDS,
    *,
    least: float = LEAST,
    clock: Callable[[], float] = time.perf_counter,
    wait: Callable[[], object] = settle,
    progress: Callable[[float], object] | None = None,
) -> dict[str, Times]:
    """Run everything in turn, `rounds` times (A B C A B C ...), and return name -> Times of a single run.

    runs      name -> what is timed; each is called twice before, to compile and to warm up
    least     seconds of one measurement: a shorter run is repeated, after one call that is not timed
    clock     returns seconds; wait: called before each measurement
    progress  called with the share of the measurements that are done
    """
    repeats = {name: _repeats(run, least, clock) for name, run in runs.items()}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    gc.collect()
    for number in range(rounds):
        for place, (name, run) in enumerate(runs.items()):
            wait()
            if repeats[name] > 1:
                run()
            start = clock()
            for _ in range(repeats[name]):
                run()
            seconds[name].append((clock() - start) / repeats[name])
            if progress is not None:
                progress((number * len(runs) + place + 1) / (rounds * len(runs)))
    return {name: Times(tuple(values)) for name, values in seconds.items()}


def _repeats(run, least, clock):
    """Return how often `run` is called in one measurement, after two calls that warm it up."""
    run()
    start = clock()
    run()
    once = clock() - start
    return MOST_REPEATS if once <= 0 else min(MOST_REPEATS, max(1, math.ceil(least / once)))
