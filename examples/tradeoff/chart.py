"""One plot of several series of points, joined by lines, with a legend."""

from collections.abc import Sequence
from dataclasses import dataclass

from pagnp.bench.drawing import Dot, Line, Point, Shape, Text
from pagnp.legends import mark_text, ticks

# Okabe and Ito 2008: told apart by everybody
COLOURS = ("#000000", "#0072B2", "#56B4E9", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#8A7A00")
GRID, AXIS = "#e3e3e3", "#222222"
WIDTH, HEIGHT = 860.0, 520.0
LEFT, RIGHT, TOP, BOTTOM = 74.0, 262.0, 62.0, 62.0  # room around the axes; the legend is at the right
ROW = 26.0
MARKS = 12  # parts that an axis is cut into, at most


@dataclass(frozen=True)
class Series:
    """Points (x, y) under one name."""

    name: str
    points: tuple[Point, ...]


def chart(title: str, x_name: str, y_name: str, series: Sequence[Series]) -> tuple[list[Shape], float, float]:
    """Return (shapes, width, height); a series of one point is a square, and a single first one also a dashed level."""
    points = [point for one in series for point in one.points]
    x_range, y_range = spread([x for x, _ in points]), spread([y for _, y in points])
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM

    def place(x: float, y: float) -> Point:
        share_x = (x - x_range[0]) / (x_range[1] - x_range[0])
        share_y = (y - y_range[0]) / (y_range[1] - y_range[0])
        return LEFT + (right - LEFT) * share_x, bottom - (bottom - TOP) * share_y

    shapes: list[Shape] = [Text((20, 30), title, 17, bold=True), Text((20, 50), y_name, 13)]
    for mark in (marks := ticks(*y_range, MARKS)):
        y = place(x_range[0], mark)[1]
        shapes += [Line(((LEFT, y), (right, y)), GRID), Text((LEFT - 8, y + 4), mark_text(mark, marks), 12, "end")]
    for mark in (marks := ticks(*x_range, MARKS)):
        x = place(mark, y_range[0])[0]
        shapes += [Line(((x, TOP), (x, bottom)), GRID), Text((x, bottom + 20), mark_text(mark, marks), 12, "middle")]
    shapes += [Line(((LEFT, TOP), (LEFT, bottom), (right, bottom)), AXIS, 1.2)]
    shapes.append(Text(((LEFT + right) / 2, bottom + 44), x_name, 13, "middle"))
    if len(series[0].points) == 1:
        level = place(*series[0].points[0])[1]
        shapes.append(Line(((LEFT, level), (right, level)), COLOURS[0], 1, 4))
    for k, one in enumerate(series):
        colour, top = COLOURS[k % len(COLOURS)], TOP + 8 + ROW * k
        shapes += _series(one, [place(*point) for point in one.points], colour)
        shapes += _series(one, [(right + 22, top)] * min(1, len(one.points)), colour)
        shapes.append(Text((right + 36, top + 4), one.name, 12))
    return shapes, WIDTH, HEIGHT


def _series(series, places, colour):
    """Draw the points at `places`, and the line that joins them."""
    line = [Line(tuple(places), colour, 2)] if len(places) > 1 else []
    return [*line, *(Dot(at, colour, 4.5, square=len(series.points) == 1) for at in places)]


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Return the range of an axis: that of the values, with a margin."""
    low, high = min(values), max(values)
    margin = 0.06 * (high - low) or 0.5 * abs(high) or 1.0
    return low - margin, high + margin
