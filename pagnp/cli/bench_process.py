"""`pagnp bench process`: memory and wall time of whole processes that label one image, and of imports."""

import json
import tempfile
from pathlib import Path

import click

from pagnp.cli.bench_options import (
    chosen,
    listed,
    network_option,
    parse_threads,
    peers_option,
    rounds_option,
    skip,
    subject_graph,
    threads_option,
    weights_option,
)
from pagnp.cli.options import arch_option, debug_option, json_option, parse_size
from pagnp.cli.progress import progress
from pagnp.cli.streams import emit
from pagnp.errors import BackendError


@click.command("process")
@weights_option
@arch_option
@network_option
@click.option("--image", metavar="FILE", help="The image; default: noise of --size.")
@click.option("--size", default="480x640", show_default=True, metavar="HxW", help="Size of the noise.")
@threads_option
@peers_option
@rounds_option
@json_option
@debug_option
def command(weights, arch, network, image, size, threads, peers, rounds, as_json):
    """Measure whole processes: wall time and the peak of resident memory of `pagnp run` on one image.

    Beside it programs that do the same with --peers torch,onnxruntime (each with its model prepared as it likes it: a
    saved module, an ONNX file), and bare imports. Interleaved rounds, after one that warms all caches.
    """
    from pagnp.bench import process
    from pagnp.bench.environment import environment, line

    size, threads = parse_size(size), parse_threads(threads)
    names = chosen("--peers", ["torch" if name == "torch-eager" else name for name in listed(peers)], process.PEERS)
    name, graph = subject_graph(weights, network, arch)
    here = {**environment(names), "rounds": rounds}
    if not as_json:
        emit(f"{line(here)}; {rounds} rounds\n")
    sections, skipped = [], {}
    for count in threads:
        sections.append(measure(graph, None if arch else weights, image, size, count, names, rounds, skipped))
    described = {"name": name, "image": image or f"noise {size[0]}x{size[1]}"}
    document = {"environment": here, "network": described, "sections": sections, "skipped": skipped}
    if as_json:
        emit(json.dumps(document, indent=2))
    else:
        from pagnp.cli.bench_table import process_lines

        emit("\n".join(process_lines(document)))
    return 0


def measure(graph, weights, image, size, threads, names, rounds, skipped):
    """Return the section of the JSON for one number of threads."""
    from pagnp.bench import process

    with tempfile.TemporaryDirectory(prefix="pagnp-bench-") as scratch, progress(1) as bar:
        folder = Path(scratch)
        model, picture = process.prepare(graph, weights, image, size, threads, folder)
        commands = process.our_commands(model, picture, threads, folder)
        for name in names:
            try:
                commands[name] = process.peer_command(name, graph, picture, folder)
            except BackendError as reason:
                skip(name, reason, skipped)
        commands |= process.import_commands("torch" in commands)
        bar.advance(f"{threads} thread(s)")
        return {"threads": threads, **process.report(process.run_rounds(commands, rounds, bar.share))}
