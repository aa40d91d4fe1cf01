"""What runs the plans of a model: on the host with an arena that is kept, on a GPU as sessions.py says."""

from collections.abc import Callable
from typing import TypeAlias

from pagnp import memory
from pagnp.arenas import Arenas
from pagnp.backends.base import Backend
from pagnp.dispatch import Options
from pagnp.lower import Plan
from pagnp.parameters import Parameters
from pagnp.runner import Run, execute
from pagnp.types import Array, Tensor

Watch: TypeAlias = Callable[[str, Array], object]


class Executor:
    """Runs plans on the host."""

    def __init__(self, backend: Backend, parameters: Parameters) -> None:
        self.backend, self.parameters = backend, parameters
        self._arenas = Arenas()

    def execute(
        self,
        plan: Plan,
        x: Tensor,
        options: Options,
        watch: Watch | None = None,
        progress: Callable[[float], object] | None = None,
        tick: Callable[[], object] | None = None,
    ) -> Run:
        """Return the Run of `plan` on x (n, h, w, c); arguments as those of `runner.execute`."""
        return execute(plan, self.backend, self.parameters, x, options, watch, progress, self._arenas, tick)

    def holds(self, plan: Plan) -> bool:
        """True if the memory of a run of `plan` is there, waiting."""
        return False

    def require(self, plan: Plan, needed: int) -> None:
        """Raise MemoryLimitError if there are no `needed` bytes for a run of `plan`."""
        memory.require(plan, needed, self.backend.arrays)

    def release(self) -> bool:
        """Give up memory that is kept for later runs alone; False if there is none."""
        return False


def executor(backend: Backend, parameters: Parameters) -> Executor:
    """Return the Executor for `backend`."""
    if backend.arrays.on_host:
        return Executor(backend, parameters)
    from pagnp.sessions import DeviceExecutor

    return DeviceExecutor(backend, parameters)
