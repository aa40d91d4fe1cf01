"""Make the README's picture: an image, what the network says of it, and where it spent its work.

python examples/make_overview.py --weights examples/models/rooms-seg.h5 --out overview.png room.png
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import pagnp
from pagnp import legends, pictures

GAP, CAPTION, WHITE = 12, 26, (255, 255, 255)


def panels(image, result):
    """Return [(caption, Pillow image)] for the first head, the ponder map, one gate and the first MultiPool."""
    head, labels = next(iter(result.outputs.items()))
    palette, names = np.array(result.palette[head], np.uint8), result.classes[head]
    rows = [(palette[i], names[i]) for i, _ in pictures.present_classes(labels)]
    yield "image", Image.fromarray(image)
    yield "what it sees", legends.with_rows(pictures.overlay(image, labels, palette), rows, "class")
    ponder, colours = pictures.counts(result.ponder, result.gate_count)
    rows = [(colours[i], f"{i}") for i in reversed(range(result.gate_count + 1))]
    share = result.macs["gated_executed"] / result.macs["gated_dense"]
    caption = f"where it works: {share:.0%} of the gated convolutions' work is done"
    yield caption, legends.with_rows(ponder, rows, f"gates computed, of {result.gate_count}")
    for name, chosen in result.rates.items():
        order = sorted(set(np.unique(chosen).tolist()))
        coloured, colours = pictures.categories(chosen, order)
        coloured = pictures.resize_nearest(coloured, *image.shape[:2])
        rows = [(colour, f"rate {rate}") for rate, colour in zip(order, colours, strict=True)]
        yield f"{name}: how far each pixel looks around", legends.with_rows(coloured, rows, "dilation")


def compose(tiles):
    """Return one picture with the (caption, image) tiles in two columns."""
    font = ImageFont.load_default(15)
    width = max(tile.width for _, tile in tiles)
    height = max(tile.height for _, tile in tiles) + CAPTION
    lines = (len(tiles) + 1) // 2
    sheet = Image.new("RGB", (2 * width + 3 * GAP, lines * (height + GAP) + GAP), WHITE)
    draw = ImageDraw.Draw(sheet)
    for i, (caption, tile) in enumerate(tiles):
        left, top = GAP + (i % 2) * (width + GAP), GAP + (i // 2) * (height + GAP)
        draw.text((left, top), caption, fill=(0, 0, 0), font=font)
        sheet.paste(tile, (left, top + CAPTION))
    return sheet


def main():
    """Parse the command line, run the model, write the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("image", type=Path)
    args = parser.parse_args()
    image = np.asarray(Image.open(args.image).convert("RGB"))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    compose(list(panels(image, pagnp.load(args.weights)(image)))).save(args.out, optimize=True)


if __name__ == "__main__":
    main()
