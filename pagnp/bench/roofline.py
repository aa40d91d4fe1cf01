"""The work of each step of a run, and the speed that the machine's peaks allow for it."""

from dataclasses import dataclass

import numpy as np

from pagnp.buffers import layer_of
from pagnp.fuse import CONVS
from pagnp.graph import Graph
from pagnp.lower import SITE_RULES
from pagnp.runner import Run

FLOAT = 4
KIND_BYTES = {"tensor": 4, "index": 4, "mask": 1}


@dataclass(frozen=True)
class Work:
    """What one step computes and touches.

    name   the layer; a step that makes sites or moves rows has the layer it does so for
    macs   multiply-adds done; bytes: each input, weight, residual and output once
    """

    name: str
    kind: str
    macs: int
    bytes: int


@dataclass(frozen=True)
class Peaks:
    """What the cores do at most: operations a second (two a multiply-add), bytes a second to and from memory."""

    flops: float
    bandwidth: float


def attainable(work: Work, peaks: Peaks) -> float:
    """Return the least seconds for `work`: computing or memory, whichever takes longer."""
    return max(2 * work.macs / peaks.flops, work.bytes / peaks.bandwidth)


def bound(work: Work, peaks: Peaks) -> str:
    """Return what bounds `work`, "compute" or "memory".

    Memory is that of long streams. Maps that stay in a cache can beat it: a share above 1 says so.
    """
    return "compute" if 2 * work.macs / peaks.flops >= work.bytes / peaks.bandwidth else "memory"


def works(graph: Graph, run: Run) -> list[Work]:
    """Return the Work of each step of a finished `run` of `graph`, as it ran."""
    return [_work(graph, run, step) for step in run.plan.steps]


def _work(graph, run, step):
    if step.kind in SITE_RULES:  # a mask or index read, a mask and the list of its sites written
        touched = 2 * run.masks[step.sites].size + FLOAT * len(run.sites[step.sites])
        return Work(run.plan.sets[step.sites].owner, step.kind, 0, touched)
    name = step.layer.name if step.layer is not None else layer_of(step.out)
    if step.kind in CONVS:
        return Work(name, step.kind, _macs(run, step), _conv_bytes(graph, run, step))
    read = sum(_bytes(run, buffer, step) for buffer in step.ins)
    return Work(name, step.kind, _macs(run, step), read + _bytes(run, step.out, step))


def _macs(run, step):
    if step.layer is None or not run.plan.macs.get(step.layer.name):
        return 0
    value = run.plan.values[step.layer.name]
    pixels = run.plan.n * value.h * value.w
    return run.plan.n * run.plan.macs[step.layer.name] * run.counts.get(step.layer.name, pixels) // pixels


def _bytes(run, buffer, step):
    """Size of a buffer; where the step has sites, of so many of its pixels."""
    value = run.plan.values[layer_of(buffer)]
    pixels = run.plan.n * value.h * value.w if step.sites is None else len(run.sites[step.sites])
    return pixels * value.c * KIND_BYTES[value.kind]


def _conv_bytes(graph, run, step):
    """Input pixels that are read, weights, rows written, rows of the residual."""
    weight = graph.weights[step.layer.node.weights["weight"]]
    x, out = (run.plan.values[layer_of(name)] for name in (step.ins[0], step.out))
    rows = run.plan.n * out.h * out.w if step.sites is None else len(run.sites[step.sites])
    read = run.plan.n * x.h * x.w if step.sites is None else _pixels_read(run, step, weight.shape[2:])
    return FLOAT * (read * x.c + weight.size + rows * out.c * (1 if step.residual is None else 2))


def _pixels_read(run, step, kernel):
    """Count the input pixels under the taps of the sites."""
    a, x = step.layer.node.attrs, run.plan.values[step.ins[0]]
    read = np.empty((run.plan.n, x.h, x.w), np.bool_)
    place = tuple(a["stride"]), tuple(a["padding"]), tuple(a["dilation"])
    run.backend.grow_mask(run.masks[step.sites], kernel, *place, read)
    return int(np.count_nonzero(read))
