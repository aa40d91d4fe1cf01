"""`pagnp bench`: how fast a network runs here, what share of the machine it reaches, and beside which libraries."""

import json

import click

from pagnp.cli import bench_ops, bench_process
from pagnp.cli.bench_options import (
    check_plot,
    make_peers,
    network_option,
    parse_keeps,
    parse_masks,
    parse_peers,
    parse_threads,
    peers_option,
    plot_option,
    rounds_option,
    subject_graph,
    threads_option,
    weights_option,
)
from pagnp.cli.options import arch_option, debug_option, json_option, parse_size
from pagnp.cli.progress import progress
from pagnp.cli.streams import emit


@click.group("bench", invoke_without_command=True)
@weights_option
@arch_option
@network_option
@click.option("--size", default="480x640", show_default=True, metavar="HxW", help="Size of the input.")
@click.option("--keep", multiple=True, metavar="R,...", help="Also run at these shares of the gated pixels, 0 to 1.")
@click.option(
    "--masks", default="gates", show_default=True, metavar="KIND,...", help="Who decides: gates, blobs, random."
)
@threads_option
@peers_option
@click.option("--layers", is_flag=True, help="Also every step: time, work, share of what the machine can do.")
@rounds_option
@plot_option
@json_option
@debug_option
@click.pass_context
def command(ctx, weights, arch, network, size, keep, masks, threads, peers, layers, rounds, plot, as_json):
    """Time a network on this machine, in interleaved rounds, with the spread.

    Lists take commas: --keep 0.5,0.25 --threads 1,2 --peers torch,onnxruntime. docs/PERFORMANCE.md says how each number
    is measured, and what --json prints.
    """
    if ctx.invoked_subcommand is not None:
        return 0
    from pagnp.bench.environment import environment, line

    size, threads, peers = parse_size(size), parse_threads(threads), parse_peers(peers)
    keeps, kinds = parse_keeps(keep), parse_masks(masks)
    check_plot(plot, bool(keeps))
    name, graph = subject_graph(weights, network, arch)
    here = {**environment(peers), "rounds": rounds}
    if not as_json:
        emit(f"{line(here)}; {rounds} rounds\n")
    document = run_network(name, graph, size, keeps, kinds, threads, peers, layers, rounds)
    document = {"environment": here, **document}
    if plot is not None:
        from pagnp.bench import figures

        figures.save(plot, f"{name}, {'x'.join(map(str, size))}", figures.network_panels(document))
    if as_json:
        emit(json.dumps(document, indent=2))
    else:
        from pagnp.cli.bench_table import network_lines

        emit("\n".join(network_lines(document)))
    return 0


def run_network(name, graph, size, keeps, kinds, threads, peers, layers, rounds):
    """Return {"network", "sections", "skipped"} of the JSON document."""
    from pagnp.bench import network, session

    x, thresholds, skipped, sections = network.random_input(graph, size), {}, {}, []
    with progress(len(threads)) as bar:
        for count in threads:
            bar.advance(f"{count} thread(s)")
            subject = network.Subject(graph, x, count)
            ways = network.ways(subject, keeps, kinds, thresholds)
            made = make_peers(peers, graph, x, count, skipped)
            sections.append(session.measure(subject, ways, made, rounds, layers, bar.share))
    described = {
        "name": name,
        "size": list(size),
        "input": list(x.shape),
        "macs": int(sum(subject.plan.macs.values())),
        "gated_macs": int(sum(subject.plan.macs[layer] for layer in subject.plan.gated)),
        "gates": len(graph.gates()),
    }
    return {"network": described, "sections": sections, "skipped": skipped}


command.add_command(bench_ops.command)
command.add_command(bench_process.command)
