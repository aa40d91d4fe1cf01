"""cuDNN's fastest float32 convolution that is none of Winograd's or by FFT, found through NVIDIA's cudnn-frontend.

torch can only take cuDNN's choice; that package lists all plans and what they do to the numbers.
"""

import functools
import time
from collections.abc import Callable
from typing import Any

from pagnp.bench.gpu_layers import Layer
from pagnp.bench.gpu_torch import captured
from pagnp.bench.peers import Peer, SkippedError

# Plans with these notes are left out: other sums than a convolution's, or less than float32.
BARRED = (
    *("WINOGRAD", "WINOGRAD_TILE_4x4", "WINOGRAD_TILE_6x6", "WINOGRAD_TILE_13x13", "FFT"),
    *("TENSOR_CORE", "DOWN_CONVERT_INPUTS", "REDUCED_PRECISION_REDUCTION"),
)
HEURISTICS = ("A", "B", "FALLBACK")
PATIENCE = 2.0  # seconds for trying the plans of a layer: some are compiled first
TRIALS = 3
MOST_WORKSPACE = 2 << 30  # bytes


class Problem:
    """The convolution of a layer as a graph of cuDNN on torch's tensors, built up to its list of plans."""

    def __init__(self, cudnn: Any, torch: Any, layer: Layer, x: Any, device: str = "cuda") -> None:
        self.cudnn, self.torch, self.layer = cudnn, torch, layer
        n = int(x.shape[0])
        self.image = torch.as_tensor(x, device=device).permute(0, 3, 1, 2)
        weight = torch.randn((layer.c_out, layer.c_in, layer.kernel, layer.kernel), device=device)
        self.weight = weight.contiguous(memory_format=torch.channels_last)
        out = torch.empty((n, layer.c_out, *layer.size), device=device)
        self.out = out.contiguous(memory_format=torch.channels_last)

    def describe(self, handle: Any) -> Any:
        """Return the graph, valid, with nothing asked of the library yet."""
        cudnn, layer = self.cudnn, self.layer
        float32 = cudnn.data_type.FLOAT
        types = {"io_data_type": float32, "intermediate_data_type": float32, "compute_data_type": float32}
        self.graph = cudnn.pygraph(name="conv", handle=handle, **types)
        tensors = [("x", self.image), ("weight", self.weight)]
        self.x, self.w = (
            self.graph.tensor(name=name, dim=list(t.shape), stride=list(t.stride()), data_type=float32)
            for name, t in tensors
        )
        place = {name: [getattr(layer, name)] * 2 for name in ("padding", "stride", "dilation")}
        self.y = self.graph.conv_fprop(image=self.x, weight=self.w, compute_data_type=float32, **place)
        self.y.set_output(True).set_dim(list(self.out.shape)).set_stride(list(self.out.stride()))
        self.graph.validate()
        return self.graph

    def plans(self) -> int:
        """Ask cuDNN for its plans, without the barred ones; return how many places the list has."""
        self.graph.build_operation_graph()
        self.graph.create_execution_plans(
            [self.cudnn.heur_mode.A, self.cudnn.heur_mode.B, self.cudnn.heur_mode.FALLBACK]
        )
        self.graph.deselect_numeric_notes([getattr(self.cudnn.numerical_note, name) for name in BARRED])
        return int(self.graph.get_execution_plan_count())

    def workspace(self, size: int) -> Any:
        """Return so many bytes, one at least."""
        return self.torch.empty(max(size, 1), device=self.image.device, dtype=self.torch.uint8)

    def run(self, index: int, workspace: Any, handle: Any) -> None:
        """Execute the plan at `index` on torch's current stream."""
        if self.image.is_cuda:
            self.cudnn.set_stream(handle, self.torch.cuda.current_stream().cuda_stream)
        pointers = {self.x: self.image, self.w: self.weight, self.y: self.out}
        self.graph.execute_plan_at_index(pointers, workspace, index, handle)


def direct_conv(layer: Layer, x: Any, launches: int, *, device: str = "cuda", graph: bool = True) -> Peer:
    """Return the fastest plan that is left. Raises SkippedError if there is none, ImportError without the package."""
    import cudnn
    import torch

    handle = _handle(cudnn)
    problem = Problem(cudnn, torch, layer, x, device)
    problem.describe(handle)
    found, refused, end = [], "", time.perf_counter() + PATIENCE
    for index in range(problem.plans()):
        if time.perf_counter() < end:
            try:
                found += _tried(problem, index, handle)
            except Exception as error:  # cudnnGraphNotSupportedError among others; the next plan is tried
                refused = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
                _check_answers(problem, index, refused)
    if not found:
        last = f"; the last was refused: {refused}" if refused else ""
        raise SkippedError(f"cuDNN has no plan without Winograd, FFT and tensor cores that runs{last}")
    _, index, name, size = min(found)
    workspace = problem.workspace(size)

    def run() -> None:
        for _ in range(launches):
            problem.run(index, workspace, handle)

    return Peer("cudnn-direct", captured(torch, run, graph), f"{name}, the fastest of {len(found)} plans")


def _check_answers(problem, index, refused):
    """Raise RuntimeError where a plan was not refused but broke the GPU for this process."""
    if problem.image.is_cuda:
        try:
            problem.torch.cuda.synchronize()
        except Exception as error:
            raise RuntimeError(f"plan {index} of cuDNN: {refused}") from error


@functools.cache
def _handle(cudnn: Any) -> Any:
    """Return the one handle of this process."""
    return cudnn.create_handle()


def seconds_of(torch: Any, run: Callable[[], object]) -> float:
    """Return the seconds of a run, the mean of TRIALS, by torch's events."""
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    first.record()
    for _ in range(TRIALS):
        run()
    last.record()
    last.synchronize()
    return float(first.elapsed_time(last)) / TRIALS / 1e3


def _tried(problem, index, handle):
    """Return [(seconds, index, name, bytes of workspace)] of a plan, [] if those are too many; raises if refused."""
    torch, graph = problem.torch, problem.graph
    graph.build_plan_at_index(index)
    size = int(graph.get_workspace_size_plan_at_index(index))
    if size > MOST_WORKSPACE:
        return []
    workspace = problem.workspace(size)
    problem.run(index, workspace, handle)
    seconds = seconds_of(torch, lambda: problem.run(index, workspace, handle))
    return [(seconds, index, graph.get_plan_name_at_index(index), size)]
