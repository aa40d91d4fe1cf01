"""The speed of the convolutions: ResNet-50's layers, every tile, beside cuDNN and the Numba-CUDA backend."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pagnp.backends.base import get_backend
from pagnp.bench import gpu_cudnn, gpu_layers, gpu_torch
from pagnp.bench.gpu_convs import Convs, row
from pagnp.bench.gpu_layers import Layer
from pagnp.bench.gpu_peak import FmaPeak, Streams
from pagnp.bench.gpu_timing import events_of
from pagnp.bench.peers import Peer
from pagnp.errors import BackendError
from pagnp.gpucheck.job import Job
from pagnp.gpucheck.record import failure

BATCHES = (8, 1, 32)  # the one with the targets first
FULL = 8  # batch size at which cuDNN's plans and the other backend are timed, too
OTHER = "numba-cuda"
RESERVE = 12.0  # seconds for the names of cuDNN's kernels
FEW_ROUNDS = 3  # at the other batch sizes


def run(job: Job) -> None:
    """Time all layers at every batch size, as long as there is time; then ask which kernels cuDNN chose."""
    device = job.backend.arrays
    convs = Convs(job.backend, events_of(job.backend.name), FmaPeak(device), Streams(device))
    convs.peers = torch_peers(job)
    others = other_backend(job)
    layers = gpu_layers.layers_of(gpu_layers.resnet50())[:: job.every]
    measure(job, convs, others, layers)
    if "torch" in convs.peers:
        with job.record.attempt("kernels of cuDNN's choice"):
            job.record.put("cudnn kernels", chosen_kernels(layers, job.backend))


def torch_peers(job: Job) -> dict[str, Callable[[Layer, Any, int], Peer | None]]:
    """Return torch's convolution and matrix product, or nothing, with the reason in the record."""
    try:
        gpu_torch.torch_on_gpu()
    except Exception as error:
        job.record.skip("torch", failure(error))
        return {}
    return {"torch": gpu_torch.conv, "sgemm": gpu_torch.sgemm}


def other_backend(job: Job) -> dict[str, Any]:
    """Return the Numba-CUDA backend by name, or nothing, with the reason in the record."""
    try:
        return {OTHER: get_backend(OTHER)}
    except BackendError as error:
        job.record.skip(OTHER, str(error))
        return {}


def measure(job: Job, convs: Convs, others: dict[str, Any], layers: list[Layer]) -> None:
    """Put the rows into the record, one by one; 3x3 layers at batch FULL with more beside them."""
    rows: list[Any] = []
    for n in BATCHES:
        for layer in layers:
            if job.deadline.left < RESERVE:
                job.record.skip(f"{layer.name}, batch {n}", "no time was left")
                continue
            whole = n == FULL and layer.kernel == 3
            extra = {"cudnn-direct": gpu_cudnn.direct_conv} if whole and "torch" in convs.peers else {}
            with job.record.attempt(f"{layer.name}, batch {n}"):
                rounds = convs.rounds if n == FULL else FEW_ROUNDS
                more = replace(convs, peers=convs.peers | extra, others=others if whole else {}, rounds=rounds)
                found = row(more, layer, n)
                job.record.check("bits of every tile at full size", found.pop("wrong"), max(1, len(found["tiles"])))
                for name, reason in found["skipped"].items():
                    job.record.skip(f"{name}, {layer.name}, batch {n}", reason)
                for other, error in found.pop("failed").items():
                    job.record.check(f"launches of {other}", [f"{other}, {layer.name}, batch {n}: {error}"])
                rows.append(found)
                job.record.put("convs", rows)


def chosen_kernels(layers: list[Layer], backend: Any) -> dict[str, list[str]]:
    """Return layer name -> kernels that torch launches for it at batch FULL."""
    import torch

    found = {}
    for layer in layers:
        prepared = gpu_layers.Prepared(layer, FULL, backend)
        found[layer.name] = gpu_torch.kernel_names(torch, gpu_torch.conv(layer, prepared.x, 1, graph=False).run)
    return found
