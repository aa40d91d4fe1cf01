"""Who was at work on a GPU when it failed: a fault shows at a later call, most likely somebody else's."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pagnp.backends.gpu.device import Device


class FaultError(Exception):
    """A contender failed.

    who   its name
    lost  whether the GPU answers this process no more, as after an illegal access: another process has to go on
    """

    def __init__(self, who: str, error: BaseException, lost: bool) -> None:
        super().__init__(f"{who}: {type(error).__name__}: {' '.join(str(error).split())[:200]}")
        self.who, self.lost = who, lost


class Watch:
    """Names who works on `device`. One waits for whoever worked before the next one begins."""

    def __init__(self, device: Device) -> None:
        self.device, self.who = device, ""

    @contextmanager
    def on(self, who: str) -> Iterator[None]:
        """Inside the block `who` works, or whom `named` called last; at its end what was launched is over.

        Raises: FaultError for any exception.
        """
        self.who = who
        try:
            yield
            self.device.wait()
        except FaultError:
            raise
        except Exception as error:
            raise FaultError(self.who, error, not self._answers()) from error

    def named(self, who: str, run: Callable[[], object]) -> Callable[[], object]:
        """Return `run` as one that says that `who` works."""

        def call() -> object:
            self.who = who
            return run()

        return call

    def _answers(self) -> bool:
        try:
            self.device.wait()
        except Exception:  # of any library
            return False
        return True
