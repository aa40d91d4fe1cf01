"""What a run does between its ops. No arithmetic of the contract but the input's normalisation."""

import numpy as np

from pagnp.backends.numpy_ref.fma import fma_f32
from pagnp.backends.numpy_ref.resample import nearest_index

STRIP = 1 << 16  # pixels that are handled at once


def copy(x, out):
    """out = x, of equal shapes."""
    np.copyto(out, x)


def zero(out):
    """Set `out` to +0."""
    out[...] = 0


def picked(control, slot, out):
    """out (n, h, w) bool = where a mask or an index `control` (n, h, w) or (n, 1, 1) picks branch `slot`."""
    wanted = np.int32(slot) if control.dtype == np.int32 else bool(slot)
    np.equal(np.broadcast_to(control, out.shape), wanted, out=out)


def unite(mask, out):
    """Set `out` where `mask` is set, too."""
    np.logical_or(out, mask, out=out)


def logical_not(mask, out):
    """out = not mask."""
    np.logical_not(mask, out=out)


def to_float(mask, out):
    """out (n, h, w, 1) = 1 where `mask` (n, h, w) is set, else +0."""
    out[..., 0] = mask


def normalize_u8(pixels, scale, shift, out):
    """out (1, H, W, c) = fma(f32(pixels), scale, shift) for pixels (h, w, c) uint8; +0 below and to the right."""
    h, w = pixels.shape[:2]
    out[:, h:] = 0
    out[:, :, w:] = 0
    values = fma_f32(np.arange(256, dtype=np.float32)[:, None], scale, shift)  # of each pixel there can be
    step = max(1, STRIP // w)
    for y in range(0, h, step):
        real = pixels[y : y + step]
        for c in range(pixels.shape[2]):
            out[0, y : y + len(real), :w, c] = values[real[..., c], c]


def crop(x, out):
    """out = the upper left part of x (n, H, W, c) that has the size of `out` (n, h, w, c)."""
    np.copyto(out, x[:, : out.shape[1], : out.shape[2]])


def mirror(x, negate_first, out):
    """out = x (n, h, w, c), its columns from right to left; with `negate_first` channel 0 negated. Any dtype."""
    np.copyto(out, x[:, :, ::-1])
    if negate_first:
        np.negative(out[..., 0], out=out[..., 0])


def lookup(table, index, out):
    """out = table[index], all int32."""
    np.copyto(out, table[index])


def narrow(index, out):
    """out uint8 = index, int32 from 0 to 255."""
    np.copyto(out, index, casting="unsafe")


def ponder(mask, height, width, out):
    """out (h, w) int32 += 1 where `mask` (h', w'), enlarged to height x width by `nearest`, is set."""
    h, w = out.shape
    rows, columns = nearest_index(mask.shape[0], height)[:h], nearest_index(mask.shape[1], width)[:w]
    step = max(1, STRIP // w)
    for y in range(0, h, step):
        out[y : y + step] += mask[rows[y : y + step, None], columns]
