"""Which stages there are, how long each may take, and which run side by side."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

GROUPS = ("conformance", "sanitizer", "networks", "repetition", "speed")
BACKENDS = ("cupy", "numba-cuda")


@dataclass(frozen=True)
class Stage:
    """One stage on one backend.

    group    what --only picks it by, beside its name
    seconds  that it plans with; GRACE later it is stopped
    wave     stages of the same wave run side by side
    """

    name: str
    backend: str
    seconds: float
    wave: int
    group: str

    @property
    def title(self) -> str:
        """Such as "conformance, cupy"."""
        return f"{self.name}, {self.backend}"


# Correctness first, all processes at once: they also disturb each other, which is wanted. Times last, alone. The numba
# stages are longer, for its compiler; its sanitizer comes when the kernels are on disk. The networks wait for the CPU's
# kernels to be compiled on a new machine.
STAGES = (
    Stage("conformance", "cupy", 150, 1, "conformance"),
    Stage("conformance", "numba-cuda", 150, 1, "conformance"),
    Stage("sanitizer", "cupy", 150, 1, "sanitizer"),
    Stage("sanitizer", "numba-cuda", 75, 2, "sanitizer"),
    Stage("networks", "cupy", 65, 2, "networks"),
    Stage("networks", "numba-cuda", 75, 2, "networks"),
    Stage("repetition", "cupy", 40, 3, "repetition"),
    Stage("repetition", "numba-cuda", 40, 3, "repetition"),
    Stage("speed-convs", "cupy", 100, 4, "speed"),
    Stage("speed-network", "cupy", 170, 5, "speed"),
)

Command = Callable[[Stage, float, Path], list[str]]


NAMES = tuple(dict.fromkeys((*GROUPS, *(stage.name for stage in STAGES))))


def chosen(names: Sequence[str], backends: Sequence[str]) -> list[Stage]:
    """Return the stages of these groups or names and backends; with none of a kind named, all."""
    return [
        stage
        for stage in STAGES
        if (not names or stage.group in names or stage.name in names) and (not backends or stage.backend in backends)
    ]


def command(stage: Stage, seconds: float, record: Path, files: Sequence[str] = ()) -> list[str]:
    """Return the command line of a stage's process."""
    return [sys.executable, "-m", "pagnp.gpucheck.job", stage.name, stage.backend, str(seconds), str(record), *files]
