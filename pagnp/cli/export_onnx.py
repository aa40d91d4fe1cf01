"""`pagnp export-onnx`: a model file becomes an ONNX model, every branch dense."""

import click

from pagnp.cli.options import check_target, debug_option, parse_size
from pagnp.cli.streams import emit, printable


@click.command("export-onnx")
@click.argument("model", metavar="MODEL.h5")
@click.argument("out", metavar="OUT.onnx")
@click.option("--size", metavar="HxW", help="Fix the input's size; without it batch, height and width are free.")
@click.option("--batch", type=click.IntRange(min=1), metavar="N", help="How many images, with --size.  [default: 1]")
@click.option("--opset", type=int, default=17, show_default=True, metavar="N", help="ONNX's operator set, from 13.")
@click.option("--decode", is_flag=True, help="Also what each head makes of its logits, as outputs/<head>.")
@click.option("--overwrite", is_flag=True, help="Replace OUT.onnx if it exists.")
@debug_option
def command(model, out, size, batch, opset, decode, overwrite):
    """Write the network in MODEL.h5 to the ONNX file OUT.onnx.

    Its input is the preprocessed image, float32 (n, c, h, w); its outputs are the heads' logits before the last
    upsampling. Every branch is computed everywhere and Where picks. docs/ONNX.md says what the file holds.
    """
    check_target("export-onnx:", out, overwrite, "model.onnx")
    from pagnp.onnx import export

    fixed = None if size is None else parse_size(size)
    export(model, out, size=fixed, batch=1 if batch is None else batch, opset=opset, decode=decode, overwrite=overwrite)
    emit(printable(out))
