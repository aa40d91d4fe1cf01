"""Time single layers: dense beside other libraries, perforated against dense, MultiPool against one dense conv."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pagnp.bench import masks
from pagnp.bench.opcases import CASES, MULTIPOOL, PERFORATED, RATES, WIDEST, WIDTHS, Case, multipool_graph, width_case
from pagnp.bench.peak import FmaPeak, Streams
from pagnp.bench.peers import Peer
from pagnp.bench.roofline import Peaks, Work, attainable, bound, works
from pagnp.bench.timing import Times, interleave, ratio
from pagnp.graph import Graph
from pagnp.model import Model
from pagnp.runner import STEPS, Run
from pagnp.types import Index, Json, Mask, Tensor

KEEPS = (1.0, 0.9, 0.75, 0.5, 0.25, 0.1)
OURS, DENSE = "pagnp", "dense"
ATTENTION = ".attention."  # in the names of the layers that a MultiPool chooses by

MakePeers = Callable[[Graph, Tensor], Sequence[Peer]]


@dataclass(frozen=True)
class Timed:
    """One thing that a group times. `keep`: its share of the work of the group's first."""

    run: Callable[[], object]
    work: Work
    keep: float | None = None


class Prepared:
    """A graph on random input x (1, h, w, c), run once: its steps can be run again in the memory they have.

    So no run pays for fresh memory; other libraries keep theirs from call to call, too.
    """

    def __init__(self, graph: Graph, shape: tuple[int, int, int], threads: int, **options: object) -> None:
        self.graph = graph
        self.x = np.random.Generator(np.random.PCG64(0)).standard_normal((1, *shape), np.float32)
        self.run: Run = Model(graph, "numba", threads).run(self.x, **options)  # type: ignore[arg-type]
        self.steps = self.run.plan.steps

    def again(self) -> None:
        """Run the steps once more."""
        for step in self.steps:
            STEPS[step.kind](self.run, step)

    def at(self, mask: Mask) -> None:
        """Compute the last conv at a mask (1, h_out, w_out) alone: its sites listed, then the conv."""
        step: Any = self.steps[-1]
        backend = self.run.backend
        sites = backend.mask_to_sites(mask)
        self.run.calls.conv(step.layer, self.run.value(step.ins[0]), None, self.run.out(step), sites)

    def work(self) -> Work:
        """Return the work of all steps."""
        parts = [
            work
            for work, step in zip(works(self.graph, self.run), self.run.plan.steps, strict=True)
            if step in self.steps
        ]
        return Work("", "", sum(part.macs for part in parts), sum(part.bytes for part in parts))


def groups(
    ops: Sequence[str], threads: int, keeps: Sequence[float], peers: MakePeers, scale: float = 1.0
) -> Iterator[tuple[str, str, dict[str, Timed], Sequence[Peer]]]:
    """Yield (op, title, name -> what is timed together, peers) of the wanted ops.

    scale  of the height and width of every map: small ones for tests
    """
    for case in CASES:
        if case.op in ops:
            shape = _scaled(case, scale)
            prepared = Prepared(case.build(), shape, threads)
            yield case.op, case.name, {OURS: _timed(prepared)}, peers(prepared.graph, prepared.x)
    if PERFORATED in ops:
        for width in WIDTHS:
            yield from _perforated(width_case(width, scale), threads, keeps, peers)
    if MULTIPOOL in ops:
        yield _multipool(threads, scale, peers)


def _scaled(case: Case, scale: float) -> tuple[int, int, int]:
    h, w, c = case.shape
    return max(8, round(h * scale)), max(8, round(w * scale)), c


def _timed(prepared: Prepared) -> Timed:
    return Timed(prepared.again, prepared.work())


def _perforated(case, threads, keeps, peers):
    prepared = Prepared(case.build(), case.shape, threads)
    dense, out = prepared.work(), prepared.run.plan.values[prepared.steps[-1].out]
    for kind in ("blobs", "random"):
        timed = {DENSE: _timed(prepared)}
        for number, keep in enumerate(keeps):
            mask = masks.mask(kind, out.h, out.w, keep, number)[None]
            share = np.count_nonzero(mask) / mask.size
            part = Work("", "", round(dense.macs * share), round(dense.bytes * share))
            timed[f"keep {keep:g}"] = Timed(lambda mask=mask: prepared.at(mask), part, share)
        yield PERFORATED, f"{case.name}, masks: {kind}", timed, peers(prepared.graph, prepared.x)


def _multipool(threads, scale, peers):
    """One dense 3x3 beside MultiPools whose branches have equal shares of the pixels; without the attention head."""
    case = width_case(WIDEST, scale)
    h, w, channels = case.shape
    dense = Prepared(case.build(), case.shape, threads)
    timed = {DENSE: _timed(dense)}
    for tied in (False, True):
        for kind in ("blobs", "random"):
            graph = multipool_graph(channels, tied)
            noise = _deciding(masks.choice(kind, h, w, len(RATES), 0), len(RATES))
            prepared = Prepared(graph, case.shape, threads, gate_mode="gumbel_hard", noise={"multipool": noise})
            prepared.steps = [s for s in prepared.steps if s.layer is None or ATTENTION not in s.layer.name]
            name = f"multipool, 7 rates, {'tied, ' if tied else ''}{kind}"
            timed[name] = _timed(prepared)
    return MULTIPOOL, f"{case.name} and MultiPool", timed, peers(dense.graph, dense.x)


def _deciding(choice: Index, count: int) -> Tensor:
    """Return noise (h, w, count) that makes a Gumbel gate choose the branches of an index (h, w)."""
    noise = np.zeros((*choice.shape, count), np.float32)
    np.put_along_axis(noise, choice[..., None].astype(np.int64), masks.CERTAIN, axis=2)
    return noise


def measure(
    op: str,
    title: str,
    timed: Mapping[str, Timed],
    peers: Sequence[Peer],
    machine: tuple[FmaPeak, Streams],
    rounds: int,
) -> Json:
    """Time a group in interleaved rounds with the machine's peaks; return its part of the JSON.

    {"op", "title", "peaks": {"gflops", "gbytes"}, "rows": [ours, each against the first and the peers; the peers]}
    """
    fma, streams = machine
    runs: dict[str, Callable[[], object]] = {name: entry.run for name, entry in timed.items()}
    runs |= {peer.name: peer.run for peer in peers} | {"peak": fma, "streams": streams}
    times = interleave(runs, rounds)
    peaks = Peaks(fma.flops / times["peak"].least, streams.bytes / times["streams"].least)
    first = next(iter(timed))
    rows = []
    for name, entry in timed.items():
        others = {first: times[first]} if name != first else {}
        others |= {peer.name: times[peer.name] for peer in peers}
        rows.append(_row(name, entry, times, others, peaks))
    rows += [{"name": peer.name, "detail": peer.detail, "seconds": times[peer.name].as_json()} for peer in peers]
    speeds = {"gflops": 1e-9 * peaks.flops, "gbytes": 1e-9 * peaks.bandwidth}
    return {"op": op, "title": title, "peaks": speeds, "rows": rows}


def _row(name: str, entry: Timed, times: Mapping[str, Times], others: Mapping[str, Times], peaks: Peaks) -> Json:
    taken, work = times[name], entry.work
    return {
        "name": name,
        "keep": entry.keep,
        "seconds": taken.as_json(),
        "macs": work.macs,
        "bytes": work.bytes,
        "gflops": 2e-9 * work.macs / taken.median,
        "bound": bound(work, peaks),
        "share": attainable(work, peaks) / taken.median,
        "ratios": {other: ratio(taken, found).as_json() for other, found in others.items()},
    }
