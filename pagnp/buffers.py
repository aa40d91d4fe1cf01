"""Give every tensor of a plan a place in one arena, so that peak memory is known before the run."""

from dataclasses import dataclass

ALIGN = 64  # bytes: a cache line, and the widest vector load


@dataclass
class Buffer:
    """A tensor's place: byte offset, size in bytes, first and last step that uses it."""

    size: int
    first: int
    last: int
    offset: int = -1


def plan(steps, values, n, keep):
    """Return (name -> Buffer, arena size in bytes) for the float32 tensors that `steps` write.

    values  layer name -> Value; a buffer "name@..." holds rows of layer `name`, at most one a pixel
    keep    names that must survive to the end
    An epilogue's residual that nobody reads later shares its buffer with the output (added in place).
    """
    found, shared = {}, {}
    for i, step in enumerate(steps):
        reads = [shared.get(name, name) for name in (*step.ins, step.residual) if name is not None]
        for name in reads:
            if name in found:
                found[name].last = i
        if not step.out or values[step.out.split("@")[0]].kind != "tensor":
            continue
        host = _in_place(step, steps[i + 1 :], found, shared, keep, values)
        if host is not None:
            shared[step.out] = host
        name = shared.get(step.out, step.out)
        if name not in found:
            value = values[step.out.split("@")[0]]
            found[name] = Buffer(_round_up(4 * n * value.h * value.w * value.c), i, i)
        found[name].last = i
    for name in keep:
        found[shared.get(name, name)].last = len(steps)
    arena = _place(found)
    return {**found, **{name: found[host] for name, host in shared.items()}}, arena


def _in_place(step, later, found, shared, keep, values):
    """Return the buffer that a dense conv may add into, or None."""
    if step.kind not in ("conv2d", "conv_transpose2d") or step.residual is None or step.sites is not None:
        return None
    host = shared.get(step.residual, step.residual)
    aliases = {host, *(name for name, other in shared.items() if other == host)}
    if host not in found or aliases & set(keep) or aliases & set(step.ins):
        return None
    if any(aliases & {*other.ins, other.residual} for other in later):
        return None
    return host


def _round_up(size):
    return (size + ALIGN - 1) // ALIGN * ALIGN


def _place(found):
    """Place big buffers first, each at the lowest offset free during its life; return the arena's size."""
    placed = []
    for buffer in sorted(found.values(), key=lambda b: -b.size):
        busy = sorted(
            (other.offset, other.offset + other.size)
            for other in placed
            if other.first <= buffer.last and buffer.first <= other.last
        )
        offset = 0
        for start, stop in busy:
            if offset + buffer.size <= start:
                break
            offset = max(offset, stop)
        buffer.offset = offset
        placed.append(buffer)
    return max((b.offset + b.size for b in placed), default=0)
