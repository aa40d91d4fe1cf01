"""One section of the benchmark of a network: a number of threads, everything that runs at it, in the same rounds."""

import functools
import statistics
from collections.abc import Callable, Sequence

from pagnp.bench.layers import layers
from pagnp.bench.network import Subject, Way, kept
from pagnp.bench.peak import FmaPeak, Streams
from pagnp.bench.peers import Peer
from pagnp.bench.roofline import Peaks
from pagnp.bench.timing import Times, interleave, ratio
from pagnp.types import Json

PEAK, STREAMS, OURS = "peak", "streams", "pagnp "


def measure(
    subject: Subject,
    ways: Sequence[Way],
    peers: Sequence[Peer],
    rounds: int,
    with_layers: bool,
    progress: Callable[[float], object] | None = None,
) -> Json:
    """Time the ways, the peers and the machine's peaks in interleaved rounds; return the section of the JSON.

    {"threads", "peaks", "rows": [pagnp's ways, then peers], "layers": {way: see `layers`} or absent}
    """
    fma, streams = FmaPeak(subject.model.backend.threads), Streams(subject.model.backend.threads)
    runs: dict[str, Callable[[], object]] = {OURS + way.name: functools.partial(subject.run, way) for way in ways}
    runs |= {peer.name: peer.run for peer in peers}
    runs |= {PEAK: fma, STREAMS: streams}
    times = interleave(runs, rounds, progress=progress)
    # The best round: whatever else the machine did meanwhile, its cores can do that much.
    peaks = Peaks(fma.flops / times[PEAK].least, streams.bytes / times[STREAMS].least)
    rows = [_row(subject, way, times, [peer.name for peer in peers], peaks) for way in ways]
    rows += [{"name": peer.name, "detail": peer.detail, "seconds": times[peer.name].as_json()} for peer in peers]
    section: Json = {"threads": subject.model.backend.threads, "peaks": _peaks(fma, streams, times), "rows": rows}
    if with_layers:
        section["layers"] = {way.name: layers(subject, way, times[OURS + way.name], peaks) for way in ways}
    return section


def _row(subject: Subject, way: Way, times: dict[str, Times], peers: list[str], peaks: Peaks) -> Json:
    macs, taken = subject.macs(way), times[OURS + way.name]
    part = 2 * macs["executed"] / (peaks.flops * times[PEAK].least)  # of the multiply-adds of a call of `FmaPeak`
    bound = Times(tuple(part * seconds for seconds in times[PEAK].seconds))  # what the peak of each round would take
    others = {peer: times[peer] for peer in peers} | {"dense": times[f"{OURS}dense"]}
    return {
        "name": f"{OURS}{way.name}",
        "keep": way.keep,
        "masks": way.masks,
        "threshold": way.options.get("threshold"),
        "kept": kept(macs),
        "macs": macs["executed"],
        "macs_share": macs["executed"] / macs["dense"] if macs["dense"] else 1.0,
        "seconds": taken.as_json(),
        "gflops": 2e-9 * macs["executed"] / taken.median,
        "share_of_peak": 2 * macs["executed"] / taken.median / peaks.flops,
        "share_in_round": ratio(bound, taken).median,
        "ratios": {name: ratio(taken, other).as_json() for name, other in others.items()},
    }


def _peaks(fma: FmaPeak, streams: Streams, times: dict[str, Times]) -> Json:
    """Speeds in each round, best and median: GFLOP/s of multiply-adds, GB/s of long streams (two read, one written)."""
    flops = [1e-9 * fma.flops / seconds for seconds in times[PEAK].seconds]
    gbytes = [1e-9 * streams.bytes / seconds for seconds in times[STREAMS].seconds]
    return {
        "gflops": {"best": max(flops), "median": statistics.median(flops), "rounds": flops},
        "gbytes": {"best": max(gbytes), "median": statistics.median(gbytes), "rounds": gbytes},
        "stream_bytes": streams.bytes,
    }
