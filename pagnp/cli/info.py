"""`pagnp info`: what is inside a model file, and what a run of it costs."""

import json
import textwrap
from collections import Counter
from pathlib import Path

import click

from pagnp.cli.options import arch_option, debug_option, json_option, load_model, parse_size
from pagnp.cli.streams import emit, printable

WIDTH = 110
LABEL = 12  # columns of the table's left side, at least
BAND = 64  # rows of a band, for the memory that an image takes at least


@click.command("info")
@click.argument("model_path", metavar="MODEL.h5")
@arch_option
@click.option("--size", default="480x640", show_default=True, metavar="HxW", help="Image size for MACs and memory.")
@json_option
@debug_option
def command(model_path, arch, size, as_json):
    """Show what is inside MODEL.h5 and what it costs at an image size."""
    h, w = parse_size(size)
    # The summary computes nothing, and the reference backend is the quickest to load.
    summary = summarise(load_model(model_path, arch, "numpy"), model_path, h, w)
    if as_json:
        emit(json.dumps(summary, indent=2))
    else:
        emit("\n".join(table(summary)))


def summarise(model, path, h, w):
    """Return the JSON-able summary of `model` for an image of h x w."""
    from pagnp.modelfile import model_hash

    graph = model.graph
    plan = model.plan((h, w))
    read = {key for node in graph.nodes.values() for key in node.weights.values()}
    multipools = {name: list(graph.nodes[name].attrs["rates"]) for name in graph.multipools()}
    return {
        "path": str(path),
        "bytes": Path(path).stat().st_size,
        "hash": model_hash(graph),
        "producer": graph.producer,
        "channels": graph.channels,
        "preprocess": graph.preprocess,
        "parameters": sum(int(graph.weights[key].size) for key in read),
        "tensors": len(read),
        "ops": dict(Counter(layer["op"] for layer in plan.layers)),
        "gates": graph.gates(),
        "multipools": multipools,
        "heads": graph.heads,
        "outputs": graph.outputs,
        "at": {
            "size": [h, w],
            "macs": int(plan.macs),
            "bytes": int(plan.bytes),
            "bytes_in_bands": int(model.plan((h, w), tile=BAND).bytes),
        },
        "layers": [{**layer, "shape": list(layer["shape"]), "macs": int(layer["macs"])} for layer in plan.layers],
    }


def table(summary):
    """Return the lines of the human-readable summary."""
    ops = sorted(summary["ops"].items(), key=lambda item: (-item[1], item[0]))
    h, w = summary["at"]["size"]
    rows = [
        ("model", f"{summary['path']} ({summary['bytes'] / 1e6:.2f} MB), written by {summary['producer']}"),
        ("hash", summary["hash"]),
        ("input", _input(summary)),
        ("parameters", f"{summary['parameters']:,} in {summary['tensors']} tensors"),
        ("layers", f"{sum(summary['ops'].values())}: " + ", ".join(f"{count} {op}" for op, count in ops)),
        ("gates", f"{len(summary['gates'])}" + (": " if summary["gates"] else "") + ", ".join(summary["gates"])),
    ]
    for name, rates in summary["multipools"].items():
        rows.append(("multipool", f"{name}: rates {', '.join(map(str, rates))}"))
    rows += [("head", _head(head)) for head in summary["heads"]]
    heads = {head["output"] for head in summary["heads"]}
    rows += [("output", name) for name in summary["outputs"] if name not in heads]
    whole, bands = (summary["at"][key] / 2**20 for key in ("bytes", "bytes_in_bands"))
    memory = f"{whole:.1f} MiB of memory" + (f" ({bands:.1f} MiB with --tile {BAND})" if bands < whole else "")
    rows.append((f"at {h}x{w}", f"{summary['at']['macs'] / 1e9:.3f} GMAC, {memory}"))
    left = max(LABEL, *(len(label) + 2 for label, _ in rows))
    lines = []
    for label, text in rows:
        text = printable(text)  # class names and the producer come from the file
        lines += textwrap.wrap(text, WIDTH, initial_indent=f"{label:<{left}}", subsequent_indent=" " * left)
    return lines


def _input(summary):
    preprocess = summary["preprocess"]
    if preprocess is None:
        return f"a float32 tensor with {summary['channels']} channels (nothing is said about pixels)"
    numbers = {key: ", ".join(f"{v:g}" for v in preprocess[key]) for key in ("mean", "std") if key in preprocess}
    text = f"RGB, {preprocess['kind']}: " + ", ".join(f"{key} ({value})" for key, value in numbers.items())
    return f"{text}; sides padded to multiples of {preprocess.get('pad_multiple', 1)}"


def _head(head):
    upsample = head["upsample"]
    how = f"{upsample['op']} x{upsample['factor']}" if "factor" in upsample else upsample["op"]
    classes = head.get("classes") or []
    listed = f", {len(classes)} classes ({', '.join(classes)})" if classes else ""
    unit = f" in {head['unit']}" if head.get("unit") else ""
    return f"{head['name']}: {head['task']}{unit}{listed}; upsampled by {how}, then {head['decode']}"
