"""The maps of a Result, each as a Panel: a title, how to paint it at any size, and what its colours mean."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from pagnp import colormaps, legends, pictures
from pagnp.graph import Graph
from pagnp.result import Result
from pagnp.types import Array, Json, Pixels, Size


@dataclass(frozen=True)
class Panel:
    """One map.

    title   what it shows
    paint   (h, w) -> uint8 (h, w, 3), or (h, w) for grey: the whole map at that size
    legend  what the colours mean, None where nothing is to be said
    note    what is said behind the title: a share, what grey means
    """

    title: str
    paint: Callable[[Size], Pixels]
    legend: legends.Legend | None = None
    note: str = ""


def photograph(image: Pixels) -> Panel:
    """The image itself, (h, w, 3) uint8."""
    return Panel("image", lambda size: pictures.resize_smooth(image, *size))


def of_heads(result: Result, image: Pixels) -> Iterator[Panel]:
    """Yield what each head says of every pixel, in the order of the model file."""
    makers: dict[str, Callable[[Json, Array, Pixels], Panel]] = {
        "segmentation": classes,
        "depth": depth,
        "normals": normals,
        "boundary": boundary,
    }
    for name, head in result.heads.items():
        maker = makers.get(str(head.get("task")))
        if maker is not None:
            yield maker(head, result.outputs[name], image)


def palette_of(head: Json, labels: Array) -> Array:
    """Return the colours of a head's classes, its own or generated ones: (classes, 3) uint8."""
    if head.get("palette"):
        return np.asarray(head["palette"], np.uint8)
    return colormaps.class_palette(max(len(head.get("classes") or ()), int(labels.max()) + 1))


def class_name(head: Json, label: int) -> str:
    """Return the name of a class, "class 7" where the head has none."""
    names = head.get("classes") or ()
    return str(names[label]) if label < len(names) else f"class {label}"


def classes(head: Json, labels: Array, image: Pixels) -> Panel:
    """The classes of `labels` (h, w) as colours over the image, the largest first in the legend."""
    palette = palette_of(head, labels)
    rows = [
        (palette[label], class_name(head, label), percent(share)) for label, share in pictures.present_classes(labels)
    ]

    def paint(size: Size) -> Pixels:
        below, above = pictures.resize_smooth(image, *size), pictures.resize_nearest(labels, *size)
        return pictures.overlay(below, above, palette)

    return Panel(_title(head), paint, legends.Rows(rows))


def depth(head: Json, values: Array, _image: Any = None) -> Panel:
    """Depth (h, w) as colours, from its 1st to its 99th percentile; grey where it is no number."""
    low, high = pictures.value_range(values)

    def paint(size: Size) -> Pixels:
        return pictures.colour_map(pictures.resize_nearest(values, *size), low, high, "viridis")

    note = "" if np.isfinite(values).all() else "grey: no value"
    return Panel(_title(head), paint, legends.Scale(low, high, "viridis"), note)


def normals(head: Json, vectors: Array, _image: Any = None) -> Panel:
    """Unit vectors (h, w, 3) as red, green and blue."""
    return Panel(
        _title(head), lambda size: pictures.normals(pictures.resize_nearest(vectors, *size)), legends.Directions()
    )


def boundary(head: Json, probability: Array, _image: Any = None) -> Panel:
    """Probabilities (h, w) as grey; where the picture is smaller its pixels are means, so that no thin line is lost."""

    def paint(size: Size) -> Pixels:
        return pictures.resize_smooth(pictures.boundary(probability), *size)

    return Panel(_title(head), paint, legends.Scale(0.0, 1.0, "grey"))


def ponder(result: Result) -> Panel:
    """How many gates computed each pixel."""
    largest = result.gate_count
    _, colours = pictures.counts(result.ponder[:1, :1], largest)

    def paint(size: Size) -> Pixels:
        return pictures.counts(pictures.resize_nearest(result.ponder, *size), largest)[0]

    return Panel("ponder map: gates computed", paint, legends.Steps(colours))


def mask(graph: Graph, result: Result, name: str) -> Panel:
    """Where the gate `name` computed."""
    values = result.masks[name]

    def paint(size: Size) -> Pixels:
        return pictures.mask(_seen(graph, result, values, size))

    return Panel(name.removesuffix(".gate"), paint, None, percent(result.kept[name]))


def rates(graph: Graph, result: Result, name: str) -> Panel:
    """The dilation rate that the MultiPool `name` chose."""
    order = sorted(set(graph.nodes[name].attrs["rates"]))
    chosen = result.rates[name]
    colours = colormaps.sample("viridis", len(order))
    shares = [percent(float(np.mean(chosen == rate))) for rate in order]
    rows = [(colour, f"rate {rate}", share) for colour, rate, share in zip(colours, order, shares, strict=True)]

    def paint(size: Size) -> Pixels:
        return pictures.categories(_seen(graph, result, chosen, size), order)[0]

    return Panel(f"{name.removesuffix('.multipool')}: dilation rate chosen", paint, legends.Rows(rows))


def percent(share: float) -> str:
    """Return a share as text: "56.0 %"."""
    return f"{100 * share:.1f} %" if share >= 0.001 else "< 0.1 %" if share else "0 %"


def _title(head):
    """The head's name, with its task where that is another word, and its unit."""
    notes = [head["task"]] if head["task"] != head["name"] else []
    notes += [head["unit"]] if head.get("unit") else []
    return f"{head['name']} ({', '.join(notes)})" if notes else head["name"]


def _seen(graph, result, values, size):
    """Bring a feature-map-sized array to `size`: nearest over the padded input, of which the image is a part."""
    return pictures.sample_nearest(values, graph.padded_size(result.size), result.size, size)
