"""What `pagnp eval` prints: a table, JSON, or CSV rows image,head,metric,value."""

import csv
import io
import json
import math
import textwrap

from pagnp.cli.streams import printable

GIGA = 1e9
WIDTH = 110
COLUMNS = ("image", "head", "metric", "value")
SHOWN = {  # by task: metric -> (title, unit)
    "segmentation": {
        "mean_iou": ("mean IoU", "%"),
        "pixel_accuracy": ("pixel accuracy", "%"),
        "class_accuracy": ("class accuracy", "%"),
    },
    "boundary": {
        "ods": ("ODS", ""),
        "ois": ("OIS", ""),
        "ap": ("AP", ""),
        "ods_threshold": ("threshold", ""),
        "ods_recall": ("recall", ""),
        "ods_precision": ("precision", ""),
    },
    "depth": {
        "abs_rel": ("abs rel", ""),
        "abs_rel_scaled": ("scaled by medians", ""),
        "rmse": ("RMSE", "m"),
        "log_rmse": ("log RMSE", ""),
        "delta1": ("delta < 1.25", "%"),
        "delta2": ("< 1.25^2", "%"),
        "delta3": ("< 1.25^3", "%"),
    },
    "normals": {
        "mean": ("mean", "deg"),
        "median": ("median", "deg"),
        "within_11.25": ("< 11.25", "%"),
        "within_22.5": ("< 22.5", "%"),
        "within_30": ("< 30 deg", "%"),
    },
}


def as_json(found):
    """Return the report as JSON; what has no value is null."""
    return json.dumps(_finite(found), indent=2, allow_nan=False)


def as_csv(found):
    """Return rows image,head,metric,value; `image` is empty for the whole set, `head` for what belongs to none."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for image, part in [("", found), *((scene["name"], scene) for scene in found.get("scenes", ()))]:
        plain = {key: value for key, value in part.items() if key not in ("heads", "scenes", "name")}
        writer.writerows((image, "", metric, _cell(value)) for metric, value in _flat(plain))
        for head, scores in part.get("heads", {}).items():
            curve = {
                f"{key} at {p['threshold']}": p[key] for p in scores.get("curve", ()) for key in ("recall", "precision")
            }
            rows = _flat({**{key: value for key, value in scores.items() if key != "curve"}, **curve})
            writer.writerows((image, head, metric, _cell(value)) for metric, value in rows)
    return text.getvalue()


def as_table(found):
    """Return the report for a reader."""
    return "\n".join(map(printable, _humans(found) if "maps" in found else _model(found)))


def _set(found):
    """Say which images were scored."""
    count = f"{found['images']}" if found["images"] == found["of"] else f"{found['images']} of {found['of']}"
    return f"{count} images ({', '.join(filter(None, (found['layout'], found['split'])))})"


def _model(found):
    """Return the lines about a model."""
    lines = [_set(found)]
    for head, scores in found["heads"].items():
        shown = [(title, _with_unit(scores[key], unit)) for key, (title, unit) in SHOWN[scores["task"]].items()]
        lines += _paragraph(f"{head}: ", shown)
        if scores["task"] == "segmentation":
            lines += _paragraph("  IoU by class: ", [(name, _with_unit(v, "%")) for name, v in scores["iou"].items()])
    if found["unscored"]:
        lines.append(f"not scored: {', '.join(found['unscored'])}")
    lines += _work(found["work"], found["run"])
    for scene in found.get("scenes", ()):
        lines += _paragraph(f"{scene['name']}: ", _scene(scene))
    return lines


def _humans(found):
    f = f"annotators against each other: F {found['f']:.4f}, recall {found['recall']:.4f}"
    lines = [f"{f}, precision {found['precision']:.4f}, {found['maps']} maps of {_set(found)}"]
    for scene in found.get("scenes", ()):
        shown = ", ".join(
            f"{name} {scene[key]:.4f}" for name, key in (("F", "f"), ("recall", "recall"), ("precision", "precision"))
        )
        lines.append(f"{scene['name']}: {shown}")
    return lines


def _work(work, run):
    """Return the lines about multiply-adds (with --flip those of one of the two passes), gates, rates, time, digest."""
    macs, gated = work["macs"], work["gated_share"]
    shown = [("GMAC dense", f"{macs['dense'] / GIGA:.3f}"), ("done", f"{macs['executed'] / GIGA:.3f}")]
    shown += [] if gated is None else [("of the gated ones", _with_unit(gated, "%"))]
    lines = _paragraph("work per image (plain pass of two): " if run["flip"] else "work per image: ", shown)
    if work["kept"]:
        lines += _paragraph("kept by gate: ", [(gate, _with_unit(s["mean"], "%")) for gate, s in work["kept"].items()])
    for pool, shares in work["rates"].items():
        lines += _paragraph(f"rates of {pool}: ", [(rate, _with_unit(share, "%")) for rate, share in shares.items()])
    searched = "" if run["budget"] is None else " (with the runs that search the threshold)"
    return [*lines, f"seconds per image: {work['seconds']['median']:.4f}{searched}", f"digest: {work['digest']}"]


def _scene(scene):
    """Return (title, text) of what an image's line says."""
    shown = []
    for head, scores in scene["heads"].items():
        for key, value in scores.items():
            shown.append((f"{head} {key}", _with_unit(value, "")))
    macs = scene["macs"]
    share = macs["executed"] / macs["dense"] if macs["dense"] else None
    return [*shown, ("done", _with_unit(share, "%")), ("seconds", f"{scene['seconds']:.3f}")]


def _paragraph(start, shown):
    """Return lines `start` title value, title value ..., wrapped between items."""
    start, shown = printable(start), [(printable(title), value) for title, value in shown]  # names may hold line ends
    text = start + ", ".join(f"{title} {value}".replace(" ", "\xa0") for title, value in shown)
    return [line.replace("\xa0", " ") for line in textwrap.wrap(text, WIDTH, subsequent_indent="    ")]


def _with_unit(value, unit):
    if value is None or math.isnan(value):
        return "-"
    if unit == "%":
        return f"{100 * value:.2f} %"
    return f"{value:.4f} {unit}".rstrip() if unit != "deg" else f"{value:.2f} deg"


def _flat(value, name=""):
    """Yield (dotted name, plain value) of nested dicts and lists."""
    if isinstance(value, (dict, list)):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in items:
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, value


def _cell(value):
    """Return a value as CSV has it: nothing where there is none."""
    return "" if value is None or (isinstance(value, float) and not math.isfinite(value)) else value


def _finite(value):
    """Return nested plain values with None for NaN and infinities, which JSON does not know."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
