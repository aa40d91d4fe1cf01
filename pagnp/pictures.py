"""Turn a result's arrays into pictures: uint8 or uint16 arrays in, nothing of files, fonts or legends.

Pictures are outside the contract; values are rounded as floor(v * scale + .5) and clipped.
"""

import numpy as np
from PIL import Image

from pagnp import colormaps

NO_VALUE = (96, 96, 96)  # what NaN and infinity look like on a colour map
MILLIMETRE = 0.001
U16_MAX = 65535
STRIP = 1 << 20  # pixels that are worked on at once where the arithmetic is in float64


def _in_strips(function, *arrays):
    """Return function(*arrays), whose result has a row for each row of the arrays, computed some rows at a time."""
    height, width = arrays[0].shape[:2]
    step = max(1, STRIP // max(width, 1))
    first = function(*(array[:step] for array in arrays))
    out = np.empty((height, *first.shape[1:]), first.dtype)
    out[:step] = first
    for start in range(step, height, step):
        out[start : start + step] = function(*(array[start : start + step] for array in arrays))
    return out


def to_u8(values):
    """Round `values` ((h, w) or (h, w, c), 0..1 is the full range) to uint8; NaN becomes 0."""

    def rounded(part):
        share = np.clip(np.nan_to_num(np.asarray(part, np.float64), nan=0.0), 0, 1)
        return np.floor(share * 255 + 0.5).astype(np.uint8)

    return _in_strips(rounded, values)


def resize_nearest(array, height, width):
    """Repeat or drop the pixels of `array` (h, w, ...) to (height, width, ...); none is copied if it has that size."""
    return sample_nearest(array, array.shape[:2], array.shape[:2], (height, width))


def sample_nearest(array, padded, size, shown):
    """Return what `array` (h', w', ...), a map of a network's input, says of the image: (*shown, ...).

    padded  (h, w) of the input; size: of the image at its top left; shown: (h, w) of the picture of it
    """
    if array.shape[:2] == padded == size == shown:
        return array
    rows, columns = (np.arange(shown[i]) * size[i] // shown[i] * array.shape[i] // padded[i] for i in (0, 1))
    return array[rows][:, columns]


def resize_smooth(picture, height, width):
    """Return `picture`, (h, w) or (h, w, 3) uint8, at (height, width), each of its pixels counted; none is copied if it
    has that size.
    """
    h, w = picture.shape[:2]
    if (h, w) == (height, width):
        return picture
    block = min(h // height, w // width) // 2
    if block > 1:  # Pillow takes four bytes a pixel: too much of a large image
        picture = _block_means(picture, block)
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC))


def _block_means(picture, block):
    """Mean colour of every block x block pixels; the last ones of a row and of a column may be smaller."""
    h, w = picture.shape[:2]
    rows, columns = np.arange(0, h, block), np.arange(0, w, block)
    sums = np.array(
        [np.add.reduceat(picture[y : y + block].sum(axis=0, dtype=np.uint32), columns, axis=0) for y in rows]
    )
    counts = np.outer(np.diff(rows, append=h), np.diff(columns, append=w))
    counts = counts.reshape(counts.shape + (1,) * (picture.ndim - 2))
    return ((sums + counts // 2) // counts).astype(np.uint8)


def label_image(labels, palette):
    """Return the label map as a Pillow image: indexed with the palette up to 256 classes, 16-bit grey above.

    labels   (h, w) integers >= 0
    palette  (classes, 3) uint8
    """
    if len(palette) > 256:
        return Image.fromarray(np.asarray(labels).astype(np.uint16))
    picture = Image.fromarray(np.asarray(labels).astype(np.uint8), mode="L")
    picture.putpalette(np.asarray(palette, np.uint8).tobytes())
    return picture


def overlay(image, labels, palette, opacity=0.6):
    """Return `image` (h, w, 3) uint8 tinted with the colours of `labels`, a dark line where the label changes."""
    colours = np.asarray(palette, np.float64)
    edge = np.zeros(labels.shape, bool)
    edge[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    edge[1:, :] |= labels[1:, :] != labels[:-1, :]

    def mixed(pixels, labels, edge):
        colour = pixels * (1 - opacity) + colours[labels] * opacity
        colour[edge] *= 0.35
        return np.clip(np.floor(colour + 0.5), 0, 255).astype(np.uint8)

    return _in_strips(mixed, image, labels, edge)


def present_classes(labels):
    """Return [(label, share of the pixels)] of the labels that occur, the largest first."""
    found, counts = np.unique(labels, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return [(int(found[i]), float(counts[i] / labels.size)) for i in order]


def depth_u16(depth, unit=None):
    """Return depth as uint16 and the depth of one step; 0 stands for "no value" (NaN, infinite, negative).

    depth    (h, w) float32
    returns  (h, w) uint16, float: millimetres where `unit` is "m" and they fit, else the largest value at 65535
    """
    valid = np.isfinite(depth) & (depth >= 0)
    largest = float(np.max(depth, where=valid, initial=0))
    fits = unit == "m" and largest <= U16_MAX * MILLIMETRE
    step = MILLIMETRE if fits or largest == 0 else largest / U16_MAX

    def steps(depth, valid):
        return np.clip(np.floor(np.where(valid, depth, 0).astype(np.float64) / step + 0.5), 0, U16_MAX).astype(
            np.uint16
        )

    return _in_strips(steps, depth, valid), step


def value_range(values):
    """Return (low, high) for a colour map: the 1st and 99th percentile of the finite values, never equal."""
    finite = np.asarray(values, np.float64)[np.isfinite(values)]
    if not finite.size:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(finite, (1, 99)))
    return (low, high) if high > low else (low, low + max(abs(low), 1.0) * 1e-3)


def colour_map(values, low, high, name):
    """Colour (h, w) `values` by the map `name` from low to high; non-finite values are grey."""

    def coloured(values):
        wide = np.asarray(values, np.float64)
        position = np.floor(np.clip((np.nan_to_num(wide) - low) / (high - low), 0, 1) * 255 + 0.5)
        rgb = colormaps.TABLES[name][position.astype(np.int64)]
        return np.where(np.isfinite(wide)[..., None], rgb, np.array(NO_VALUE, np.uint8))

    return _in_strips(coloured, values)


def counts(values, largest, name="magma"):
    """Colour (h, w) counts 0..largest with one colour a count; return the picture and the (largest+1, 3) colours."""
    colours = colormaps.sample(name, largest + 1)
    return colours[np.clip(values, 0, largest)], colours


def categories(values, order, name="viridis"):
    """Colour (h, w) `values`, each one of `order`, evenly along a colour map; return picture and colours.

    A value that is not in `order` is grey.
    """
    colours = colormaps.sample(name, len(order))
    picture = np.full((*values.shape, 3), NO_VALUE, np.uint8)
    for value, colour in zip(order, colours, strict=True):
        picture[values == value] = colour
    return picture, colours


def normals(vectors):
    """Return unit `vectors` (h, w, 3) as the usual RGB: -1..1 becomes 0..255 on each axis."""
    return _in_strips(lambda part: to_u8((np.asarray(part, np.float64) + 1) / 2), vectors)


def boundary(probability):
    """Return (h, w) probabilities as grey: 0 black, 1 white."""
    return to_u8(probability)


def mask(values):
    """Return a bool mask (h, w) as grey: False black, True white."""
    return np.where(values, np.uint8(255), np.uint8(0))
