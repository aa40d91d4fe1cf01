"""The speed of the convolutions: ResNet-50's layers, every tile, beside cuDNN and the Numba-CUDA backend.

A contender that breaks the GPU for this process is put into the record by name, and left out of that layer when another
process goes on: the layers that follow are not to blame, nor is one library for another.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pagnp.backends.base import get_backend
from pagnp.bench import gpu_cudnn, gpu_layers, gpu_torch
from pagnp.bench.gpu_convs import TILE, Convs, is_ours, row
from pagnp.bench.gpu_faults import FaultError
from pagnp.bench.gpu_layers import Layer
from pagnp.bench.gpu_peak import FmaPeak, Streams
from pagnp.bench.gpu_timing import events_of
from pagnp.bench.peers import Peer
from pagnp.errors import BackendError
from pagnp.gpucheck.job import AgainError, Job
from pagnp.gpucheck.record import failure
from pagnp.types import Json

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
        try:
            job.record.put("cudnn kernels", chosen_kernels(layers, job.backend))
        except Exception as error:  # theirs; nothing comes behind it
            job.record.skip("kernels of cuDNN's choice", failure(error))


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
    """Put the rows into the record, one by one; 3x3 layers at batch FULL with more beside them.

    Goes on where a record ends that a process before this one left. Raises AgainError if another has to go on.
    """
    rows = job.record.values.setdefault("convs", [])
    done = {_name(found["layer"], found["batch"]) for found in rows}
    for n in BATCHES:
        for layer in layers:
            name = _name(layer.name, n)
            if name in done or given_up(job, convs, name):
                continue
            if job.deadline.left < RESERVE:
                job.record.skip(name, "no time was left")
                continue
            whole = n == FULL and layer.kernel == 3
            extra = {"cudnn-direct": gpu_cudnn.direct_conv} if whole and "torch" in convs.peers else {}
            rounds = convs.rounds if n == FULL else FEW_ROUNDS
            more = replace(convs, peers=convs.peers | extra, others=others if whole else {}, rounds=rounds)
            with job.record.attempt(name, but=AgainError):
                found = row_of_all_that_work(job, more, layer, n)
                if found is not None:
                    rows.append(found)
                    job.record.put("convs", rows)


def row_of_all_that_work(job: Job, convs: Convs, layer: Layer, n: int) -> Json | None:
    """Return the row, without the contenders that failed on it; None if ours did.

    Raises: AgainError if one broke the GPU for this process.
    """
    name = _name(layer.name, n)
    while not given_up(job, convs, name):
        try:
            found = row(convs, layer, n, broken(job, name))
        except FaultError as error:
            blame(job, convs, name, error)
            if error.lost:
                raise AgainError(str(error)) from error
            continue
        job.record.check("bits of every tile at full size", found.pop("wrong"), max(1, len(found["tiles"])))
        for peer, reason in found["skipped"].items():
            job.record.skip(f"{peer}, {name}", reason)
        for other, reason in found.pop("failed").items():
            job.record.check(f"launches of {other}", [f"{other}, {name}: {reason}"])
        return found
    return None


def blame(job: Job, convs: Convs, name: str, error: FaultError) -> None:
    """Put into the record who failed on the row `name`: a failure if it is a backend of pagnp, else a peer's reason."""
    how = f"{error}; after it the GPU answered this process no more" if error.lost else str(error)
    job.record.values.setdefault("broken", {}).setdefault(name, []).append(error.who)
    if error.who in convs.others:
        job.record.check(f"launches of {error.who}", [f"{how} ({name})"])
    elif is_ours(convs, error.who):
        job.record.check(name, [how])
    else:
        job.record.skip(f"{error.who}, {name}", how)
    job.record.save()


def broken(job: Job, name: str) -> list[str]:
    """Return who failed on the row `name` so far."""
    return list(job.record.values.get("broken", {}).get(name, []))


def given_up(job: Job, convs: Convs, name: str) -> bool:
    """Return whether nothing is left to measure on the row `name`: what failed was ours, and no tile among others."""
    known = {"cudnn-direct", OTHER, *convs.peers, *convs.others}
    return any(who not in known and not who.startswith(TILE) for who in broken(job, name))


def _name(layer, n):
    """Return what a row is called in the record."""
    return f"{layer}, batch {n}"


def chosen_kernels(layers: list[Layer], backend: Any) -> dict[str, list[str]]:
    """Return layer name -> kernels that torch launches for it at batch FULL."""
    import torch

    found = {}
    for layer in layers:
        prepared = gpu_layers.Prepared(layer, FULL, backend)
        found[layer.name] = gpu_torch.kernel_names(torch, gpu_torch.conv(layer, prepared.x, 1, graph=False).run)
    return found
