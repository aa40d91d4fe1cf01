"""The Markdown of a check: what was run, what was reached, what was not looked at."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pagnp.backends.gpu import kernels_of
from pagnp.gpucheck import report_speed
from pagnp.gpucheck.markdown import table
from pagnp.types import Json

FAILED, LONGEST = "failed", 140  # characters of a reason in a table
INSTALLED = re.compile(r'/[^"\s]*/site-packages/')  # where packages lay is of no use to a reader


def markdown(document: Json) -> str:
    """Return the document of `python -m pagnp.gpucheck` as Markdown."""
    parts = [
        _summary(document),
        _environment(runs_of(document)),
        _stages(document["stages"]),
        report_speed.targets(document["targets"]),
        _checks(document["stages"]),
        _kernels(document["stages"]),
        _repetition(document["stages"]),
        *report_speed.parts(document),
        _skipped(document["stages"]),
        _failures(document["stages"]),
    ]
    return "\n".join(line for part in parts for line in part).rstrip() + "\n"


def runs_of(document: Json) -> list[Json]:
    """Return the environments of the runs that a document is of."""
    return document.get("runs") or [document["environment"]]


def _summary(document):
    gpus = "; ".join(dict.fromkeys(gpu["name"] for run in runs_of(document) for gpu in run["gpus"]))
    stages = Counter(stage["status"] for stage in document["stages"])
    checks = [check for stage in document["stages"] for check in stage.get("checks", {}).values()]
    looked_at, failed = (sum(check[part] for check in checks) for part in ("count", "failed"))
    verdicts = Counter(target["verdict"] for target in document["targets"])
    lines = [
        f"# The GPU backends on {gpus}",
        "",
        "Written by `python -m pagnp.gpucheck`; docs/GPU_CHECK.md says what each stage does and how times are taken.",
        "",
        f"* Stages: {_counted(stages)}.",
        f"* Bits: {looked_at} rows, runs and layers were looked at, {failed} failed.",
    ]
    lines += [f"* Targets of speed: {_counted(verdicts)}."] if verdicts else []
    if every := max(run.get("every", 1) for run in runs_of(document)) - 1:
        lines += [
            f"* **A quick try**: every {every + 1}th row and layer, small images. No proof, and no time to quote."
        ]
    return [*lines, ""]


def _counted(counts):
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"


def _environment(runs):
    """A row for each thing; where runs differ in it, their values one after the other."""
    columns = [_environment_rows(run) for run in runs]
    rows = []
    for parts in zip(*columns, strict=True):
        values = dict.fromkeys(str(value) for _, value in parts if value is not None)
        rows.append((parts[0][0], "; ".join(values)))
    return table(("", ""), rows)


def _environment_rows(found):
    gpus = [
        f"{gpu['name']} (sm_{gpu['capability'].replace('.', '')}, {gpu['memory'] / 2**30:.1f} GiB)"
        for gpu in found["gpus"]
    ]
    smi = ", ".join(f"{name} {value}" for name, value in found["nvidia-smi"].items())
    return [
        ("GPU", "; ".join(gpus)),
        ("driver, CUDA of the driver, NVRTC", f"{found['driver']}, {found['cuda']}, {found['nvrtc']}"),
        ("as nvidia-smi says (nothing was set)", smi or "not there"),
        ("clocks at the end", found.get("nvidia-smi at the end", {}).get("clocks.sm")),
        ("pagnp", f"{found['pagnp']}, commit {found['commit'] or 'unknown'}"),
        ("Python, system", f"{found['python']}, {found['system']}"),
        ("CPU", f"{found['cpu']}, {found['cores']} cores"),
        ("packages", ", ".join(f"{name} {number}" for name, number in found["packages"].items())),
        ("command", found.get("command")),
        ("when, how long", f"{found.get('when')}, {found.get('seconds', 0):.0f} s"),
    ]


def _stages(stages):
    rows = [(s["name"], s["backend"], s["status"], f"{s['seconds']:.0f}", s["reason"][:LONGEST]) for s in stages]
    return ["## Stages", "", *table(("stage", "backend", "result", "s", "reason"), rows)]


def _checks(stages):
    rows = [
        (f"{s['name']}, {s['backend']}", name, check["count"], check["failed"])
        for s in stages
        for name, check in s.get("checks", {}).items()
    ]
    return ["## Checks", "", *table(("stage", "what", "looked at", "failed"), rows)] if rows else []


def kernel_counts(stages: Sequence[Json], backend: str) -> dict[str, int]:
    """Return kernel -> launches in the checked stages of a backend."""
    found: dict[str, int] = {}
    for stage in stages:
        if stage["backend"] == backend:
            for name, count in stage.get("values", {}).get("kernels", {}).items():
                found[name] = found.get(name, 0) + count
    return found


def _kernels(stages: Sequence[Json]) -> list[str]:
    lines = []
    for backend in dict.fromkeys(stage["backend"] for stage in stages):
        counts, names = kernel_counts(stages, backend), kernels_of(backend)
        if counts:
            missing = [name for name in names if name not in counts]
            told = f"never: {', '.join(missing)}" if missing else "none was left out"
            lines.append(f"* Kernels of {backend}: {len(names) - len(missing)} of {len(names)} launched; {told}.")
    return [*lines, ""] if lines else []


def _repetition(stages):
    rows = []
    for stage in stages:
        found = stage.get("values", {}).get("repetition")
        if found:
            process, other = found["loading process"], found.get("runs on another stream")
            beside = "to the end" if process["to the end"] else "for a while" if process["began"] else "no"
            digests = len(found["digests"])
            rows.append((stage["backend"], f"{found['runs']} of {found['wanted']}", digests, beside, other))
    head = ("backend", "runs", "different digests", "another process loaded the GPU", "runs on another stream")
    return ["## The same network again and again", "", *table(head, rows)] if rows else []


def _skipped(stages):
    rows = [
        (f"{s['name']}, {s['backend']}", what, reason[:LONGEST])
        for s in stages
        for what, reason in s.get("skipped", {}).items()
    ]
    return ["## Not looked at", "", *table(("stage", "what", "why"), rows)] if rows else []


def _failures(stages: Sequence[Json]) -> list[str]:
    return ["## Failures", "", *lines] if (lines := list(_failure_lines(stages))) else []


def _failure_lines(stages: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for stage in stages:
        for name, check in stage.get("checks", {}).items():
            if check["failed"]:
                yield f"{stage['name']}, {stage['backend']}: {name}: {check['failed']} of {check['count']}"
                yield ""
                for problem in check["first"]:
                    yield from (f"    {line}" for line in problem.splitlines())
                yield ""
        if stage["status"] == FAILED and stage.get("log"):
            yield f"{stage['name']}, {stage['backend']}: {stage['reason']}; the end of what it printed:"
            yield ""
            yield from (f"    {INSTALLED.sub('', line)}" for line in stage["log"])
            yield ""
