"""Heads: bring an output to the image's size and decode it into labels, depth, normals or boundaries."""

import numpy as np

from pagnp.backends.base import Backend
from pagnp.dispatch import Rows, bilinear_deconv
from pagnp.errors import ShapeError
from pagnp.rowmaps import Resize, Spread, rows_of
from pagnp.types import Array, Json, Size, Tensor

BAND_BYTES = 16 << 20  # of an upsampled tensor at once: it is many times larger than logits and answer


def predict(head: Json, logits: Tensor, mirrored: Tensor | None, padded: Size, size: Size, backend: Backend) -> Array:
    """Return the answer of `head` for an image: what `decode` makes of its upsampled logits.

    logits    (1, h', w', c); mirrored: those of the mirror image, to be averaged with, or None
    padded    (h, w) of the network's input; size: of the image, to which the answer is cropped
    Raises:   ShapeError where the upsampled logits are smaller than the image.
    """
    if is_of_whole(head):
        x = logits if mirrored is None else flip_average(head, logits, mirrored, backend)
        return decode(head, x, backend)
    h, w = size
    height, width = upsampled_size(head, logits.shape[1:3], padded)
    if height < h or width < w:
        raise ShapeError(f"head '{head['name']}': upsampled to {height}x{width}, the image is {h}x{w}")
    c = logits.shape[3]
    answer = empty_answer(head, (h, w, c), backend)
    step = band_rows(c, width)
    for first in range(0, h, step):
        last = min(first + step, h)
        x = _crop(upsample(head, logits, padded, first, last, backend), w, backend)
        if mirrored is not None:
            other = _crop(upsample(head, mirrored, padded, first, last, backend), w, backend)
            x = flip_average(head, x, other, backend)
        decode(head, x, backend, answer[first:last])
    return answer


def is_of_whole(head: Json) -> bool:
    """True if `head` says something of the image as a whole: its answer has the size of its logits."""
    return bool(head["task"] == "classification" and head["upsample"]["op"] == "none")


def band_rows(channels: int, width: int) -> int:
    """Return how many rows of an upsampled tensor are made at once."""
    return max(1, BAND_BYTES // (4 * channels * width))


def upsample(head: Json, logits: Tensor, padded: Size, first: int, last: int, backend: Backend) -> Tensor:
    """Return rows first..last-1 of the logits (1, h', w', c) of `head` upsampled by the head's own method."""
    how = head["upsample"]
    c, h_in = logits.shape[3], logits.shape[1]
    height, width = upsampled_size(head, logits.shape[1:3], padded)
    if how["op"] == "none":
        return rows_of(logits, first, last)
    out = backend.arrays.empty((1, last - first, width, c))
    if how["op"] == "bilinear_deconv":
        factor = how["factor"]
        crop = factor // 2
        rows = Spread(h_in, 2 * factor, factor, crop, 1)
        lo, hi = rows.needs(first, last)
        x, crops = rows_of(logits, lo, hi), (rows.before_band(first, last), crop, crop, crop)
        bilinear_deconv(backend, factor, x, out, crops)
        return out
    corners = how.get("align_corners", False)
    lo, hi = Resize(how["op"], h_in, height, corners).needs(first, last)
    x, place = rows_of(logits, lo, hi), Rows(lo, h_in, first, height)
    if how["op"] == "bilinear":
        backend.bilinear(x, corners, out, place)
    else:
        backend.nearest(x, out, place)
    return out


def upsampled_size(head: Json, logits_size: Size, padded_size: Size) -> Size:
    """Return the (h, w) that the whole of `upsample` has."""
    how = head["upsample"]
    if how["op"] == "bilinear_deconv":
        return logits_size[0] * how["factor"], logits_size[1] * how["factor"]
    return logits_size if how["op"] == "none" else padded_size


def _crop(x, w, backend):
    """Return x (1, h, w', c) cut to w columns."""
    if x.shape[2] == w:
        return x
    out = backend.arrays.empty((*x.shape[:2], w, x.shape[3]))
    backend.crop(x, out)
    return out


def flip_average(head: Json, plain: Tensor, mirrored: Tensor, backend: Backend) -> Tensor:
    """Average the upsampled tensors of an image and of its mirror image: (a + mirror_back(b)) * 0.5.

    plain, mirrored   (1, h, w, c) cropped to the image; for normals channel 0 of `mirrored` is negated first
    """
    back, total, average = (backend.arrays.empty(plain.shape) for _ in range(3))
    backend.mirror(mirrored, head["task"] == "normals", back)
    backend.add(plain, back, total)
    half = backend.arrays.constant("half", lambda: np.full((1, 1, 1, 1), 0.5, np.float32))
    backend.mul(total, half, average)
    return average


def decode(head: Json, x: Tensor, backend: Backend, out: Array | None = None) -> Array:
    """Return what the head says of x (1, h, w, c): labels (h, w) uint8 or int32, else float32 (h, w) or (h, w, c).

    out  where it is put, an array of that shape and dtype; None: in a new one
    """
    out = empty_answer(head, x.shape[1:], backend) if out is None else out
    how = head["decode"]
    if how == "argmax":
        index = out.reshape(x.shape[:3]) if out.dtype == np.int32 else backend.arrays.empty(x.shape[:3], np.int32)
        backend.argmax(x, index)
        if out.dtype == np.uint8:
            backend.narrow(index, out.reshape(x.shape[:3]))
    elif how == "identity":
        backend.copy(x, out.reshape(x.shape))
    else:
        backend.kernels[how](x, out.reshape(x.shape))
    return out


def empty_answer(head: Json, shape: tuple[int, ...], backend: Backend) -> Array:
    """Return an array for the answer of `head` to upsampled logits of `shape` (h, w, c)."""
    h, w, c = shape
    labels = head["decode"] == "argmax"
    dtype = np.float32 if not labels else np.uint8 if c <= 256 else np.int32
    answer: Array = backend.arrays.empty((h, w) if labels or c == 1 else (h, w, c), dtype)
    return answer
