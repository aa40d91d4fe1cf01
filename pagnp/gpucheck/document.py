"""gpucheck.json and gpucheck.md: what stages found and on what machine, of one run or put together from several."""

import json
from collections.abc import Sequence
from pathlib import Path

from pagnp.errors import UsageError
from pagnp.files import write_atomic
from pagnp.gpucheck import report, report_speed, stages, targets
from pagnp.gpucheck.running import UNRUN
from pagnp.types import Json

FORMAT, VERSION = "pagnp-gpucheck", 1


def made(environment: Json, staged: Sequence[Json]) -> Json:
    """Return the document of these stages, with the targets that their values reach or miss."""
    found = [target.as_json() for target in targets.targets(report_speed.speed_values(staged))]
    return {"format": FORMAT, "version": VERSION, "environment": environment, "stages": list(staged), "targets": found}


def write(folder: Path, document: Json) -> None:
    """Write gpucheck.json and gpucheck.md."""
    write_atomic(folder / "gpucheck.json", json.dumps(document, indent=1).encode())
    write_atomic(folder / "gpucheck.md", report.markdown(document).encode())


def read(path: Path) -> Json:
    """Return the document in a gpucheck.json. Raises UsageError if it is none."""
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(
            f"gpucheck: {path}: {' '.join(str(error).split())}; give the gpucheck.json of a run"
        ) from error
    if not isinstance(document, dict) or (document.get("format"), document.get("version")) != (FORMAT, VERSION):
        raise UsageError(f"gpucheck: {path} is not {FORMAT} of version {VERSION}; give the gpucheck.json of a run")
    found: Json = document
    return found


def merged(documents: Sequence[Json]) -> Json:
    """Return one document of several runs on the same kind of GPU; of a stage that ran in several the last counts.

    "runs" has the environments of all. Raises UsageError if the GPUs differ.
    """
    runs = [environment for document in documents for environment in report.runs_of(document)]
    names = list(dict.fromkeys(", ".join(gpu["name"] for gpu in run["gpus"]) for run in runs))
    if len(names) > 1:
        raise UsageError(
            f"gpucheck: --merge: the runs are of different GPUs: {', '.join(names)}; merge those of one kind"
        )
    staged: dict[tuple[str, str], Json] = {}
    for document in documents:
        for stage in document["stages"]:
            key = stage["name"], stage["backend"]
            if key not in staged or stage["status"] != UNRUN:
                staged[key] = stage
    order = {(stage.name, stage.backend): i for i, stage in enumerate(stages.STAGES)}
    ordered = sorted(staged.values(), key=lambda stage: order.get((stage["name"], stage["backend"]), len(order)))
    return made(runs[0], ordered) | {"runs": runs}
