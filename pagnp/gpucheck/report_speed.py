"""The tables of the speed stages, in Markdown."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from pagnp.gpucheck.markdown import table
from pagnp.types import Json

TOP = 15  # steps of a profile that are listed
DOUBTFUL = 1.05  # reached by a step, of the measured peaks: more than noise


def parts(document: Json) -> Iterator[list[str]]:
    """Yield the lines of convolutions, networks and profiles."""
    values = speed_values(document["stages"])
    convs = values.get("convs", [])
    for batch in dict.fromkeys(row["batch"] for row in convs):
        yield _convs([row for row in convs if row["batch"] == batch], batch)
    yield _kernels(values.get("cudnn kernels", {}))
    for section in values.get("network", []):
        yield _network(section)
        for name, profile in section.get("profiles", {}).items():
            yield _profile(profile, name, section["batch"])
    if "latency" in values:
        found = _ms(values["latency"])
        size = "x".join(map(str, values["latency"]["size"]))
        yield [f"A whole call on an image of {size}, from pixels in the host's memory to labels there: {found} ms.", ""]


def speed_values(stages: Sequence[Json]) -> Json:
    """Return the values of all speed stages together."""
    found: Json = {}
    for stage in stages:
        if stage["name"].startswith("speed"):
            found |= stage.get("values", {})
    return found


def targets(found: Sequence[Json]) -> list[str]:
    """Return the table of the targets."""
    rows = [
        (t["name"], t["wanted"], "" if t["measured"] is None else f"{t['measured']:.3f}", t["verdict"], t["detail"])
        for t in found
    ]
    return ["## Targets", "", *table(("what", "wanted", "measured", "verdict", "detail"), rows)] if rows else []


def _convs(rows, batch):
    peers = list(dict.fromkeys(name for row in rows for name in row["peers"]))
    peaks = rows[0]["peaks"]
    head = [
        "layer",
        "GMAC",
        "kernel chosen",
        "ms (least - most)",
        "of the peak",
        "bound",
        *(f"time / {p}" for p in peers),
    ]
    body = [
        [
            *(row["layer"], f"{row['macs'] / 1e9:.2f}", row["chosen"], _ms(row["seconds"])),
            *(f"{row['share_of_peak']:.1%}", f"{row['bound']} {row['share']:.0%}"),
            *(f"{row['peers'][p]['ratio']['of_medians']:.3f}" if p in row["peers"] else "" for p in peers),
        ]
        for row in rows
    ]
    tiles = list(dict.fromkeys(name for row in rows for name in row["tiles"]))
    each = [[row["layer"], *(_tile(row, name) for name in tiles)] for row in rows]
    return [
        f"## Convolutions of ResNet-50 at output stride 8, 480x640, batch {batch}",
        "",
        f"{_peaks(peaks)} Ours with norm and relu; torch's convolution alone; sgemm: the product alone.",
        "",
        *table(head, body),
        f"Every tile kernel, ms at batch {batch}; * chosen:",
        "",
        *table(["layer", *(name.removeprefix("conv2d_f32_") for name in tiles)], each),
    ]


def _tile(row, name):
    if name not in row["tiles"]:
        return ""
    return f"{row['tiles'][name]['median'] * 1e3:.3f}{' *' if name == row['chosen'] else ''}"


def _kernels(found):
    if not found:
        return []
    rows = [(layer, ", ".join(short(name) for name in names)) for layer, names in found.items()]
    return ["Kernels of cuDNN's choice in torch, batch 8:", "", *table(("layer", "kernels"), rows)]


def short(kernel: str) -> str:
    """Return the name of a kernel without its result, namespaces, template arguments and parameters."""
    name = kernel.partition("(")[0] if "<" not in kernel.partition("(")[0] else kernel.partition("<")[0]
    return re.sub(r"^void |\w+::", "", name).strip()


def _network(section):
    peers = [peer["name"] for peer in section["peers"]]
    against = [*peers, "dense"]
    head = [
        "",
        "ms (least - most)",
        "ms an image",
        "kept",
        "of the peak",
        "MiB",
        *(f"time / {name}" for name in against),
    ]
    body = [
        [
            f"pagnp {row['name']}, {row['mode']}",
            _ms(row["seconds"]),
            f"{row['seconds_per_image'] * 1e3:.3f}",
            f"{row['kept']:.1%}",
            f"{row['share_of_peak']:.1%}",
            f"{row['bytes'] / 2**20:.0f}",
            *(f"{row['ratios'][name]['of_medians']:.3f}" for name in against),
        ]
        for row in section["rows"]
    ]
    body += [
        [
            p["name"],
            _ms(p["seconds"]),
            f"{p['seconds']['median'] * 1e3 / section['batch']:.3f}",
            *[""] * (3 + len(against)),
        ]
        for p in section["peers"]
    ]
    title = f"## PAG-ResNet-50, {'x'.join(map(str, section['size']))}, batch {section['batch']}" + (
        f", with {section['with']}" if "with" in section else ""
    )
    notes = [f"* {peer['name']}: {peer['detail']}" for peer in section["peers"]]
    notes += ["* kept: pixels of the gated layers that are computed; MiB: what a run holds, weights and input left out"]
    return [title, "", _peaks(section["peaks"]), "", *table(head, body), *notes, ""]


def _peaks(peaks):
    rates = f"Peak {peaks['gflops'] / 1e3:.1f} TFLOP/s of fp32 multiply-adds, memory {peaks['gbytes']:.0f} GB/s"
    return f"{rates}, measured in the same rounds."


def _profile(profile, name, batch):
    whole = profile["sum"]
    kinds = [
        (
            kind,
            k["steps"],
            f"{k['seconds'] * 1e3:.3f}",
            f"{k['seconds'] / whole:.1%}",
            f"{k['macs'] / 1e9:.2f}",
            f"{k['share']:.0%}",
        )
        for kind, k in profile["kinds"].items()
    ]
    steps = sorted(profile["steps"], key=lambda step: -step["seconds"])[:TOP]
    slow = [
        (
            s["name"],
            s["kind"],
            f"{s['seconds'] * 1e3:.3f}",
            f"{s['seconds'] / whole:.1%}",
            s["bound"],
            f"{_reached(s):.0%}",
        )
        for s in steps
    ]
    return [
        f"Where the time goes, {name}, batch {batch}: {whole * 1e3:.2f} ms in {len(profile['steps'])} steps, one after "
        "the other on the GPU. Reached: share of what the peaks allow for the work and the bytes of the steps"
        + (
            ", which were measured too low, as beside another process." if max(map(_reached, steps)) > DOUBTFUL else "."
        ),
        "",
        *table(("kind", "steps", "ms", "of all", "GMAC", "reached"), kinds),
        *table(("step", "kind", "ms", "of all", "bound", "reached"), slow),
    ]


def _reached(step: Json) -> Any:
    return step["attainable"] / step["seconds"] if step["seconds"] else 0.0


def _ms(seconds):
    digits = 4 if seconds["median"] < 1e-3 else 3
    median, least, most = (f"{seconds[name] * 1e3:.{digits}f}" for name in ("median", "least", "most"))
    return f"{median} ({least} - {most})"
