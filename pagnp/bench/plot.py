"""Plots of time against keep rate: panels with measured points, their spread, an ideal line, and other libraries."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from pagnp.bench.drawing import Dot, Line, Point, Shape, Text

# Okabe and Ito 2008: told apart by everybody
COLOURS = ("#0072B2", "#D55E00", "#009E73")
OTHERS = ("#A0459A", "#85650C", "#444444")  # text is written in these
IDEAL, AXIS, GRID = "#777777", "#222222", "#e3e3e3"
PANEL_W, PANEL_H = 560.0, 400.0
LEFT, RIGHT, TOP, BOTTOM = 70.0, 130.0, 58.0, 52.0  # room around a panel's axes; labels of levels are at the right
TITLE, LEGEND, GAP = 46.0, 34.0, 17.0
IDEAL_NAME, BARS_NAME = "ideal: the multiply-adds that are left", "least to most of the rounds"
BAR = ((0, -7, 0, 7), (-4, -7, 4, -7), (-4, 7, 4, 7))


@dataclass(frozen=True)
class Series:
    """Measured points (keep, median, least, most) of one kind of mask."""

    name: str
    points: tuple[tuple[float, float, float, float], ...]


@dataclass(frozen=True)
class Panel:
    """One plot. `ideal` is a straight line from (x, y) to (x, y), `levels` are horizontal lines (name, y)."""

    title: str
    unit: str
    series: tuple[Series, ...]
    ideal: tuple[Point, Point]
    levels: tuple[tuple[str, float], ...] = field(default=())


def page(title: str, panels: Sequence[Panel]) -> tuple[list[Shape], float, float]:
    """Return (shapes, width, height) of the panels under one title, with one legend."""
    across = min(2, len(panels))
    width, below = across * PANEL_W, TITLE + -(-len(panels) // across) * PANEL_H
    shapes: list[Shape] = [Text((LEFT - 46, 32), title, 17, bold=True)]
    names = list(dict.fromkeys(series.name for panel in panels for series in panel.series))
    others = list(dict.fromkeys(name for panel in panels for name, _ in panel.levels))
    colours = dict(zip(names, COLOURS, strict=False)) | dict(zip(others, OTHERS, strict=False))
    for number, panel in enumerate(panels):
        shapes += _panel(panel, (number % across * PANEL_W, TITLE + number // across * PANEL_H), colours)
    legend, height = _legend(names, colours, below + 6, width)
    return [*shapes, *legend], width, height


def _panel(panel, corner, colours):
    x0, y0 = corner
    left, right, top, bottom = x0 + LEFT, x0 + PANEL_W - RIGHT, y0 + TOP, y0 + PANEL_H - BOTTOM
    highest = max(
        *(most for series in panel.series for *_, most in series.points),
        *(y for _, y in panel.levels),
        *(y for _, y in panel.ideal),
    )
    marks = ticks(highest)

    def place(x: float, y: float) -> Point:
        return left + (right - left) * x, bottom - (bottom - top) * y / marks[-1]

    shapes = [Text((left - 46, y0 + 22), panel.title, 14, bold=True), Text((left - 46, y0 + 43), panel.unit, 12)]
    for mark in marks:
        y = place(0, mark)[1]
        shapes += [Line(((left, y), (right, y)), GRID), Text((left - 8, y + 4), f"{mark:g}", 12, "end")]
    for tenth in range(0, 11, 2):
        x = place(tenth / 10, 0)[0]
        shapes += [Line(((x, bottom), (x, bottom + 5)), AXIS), Text((x, bottom + 20), f"{tenth / 10:g}", 12, "middle")]
    shapes.append(Line(((left, top), (left, bottom), (right, bottom)), AXIS, 1.2))
    shapes.append(Text(((left + right) / 2, bottom + 40), "keep rate (share of the gated pixels)", 12, "middle"))
    shapes.append(Line(tuple(place(*point) for point in panel.ideal), IDEAL, 1.6, 5))
    shapes += _levels(panel, place, right, colours)
    for series in panel.series:
        shapes += _series(series, place, colours[series.name])
    return shapes


def _series(series, place, colour):
    points = sorted(series.points)
    shapes = [Line(tuple(place(x, y) for x, y, *_ in points), colour, 2)] if len(points) > 1 else []
    for x, median, least, most in points:
        (px, low), (_, high) = place(x, least), place(x, most)
        shapes += [Line(((px, low), (px, high)), colour, 1.4), Line(((px - 4, low), (px + 4, low)), colour, 1.4)]
        shapes += [Line(((px - 4, high), (px + 4, high)), colour, 1.4), Dot(place(x, median), colour)]
    return shapes


def _levels(panel, place, right, colours):
    """Horizontal lines with their names beside them, moved apart where they would cover each other."""
    shapes, last = [], math.inf
    for name, value in sorted(panel.levels, key=lambda level: level[1]):
        y = place(1, value)[1]
        shapes.append(Line((place(0, value), place(1, value)), colours[name], 1.8, 2))
        last = min(y + 4, last - GAP)
        shapes.append(Text((right + 9, last), f"{name} {value:.{_digits(value)}f}", 12, colour=colours[name]))
    return shapes


def _legend(names, colours, y, width):
    """Return (shapes, y below them): a sample and a name each, in as many rows as it takes."""
    shapes, x = [], LEFT
    for name in (*names, IDEAL_NAME, BARS_NAME):
        room = 52 + 6.4 * len(name)
        if x + room > width:
            x, y = LEFT, y + LEGEND * 0.7
        if name in colours:
            shapes += [Line(((x, y), (x + 26, y)), colours[name], 2), Dot((x + 13, y), colours[name])]
        elif name == IDEAL_NAME:
            shapes.append(Line(((x, y), (x + 26, y)), IDEAL, 1.6, 5))
        else:
            shapes += [Line(((x + 13 + dx, y + dy), (x + 13 + ex, y + ey)), AXIS, 1.4) for dx, dy, ex, ey in BAR]
        shapes.append(Text((x + 33, y + 4), name, 12))
        x += room
    return shapes, y + LEGEND - 6


def ticks(highest: float) -> list[float]:
    """Return round marks from 0 up to `highest` or just above."""
    step = 10 ** math.floor(math.log10(highest / 4)) if highest > 0 else 0.25
    step *= next(factor for factor in (1, 2, 2.5, 5, 10) if factor * step * 6 >= highest)
    return [round(i * step, 10) for i in range(math.ceil(highest / step - 1e-9) + 1)] if highest > 0 else [0.0, 1.0]


def _digits(value):
    return 0 if value >= 100 else 1 if value >= 10 else 2
