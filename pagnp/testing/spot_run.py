"""Spot checks of a whole run: every layer, the noise of Gumbel gates, the heads, the mirrored pass.

The network's input is computed here from the pixels, exactly, not taken from the engine.
"""

from collections.abc import Iterator, Mapping
from itertools import count as numbers
from typing import Any

import numpy as np

from pagnp.backends.base import Backend
from pagnp.backends.choice import on_host
from pagnp.canonical import canonical
from pagnp.fuse import fuse
from pagnp.gating import with_gate_mode
from pagnp.graph import INPUT, Graph
from pagnp.lower import lower
from pagnp.model import Model
from pagnp.result import Result
from pagnp.testing import oracle_scalar as scalar
from pagnp.testing.oracle import element
from pagnp.testing.oracle_pointwise import first_maximum
from pagnp.testing.spot import Spot, Values, layer_spot, noise_spot, places
from pagnp.types import Array, Json, Pixels, Size, Tensor

MIRROR = "mirror/"  # rows of the flipped pass begin with it


def traced(model: Model, pixels: Pixels, options: Mapping[str, Any]) -> Result:
    """Run `model` so that every layer can be checked: dense, with all layers kept, never in bands."""
    whole = {name: value for name, value in options.items() if name != "tile"}
    return model(pixels, **{**whole, "dense": True, "trace": True})


def spots(
    model: Model, pixels: Pixels, result: Result, options: Mapping[str, Any], count: int, seed: int
) -> Iterator[Spot]:
    """Yield the Spots of `result`, which `traced` gave for `options`: `count` random elements of everything in it."""
    rows = (pass_ := _Pass(model, pixels, result, options, count, seed)).spots("")
    yield from rows
    mirrored = {}
    if options.get("flip"):
        again = {name: value for name, value in options.items() if name not in ("flip", "budget")}
        threshold = None if pass_.threshold is None else float(pass_.threshold)
        turned = np.ascontiguousarray(pixels[:, ::-1])
        other = traced(model, turned, {**again, "threshold": threshold})
        yield from _Pass(model, turned, other, options, count, seed).spots(MIRROR)
        mirrored = other.logits
    for head in model.graph.heads:
        yield head_spot(head, result, mirrored.get(head["name"]), pass_.padded, pass_.draw)


def private_layers(model: Model, size: Size, options: Mapping[str, Any]) -> frozenset[str]:
    """Return the layers that a run on an image of `size` (h, w) does not show unless it is dense."""
    return frozenset(lower(_graph(model, options), *model.graph.padded_size(size)).private)


def _graph(model, options):
    """The canonical graph of a call."""
    return with_gate_mode(canonical(model.graph), options.get("gate_mode"))


def exact_input(preprocess: Json, pixels: Pixels) -> Tensor:
    """Return the network's input (h, w, 3) for uint8 pixels, every value by exact arithmetic and one rounding.

    Numerics: scale and shift in float64, each rounded once; fma(f32(pixel), scale, shift).
    """
    table = np.empty((256, 3), np.float32)
    for c, mean in enumerate(preprocess["mean"]):
        std = preprocess["std"][c] if preprocess["kind"] == "torchvision" else 1.0
        caffe = preprocess["kind"] == "caffe"
        scale = 1.0 if caffe else scalar.f32(1.0 / (255.0 * std))
        shift = scalar.f32(-mean if caffe else -mean / std)
        table[:, c] = [scalar.fma(float(v), scale, shift) for v in range(256)]
    return np.stack([table[pixels[..., c], c] for c in range(3)], axis=-1)


def padded_input(graph: Graph, pixels: Pixels) -> Tensor:
    """Return `exact_input` with a batch axis, padded with +0 at the bottom and right to the graph's multiple."""
    h, w = pixels.shape[:2]
    x = np.zeros((1, *graph.padded_size((h, w)), 3), np.float32)
    x[0, :h, :w] = exact_input(graph.preprocess or {}, pixels)
    return x


def used_threshold(result: Result, options: Mapping[str, Any]) -> np.float32 | None:
    """Return the threshold that decided, None where neither budget nor threshold was given."""
    given = options.get("budget") is not None or options.get("threshold") is not None
    return np.float32(next(iter(result.thresholds.values()))) if given and result.thresholds else None


