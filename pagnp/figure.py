"""One picture of a whole run: the image, each head's answer, where the network worked, and the facts."""

from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image, ImageDraw

from pagnp import figure_layout as layout
from pagnp import panels
from pagnp.figure_layout import Arrangement
from pagnp.figure_legends import LINE, PALE, fitted, font, strip
from pagnp.graph import Graph
from pagnp.legends import BACKGROUND, FRAME, INK
from pagnp.panels import Panel
from pagnp.result import Result
from pagnp.types import Pixels, Size

HEADING, SMALL = 19, 15  # of titles, of what stands above a mask
GIGA = 1e9
BETWEEN = 28  # two facts
GROUP = "where each gate computed (white)"
DIGITS = 12  # of the digest


def draw(graph: Graph, result: Result, image: Pixels, settings: Sequence[tuple[str, str]] = ()) -> Image.Image:
    """Return the figure of one run.

    graph     of the model; result: NumPy arrays (`Result.to_host`); image: (h, w, 3) uint8, what was run
    settings  [(name, value)] to be told first in the last line: the model's file, a budget ...
    returns   Pillow image, RGB, figure_layout.WIDTH pixels wide
    """
    large, small = large_panels(graph, result, image), mask_panels(graph, result)
    lines = _lines([*settings, *facts(graph, result)], layout.WIDTH - 2 * layout.MARGIN)
    placed, strips = place(large, len(small), result.size, len(lines))
    canvas = Image.new("RGB", (layout.WIDTH, placed.height), BACKGROUND)
    for panel, at, legend in zip(large, placed.panels, strips, strict=True):
        _panel(canvas, panel, at, HEADING)
        if legend is not None:
            canvas.paste(legend, (at.legend.left, at.legend.top))
    if placed.group is not None:
        _title(canvas, GROUP, "", placed.group, HEADING)
    for panel, at in zip(small, placed.masks, strict=True):
        _panel(canvas, panel, at, SMALL)
    _footer(canvas, lines, placed.footer)
    return canvas


def large_panels(graph: Graph, result: Result, image: Pixels) -> list[Panel]:
    """Return the image, the heads' answers, the ponder map and the rates of MultiPools, as far as the run has them."""
    ponder = [panels.ponder(result)] if result.masks else []
    rates = [panels.rates(graph, result, name) for name in result.rates]
    return [panels.photograph(image), *panels.of_heads(result, image), *ponder, *rates]


def mask_panels(graph: Graph, result: Result) -> list[Panel]:
    """Return a panel for each gate that decided."""
    return [panels.mask(graph, result, name) for name in result.masks]


def place(large: Sequence[Panel], masks: int, size: Size, lines: int) -> tuple[Arrangement, list[Image.Image | None]]:
    """Return where all stands, and the legends as they are drawn.

    large  the large panels; masks: how many small ones; size: (h, w) of the image; lines: of facts
    """
    grid = layout.grid(len(large), masks, size)
    strips = [None if panel.legend is None else strip(panel.legend, grid.legend) for panel in large]
    heights = [0 if legend is None else legend.height for legend in strips]
    return layout.arrange(grid, heights, masks, lines * LINE), strips


def facts(graph: Graph, result: Result) -> list[tuple[str, str]]:
    """Return [(name, value)] of what is told in numbers: size, work, thresholds, gates without masks, digest."""
    macs, undecided = result.macs, len(graph.gates()) - len(result.masks)
    found = [("size", "x".join(map(str, result.size)))]
    found += [("work", f"{macs['executed'] / GIGA:.3f} of {macs['dense'] / GIGA:.3f} GMAC")]
    if macs["gated_dense"]:
        found.append(("gated work", f"{panels.percent(macs['gated_executed'] / macs['gated_dense'])} kept"))
    found += [("threshold", f"{value:g}") for value in sorted(set(result.thresholds.values())) if value]
    if not graph.gates():
        found.append(("gates", "none"))
    if undecided:
        found.append(("soft gates", f"{undecided}, computed everywhere, so without masks"))
    if len(result.rates) < len(graph.multipools()):
        found.append(("soft MultiPools", f"{len(graph.multipools()) - len(result.rates)}, all rates blended"))
    found += _answers(result)
    return [*found, ("digest", result.digest[:DIGITS])]


def _answers(result: Result) -> Iterable[tuple[str, str]]:
    """The class of each head that names one for the whole image."""
    for name, head in result.heads.items():
        answer = np.asarray(result.outputs[name])
        if head.get("task") == "classification" and head["decode"] == "argmax" and answer.size == 1:
            yield name, panels.class_name(head, int(answer.item()))


def _panel(canvas, panel, place, size):
    """Put title and picture of `panel` where they belong, the picture in a frame of one pixel."""
    _title(canvas, panel.title, panel.note, place.title, size)
    box = place.picture
    picture = Image.fromarray(np.ascontiguousarray(panel.paint((box.height, box.width))))
    ImageDraw.Draw(canvas).rectangle((box.left - 1, box.top - 1, box.right, box.bottom), None, FRAME)
    canvas.paste(picture.convert("RGB"), (box.left, box.top))


def _title(canvas, text, note, box, size):
    """Write `text` at the left of `box` and `note` behind it."""
    pen, middle = ImageDraw.Draw(canvas), box.top + box.height / 2 - 2
    after = font(size).getlength(note) + size / 2 if note else 0
    text = fitted(text, box.width - after, size)
    pen.text((box.left, middle), text, INK, font(size), anchor="lm")
    pen.text((box.left + font(size).getlength(text) + size / 2, middle), note, PALE, font(size), anchor="lm")


def _lines(pairs, width):
    """Break facts into lines of at most `width` pixels: [[(left, name, left of its value, value)]]."""
    lines, left = [[]], 0
    for name, value in pairs:
        name = fitted(name, width / 3)
        start = font().getlength(name) + 7
        value = fitted(value, width - start)
        length = start + font().getlength(value)
        if lines[-1] and left + length > width:
            lines, left = [*lines, []], 0
        lines[-1].append((left, name, left + start, value))
        left += length + BETWEEN
    return lines


def _footer(canvas, lines, box):
    pen = ImageDraw.Draw(canvas)
    for i, line in enumerate(lines):
        middle = box.top + i * LINE + LINE / 2
        for left, name, right, value in line:
            pen.text((box.left + left, middle), name, PALE, font(), anchor="lm")
            pen.text((box.left + right, middle), value, INK, font(), anchor="lm")
