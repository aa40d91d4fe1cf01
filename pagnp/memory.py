"""How much memory a call takes at its peak, known before it runs, and how much there is."""

import os
from pathlib import Path

from pagnp import heads
from pagnp.errors import MemoryLimitError
from pagnp.graph import INPUT, Graph
from pagnp.lower import Plan
from pagnp.types import Json, Size

FLOAT = 4


def call_bytes(graph: Graph, plan: Plan, size: Size, trace: bool = False, flip: bool = False) -> int:
    """Return the bytes that `Model(image)` allocates at its peak for an image of `size` (h, w), results included."""
    h, w = size
    pixels, padded = h * w, plan.h * plan.w
    logits = sum(_elements(plan, name) for name in graph.outputs.values())
    stay = 3 * pixels + FLOAT * graph.channels * padded + plan.bytes + FLOAT * logits * (2 if flip else 1)
    if trace:
        stay += sum(_bytes(plan, name) for name in plan.layers if name not in plan.private)
    decoding = [_decoding(head, plan, graph.outputs[head["output"]], size, flip) for head in graph.heads]
    stay += sum(result for _, result in decoding)
    return stay + max([4 * FLOAT * padded, *(work for work, _ in decoding)])  # 4 maps: the ponder map in the making


def _decoding(head: Json, plan: Plan, node: str, size: Size, flip: bool) -> tuple[int, int]:
    """Return (bytes while a head is decoded, bytes of its result)."""
    value = plan.values[node]
    height, width = heads.upsampled_size(head, (value.h, value.w), (plan.h, plan.w))
    large = FLOAT * value.c * height * width
    picture = FLOAT * value.c * size[0] * size[1]
    cropped = picture if (height, width) != size else 0
    result = 5 * size[0] * size[1] if head["decode"] == "argmax" else picture
    if flip:  # the cropped tensor, its mirror image (turned back, and as upsampled), their sum and their half
        return picture + max(large + cropped, 4 * picture), result
    return max(large + cropped, picture), result


def _elements(plan: Plan, name: str) -> int:
    value = plan.values[name]
    return plan.n * value.h * value.w * value.c


def _bytes(plan: Plan, name: str) -> int:
    return _elements(plan, name) * (1 if plan.values[name].kind == "mask" else FLOAT)


def require(plan: Plan, needed: int) -> None:
    """Raise MemoryLimitError, naming the largest node, if the machine has not `needed` bytes to give."""
    there = available()
    if there is not None and needed > there:
        name = max((name for name in plan.values if name != INPUT), key=lambda name: _elements(plan, name))
        value, op = plan.values[name], plan.layers[name].op if name in plan.layers else "conv2d"
        raise MemoryLimitError(
            f"the run needs {needed / 2**20:.0f} MiB, {there / 2**20:.0f} MiB are free; the largest map is that of "
            f"node '{name}' ({op}), {value.h}x{value.w} with {value.c} channels; use a smaller image"
        )


def available() -> int | None:
    """Return the bytes that this process may still allocate without swapping; None where that is not known."""
    found = [_from_meminfo(), _from_cgroup()]
    return min((amount for amount in found if amount is not None), default=_physical())


def _from_meminfo():
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError, IndexError):
        return None


def _from_cgroup():
    """The limit of a container (cgroup v2), less what is in use and cannot be given back."""
    folder = Path("/sys/fs/cgroup")
    try:
        limit, used = (int((folder / name).read_text("ascii")) for name in ("memory.max", "memory.current"))
        stat = dict(line.split() for line in (folder / "memory.stat").read_text("ascii").splitlines())
        return max(0, limit - used + int(stat.get("inactive_file", 0)))
    except (OSError, ValueError):  # no cgroup v2, or "max": no limit
        return None


def _physical():
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # Windows
        return None
