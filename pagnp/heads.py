"""Heads: bring an output to the image's size and decode it into labels, depth, normals or boundaries."""

import numpy as np

from pagnp.backends.base import Backend
from pagnp.dispatch import Rows, bilinear_deconv
from pagnp.errors import ShapeError
from pagnp.rowmaps import Resize, Spread
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
    answer: Array | None = None
    step = band_rows(logits.shape[3], width)
    for first in range(0, h, step):
        last = min(first + step, h)
        x = _crop(upsample(head, logits, padded, first, last, backend), w)
        if mirrored is not None:
            other = _crop(upsample(head, mirrored, padded, first, last, backend), w)
            x = flip_average(head, x, other, backend)
        part = decode(head, x, backend)
        if answer is None:
            answer = np.empty((h, *part.shape[1:]), part.dtype)
        answer[first:last] = part
    assert answer is not None
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
        return np.ascontiguousarray(logits[:, first:last])
    out = np.empty((1, last - first, width, c), np.float32)
    if how["op"] == "bilinear_deconv":
        from pagnp.ops.resample import bilinear_deconv_weight

        factor = how["factor"]
        crop = factor // 2
        rows = Spread(h_in, 2 * factor, factor, crop, 1)
        lo, hi = rows.needs(first, last)
        x, crops = np.ascontiguousarray(logits[:, lo:hi]), (rows.before_band(first, last), crop, crop, crop)
        bilinear_deconv(backend, bilinear_deconv_weight(factor), factor, x, out, crops)
        return out
    corners = how.get("align_corners", False)
    lo, hi = Resize(how["op"], h_in, height, corners).needs(first, last)
    x, place = np.ascontiguousarray(logits[:, lo:hi]), Rows(lo, h_in, first, height)
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


def _crop(rows, w):
    """Return rows (1, h, w', c) cut to w columns, C-contiguous."""
    return np.ascontiguousarray(rows[:, :, :w])


def flip_average(head: Json, plain: Tensor, mirrored: Tensor, backend: Backend) -> Tensor:
    """Average the upsampled tensors of an image and of its mirror image: (a + mirror_back(b)) * 0.5.

    plain, mirrored   (1, h, w, c) cropped to the image; for normals channel 0 of `mirrored` is negated first
    """
    back = np.ascontiguousarray(mirrored[:, :, ::-1])
    if head["task"] == "normals":
        back[..., 0] = -back[..., 0]
    total = np.empty_like(plain)
    backend.add(plain, back, total)
    average = np.empty_like(plain)
    backend.mul(total, np.full((1, 1, 1, 1), 0.5, np.float32), average)
    return average


def decode(head: Json, x: Tensor, backend: Backend) -> Array:
    """Return what the head says of x (1, h, w, c): labels (h, w) uint8 or int32, else float32 (h, w) or (h, w, c)."""
    how = head["decode"]
    if how == "argmax":
        index = np.empty(x.shape[:3], np.int32)
        backend.argmax(x, index)
        return index[0].astype(np.uint8) if x.shape[3] <= 256 else index[0]
    if how == "identity":
        out = x.copy()
    else:
        out = np.empty_like(x)
        backend.kernels[how](x, out)
    return out[0, :, :, 0] if x.shape[3] == 1 else out[0]
