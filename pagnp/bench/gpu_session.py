"""One section of the GPU benchmark of a network: all ways at one batch size and the peers, in the same rounds."""

from collections.abc import Callable, Sequence
from typing import Any

from pagnp.bench.gpu_faults import Watch
from pagnp.bench.gpu_network import DeviceWay
from pagnp.bench.gpu_timing import LEAST, Events, measure
from pagnp.bench.network import kept
from pagnp.bench.peers import Peer
from pagnp.bench.roofline import Peaks
from pagnp.bench.timing import Times, ratio
from pagnp.types import Json

PEAK, STREAMS = "peak", "streams"
EAGER, GRAPH = "eager", "graph"
ROUNDS = 7


def section(
    subjects: Sequence[DeviceWay],
    peers: Sequence[Peer],
    machine: tuple[Any, Any],
    events: Events,
    rounds: int = ROUNDS,
    least: float = LEAST,
) -> Json:
    """Time every way, launched anew and as a graph, and the peers; the first of `subjects` is the dense one.

    machine  gpu_peak's FmaPeak and Streams
    returns  {"batch", "peaks", "rows": [ours], "peers": [theirs]}
    Raises: FaultError with the name of the way or the peer that failed.
    """
    fma, streams = machine
    ours = {(subject.way.name, mode): run for subject in subjects for mode, run in modes(subject).items()}
    runs: dict[str, Callable[[], object]] = {f"{name}, {mode}": run for (name, mode), run in ours.items()}
    runs |= {peer.name: peer.run for peer in peers} | {PEAK: fma, STREAMS: streams}
    times = measure(runs, events, rounds, least, Watch(subjects[0].device))
    peaks = Peaks(fma.flops / times[PEAK].least, streams.bytes / times[STREAMS].least)
    in_round = Times(tuple(seconds / fma.flops for seconds in times[PEAK].seconds))  # of one operation
    batch = int(subjects[0].x.shape[0])
    rows = [
        _row(subject, mode, times, [peer.name for peer in peers], in_round, batch)
        for subject in subjects
        for mode in modes(subject)
    ]
    return {
        "batch": batch,
        "peaks": {"gflops": 1e-9 * peaks.flops, "gbytes": 1e-9 * peaks.bandwidth},
        "rows": rows,
        "peers": [{"name": peer.name, "detail": peer.detail, "seconds": times[peer.name].as_json()} for peer in peers],
    }


def modes(subject: DeviceWay) -> dict[str, Callable[[], object]]:
    """Return the runs of a way: launched anew, and where the device records as a CUDA graph."""
    found: dict[str, Callable[[], object]] = {EAGER: subject.eager}
    return found if subject.graph is None else found | {GRAPH: subject.replay}


def _row(subject, mode, times, peers, in_round, batch):
    macs, taken = subject.macs(), times[f"{subject.way.name}, {mode}"]
    bound = Times(tuple(2 * macs["executed"] * seconds for seconds in in_round.seconds))
    others = {peer: times[peer] for peer in peers} | {"dense": times[f"dense, {mode}"]}
    share = macs["executed"] / macs["dense"] if macs["dense"] else 1.0
    return {
        "name": subject.way.name,
        "mode": mode,
        "keep": subject.way.keep,
        "masks": subject.way.masks,
        "kept": kept(macs),
        "macs": macs["executed"],
        "macs_share": share,
        "bytes": subject.bytes,
        "seconds": taken.as_json(),
        "seconds_per_image": taken.median / batch,
        "gflops": 2e-9 * macs["executed"] / taken.median,
        "share_of_peak": ratio(bound, taken).median,
        "ratios": {name: ratio(taken, other).as_json() for name, other in others.items()},
    }
