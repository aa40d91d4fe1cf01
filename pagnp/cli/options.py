"""Options that several commands share, and their checks."""

import os
import re

import click

from pagnp.cli.streams import say
from pagnp.errors import UsageError

HOST_BACKENDS, GPU_BACKENDS = ("numpy", "numba"), ("cupy", "numba-cuda")
BACKENDS = (*HOST_BACKENDS, *GPU_BACKENDS)
GATE_MODES = ("hard", "soft", "gumbel_hard", "gumbel_soft")  # those of pagnp.opset, which would load NumPy for --help


def _set_debug(ctx, _option, value):
    if value:
        ctx.find_root().obj["debug"] = True


debug_option = click.option(
    "--debug",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_set_debug,
    help="Show the traceback of an error.",
)
backend_option = click.option(
    "--backend",
    type=click.Choice(["auto", "auto-gpu", *BACKENDS]),
    default="auto",
    show_default=True,
    help="auto is numba; auto-gpu prefers a GPU and says what it took.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
weights_option = click.option("--weights", required=True, metavar="MODEL.h5", help="The model file.")
arch_option = click.option(
    "--arch", metavar="ARCH", help="The network of a plain state_dict: pag_resnet50, ... or a config.json."
)
threads_option = click.option(
    "--threads", type=click.IntRange(min=1), metavar="N", help="Worker threads; default: all cores."
)
seed_option = click.option(
    "--seed",
    type=click.IntRange(0, 2**64 - 1),
    default=0,
    show_default=True,
    metavar="N",
    help="Of the Gumbel noise.",
)
_RUN_OPTIONS = (
    click.option(
        "--budget",
        type=click.FloatRange(0, 1),
        metavar="R",
        help="Share of the gated convs' work. Every image is run 8 times more, to find the threshold for it.",
    ),
    click.option("--threshold", type=float, metavar="T", help="Compute where z[1] - z[0] > T (default 0)."),
    click.option("--dense", is_flag=True, help="Compute everything, then select: the same bits, more work."),
    click.option("--flip", is_flag=True, help="Average with the mirrored image."),
    click.option(
        "--tile",
        type=click.IntRange(min=1),
        metavar="ROWS",
        help="Compute in bands of so many rows: the same bits, less memory. Default: only where memory is short.",
    ),
    click.option("--gate-mode", type=click.Choice(GATE_MODES), help="For all gates, instead of the file's."),
)


def run_options(command):
    """Give a command the options that `Model.__call__` takes: budget, threshold, dense, flip, tile, gate_mode."""
    for option in reversed(_RUN_OPTIONS):
        command = option(command)
    return command


def check_run_options(name, call):
    """Raise UsageError where run options of the command `name` exclude each other."""
    if call["budget"] is not None and call["threshold"] is not None:
        raise UsageError(f"{name}: --budget and --threshold exclude each other; give one of them")


def parse_size(text, option="--size"):
    """Return (h, w) of "HxW", for instance "480x640". Raises UsageError."""
    match = re.fullmatch(r"([1-9]\d{0,5})x([1-9]\d{0,5})", text)
    if not match:
        raise UsageError(f"{option} {text!r}: need height x width in pixels, for instance 480x640")
    return int(match[1]), int(match[2])


def check_target(label, out, overwrite, example):
    """Raise UsageError, before any work, if the file `out` must not or cannot be written."""
    folder = os.path.dirname(os.path.abspath(out))
    if not out or os.path.isdir(out):
        raise UsageError(f"{label} {out or repr('')}: need the name of a file, for instance {example}")
    if os.path.lexists(out) and not overwrite:
        raise UsageError(f"{label} {out}: exists already; give another name or --overwrite")
    if not os.path.isdir(folder):
        raise UsageError(f"{label} {out}: there is no folder {folder}; make it or choose another one")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"{label} {out}: no permission to write to {folder}; choose another folder")


def load_model(weights, arch=None, backend="auto", threads=None):
    """Load the model file `weights`, or with `arch` a plain state_dict, as a pagnp Model."""
    import pagnp
    from pagnp.backends.choice import choose

    if arch is None:
        return pagnp.load(weights, backend=choose(backend, threads, say=_was_given("backend")))
    from pagnp import statedict

    notices = []
    graph = statedict.load(weights, arch, notices)
    print_notices(notices)
    return pagnp.Model(graph, backend=choose(backend, threads, say=_was_given("backend")))


def _was_given(option):
    """True if the user gave `option` to the command that runs."""
    context = click.get_current_context(silent=True)
    return context is not None and context.get_parameter_source(option) == click.core.ParameterSource.COMMANDLINE


def print_notices(notices):
    """Print each of `notices` as one line on stderr."""
    for notice in notices:
        say(f"note: {notice}")
