"""Lines, dots and text on a page, written as SVG or PNG."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TypeAlias

Point: TypeAlias = tuple[float, float]  # x to the right, y down, in page units
FINE, SHARP = 4, 2  # PNG: drawn so many times as large as the page, then reduced to so many times
FONT = "DejaVu Sans, Verdana, Helvetica, Arial, sans-serif"


@dataclass(frozen=True)
class Line:
    """A line through points; `dash` is the length of dashes and gaps, 0 for none."""

    points: tuple[Point, ...]
    colour: str
    width: float = 1.0
    dash: float = 0.0


@dataclass(frozen=True)
class Dot:
    """A filled circle, or a square, around a point."""

    at: Point
    colour: str
    radius: float = 4.0
    square: bool = False


@dataclass(frozen=True)
class Text:
    """Text whose baseline starts, has its middle or ends at a point: anchor "start", "middle" or "end"."""

    at: Point
    text: str
    size: float = 13.0
    anchor: str = "start"
    colour: str = "#222222"
    bold: bool = False


Shape: TypeAlias = Line | Dot | Text


def svg(shapes: Sequence[Shape], width: float, height: float) -> bytes:
    """Return the page as an SVG document."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}"'
    lines = [f'{head} height="{height:g}" font-family="{FONT}">', '<rect width="100%" height="100%" fill="#ffffff"/>']
    return "\n".join([*lines, *map(_svg_of, shapes), "</svg>\n"]).encode()


def _svg_of(shape: Shape) -> str:
    if isinstance(shape, Line):
        points = " ".join(f"{x:.2f},{y:.2f}" for x, y in shape.points)
        dash = f' stroke-dasharray="{shape.dash:g}"' if shape.dash else ""
        style = f'fill="none" stroke="{shape.colour}" stroke-width="{shape.width:g}"{dash}'
        return f'<polyline points="{points}" {style}/>'
    x, y = shape.at
    if isinstance(shape, Text):
        weight = ' font-weight="bold"' if shape.bold else ""
        style = f'font-size="{shape.size:g}" text-anchor="{shape.anchor}" fill="{shape.colour}"{weight}'
        return f'<text x="{x:.2f}" y="{y:.2f}" {style}>{escape(shape.text)}</text>'
    r = shape.radius
    if shape.square:
        return f'<rect x="{x - r:.2f}" y="{y - r:.2f}" width="{2 * r:g}" height="{2 * r:g}" fill="{shape.colour}"/>'
    return f'<circle cx="{x:.2f}" cy="{y:.2f}" r="{r:g}" fill="{shape.colour}"/>'


def png(shapes: Sequence[Shape], width: float, height: float) -> bytes:
    """Return the page as a PNG file, SHARP times as large."""
    from PIL import Image, ImageDraw

    page = Image.new("RGB", (round(width * FINE), round(height * FINE)), "#ffffff")
    draw = ImageDraw.Draw(page)
    for shape in shapes:
        _paint(draw, shape)
    page = page.resize((round(width * SHARP), round(height * SHARP)), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    page.save(file, "PNG")
    return file.getvalue()


def _paint(draw, shape):
    from PIL import ImageFont

    if isinstance(shape, Line):
        width = max(1, round(shape.width * FINE))
        for piece in _dashes(shape):
            draw.line([(x * FINE, y * FINE) for x, y in piece], shape.colour, width, joint="curve")
        return
    x, y = (part * FINE for part in shape.at)
    if isinstance(shape, Text):
        font = ImageFont.load_default(shape.size * FINE)
        anchor = {"start": "ls", "middle": "ms", "end": "rs"}[shape.anchor]
        bold = FINE / 3 if shape.bold else 0
        draw.text((x, y), shape.text, shape.colour, font, anchor, stroke_width=bold, stroke_fill=shape.colour)
        return
    r = shape.radius * FINE
    (draw.rectangle if shape.square else draw.ellipse)((x - r, y - r, x + r, y + r), shape.colour)


def _dashes(line):
    """Cut a dashed line into its dashes; a plain one is one piece."""
    if not line.dash:
        return [line.points]
    pieces, done = [], 0.0  # length so far, along all segments
    for (x0, y0), (x1, y1) in zip(line.points, line.points[1:], strict=False):
        length = ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5
        at = -(done % (2 * line.dash))
        while at < length:
            start, stop = max(at, 0.0), min(at + line.dash, length)
            if stop > start:
                ends = [(x0 + (x1 - x0) * t / length, y0 + (y1 - y0) * t / length) for t in (start, stop)]
                pieces.append(tuple(ends))
            at += 2 * line.dash
        done += length
    return pieces
