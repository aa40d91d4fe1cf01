"""Time the convolutions of ResNet-50 on a GPU: every tile kernel, beside other libraries and the card's peak."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pagnp.backends.base import Backend
from pagnp.backends.gpu.conv_tiles import Tile
from pagnp.bench.gpu_launches import only
from pagnp.bench.gpu_layers import Layer, Prepared
from pagnp.bench.gpu_timing import LEAST, ROUNDS, Events, measure, repeated, shared
from pagnp.bench.peers import Peer
from pagnp.bench.roofline import Peaks, Work, attainable, bound
from pagnp.bench.timing import Times, ratio
from pagnp.contract import compare
from pagnp.types import Json

OURS, PEAK, STREAMS, TILE = "pagnp", "peak", "streams", "tile "
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


def row(convs: Convs, layer: Layer, n: int) -> Json:
    """Time one layer at batch size n in interleaved rounds, and hold the outputs of all tile kernels together.

    {"layer", "batch", "count", "macs", "bytes", "bound", "chosen", "seconds", "gflops", "share_of_peak", "share",
     "tiles": {kernel: seconds}, "peers": {name: {"seconds", "ratio"}}, "skipped": {name: reason}, "wrong": [..],
     "failed": {other backend: error}}
    """
    prepared = Prepared(layer, n, convs.backend)
    launches = _launches(layer, n)
    found: Json = {"layer": layer.name, "batch": n, "count": layer.count}
    runs: dict[str, Callable[[], object]] = {OURS: repeated(convs.backend.arrays, prepared.launch, launches)}
    found["chosen"], tiles = prepared.kernels()[0], usable_tiles(prepared)
    for tile in tiles:
        runs[TILE + tile.kernel] = repeated(convs.backend.arrays, _with(tile, prepared), launches)
    found["wrong"] = wrong_images(prepared, tiles)
    peers, skipped, failed = _peers(convs, prepared, launches)
    runs |= {peer.name: peer.run for peer in peers} | {PEAK: convs.fma, STREAMS: convs.streams}
    times = measure(runs, convs.events, convs.rounds, convs.least)
    times = {name: taken if name in (PEAK, STREAMS) else shared(taken, launches) for name, taken in times.items()}
    return found | _figures(layer, n, times, convs, peers) | {"skipped": skipped, "failed": failed}


def _with(tile, prepared):
    """Return the launch of `prepared` by one tile kernel."""

    def launch():
        with only(prepared.backend.arrays, (tile,)):
            prepared.launch()

    return launch


def _launches(layer, n):
    """Return how many launches make one measurement."""
    return max(1, min(MOST_LAUNCHES, round(GRAPH_SECONDS * GUESS / (layer.macs * n))))


def usable_tiles(prepared: Prepared) -> list[Tile]:
    """Return the tiles whose kernel takes this layer."""
    device, found = prepared.backend.arrays, []
    for tile in device.conv_tiles:
        with only(device, (tile,)):
            if prepared.kernels()[0] == tile.kernel:
                found.append(tile)
    return found


def wrong_images(prepared: Prepared, tiles: Sequence[Tile]) -> list[str]:
    """Return which tile kernels give other bits for the last image than the plain kernel for the first.

    The images are all the same; the last one is the farthest from the start of the memory.
    """
    device, found = prepared.backend.arrays, []
    one = Prepared(prepared.layer, 1, prepared.backend, x=prepared.x[:1])
    with only(device, ()):
        one.launch()
    want = one.image(0)
    for tile in tiles:
        with only(device, (tile,)):
            device.zero(prepared.out)
            prepared.launch()
        got = prepared.image(prepared.n - 1)
        difference = None if np.array_equal(got.view(np.uint32), want.view(np.uint32)) else compare(got, want)
        if difference:
            found.append(f"{tile.kernel}, {prepared.layer.name}, last image of {prepared.n}: {difference}")
    return found


def _peers(convs, prepared, launches):
    """Return (the peers that can run this layer, library -> why it cannot, other backend of ours -> how it failed)."""
    peers, skipped = [], {}
    for name, make in convs.peers.items():
        try:
            peer = make(prepared.layer, prepared.x, launches)
        except Exception as error:  # of any library; the others are measured all the same
            skipped[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            continue
        peers += [] if peer is None else [peer]
    failed = {}
    for name, backend in convs.others.items():
        try:
            other = Prepared(prepared.layer, prepared.n, backend, x=backend.arrays.adopt(prepared.x))
            run = repeated(backend.arrays, other.launch, launches)
            peers.append(Peer(name, run, other.kernels()[0]))
        except Exception as error:
            failed[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
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
