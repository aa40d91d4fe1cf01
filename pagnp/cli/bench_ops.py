"""`pagnp bench ops`: single layers, dense, perforated and MultiPool, beside other libraries."""

import functools
import json

import click

from pagnp.cli.bench_options import (
    check_plot,
    chosen,
    listed,
    make_peers,
    parse_keeps,
    parse_peers,
    parse_threads,
    peers_option,
    plot_option,
    rounds_option,
    threads_option,
)
from pagnp.cli.options import debug_option, json_option
from pagnp.cli.progress import progress
from pagnp.cli.streams import emit


@click.command("ops")
@click.option("--op", multiple=True, metavar="OP,...", help="Only these: conv2d, perforated, multipool, softmax, ...")
@click.option("--keep", multiple=True, metavar="R,...", help="Keep rates of `perforated`; default: 1 to 0.1.")
@threads_option
@peers_option
@rounds_option
@plot_option
@json_option
@debug_option
def command(op, keep, threads, peers, rounds, plot, as_json):
    """Time single layers: the convs of ResNet-50 at 480x640, small ones, perforated ones, MultiPool, other ops.

    `perforated` are 3x3 convs at masks of exact shares, with the listing of the sites: time / dense should be the keep
    rate. `multipool` is a hard choice among 7 rates beside one dense 3x3, without the attention head.
    """
    from pagnp.bench.environment import environment, line
    from pagnp.bench.opcases import OPS, PERFORATED
    from pagnp.bench.ops import KEEPS

    wanted = chosen("--op", listed(op), OPS) or list(OPS)
    threads, peers, keeps = parse_threads(threads), parse_peers(peers), parse_keeps(keep) or list(KEEPS)
    check_plot(plot, PERFORATED in wanted)
    # Compiling every layer would take an hour; eager is what a single layer is in torch.
    peers = list(dict.fromkeys("torch-eager" if peer == "torch" else peer for peer in peers))
    here = {**environment(peers), "rounds": rounds}
    if not as_json:
        emit(f"{line(here)}; {rounds} rounds")
    document = {"environment": here, **run_ops(wanted, keeps, threads, peers, rounds)}
    if plot is not None:
        from pagnp.bench import figures

        figures.save(plot, "Perforated 3x3 convolutions of ResNet-50", figures.ops_panels(document))
    if as_json:
        emit(json.dumps(document, indent=2))
    else:
        from pagnp.cli.bench_table import ops_lines

        emit("\n".join(ops_lines(document)))
    return 0


def run_ops(wanted, keeps, threads, peers, rounds, scale=1.0):
    """Return {"sections": [{"threads", "groups"}], "skipped"} of the JSON document."""
    from pagnp.bench import ops
    from pagnp.bench.peak import FmaPeak, Streams

    skipped, sections = {}, []
    for count in threads:
        machine, found = (FmaPeak(count), Streams(count)), []
        beside = functools.partial(make_peers, peers, threads=count, skipped=skipped)
        with progress(1) as bar:
            for group in ops.groups(wanted, count, keeps, beside, scale):
                bar.advance(group[1])
                found.append(ops.measure(*group, machine, rounds))
        sections.append({"threads": count, "groups": found})
    return {"sections": sections, "skipped": skipped}
