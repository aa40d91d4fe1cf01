"""PyTorch on the same GPU: a convolution on our own array, and whole networks; float32 throughout, no TF32."""

from collections.abc import Callable
from typing import Any

import numpy as np

from pagnp.bench.gpu_layers import Layer
from pagnp.bench.peers import Peer
from pagnp.graph import Graph
from pagnp.types import Tensor

Run = Callable[[], object]
WARM_UP = 3  # calls before a capture: cuDNN chooses its algorithms in them
DETAIL = "float32 without TF32, channels_last, cudnn.benchmark, inference_mode"


def torch_on_gpu() -> Any:
    """Return torch, set up for the comparison. Raises ImportError or RuntimeError where it cannot use the GPU."""
    import torch

    if not torch.cuda.is_available():
        raise RuntimeError(f"torch {torch.__version__} finds no GPU")
    set_up(torch)
    return torch


def set_up(torch: Any) -> None:
    """Forbid TF32 and let cuDNN try its algorithms."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True


def conv(layer: Layer, x: Any, launches: int, *, device: str = "cuda", graph: bool = True) -> Peer:
    """Return `launches` times the convolution alone (no norm, no relu), on x (n, h, w, c) as it lies."""
    import torch

    weight, image = _weight(torch, layer, device), torch.as_tensor(x, device=device).permute(0, 3, 1, 2)
    place: dict[str, Any] = {"stride": layer.stride, "padding": layer.padding, "dilation": layer.dilation}

    def once() -> Any:
        return torch.nn.functional.conv2d(image, weight, **place)

    return Peer("torch", captured(torch, _times(torch, once, launches), graph), DETAIL)


def sgemm(layer: Layer, x: Any, launches: int, *, device: str = "cuda", graph: bool = True) -> Peer | None:
    """Return cuBLAS's product of the convolution's size: what it would take if its matrix were given for free.

    None where that matrix would be larger than 4 GiB.
    """
    import torch

    rows = int(x.shape[0]) * layer.size[0] * layer.size[1]
    if 4 * rows * layer.terms > 4 << 30:
        return None
    a = torch.randn((rows, layer.terms), device=device)
    b = torch.randn((layer.terms, layer.c_out), device=device)
    out = torch.empty((rows, layer.c_out), device=device)
    run = captured(torch, _times(torch, lambda: torch.mm(a, b, out=out), launches), graph)
    return Peer("sgemm", run, f"cuBLAS through torch, {rows}x{layer.terms} times {layer.terms}x{layer.c_out}")


def _weight(torch, layer, device):
    shape = (layer.c_out, layer.c_in, layer.kernel, layer.kernel)
    return torch.randn(shape, device=device).contiguous(memory_format=torch.channels_last)


def _times(torch, once, launches):
    def run() -> None:
        with torch.inference_mode():
            for _ in range(launches):
                once()

    return run


def captured(torch: Any, run: Run, graph: bool = True) -> Run:
    """Return `run` as a CUDA graph; with `graph` false as it is.

    What is returned holds `run`, and so all that it holds: a graph knows addresses only, and torch gives free memory
    back to the driver whenever it begins to record another one.
    """
    if not graph:
        return run
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    recorded = torch.cuda.CUDAGraph()
    with torch.cuda.graph(recorded):
        kept = run, run()

    def replay() -> object:
        recorded.replay()
        return kept[1]

    return replay


def memory_of(torch: Any, run: Run) -> str:
    """Return in words how much memory a run takes at most, with what torch holds anyway: weights and input."""
    for _ in range(WARM_UP):
        run()
    torch.cuda.reset_peak_memory_stats()
    run()
    return f"{torch.cuda.max_memory_allocated() / 2**20:.0f} MiB at most, with weights and input"


def kernel_names(torch: Any, run: Run) -> list[str]:
    """Return the names of the kernels of a run, by torch's profiler."""
    run()
    torch.cuda.synchronize()
    activities = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profiler:
        run()
        torch.cuda.synchronize()
    names = [event.name for event in profiler.events() if event.device_type == torch.autograd.DeviceType.CUDA]
    return list(dict.fromkeys(name for name in names if not name.startswith(("Memcpy", "Memset"))))


def network(graph: Graph, x: Tensor, *, device: str = "cuda") -> Run:
    """Return a run of the network in eager mode, every branch computed, on a copy of x (n, h, w, c)."""
    module, image = module_on(graph, x, device)
    return inference(module, image)


def module_on(graph: Graph, x: Tensor, device: str = "cuda") -> tuple[Any, Any]:
    """Return (the graph as a module on the device, x as it takes it), both channels_last."""
    import torch

    from pagnp.torch import to_module

    module: Any = to_module(graph)
    module.to(device=device, memory_format=torch.channels_last)
    image = torch.from_numpy(np.ascontiguousarray(x)).to(device).permute(0, 3, 1, 2)
    return module, image


def inference(module: Callable[[Any], Any], image: Any) -> Run:
    """Return a run of `module` that needs no gradients."""
    import torch

    def run() -> Any:
        with torch.inference_mode():
            return module(image)

    return run


def compiled(module: Any, image: Any, mode: str | None = None) -> Run:
    """Return a run of the module through torch.compile, compiled by a first call. mode: "reduce-overhead", ..."""
    import torch

    torch._dynamo.reset()
    fast = torch.compile(module, fullgraph=True, mode=mode)
    run = inference(fast, image)
    for _ in range(WARM_UP):
        run()
    return run
