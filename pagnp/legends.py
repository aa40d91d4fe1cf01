"""What the colours of a picture mean, and that put beside it: rows of colour and text, or a scale with ticks."""

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pagnp import colormaps

BACKGROUND = (250, 250, 250)
INK = (30, 30, 30)
FRAME = (150, 150, 150)
SMALLEST_SIDE = 320  # pictures below are shown larger, so that the legend's text has room


@dataclass(frozen=True)
class Rows:
    """A colour, a text and a share as text for each thing that a picture shows: [((r, g, b), text, share)]."""

    rows: list[tuple[Any, str, str]]

    @property
    def joined(self) -> list[tuple[Any, str]]:
        """The rows with text and share as one, as `with_rows` takes them."""
        return [(colour, f"{text}  {share}") for colour, text, share in self.rows]


@dataclass(frozen=True)
class Scale:
    """The colour map `name` from low to high."""

    low: float
    high: float
    name: str


@dataclass(frozen=True)
class Steps:
    """One colour for each of the numbers 0, 1, 2 ...: (count, 3) uint8."""

    colours: Any


@dataclass(frozen=True)
class Directions:
    """The colours of unit vectors."""


Legend: TypeAlias = Rows | Scale | Steps | Directions


def with_rows(picture, rows, title):
    """Return `picture` with a legend of `rows` on its right.

    picture  (h, w, 3) uint8; rows  [(colour, text)]; title  str
    returns  Pillow image, RGB
    """
    picture = _enlarged(picture)
    size = _text_size(picture)
    font, line = ImageFont.load_default(size), math.ceil(size * 1.5)
    per_column = max(4, (picture.shape[0] - 2 * line) // line)
    columns = [rows[i : i + per_column] for i in range(0, len(rows), per_column)]
    widths = [math.ceil(max(font.getlength(text) for _, text in column)) + 3 * line for column in columns]
    panel = max(sum(widths), math.ceil(font.getlength(title)) + line)
    canvas, draw = _canvas(picture, panel, (min(len(rows), per_column) + 2) * line)
    left = picture.shape[1] + line // 2
    draw.text((left, line // 2), title, INK, font)
    for column, width in zip(columns, widths, strict=True):
        for place, (colour, text) in enumerate(column):
            top = line // 2 + (place + 1) * line + line // 4
            draw.rectangle((left, top, left + line, top + size), tuple(int(v) for v in colour), FRAME)
            draw.text((left + line * 3 // 2, top + size / 2), text, INK, font, anchor="lm")
        left += width
    return canvas


def with_scale(picture, low, high, name, title):
    """Return `picture` with a vertical scale of the colour map `name` from low (bottom) to high (top).

    picture  (h, w, 3) uint8
    returns  Pillow image, RGB
    """
    picture = _enlarged(picture)
    size = _text_size(picture)
    font, line = ImageFont.load_default(size), math.ceil(size * 1.5)
    marks = ticks(low, high)
    texts = [mark_text(mark, marks) for mark in marks]
    widest = max(font.getlength(text) for text in texts)
    panel = math.ceil(max(widest + 3 * line, font.getlength(title) + line))
    canvas, draw = _canvas(picture, panel, 8 * line)
    left, top = picture.shape[1] + line // 2, 2 * line
    length = canvas.height - top - line
    bar = colormaps.sample(name, length)[::-1]
    canvas.paste(Image.fromarray(np.repeat(bar[:, None], line, axis=1)), (left, top))
    draw.rectangle((left, top, left + line, top + length), None, FRAME)
    draw.text((left, line // 2), title, INK, font)
    for mark, text in zip(marks, texts, strict=True):
        y = top + (high - mark) / (high - low) * length
        draw.line((left + line, y, left + line + size // 3, y), INK)
        draw.text((left + line + size * 2 // 3, y), text, INK, font, anchor="lm")
    return canvas


def ticks(low, high, wanted=6):
    """Return round numbers (1, 2 or 5 times a power of ten apart) from low to high > low, at most `wanted` + 1."""
    raw = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [k * step for k in range(first, last + 1)]


def mark_text(mark, marks):
    """Return `mark` with as many decimals as the distance between `marks` needs."""
    step = marks[1] - marks[0] if len(marks) > 1 else abs(mark) or 1.0
    if not 1e-4 <= step < 1e6:
        return f"{mark:.3g}"
    return f"{mark + 0.0:.{max(0, -math.floor(math.log10(step) + 1e-9))}f}"


def _enlarged(picture):
    """Repeat pixels a whole number of times until the longer side has SMALLEST_SIDE pixels."""
    factor = max(1, math.ceil(SMALLEST_SIDE / max(picture.shape[:2])))
    return picture if factor == 1 else picture.repeat(factor, axis=0).repeat(factor, axis=1)


def _text_size(picture):
    """Font size in pixels: readable at the size at which the picture fills a screen."""
    return int(min(max(picture.shape[0] / 32, 12), 40))


def _canvas(picture, panel, lowest):
    """Return a canvas (and its draw object) with `picture` at the left and `panel` free columns."""
    h, w = picture.shape[:2]
    canvas = Image.new("RGB", (w + panel, max(h, lowest)), BACKGROUND)
    canvas.paste(Image.fromarray(np.ascontiguousarray(picture)), (0, 0))
    return canvas, ImageDraw.Draw(canvas)
