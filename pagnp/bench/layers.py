"""The steps of a network one by one: time, work, and the share of what the machine's peaks allow."""

from typing import Any

import numpy as np

from pagnp.bench.network import Subject, Way, step_seconds
from pagnp.bench.roofline import Peaks, Work, attainable, bound, works
from pagnp.bench.timing import Times
from pagnp.types import Json


def layers(subject: Subject, way: Way, total: Times, peaks: Peaks) -> Json:
    """Return the steps of `way`, which was timed as `total`: {"steps": [...], "sum", "outside", "total"} in seconds.

    The seconds of a step are the median of all timed calls. `outside` is what the total has beside its steps: checks,
    memory for maps, the copy of the outputs.
    """
    run = subject.finished(way)
    seconds = step_seconds(way, len(run.plan.steps))
    rows = [_row(work, column, peaks) for work, column in zip(works(subject.graph, run), seconds.T, strict=True)]
    inside = sum(row["seconds"]["median"] for row in rows)
    return {"steps": rows, "sum": inside, "outside": total.median - inside, "total": total.median}


def _row(work: Work, seconds: np.ndarray[Any, Any], peaks: Peaks) -> Json:
    median = float(np.median(seconds))
    return {
        "name": work.name,
        "kind": work.kind,
        "seconds": {"median": median, "least": float(seconds.min()), "most": float(seconds.max())},
        "macs": work.macs,
        "bytes": work.bytes,
        "gflops": 2e-9 * work.macs / median,
        "bound": bound(work, peaks),
        "share": attainable(work, peaks) / median,
    }
