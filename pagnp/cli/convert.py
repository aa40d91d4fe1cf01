"""`pagnp convert`: a plain state_dict (HDF5, NPZ or safetensors) becomes a self-contained model file."""

import click

from pagnp.cli.options import check_target, debug_option, print_notices
from pagnp.cli.streams import emit, printable


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
    check_target("convert: -o", out, overwrite, "-o model.h5")
    from pagnp.statedict import convert

    print_notices(convert(weights, arch, out, overwrite=overwrite))
    emit(printable(out))
