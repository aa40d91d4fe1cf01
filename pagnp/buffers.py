"""Give every tensor of a plan a place in one arena, so that peak memory is known before the run."""

from dataclasses import dataclass

import numpy as np

ALIGN = 64  # bytes: a cache line, and the widest vector load


@dataclass
class Buffer:
    """A tensor's place: byte offset, size in bytes, first and last step that uses it."""

    size: int
    first: int
    last: int
    offset: int = -1


def layer_of(buffer: str) -> str:
    """Return the layer whose values a buffer holds: its name, up to the "@" in the name of compact rows."""
    return buffer.partition("@")[0]


def plan(steps, values, n, keep):
    """Return (name -> Buffer, arena size in bytes) for the float32 tensors that `steps` write.

    values  node name -> Value; a buffer "name@..." holds rows of `name`, at most one a pixel
    keep    names that must survive to the end
    An epilogue's residual that nobody reads later shares its buffer with the output (added in place).
    """
    last_read = {name: i for i, step in enumerate(steps) for name in (*step.ins, step.residual)}
    last_read |= dict.fromkeys(keep, len(steps))
    found = {}
    for i, step in enumerate(steps):
        for name in (*step.ins, step.residual):
            if name in found:
                found[name].last = i
        if not step.out or values[layer_of(step.out)].kind != "tensor":
            continue
        if _adds_in_place(step, i, last_read) and step.residual in found:
            found[step.out] = found[step.residual]
        elif step.out not in found:
            value = values[layer_of(step.out)]
            found[step.out] = Buffer(_round_up(4 * n * value.h * value.w * value.c), i, i)
        found[step.out].last = i
    for name in keep:
        found[name].last = len(steps)
    return found, _place(list({id(buffer): buffer for buffer in found.values()}.values()))


def _adds_in_place(step, i, last_read):
    """True if step i is a dense conv that may overwrite its residual: it is the residual's last reader."""
    is_dense_conv = step.kind in ("conv2d", "conv_transpose2d") and step.sites is None
    return is_dense_conv and last_read.get(step.residual) == i and step.residual not in step.ins


def _round_up(size):
    return (size + ALIGN - 1) // ALIGN * ALIGN


def _place(buffers):
    """Place big buffers first, each at the lowest offset free during its life; return the arena's size."""
    ordered = sorted(buffers, key=lambda b: -b.size)
    firsts, lasts, starts, stops = np.zeros((4, len(ordered)), np.int64)  # of those placed: graphs may have many
    for i, buffer in enumerate(ordered):
        meets = (firsts[:i] <= buffer.last) & (buffer.first <= lasts[:i])
        busy = sorted(zip(starts[:i][meets].tolist(), stops[:i][meets].tolist(), strict=True))
        offset = 0
        for start, stop in busy:
            if offset + buffer.size <= start:
                break
            offset = max(offset, stop)
        buffer.offset = offset
        firsts[i], lasts[i], starts[i], stops[i] = buffer.first, buffer.last, offset, offset + buffer.size
    return int(stops.max(initial=0))
