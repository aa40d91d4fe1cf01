"""What the library has to tell while it works. It prints nothing: the command line listens, others have the logger."""

import contextlib
from collections.abc import Callable, Iterator

_listeners: list[Callable[[str], object]] = []


def tell(message: str) -> None:
    """Hand `message` to whoever listens; nobody: to the logger "pagnp" at level INFO, which is silent by default."""
    if not _listeners:
        import logging

        logging.getLogger("pagnp").info(message)
    for listener in _listeners:
        listener(message)


@contextlib.contextmanager
def heard_by(listener: Callable[[str], object]) -> Iterator[None]:
    """Call `listener` with every message that is told inside the context, in any thread."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)
