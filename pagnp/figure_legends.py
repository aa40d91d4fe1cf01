"""Legends as strips of a given width, to stand below a picture of a figure."""

from itertools import pairwise
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pagnp import colormaps, legends, pictures
from pagnp.legends import BACKGROUND, FRAME, INK

TEXT, LINE = 17, 26
PALE = (110, 110, 110)  # of numbers beside a word
SWATCH = 18
BAR = 18
WIDEST_STEP = 48
APART = 8  # of two numbers below a bar, at least
DISC = 72
MOST_ROWS = 30  # of a legend; the others are counted in its last row
LONGEST = 200  # characters of a text that are looked at


def strip(legend: legends.Legend, width: int) -> Image.Image:
    """Return `legend` as an RGB picture `width` pixels wide, as high as it needs."""
    makers: dict[type, Any] = {
        legends.Rows: _rows,
        legends.Scale: _scale,
        legends.Steps: _steps,
        legends.Directions: _directions,
    }
    picture: Image.Image = makers[type(legend)](legend, width)
    return picture


def font(size: int = TEXT) -> Any:
    """The font of all text."""
    return ImageFont.load_default(size)


def fitted(text: str, width: float, size: int = TEXT) -> str:
    """Return `text` on one line, its middle replaced by dots where it is wider than `width` pixels."""
    line = " ".join(text.split()).encode("utf-8", "replace").decode()  # a file's name may be no text
    used, whole = font(size), len(line)
    if whole > LONGEST:
        line, whole = line[: LONGEST // 2] + line[-LONGEST // 2 :], LONGEST
    elif used.getlength(line) <= width:
        return line
    for kept in range(whole - 1, 0, -1):
        shorter = f"{line[: (kept + 1) // 2]}...{line[whole - kept // 2 :]}"
        if used.getlength(shorter) <= width:
            return shorter
    return ""


def _rows(legend, width):
    """Swatches and texts in columns of one width."""
    rows = legend.rows
    if len(rows) > MOST_ROWS:
        rows = [*rows[: MOST_ROWS - 1], (None, f"and {len(rows) - MOST_ROWS + 1} more", "")]
    before, behind = SWATCH + 8, 7 + max(font().getlength(share) for _, _, share in rows)
    texts = [fitted(text, width - before - behind) for _, text, _ in rows]
    widest = before + max(font().getlength(text) for text in texts) + behind
    columns = max(1, min(len(rows), int((width + LINE) // (widest + LINE))))
    per_column = -(-len(rows) // columns)
    canvas, draw = _canvas(width, per_column * LINE)
    for i, ((colour, _, share), text) in enumerate(zip(rows, texts, strict=True)):
        left, top = i // per_column * (width + LINE) // columns, i % per_column * LINE
        if colour is not None:
            box = (left, top + 4, left + SWATCH - 1, top + 4 + SWATCH - 1)
            draw.rectangle(box, tuple(int(v) for v in colour), FRAME)
        draw.text((left + before, top + LINE / 2), text, INK, font(), anchor="lm")
        place = (left + before + font().getlength(text) + 7, top + LINE / 2)
        draw.text(place, share, PALE, font(), anchor="lm")
    return canvas


def _scale(legend, width):
    """A bar of colours with ticks below."""
    canvas, draw = _canvas(width, BAR + 6 + LINE)
    _bar(canvas, colormaps.sample(legend.name, width))
    marks = legends.ticks(legend.low, legend.high)
    places = [(mark - legend.low) / (legend.high - legend.low) * (width - 1) for mark in marks]
    texts = [legends.mark_text(mark, marks) for mark in marks]
    _mark(draw, places, texts, width, 6)
    return canvas


def _steps(legend, width):
    """A bar with one piece a colour, and its number below."""
    count = len(legend.colours)
    length = min(width, count * WIDEST_STEP)
    canvas, draw = _canvas(width, BAR + 2 + LINE)
    pieces = np.arange(length) * count // length
    _bar(canvas, legend.colours[pieces])
    places = [(i + 0.5) * length / count for i in range(count)]
    _mark(draw, places, [str(i) for i in range(count)], length, 0)
    return canvas


def _directions(legend, width):
    """Two discs: the unit vectors on either side of the picture's plane."""
    canvas, draw = _canvas(width, DISC + LINE)
    for i, (sign, text) in enumerate(((-1, "z < 0"), (1, "z > 0"))):
        left = i * (DISC + 66)
        if left + DISC > width:
            break
        canvas.paste(Image.fromarray(_disc(sign)), (left, 0))
        draw.text((left + DISC - 4, 2), text, INK, font(), anchor="lt")
        draw.text((left + DISC + 5, DISC / 2), "x", INK, font(), anchor="lm")
        draw.text((left + DISC / 2, DISC + 4), "y", INK, font(), anchor="mt")
    return canvas


def _disc(sign):
    """Vectors (x, y, z) of length 1 in their colours, seen along z: (DISC, DISC, 3) uint8, x right and y down."""
    fine = 4 * DISC
    x, y = np.meshgrid(*[(np.arange(fine) + 0.5) / fine * 2 - 1] * 2)
    inside = x * x + y * y <= 1
    z = sign * np.sqrt(np.where(inside, 1 - x * x - y * y, 0))
    disc = pictures.normals(np.stack((x, y, z), axis=2))
    disc[~inside] = BACKGROUND
    return pictures.resize_smooth(disc, DISC, DISC)


def _bar(canvas, colours):
    """Paint a bar at the top of `canvas`, one of `colours` (n, 3) a column, in a frame."""
    canvas.paste(Image.fromarray(np.repeat(colours[None], BAR, axis=0)), (0, 0))
    ImageDraw.Draw(canvas).rectangle((0, 0, len(colours) - 1, BAR - 1), None, FRAME)


def spread(places: list[float], widths: list[float], width: float) -> list[tuple[int, float]]:
    """Return [(index, middle)] of the texts below a bar that have room: all, or every second, fifth, tenth ...

    places  where each text belongs; widths: its own; width: of the strip, in which all of them stay
    """
    middles = [min(max(place, w / 2), width - w / 2) for place, w in zip(places, widths, strict=True)]
    for step in (1, 2, 5, 10, 20, 50, 100):
        shown = range(0, len(places), step)
        if all(middles[j] - middles[i] >= (widths[i] + widths[j]) / 2 + APART for i, j in pairwise(shown)):
            return [(i, middles[i]) for i in shown]
    return [(0, middles[0])]


def _mark(draw, places, texts, width, tick):
    """Write those of `texts` below a bar that have room, behind ticks of that length."""
    for i, middle in spread(places, [font().getlength(text) for text in texts], width):
        if tick:
            draw.line((places[i], BAR, places[i], BAR + tick - 2), INK)
        draw.text((middle, BAR + tick + LINE / 2), texts[i], INK, font(), anchor="mm")


def _canvas(width, height):
    canvas = Image.new("RGB", (width, height), BACKGROUND)
    return canvas, ImageDraw.Draw(canvas)
