"""Time the convolutions of ResNet-50 on a GPU: every tile kernel, beside other libraries and the card's peak."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from pagnp.backends.base import Backend
from pagnp.backends.gpu.conv_tiles import Tile
from pagnp.bench.gpu_faults import FaultError, Watch
from pagnp.bench.gpu_launches import only
from pagnp.bench.gpu_layers import Layer, Prepared
from pagnp.bench.gpu_timing import LEAST, ROUNDS, Events, measure, repeated, shared
from pagnp.bench.peers import Peer
from pagnp.bench.roofline import Peaks, Work, attainable, bound
from pagnp.bench.timing import Times, ratio
from pagnp.contract import compare
from pagnp.types import Json

OURS, PLAIN, PEAK, STREAMS, TILE = "pagnp", "the plain kernel", "peak", "streams", "tile "
GRAPH_SECONDS = 1e-3  # launches that together take about so long become one CUDA graph
GUESS = 20e12  # multiply-adds a second, to guess how many launches that are
MOST_LAUNCHES = 64


@dataclass
class Convs:
    """What layers are timed on and beside.

    backend  ours;  fma, streams  gpu_peak's
    peers    functions by name that make a Peer of (layer, x, launches), whose run is so many convolutions; or None
    others   further GPU backends by name
    """

    backend: Backend
    events: Events
    fma: Any
    streams: Any
    peers: dict[str, Callable[[Layer, Any, int], Peer | None]] = field(default_factory=dict)
    others: dict[str, Backend] = field(default_factory=dict)
    rounds: int = ROUNDS
    least: float = LEAST


def rows(convs: Convs, layers: Sequence[Layer], batches: Sequence[int]) -> Iterator[Json]:
    """Yield the row of each layer and batch size, all layers of the first batch size first."""
    for n in batches:
        for layer in layers:
            yield row(convs, layer, n)


def row(convs: Convs, layer: Layer, n: int, without: Collection[str] = ()) -> Json:
    """Time one layer at batch size n in interleaved rounds, and hold the outputs of all tile kernels together.

    {"layer", "batch", "count", "macs", "bytes", "bound", "chosen", "seconds", "gflops", "share_of_peak", "share",
     "tiles": {kernel: seconds}, "peers": {name: {"seconds", "ratio"}}, "skipped": {name: reason}, "wrong": [..],
     "failed": {other backend: error}}
    without   names of contenders, as FaultError has them, that are left out
    Raises: FaultError with the name of the contender that failed, where others cannot go on as if nothing had happened.
    """
    device, watch = convs.backend.arrays, Watch(convs.backend.arrays)
    runs: dict[str, Callable[[], object]] = {}
    with watch.on(OURS):
        prepared = Prepared(layer, n, convs.backend)
        launches = _launches(layer, n)
        found: Json = {"layer": layer.name, "batch": n, "count": layer.count, "chosen": prepared.kernels()[0]}
        runs[OURS] = repeated(device, prepared.launch, launches)
    tiles = usable_tiles(prepared, watch, without)
    for tile in tiles:
        with watch.on(TILE + tile.kernel):
            runs[TILE + tile.kernel] = repeated(device, _with(tile, prepared), launches)
    found["wrong"] = wrong_images(prepared, tiles, watch)
    peers, skipped, failed = _peers(convs, prepared, launches, watch, without)
    runs |= {peer.name: peer.run for peer in peers} | {PEAK: convs.fma, STREAMS: convs.streams}
    times = measure(runs, convs.events, convs.rounds, convs.least, watch)
    times = {name: taken if name in (PEAK, STREAMS) else shared(taken, launches) for name, taken in times.items()}
    return found | _figures(layer, n, times, convs, peers) | {"skipped": skipped, "failed": failed}


def is_ours(convs: Convs, who: str) -> bool:
    """Return whether a contender of `row` is the backend's, or the other work that it does: no other library."""
    return who not in convs.peers and who not in convs.others


def _with(tile, prepared):
    """Return the launch of `prepared` by one tile kernel."""

    def launch():
        with only(prepared.backend.arrays, (tile,)):
            prepared.launch()

    return launch


