"""Where the parts of a figure stand: rows of large panels, a group of small masks, lines of text. Integers only.

A panel is a title, a picture below it and a legend below that. All pictures of a kind have one size.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from pagnp.types import Size

WIDTH = 1200  # pixels; a README shows some 850 of them, so text is a third larger than on a screen
MARGIN, GAP = 24, 24
TITLE = 30  # height of a title; text of that size or larger is 17 pixels and more
ABOVE_LEGEND = 10
TALLEST = 420  # of a large picture
NARROWEST_LEGEND = 256
NARROWEST_MASK, WIDEST_MASK, TALLEST_MASK = 112, 184, 184
MASK_GAP, MASK_TITLE = 14, 25
PORTRAIT, PANORAMA = 0.9, 2.2  # width / height from which fewer columns are better
MUCH_TALLER = 1.3  # masks that would be so much taller than the panels beside them stand below these


@dataclass(frozen=True)
class Box:
    """A rectangle of pixels."""

    left: int
    top: int
    width: int
    height: int

    @property
    def right(self) -> int:
        """The first column that does not belong to it."""
        return self.left + self.width

    @property
    def bottom(self) -> int:
        """The first row that does not belong to it."""
        return self.top + self.height


@dataclass(frozen=True)
class Place:
    """Of one panel: title, picture, legend (of height 0 where there is none)."""

    title: Box
    picture: Box
    legend: Box


@dataclass(frozen=True)
class Grid:
    """Columns of large panels, the width of one, the (h, w) of its picture, the width of its legend."""

    columns: int
    cell: int
    picture: Size

    @property
    def legend(self) -> int:
        """As wide as the picture, unless that is too narrow for text."""
        return max(self.picture[1], NARROWEST_LEGEND)


@dataclass(frozen=True)
class Arrangement:
    """A whole figure: `height` rows of WIDTH pixels; `group` is the title of the masks, None without any."""

    height: int
    panels: list[Place]
    group: Box | None
    masks: list[Place]
    footer: Box


def grid(panels: int, masks: int, size: Size) -> Grid:
    """Return the Grid for so many large panels of images of `size` (h, w), and so many masks in what they leave."""
    aspect = size[1] / size[0]
    columns = 4 if aspect < PORTRAIT else 2 if aspect > PANORAMA else 3
    if panels == 4 and columns == 3 and not masks:
        columns = 2  # two and two; with masks they take the rest of the second row
    columns = max(2, min(columns, panels))
    cell = (WIDTH - 2 * MARGIN - (columns - 1) * GAP) // columns
    return Grid(columns, cell, within(size, cell, TALLEST))


def within(size: Size, width: int, height: int) -> Size:
    """Return the largest (h, w) of the shape of `size` in `width` x `height`; a side has at least one pixel."""
    h, w = size
    if w * height > h * width:
        return max(1, h * width // w), width
    return height, max(1, w * height // h)


def arrange(of: Grid, legends: list[int], masks: int, footer: int) -> Arrangement:
    """Place everything.

    legends  the height of each large panel's legend; masks: how many small ones; footer: height of the last lines
    """
    panels, top, row_top = [], MARGIN, MARGIN
    for first in range(0, len(legends), of.columns):
        row, row_top = legends[first : first + of.columns], top
        panels += [_panel(of, column, top, height) for column, height in enumerate(row)]
        top += TITLE + of.picture[0] + (ABOVE_LEGEND + max(row) if max(row) else 0) + GAP
    group, places = None, []
    if masks:
        group, places, bottom = _group_beside(of, len(legends), row_top, top - GAP, masks) or _group(
            MARGIN, top, WIDTH - 2 * MARGIN, masks, of.picture
        )
        top = max(top, bottom + GAP)
    last = Box(MARGIN, top, WIDTH - 2 * MARGIN, footer)
    return Arrangement(last.bottom + MARGIN, panels, group, places, last)


def parts(arrangement: Arrangement) -> Iterator[Box]:
    """Yield every rectangle of a figure: no two of them overlap."""
    for place in (*arrangement.panels, *arrangement.masks):
        yield from (place.title, place.picture, place.legend)
    if arrangement.group is not None:
        yield arrangement.group
    yield arrangement.footer


def _panel(of, column, top, legend):
    left = MARGIN + column * (of.cell + GAP)
    h, w = of.picture
    picture = Box(left, top + TITLE, w, h)
    return Place(Box(left, top, of.cell, TITLE), picture, Box(left, picture.bottom + ABOVE_LEGEND, of.legend, legend))


def _group_beside(of, panels, top, bottom, masks):
    """Place the masks in what the last row of panels leaves, or return None where that is too little."""
    free = -panels % of.columns
    if not free:
        return None
    width = free * of.cell + (free - 1) * GAP
    found = _group(WIDTH - MARGIN - width, top, width, masks, of.picture)
    return found if found[2] - top <= MUCH_TALLER * (bottom - top) else None


def _group(left, top, width, count, size):
    """Return (title Box, the Places of `count` masks in rows of equal length, the row below them)."""
    most = (width + MASK_GAP) // (NARROWEST_MASK + MASK_GAP)
    columns = -(-count // -(-count // most))
    used = min(width, columns * (WIDEST_MASK + MASK_GAP) - MASK_GAP)
    cell = (used - (columns - 1) * MASK_GAP) // columns
    h, w = within(size, cell, TALLEST_MASK)
    places = []
    for i in range(count):
        x = left + i % columns * (used - cell) // max(1, columns - 1)
        y = top + TITLE + i // columns * (MASK_TITLE + h + MASK_GAP)
        picture = Box(x, y + MASK_TITLE, w, h)
        places.append(Place(Box(x, y, cell, MASK_TITLE), picture, Box(x, picture.bottom, 0, 0)))
    return Box(left, top, width, TITLE), places, places[-1].picture.bottom