def gumbel_noise(graph: Graph, arrays: Mapping[str, Array], backend: Backend, seed: int) -> dict[str, Tensor]:
    """Return gate -> float32 (h, w, K) for every Gumbel gate of a canonical `graph` whose logits are in `arrays`."""
    found = {}
    for node in graph.nodes.values():
        if node.op == "gate" and node.attrs["mode"].startswith("gumbel") and node.inputs[0] in arrays:
            noise = np.empty(arrays[node.inputs[0]].shape[1:], np.float32)
            backend.gumbel_noise(seed, node.attrs["gate_index"], node.attrs["form"], 0, 0, noise)
            found[node.name] = noise
    return found


class _Pass:
    """One forward pass that was traced: what its layers are recomputed from, and the draw of places."""

    def __init__(self, model, pixels, result, options, count, seed):
        self.graph = _graph(model, options)
        self.model, self.seed = model, options.get("seed", 0)
        x = padded_input(model.graph, pixels)
        self.padded = x.shape[1:3]
        self.arrays = {INPUT: x, **{name: array[None] for name, array in result.layers.items()}}
        self.threshold = used_threshold(result, options)
        numbered = numbers()
        self.draw = lambda size: places(size, count, (seed, next(numbered)))

    def spots(self, prefix):
        """Yield the Spots of the noise and the layers."""
        backend = on_host(self.model.backend)
        noise = gumbel_noise(self.graph, self.arrays, backend, self.seed)
        values = Values(self.graph, self.arrays, backend, self.threshold, noise)
        rows = []
        for name, array in noise.items():
            attrs = self.graph.nodes[name].attrs
            rows.append(lambda n=name, a=attrs, g=array: noise_spot(f"{n}/noise", a, g, self.seed, self.draw(g.size)))
        for layer in fuse(self.graph).values():
            got = self.arrays[layer.name]
            rows.append(lambda layer=layer, got=got: layer_spot(values, layer, got, self.draw(got.size)))
        for row in rows:
            spot = row()
            spot.name = prefix + spot.name
            yield spot


def head_spot(head, result, mirrored, padded, draw):
    """Return the Spot of what a head decodes: upsampling, the average with the mirror image, decoding.

    mirrored   the head's logits (h', w', c) of the mirrored pass, or None; padded: (h, w) of the padded input
    """
    got, logits = result.outputs[head["name"]], result.logits[head["name"]][None]
    op = head["decode"]
    spot = Spot(f"outputs/{head['name']}", op, got.size)
    channels, width = logits.shape[3], got.shape[1]  # of the image, or 1 where an answer is for the whole image
    for flat in draw(got.size):
        index = tuple(int(i) for i in np.unravel_index(flat, got.shape))
        y, x = index[:2]
        pixel = [upsampled(head, logits, padded, (y, x, c)) for c in range(channels)]
        if mirrored is not None:
            other = [upsampled(head, mirrored[None], padded, (y, width - 1 - x, c)) for c in range(channels)]
            if head["task"] == "normals":
                other[0] = -other[0]
            pixel = [scalar.mul(scalar.add(a, b), 0.5) for a, b in zip(pixel, other, strict=True)]
        spot.compare(index, got[index], *_decoded(op, pixel, index[2] if len(index) == 3 else 0))
    return spot


def upsampled(head: Json, logits: Tensor, padded: tuple[int, int], place: tuple[int, int, int]) -> float:
    """Return one element (y, x, c) of the logits (1, h', w', c) brought to the image's size, by the rule."""
    how, index = head["upsample"], (0, *place)
    if how["op"] == "none":
        return float(logits[index])
    if how["op"] == "bilinear_deconv":
        args = {"x": logits, "factor": how["factor"]}
    else:
        args = {"x": logits} | ({"align_corners": how["align_corners"]} if how["op"] == "bilinear" else {})
    value: Any = element(how["op"], index, (1, *padded, logits.shape[3]), args)
    return float(value)


def _decoded(op, pixel, c):
    """Return (the element of channel c, the input element of a measured op) of the channels `pixel`."""
    if op == "argmax":
        return first_maximum(pixel), None
    if op == "identity":
        return pixel[c], None
    x = np.asarray(pixel, np.float32).reshape(1, 1, 1, -1)
    return element(op, (0, 0, 0, c), x.shape, {"x": x}), pixel[c]
