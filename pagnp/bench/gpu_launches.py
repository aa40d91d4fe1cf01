"""Look at what a device launches, and say which tile kernels conv2d may take."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pagnp.backends.gpu.conv_tiles import Tile


@contextmanager
def launches(device: Any) -> Iterator[Counter[str]]:
    """Count the launches of `device` by kernel inside the block. Blocks may be nested."""
    counts: Counter[str] = Counter()
    before = vars(device).get("launch")  # of a block around this one
    launch: Callable[..., object] = device.launch

    def counting(kernel: str, *args: Any, **named: Any) -> None:
        launch(kernel, *args, **named)
        counts[kernel] += 1  # only now: one that is refused was none

    device.launch = counting
    try:
        yield counts
    finally:
        if before is None:
            del device.launch
        else:
            device.launch = before


@contextmanager
def only(device: Any, tiles: tuple[Tile, ...]) -> Iterator[None]:
    """Let conv2d use these tile kernels alone inside the block; none: the plain kernel."""
    before = device.conv_tiles
    device.conv_tiles = tiles
    try:
        yield
    finally:
        device.conv_tiles = before
