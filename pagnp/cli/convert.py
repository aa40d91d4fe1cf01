"""`pagnp convert`: a plain state_dict (HDF5, NPZ or safetensors) becomes a self-contained model file."""

import os

import click

from pagnp.cli.options import debug_option, print_notices
from pagnp.cli.streams import emit, printable
from pagnp.errors import UsageError


@click.command("convert")
@click.argument("weights", metavar="WEIGHTS")
@click.option("--arch", required=True, metavar="ARCH", help="pag_resnet50, ... or a config.json.")
@click.option("-o", "--out", required=True, metavar="MODEL.h5", help="The model file to write.")
@click.option("--overwrite", is_flag=True, help="Replace MODEL.h5 if it exists.")
@debug_option
def command(weights, arch, out, overwrite):
    """Make a self-contained model file from WEIGHTS, a state_dict with one dataset per key.

    The names of the keys are those of pagnp.torch.nn or of torchvision's ResNets.
    """
    check_target(out, overwrite)
    from pagnp.statedict import convert

    print_notices(convert(weights, arch, out, overwrite=overwrite))
    emit(printable(out))


def check_target(out, overwrite):
    """Raise UsageError, before any work, if the model file `out` must not or cannot be written."""
    folder = os.path.dirname(os.path.abspath(out))
    if not out or os.path.isdir(out):
        raise UsageError(f"convert: -o {out or repr('')}: need the name of a file, for instance -o model.h5")
    if os.path.lexists(out) and not overwrite:
        raise UsageError(f"convert: {out} exists already; give another name or --overwrite")
    if not os.path.isdir(folder):
        raise UsageError(f"convert: -o {out}: there is no folder {folder}; make it or choose another one")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"convert: -o {out}: no permission to write to {folder}; choose another folder")
