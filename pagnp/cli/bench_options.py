"""What `pagnp bench` and `pagnp bench ops` share: lists in options, peers that may be missing."""

import click

from pagnp.cli.options import load_model
from pagnp.cli.streams import say
from pagnp.errors import UsageError

weights_option = click.option("--weights", metavar="MODEL.h5", help="The model file.")
network_option = click.option(
    "--network", metavar="NAME", help="A network with random weights instead: pag_resnet50, ...26, ...101."
)
threads_option = click.option(
    "--threads", multiple=True, metavar="N,...", help="Worker threads, a section each; default: all cores."
)
peers_option = click.option(
    "--peers", multiple=True, metavar="NAME,...", help="Libraries beside: torch, torch-eager, onnxruntime."
)
rounds_option = click.option("--rounds", type=click.IntRange(min=1), default=7, show_default=True, metavar="N")
plot_option = click.option("--plot", metavar="FILE", help="Draw time against the keep rate: .svg or .png.")


def check_plot(path, has_keeps):
    """Raise UsageError, before anything is measured, for a plot that could not be drawn."""
    from pagnp.bench import figures

    if path is not None:
        figures.check(path)
        if not has_keeps:
            raise UsageError("bench: --plot shows time against keep rates; give --keep, or with ops: perforated")


def make_peers(names, graph, x, threads, skipped):
    """Return the peers that can be measured; the dict `skipped` and stderr get the reasons of the others."""
    from pagnp.bench import peers

    made = []
    for name in names:
        try:
            made.append(peers.make(name, graph, x, threads))
        except peers.SkippedError as reason:
            skip(name, reason, skipped)
    return made


def skip(name, reason, skipped):
    """Say on stderr, once, that a peer is not measured, and why; keep the reason for the JSON."""
    if name not in skipped:
        say(f"note: {name} is skipped: {reason}")
    skipped[name] = str(reason)


def subject_graph(weights, network, arch):
    """Return (name, Graph) of the model file or of the named network. Raises UsageError unless one is given."""
    from pagnp.bench.network import NETWORKS, build

    if (weights is None) == (network is None):
        raise UsageError("bench: give either --weights MODEL.h5 or --network pag_resnet50")
    if weights is not None:
        return str(weights), load_model(weights, arch, "numpy").graph
    if network not in NETWORKS:
        raise UsageError(f"bench: --network {network} is unknown; choose one of {', '.join(NETWORKS)}")
    return network, build(network)


def listed(values):
    """Return the parts of options that may be repeated and hold commas each."""
    return [part.strip() for value in values for part in value.split(",") if part.strip()]


def parse_threads(values):
    """Return the numbers of threads; all usable cores without any."""
    from pagnp.backends.numba_cpu.threads import default_threads

    parts = listed(values)
    if any(not part.isdecimal() or int(part) < 1 for part in parts):
        raise UsageError(f"bench: --threads {','.join(parts)}: need whole numbers of at least 1")
    return list(dict.fromkeys(int(part) for part in parts)) or [default_threads()]


def parse_keeps(values):
    """Return the keep rates, each once. Raises UsageError unless all lie between 0 and 1."""
    try:
        found = [float(part) for part in listed(values)]
    except ValueError:
        found = [-1.0]
    if any(not 0 <= rate <= 1 for rate in found):
        raise UsageError(f"bench: --keep {','.join(listed(values))}: need shares between 0 and 1")
    return list(dict.fromkeys(found))


def parse_masks(text):
    """Return the kinds of masks."""
    from pagnp.bench.masks import KINDS

    return chosen("--masks", listed([text]), KINDS) or ["gates"]


def parse_peers(values):
    """Return the names of the peers."""
    from pagnp.bench.peers import PEERS

    return chosen("--peers", listed(values), PEERS)


def chosen(option, parts, known):
    """Return `parts`, each once; raises UsageError for one that is not among `known`."""
    unknown = [part for part in parts if part not in known]
    if unknown:
        raise UsageError(f"bench: {option} {', '.join(unknown)} is unknown; choose from {', '.join(known)}")
    return list(dict.fromkeys(parts))
