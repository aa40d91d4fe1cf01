"""`pagnp bench`: how fast a network runs here, what share of the machine it reaches, and beside which libraries."""

import json

import click

from pagnp.cli import bench_ops
from pagnp.cli.bench_options import (
    make_peers,
    parse_keeps,
    parse_masks,
    parse_peers,
    parse_threads,
    peers_option,
    rounds_option,
    threads_option,
)
from pagnp.cli.options import debug_option, json_option, load_model, parse_size
from pagnp.cli.progress import progress
from pagnp.cli.streams import emit
from pagnp.errors import UsageError


@click.group("bench", invoke_without_command=True)
@click.option("--weights", metavar="MODEL.h5", help="The model file.")
@click.option("--network", metavar="NAME", help="A network with random weights instead: pag_resnet50, ...26, ...101.")
@click.option("--size", default="480x640", show_default=True, metavar="HxW", help="Size of the input.")
@click.option("--keep", multiple=True, metavar="R,...", help="Also run at these shares of the gated pixels, 0 to 1.")
@click.option(
    "--masks", default="gates", show_default=True, metavar="KIND,...", help="Who decides: gates, blobs, random."
)
@threads_option
@peers_option
@click.option("--layers", is_flag=True, help="Also every step: time, work, share of what the machine can do.")
@rounds_option
@json_option
@debug_option
@click.pass_context
def command(ctx, weights, network, size, keep, masks, threads, peers, layers, rounds, as_json):
    """Time a network on this machine, in interleaved rounds, with the spread."""
    if ctx.invoked_subcommand is not None:
        return 0
    from pagnp.bench.environment import environment, line

    size, threads, peers = parse_size(size), parse_threads(threads), parse_peers(peers)
    keeps, kinds = parse_keeps(keep), parse_masks(masks)
    name, graph = subject_graph(weights, network)
    here = {**environment(peers), "rounds": rounds}
    if not as_json:
        emit(f"{line(here)}; {rounds} rounds\n")
    document = run_network(name, graph, size, keeps, kinds, threads, peers, layers, rounds)
    document = {"environment": here, **document}
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
        "gates": len(graph.gates()),
    }
    return {"network": described, "sections": sections, "skipped": skipped}


def subject_graph(weights, network):
    """Return (name, Graph) of the model file or of the named network. Raises UsageError unless one is given."""
    from pagnp.bench.network import NETWORKS, build

    if (weights is None) == (network is None):
        raise UsageError("bench: give either --weights MODEL.h5 or --network pag_resnet50")
    if weights is not None:
        return str(weights), load_model(weights, backend="numpy").graph
    if network not in NETWORKS:
        raise UsageError(f"bench: --network {network} is unknown; choose one of {', '.join(NETWORKS)}")
    return network, build(network)


command.add_command(bench_ops.command)
