"""How much memory a call takes at its peak, known before it runs, and how much there is."""

import os
from pathlib import Path
from typing import Any, NoReturn

from pagnp import heads
from pagnp.bands import BandPlan
from pagnp.errors import MemoryLimitError
from pagnp.graph import INPUT, Graph
from pagnp.lower import Plan
from pagnp.types import Json, Size

FLOAT = 4
LITTLE = 8 << 20  # bytes that any process is taken to have
BESIDE = 128 << 20  # bytes of address space: threads (glibc reserves 64 MiB for one), code, gaps between arrays
PROCESS_CGROUP, CGROUPS = "/proc/self/cgroup", "/sys/fs/cgroup"
CGROUP_V1 = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
CGROUP_V2 = "memory.max", "memory.current", "inactive_file"


def call_bytes(
    graph: Graph, plan: Plan, size: Size, trace: bool = False, flip: bool = False, bands: BandPlan | None = None
) -> int:
    """Return the bytes that `Model(image)` allocates at its peak for an image of `size` (h, w), results included.

    bands  of a run in bands; None: the whole image at once
    """
    h, w = size
    pixels = h * w
    decisions = sum(_bytes(plan, name) for name in (*graph.gates(), *graph.multipools()))
    logits = FLOAT * sum(_elements(plan, name) for name in graph.outputs.values())
    stay = (3 * pixels + logits) * (2 if flip else 1)
    if trace:
        stay += sum(_bytes(plan, name) for name in plan.layers if name not in plan.private)
    decoding = [_decoding(head, plan, graph.outputs[head["output"]], size, flip) for head in graph.heads]
    answers = sum(result for _, result in decoding) + decisions + FLOAT * pixels  # the last is the ponder map
    ponder = FLOAT * decisions + 3 * FLOAT * min(heads.band_rows(1, plan.w), h) * plan.w
    after = answers + max([ponder, *(work for work, _ in decoding)])
    if bands:  # most of its maps are gone when the outputs are decoded
        return stay + max(bands.bytes, bands.left + after)
    return stay + plan.bytes + FLOAT * graph.channels * plan.h * plan.w + after


def _decoding(head: Json, plan: Plan, node: str, size: Size, flip: bool) -> tuple[int, int]:
    """Return (bytes while a head is decoded band by band, bytes of its result)."""
    value = plan.values[node]
    height, width = heads.upsampled_size(head, (value.h, value.w), (plan.h, plan.w))
    if heads.is_of_whole(head):
        size = height, width
    rows = min(heads.band_rows(value.c, width), size[0])
    upsampled, x = FLOAT * value.c * width * rows, FLOAT * value.c * size[1] * rows
    cropped = x if width != size[1] else 0  # a copy
    answer = 5 * size[1] * rows if head["decode"] == "argmax" else x
    picture = FLOAT * value.c * size[0] * size[1]
    result = picture if head["decode"] != "argmax" else size[0] * size[1] * (1 if value.c <= 256 else FLOAT)
    if flip:  # the plain and the mirrored one, this turned back, the sum and its half
        return max(x + upsampled + cropped, 5 * x), result
    return max(upsampled + cropped, x + answer), result


def _elements(plan: Plan, name: str) -> int:
    value = plan.values[name]
    return plan.n * value.h * value.w * value.c


def _bytes(plan: Plan, name: str) -> int:
    return _elements(plan, name) * (1 if plan.values[name].kind == "mask" else FLOAT)


def fits(needed: int, arrays: Any) -> bool:
    """True if `arrays` (of a Backend) have `needed` bytes to give, or it is not known.

    Little is not worth the 0.3 ms of a look.
    """
    if needed <= LITTLE:
        return True
    there = arrays.free_bytes()
    return there is None or needed <= there


def fits_well(needed: int, arrays: Any) -> bool:
    """True if a quarter of the memory stays free for what the caller does with the result, such as pictures."""
    there = arrays.free_bytes()
    return there is None or needed <= 0.75 * there


def require(plan: Plan, needed: int, arrays: Any) -> None:
    """Raise MemoryLimitError, naming the largest node, if `arrays` have not `needed` bytes to give."""
    if not fits(needed, arrays):
        refuse(plan, needed, arrays)


def refuse(plan: Plan, needed: int, arrays: Any, tile: int | None = None) -> NoReturn:
    """Raise MemoryLimitError; `tile` is the height of the bands in which the run would still need so much."""
    name = max((name for name in plan.values if name != INPUT), key=lambda name: _elements(plan, name))
    value, op = plan.values[name], plan.layers[name].op if name in plan.layers else "conv2d"
    where = "" if arrays.on_host else " of the GPU's memory"
    raise MemoryLimitError(
        f"the run needs {needed / 2**20:.0f} MiB{where}{f' even in bands of {tile} rows' if tile else ''}, "
        f"{(arrays.free_bytes() or 0) / 2**20:.0f} MiB are free; the largest map is that of "
        f"node '{name}' ({op}), {value.h}x{value.w} with {value.c} channels; "
        f"use {'a smaller image' if tile or arrays.on_host else 'a tile (--tile ROWS) or a smaller image'}"
    )


def available() -> int | None:
    """Return the bytes that this process may still allocate without swapping; None where that is not known."""
    found = [_from_meminfo(), _from_cgroup(), _from_rlimit()]
    return min((amount for amount in found if amount is not None), default=_physical())


def _from_meminfo():
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError, IndexError):
        return None


def _from_cgroup():
    """The tightest limit of the control groups around this process, less what is in use and cannot be given back."""
    try:
        lines = Path(PROCESS_CGROUP).read_text("utf-8").splitlines()
    except (OSError, ValueError):
        lines = []
    found = []
    for line in [*lines, "0::/"]:  # "number:controllers:path", without controllers in version 2
        controllers, _, path = line.partition(":")[2].partition(":")
        if not controllers:
            found += [_left_in(folder, *CGROUP_V2) for folder in _upwards(Path(CGROUPS), path)]
        elif "memory" in controllers.split(","):
            found += [_left_in(folder, *CGROUP_V1) for folder in _upwards(Path(CGROUPS, "memory"), path)]
    return min((amount for amount in found if amount is not None), default=None)


def _upwards(root, path):
    """Return the folders of a group and of those around it; in a container that may be `root` alone."""
    below = Path(path.lstrip("/"))
    return [root / part for part in dict.fromkeys((below, *below.parents))]


def _left_in(folder, limit, used, reclaimable):
    """Return what the control group at `folder` has left, or None: no such group, or no limit ("max")."""
    try:
        limit, used = (int((folder / name).read_text("ascii")) for name in (limit, used))
        stat = dict(line.split() for line in (folder / "memory.stat").read_text("ascii").splitlines())
        return max(0, limit - used + int(stat.get(reclaimable, 0)))
    except (OSError, ValueError):
        return None


def _from_rlimit():
    """What `ulimit -v` leaves of the address space, less what is mapped beside arrays."""
    try:
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit == resource.RLIM_INFINITY:
            return None
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
        return max(0, limit - pages * resource.getpagesize() - BESIDE)
    except (ImportError, OSError, ValueError):  # Windows, macOS
        return None


def _physical():
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # Windows
        return None
