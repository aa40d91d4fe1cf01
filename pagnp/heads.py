"""Heads: bring an output to the image's size and decode it into labels, depth, normals or boundaries."""

import numpy as np

from pagnp.backends.base import Backend
from pagnp.runner import bilinear_deconv
from pagnp.types import Array, Json, Size, Tensor


def upsample(head: Json, logits: Tensor, size: Size, backend: Backend) -> Tensor:
    """Return the logits (1, h', w', c) of `head` at `size` (h, w) of the padded input, by the head's own method."""
    how = head["upsample"]
    n, h, w, c = logits.shape
    if how["op"] == "bilinear_deconv":
        from pagnp.ops.resample import bilinear_deconv_weight

        factor = how["factor"]
        out = np.empty((n, h * factor, w * factor, c), np.float32)
        bilinear_deconv(backend, bilinear_deconv_weight(factor), factor, logits, out)
    elif how["op"] == "none":
        return logits
    else:
        out = np.empty((n, *size, c), np.float32)
        if how["op"] == "bilinear":
            backend.bilinear(logits, how["align_corners"], out)
        else:
            backend.nearest(logits, out)
    return out


def upsampled_size(head: Json, logits_size: Size, padded_size: Size) -> Size:
    """Return the (h, w) that `upsample` gives."""
    how = head["upsample"]
    if how["op"] == "bilinear_deconv":
        return logits_size[0] * how["factor"], logits_size[1] * how["factor"]
    return logits_size if how["op"] == "none" else padded_size


def crop(array: Tensor, h: int, w: int) -> Tensor:
    """Return array (1, h', w', c) cut to h x w at the bottom and right, C-contiguous."""
    return np.ascontiguousarray(array[:, :h, :w])


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
