"""The files that `pagnp run` writes for an image: which, under what name, with what in them.

`planned` lists them from the graph alone, so that names can be checked before anything is computed.
"""

import io
import os
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

from pagnp import legends, panels, pictures
from pagnp.files import make_folder, write_atomic
from pagnp.panels import palette_of
from pagnp.result import Result
from pagnp.types import Pixels

KINDS = ("labels", "overlay", "depth", "normals", "boundary", "ponder", "masks", "rates", "figure", "npz")
DEFAULT_KINDS = KINDS[:-2]
TASKS = {
    "labels": "segmentation",
    "overlay": "segmentation",
    "depth": "depth",
    "normals": "normals",
    "boundary": "boundary",
}


@dataclass(frozen=True)
class Output:
    """One file: its --save kind, the part of its name after the stem, and how to make its bytes.

    encode  (result, image (h, w, 3) uint8) -> bytes, or None where this run has no such map
    """

    kind: str
    suffix: str
    encode: Callable[[Result, Pixels], bytes | None]


def planned(graph, kinds, settings=()):
    """Return the Outputs that a model with `graph` gives for `kinds` (names out of KINDS).

    settings  [(name, value)] of the run, for the last line of a figure
    """
    found = []
    for kind in kinds:
        if kind in TASKS:
            found += _head_outputs(graph, kind)
        elif kind == "ponder" and graph.gates():
            found.append(Output("ponder", "ponder.png", _ponder))
        elif kind == "masks":
            names = graph.gates()
            found += [Output("masks", f"mask.{plain_name(name)}.png", _mask(graph, name)) for name in names]
        elif kind == "rates":
            names = graph.multipools()
            found += [Output("rates", f"rate.{plain_name(name)}.png", _rates(graph, name)) for name in names]
        elif kind == "figure":
            found.append(Output("figure", "figure.png", _figure(graph, settings)))
        elif kind == "npz":
            found.append(Output("npz", "npz", _npz))
    return found


def plain_name(name):
    """Return `name` with everything that is awkward in a file name replaced by an underscore."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)


def stems(paths):
    """Return path -> the relative Path of its outputs' stem: the file's stem, with folders where two would collide.

    `a/x.png` and `b/x.png` become `a/x` and `b/x`; `a/x.png` and `a/x.jpg` become `x.png` and `x.jpg`.
    """
    whole = {path: Path(os.path.abspath(path)) for path in paths}
    # Some file systems ignore case: names that differ only there are kept apart too.
    in_folder = Counter((str(p.parent), p.stem.casefold()) for p in whole.values())
    leaf = {k: p.name if in_folder[str(p.parent), p.stem.casefold()] > 1 else p.stem for k, p in whole.items()}
    names = {k: Path(leaf[k]) for k in whole}
    depth = 0
    while True:
        uses = Counter(str(name).casefold() for name in names.values())
        clashing = [k for k, name in names.items() if uses[str(name).casefold()] > 1]
        if not clashing:
            return names
        depth += 1
        for k in clashing:
            names[k] = Path(*whole[k].parent.parts[1:][-depth:], leaf[k])


def write(outputs, result, image, base, overwrite=False):
    """Make every file of `outputs`, then write each whole or not at all; return the paths written.

    base    Path of the outputs without ".<suffix>"
    Raises: UsageError if a file exists and `overwrite` is not set, or if the folder cannot be written to.
    """
    encoded = [(path_of(base, output), output.encode(result, image)) for output in outputs]
    make_folder(base.parent)
    written = []
    for path, content in encoded:
        if content is not None:
            write_atomic(path, content, overwrite=overwrite)
            written.append(path)
    return written


def path_of(base, output):
    """Return the path of `output` for the stem path `base`."""
    return base.with_name(f"{base.name}.{output.suffix}")


def _head_outputs(graph, kind):
    """Outputs of one kind, one a head; the head's name is in the file's name only where there are several."""
    heads = [head for head in graph.heads if head["task"] == TASKS[kind]]
    makers = {"labels": _labels, "overlay": _overlay, "depth": _depth, "normals": _normals, "boundary": _boundary}
    found = []
    for head in heads:
        which = f".{plain_name(head['name'])}" if len(heads) > 1 else ""
        found.append(Output(kind, f"{kind}{which}.png", makers[kind](head)))
        if kind == "depth":
            found.append(Output(kind, f"depth-color{which}.png", _depth_colour(head)))
    return found


def _labels(head):
    def encode(result, image):
        labels = result.outputs[head["name"]]
        return _png(pictures.label_image(labels, palette_of(head, labels)))

    return encode


def _overlay(head):
    def encode(result, image):
        panel = panels.classes(head, result.outputs[head["name"]], image)
        return _png(legends.with_rows(panel.paint(image.shape[:2]), panel.legend.joined, head["name"]))

    return encode


def _depth(head):
    def encode(result, image):
        steps, step = pictures.depth_u16(result.outputs[head["name"]], head.get("unit"))
        unit = head.get("unit", "")
        note = f"depth = value * depth_scale{f' ({unit})' if unit else ''}; 0 = no value"
        return _png(Image.fromarray(steps), depth_scale=repr(step), depth_unit=unit, Description=note)

    return encode


def _depth_colour(head):
    def encode(result, image):
        panel = panels.depth(head, result.outputs[head["name"]])
        title = f"{head['name']} ({head['unit']})" if head.get("unit") else head["name"]
        scale = panel.legend
        return _png(legends.with_scale(panel.paint(image.shape[:2]), scale.low, scale.high, scale.name, title))

    return encode


def _normals(head):
    return lambda result, image: _png(Image.fromarray(pictures.normals(result.outputs[head["name"]])))


def _boundary(head):
    return lambda result, image: _png(Image.fromarray(pictures.boundary(result.outputs[head["name"]])))


def _ponder(result, image):
    if not result.gate_count:  # all gates are soft
        return None
    panel = panels.ponder(result)
    colours = panel.legend.colours
    rows = [(colours[count], str(count)) for count in range(result.gate_count, -1, -1)]
    return _png(legends.with_rows(panel.paint(image.shape[:2]), rows, f"gates computed, of {result.gate_count}"))


def _mask(graph, name):
    def encode(result, image):
        if name not in result.masks:  # a soft gate decides nothing
            return None
        return _png(Image.fromarray(panels.mask(graph, result, name).paint(image.shape[:2])))

    return encode


def _rates(graph, name):
    def encode(result, image):
        if name not in result.rates:
            return None
        panel = panels.rates(graph, result, name)
        return _png(legends.with_rows(panel.paint(image.shape[:2]), panel.legend.joined, name))

    return encode


def _figure(graph, settings):
    def encode(result, image):
        from pagnp import figure

        return _png(figure.draw(graph, result, image, settings))

    return encode


def _npz(result, image):
    arrays = {"ponder": result.ponder}
    for group in ("outputs", "logits", "masks", "rates"):
        arrays.update({f"{group}/{name}": array for name, array in getattr(result, group).items()})
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    return content.getvalue()


def _png(picture, **text):
    """Encode a Pillow image as PNG bytes with `text` in its metadata."""
    info = PngImagePlugin.PngInfo()
    for key, value in text.items():
        info.add_text(key, value)
    content = io.BytesIO()
    picture.save(content, "PNG", pnginfo=info, optimize=False)
    return content.getvalue()
