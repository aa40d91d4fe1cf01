"""`pagnp compare --reference`: run the check, and show it as a table or as JSON."""

import math

from pagnp.cli.options import load_model
from pagnp.cli.streams import printable
from pagnp.errors import UsageError

MEMORY_FACTOR = 6  # a check holds values, their bounds in float64 and the reference's arrays beside the run's own


def check_reference(weights, arch, backend, threads, seed, path, pixels, skip_unknown):
    """Return (Report, the names that were skipped) of a model held against the NPZ file `path`.

    pixels   uint8 (h, w, 3), or None where the file has the network's input itself, which goes before
    Raises:  UsageError and ModelFileError naming file and key; MemoryLimitError before anything is read.
    """
    from pagnp import memory
    from pagnp.canonical import canonical
    from pagnp.errorbound import network
    from pagnp.errorbound.reference import ReferenceFile
    from pagnp.lower import lower

    model = load_model(weights, arch, backend, threads)
    with ReferenceFile(path, model.graph) as file:
        from_file = pixels is None or file.has_input
        if from_file:
            padded = size = file.input_size()
        else:
            size = pixels.shape[:2]
            padded = model.graph.padded_size(size)
        plan = lower(canonical(model.graph), *padded, dense=True)
        memory.require(plan, MEMORY_FACTOR * plan.bytes, model.backend.arrays)
        file.fit(padded, size, skip_unknown)
        x = file.input() if from_file else network_input(model.graph, pixels, padded)
        return network.check(model.graph, x, file, model.backend, seed=seed, size=size), file.skipped


def network_input(graph, pixels, padded):
    """Return the float32 (1, h, w, 3) that a model makes of pixels, padded with +0 to `padded` (h, w)."""
    from pagnp.backends.base import get_backend
    from pagnp.inference import Source

    if graph.preprocess is None or graph.channels != 3:
        raise UsageError("compare: the model says nothing about pixels; save the network's input under the key 'input'")
    return Source(pixels, graph.preprocess, padded, get_backend("numpy")).rows(0, padded[0])


def as_json(report, skipped):
    """Return a JSON-able dict of everything found; what is no finite number is a string."""
    rows = [{key: _json_value(value) for key, value in vars(row).items()} for row in report.rows]
    first = None if report.first is None else report.first.name
    within = {"ok": first is None, "first_out_of_bound": first}
    return {**within, "layers": rows, "not_in_file": report.missing, "skipped": skipped}


def _json_value(value):
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def table(report):
    """Return the lines of the table and the verdict."""
    width = max(len(row.name) for row in report.rows)
    head = ("shape", "difference", "bound there", "ratio", "ulp", "margin", "own run")
    lines = [f"{'layer':<{width}}  " + "  ".join(f"{title:>11}" for title in head)]
    lines += [
        f"{row.name:<{width}}  " + "  ".join(f"{cell:>11}" for cell in _cells(row)) + _mark(row) for row in report.rows
    ]
    flips, decisions = sum(row.flips for row in report.rows), sum(row.decisions for row in report.rows)
    if decisions:
        lines.append(f"decisions: {flips} of {decisions} differ")
    unbounded = sum(row.unbounded for row in report.rows)
    if unbounded:
        lines.append(f"{unbounded} values differ where no bound can be computed (overflow, division by what may be 0)")
    if report.missing:
        lines.append(f"{len(report.missing)} layers have no array in the file; bounds run on through them")
    if report.first is not None:
        lines.append(f"first layer out of bound: {report.first}")
    else:
        tightest = max(report.rows, key=lambda row: row.ratio)
        lines.append(
            f"all {len(report.rows)} layers within their bounds; the largest difference/bound is "
            f"{tightest.ratio:.3g}, at {tightest.name}"
        )
    return [printable(line) for line in lines]


def _cells(row):
    shape = "x".join(map(str, row.shape))
    if row.kind != "tensor":
        margin = "" if row.margin is None else f"{row.margin:.3g}"
        own = "" if row.run_flips is None else f"{row.run_flips} differ"
        return shape, f"{row.flips} differ", f"{row.bound:.0f} allowed", "", "", margin, own
    own = "" if row.run is None else f"{row.run:.3g}"
    ulp = "NaN" if row.ulp is None else str(row.ulp)
    return shape, f"{row.difference:.3g}", f"{row.bound:.3g}", f"{row.ratio:.3g}", ulp, "", own


def _mark(row):
    return "" if row.ok else "  OUT OF BOUND"
