"""The same network in other libraries: dense, as anyone has to run it there."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pagnp.bench.timing import interleave
from pagnp.errors import BackendError, PagnpError
from pagnp.graph import Graph
from pagnp.types import Tensor

TRIALS = 3  # rounds between the ways to run torch, before the measurement proper

Runs = dict[str, Callable[[], object]]


@dataclass(frozen=True)
class Peer:
    """Another library's run of a graph: `run()` computes it once; `detail` says how it was set up."""

    name: str
    run: Callable[[], object]
    detail: str


class SkippedError(Exception):
    """A peer that cannot be measured here; the message is the reason."""


def make(name: str, graph: Graph, x: Tensor, threads: int) -> Peer:
    """Return the Peer `name` of PEERS for a graph on x (n, h, w, c).

    Raises: SkippedError with the reason: not installed, or the graph is none that the library can run.
    """
    try:
        return PEERS[name](name, graph, x, threads)
    except ImportError as error:
        raise SkippedError(f"cannot import {error.name}") from error
    except PagnpError as error:
        raise SkippedError(str(error)) from error


def _torch_eager(name: str, graph: Graph, x: Tensor, threads: int) -> Peer:
    run, _ = _torch_runs(graph, x, threads, compiled=False)
    return Peer(name, run["eager"], DETAIL.format("eager"))


def _torch(name: str, graph: Graph, x: Tensor, threads: int) -> Peer:
    """The faster of eager and torch.compile, found by a few rounds between them."""
    runs, failed = _torch_runs(graph, x, threads, compiled=True)
    if len(runs) == 1:
        return Peer(name, runs["eager"], DETAIL.format(f"eager; torch.compile failed: {failed}"))
    times = interleave(runs, TRIALS, least=0.0)
    best = min(times, key=lambda way: times[way].median)
    tried = ", ".join(f"{way} {1e3 * found.median:.3f} ms" for way, found in times.items())
    return Peer(name, runs[best], DETAIL.format(f"{best}, the best of {tried}"))


DETAIL = "channels_last, norms folded, inference_mode; {}"


def _torch_runs(graph: Graph, x: Tensor, threads: int, compiled: bool) -> tuple[Runs, str]:
    """Return (way -> run, why torch.compile does not work).

    Compiled with weights frozen, so that they are packed once. Without the cache of graphs: the number of threads is
    part of the code and not of its key.
    """
    import torch

    from pagnp.torch import to_module

    torch.set_num_threads(threads)
    image = torch.from_numpy(x).permute(0, 3, 1, 2)  # channels last, as it lies

    def runner(module: Callable[[Any], Any]) -> Callable[[], object]:
        def run() -> object:
            with torch.inference_mode():
                return module(image)

        return run

    module: Any = to_module(graph)
    module.to(memory_format=torch.channels_last)
    runs = {"eager": runner(module)}
    if not compiled:
        return runs, ""
    try:
        torch._dynamo.reset()
        options: dict[str, Any] = {"freezing": True, "fx_graph_cache": False}
        copy: Any = to_module(graph)  # freezing takes the weights away
        copy.to(memory_format=torch.channels_last)
        fast = runner(torch.compile(copy, options=options, fullgraph=True))
        fast()
    except Exception as error:  # a missing compiler, an unknown option, a bug: all kinds
        return runs, f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
    return {**runs, "torch.compile": fast}, ""


def _onnxruntime(name: str, graph: Graph, x: Tensor, threads: int) -> Peer:
    """ONNX Runtime with its defaults: idle workers spin, which is faster; `timing.settle` waits until they sleep."""
    import onnxruntime

    from pagnp import onnx

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    document = onnx.model(graph, size=x.shape[1:3], batch=x.shape[0]).SerializeToString()
    try:
        session = onnxruntime.InferenceSession(document, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its own exception types are not public
        raise BackendError(f"onnxruntime: {str(error).splitlines()[0]}") from error
    feed = {"input": np.ascontiguousarray(x.transpose(0, 3, 1, 2))}
    return Peer(name, lambda: session.run(None, feed), "the graph as ONNX, every branch and Where; all optimisations")


PEERS: dict[str, Callable[[str, Graph, Tensor, int], Peer]] = {
    "torch": _torch,
    "torch-eager": _torch_eager,
    "onnxruntime": _onnxruntime,
}