def _launches(layer, n):
    """Return how many launches make one measurement."""
    return max(1, min(MOST_LAUNCHES, round(GRAPH_SECONDS * GUESS / (layer.macs * n))))


def usable_tiles(prepared: Prepared, watch: Watch, without: Collection[str] = ()) -> list[Tile]:
    """Return the tiles whose kernel takes this layer, but for those of the names `without`."""
    device, found = prepared.backend.arrays, []
    for tile in (tile for tile in device.conv_tiles if TILE + tile.kernel not in without):
        with only(device, (tile,)), watch.on(TILE + tile.kernel):
            if prepared.kernels()[0] == tile.kernel:
                found.append(tile)
    return found


def wrong_images(prepared: Prepared, tiles: Sequence[Tile], watch: Watch) -> list[str]:
    """Return which tile kernels give other bits for the last image than the plain kernel for the first.

    The images are all the same; the last one is the farthest from the start of the memory.
    """
    device, found = prepared.backend.arrays, []
    with only(device, ()), watch.on(PLAIN):
        one = Prepared(prepared.layer, 1, prepared.backend, x=prepared.x[:1])
        one.launch()
        want = one.image(0)
    for tile in tiles:
        with only(device, (tile,)), watch.on(TILE + tile.kernel):
            device.zero(prepared.out)
            prepared.launch()
            got = prepared.image(prepared.n - 1)
        difference = None if np.array_equal(got.view(np.uint32), want.view(np.uint32)) else compare(got, want)
        if difference:
            found.append(f"{tile.kernel}, {prepared.layer.name}, last image of {prepared.n}: {difference}")
    return found


def _peers(convs, prepared, launches, watch, without):
    """Return (the peers that can run this layer, library -> why it cannot, other backend of ours -> how it failed).

    Each has run once. Raises FaultError if one broke the GPU for this process.
    """
    peers, skipped, failed = [], {}, {}

    def add(name, make, reasons):
        try:
            with watch.on(name):
                peer = make()
                if peer is not None:
                    peer.run()
        except FaultError as error:
            if error.lost:
                raise
            reasons[name] = str(error).removeprefix(f"{name}: ")  # the others are measured all the same
        else:
            peers.extend([] if peer is None else [peer])

    def other_of(name, backend):
        other = Prepared(prepared.layer, prepared.n, backend, x=backend.arrays.adopt(prepared.x))
        return Peer(name, repeated(backend.arrays, other.launch, launches), other.kernels()[0])

    for name in (name for name in convs.peers if name not in without):
        add(name, partial(convs.peers[name], prepared.layer, prepared.x, launches), skipped)
    for name in (name for name in convs.others if name not in without):
        add(name, partial(other_of, name, convs.others[name]), failed)
    return peers, skipped, failed


def _figures(layer: Layer, n: int, times: dict[str, Times], convs: Convs, peers: Sequence[Peer]) -> Json:
    peaks = Peaks(convs.fma.flops / times[PEAK].least, convs.streams.bytes / times[STREAMS].least)
    work, ours = Work(layer.name, "conv2d", n * layer.macs, layer.bytes(n)), times[OURS]
    in_round = Times(tuple(2 * work.macs / convs.fma.flops * seconds for seconds in times[PEAK].seconds))
    return {
        "macs": work.macs,
        "bytes": work.bytes,
        "bound": bound(work, peaks),
        "seconds": ours.as_json(),
        "gflops": 2e-9 * work.macs / ours.median,
        "share_of_peak": ratio(in_round, ours).median,
        "share": attainable(work, peaks) / ours.median,
        "peaks": {"gflops": 1e-9 * peaks.flops, "gbytes": 1e-9 * peaks.bandwidth},
        "tiles": {name.removeprefix(TILE): times[name].as_json() for name in times if name.startswith(TILE)},
        "peers": {peer.name: _beside(peer, ours, times[peer.name]) for peer in peers},
    }


def _beside(peer, ours, theirs):
    return {"detail": peer.detail, "seconds": theirs.as_json(), "ratio": ratio(ours, theirs).as_json()}
