"""The same network in other libraries: dense, as anyone has to run it there."""

from collections.abc import Callable
from dataclasses import dataclass

from pagnp.graph import Graph
from pagnp.types import Tensor

PEERS = ("torch", "torch-eager", "onnxruntime")


@dataclass(frozen=True)
class Peer:
    """Another library's run of a graph: `run()` computes it once; `detail` says how it was set up."""

    name: str
    run: Callable[[], object]
    detail: str


class SkippedError(Exception):
    """A peer that cannot be measured here; the message is the reason."""


def make(name: str, graph: Graph, x: Tensor, threads: int) -> Peer:
    """Return the Peer `name` for a graph on x (1, h, w, c). Raises SkippedError with the reason."""
    raise SkippedError("not yet")
