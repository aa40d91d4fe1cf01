"""Sound images to be mutated: PNG, JPEG and TIFF of many kinds, made by Pillow in memory."""

import functools
import io
import struct
import zlib

import numpy as np
from PIL import Image, PngImagePlugin
from tiff_parts import Tiff

H, W = 11, 17


def saved(image, form, **options):
    """Return the bytes of a PIL image in a format."""
    if "append_images" in options:
        options["append_images"] = [picture.copy() for picture in options["append_images"]]
    buffer = io.BytesIO()
    image.copy().save(buffer, form, **options)  # saving leaves the encoder's settings in a picture
    return buffer.getvalue()


def _pictures():
    rng = np.random.default_rng(3)
    rgb = Image.fromarray(np.kron(rng.integers(0, 256, (4, 6, 3)), np.ones((3, 3, 1)))[:H, :W].astype(np.uint8))
    modes = {mode: rgb.convert(mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr")}
    modes["I;16"] = Image.fromarray(rng.integers(0, 65536, (H, W)).astype(np.uint16))
    return modes


@functools.cache
def seeds():
    """Return {format: sound files}."""
    modes = _pictures()
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a description"
    text = PngImagePlugin.PngInfo()
    text.add_text("title", "words " * 9)
    text.add_itxt("more", "words " * 9, zip=True)
    text.add_text("packed", "words " * 99, zip=True)
    icc = bytes(range(256)) * 2
    rgb, more = modes["RGB"], [modes["RGB"].transpose(k) for k in (0, 1)]
    png = [saved(modes[mode], "PNG") for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")]
    png += [saved(rgb, "PNG", exif=exif, pnginfo=text, icc_profile=icc, dpi=(72, 72))]
    png += [
        saved(modes["P"], "PNG", transparency=bytes(range(200))),
        saved(rgb, "PNG", save_all=True, append_images=more),
    ]
    png += [interlaced(np.asarray(rgb)), saved(modes["L"], "PNG", transparency=7)]
    jpeg = [saved(modes["L"], "JPEG"), saved(rgb, "JPEG", subsampling=0), saved(rgb, "JPEG", subsampling=2)]
    jpeg += [saved(rgb, "JPEG", progressive=True, exif=exif, icc_profile=icc), saved(modes["CMYK"], "JPEG")]
    jpeg += [saved(rgb, "JPEG", restart_marker_blocks=1), saved(rgb, "MPO", save_all=True, append_images=more)]
    jpeg += [saved(rgb, "JPEG", optimize=True, comment=b"words", keep_rgb=True)]
    tiff = [saved(modes[mode], "TIFF") for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16")]
    for packing in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        tiff += [saved(rgb, "TIFF", compression=packing), saved(modes["L"], "TIFF", compression=packing)]
    tiff += [saved(modes["1"], "TIFF", compression=packing) for packing in ("group3", "group4", "tiff_ccitt")]
    tiff += [saved(modes["YCbCr"], "TIFF"), saved(rgb, "TIFF", big_tiff=True), saved(rgb, "TIFF", exif=exif)]
    tiff += [saved(rgb, "TIFF", save_all=True, append_images=more), saved(rgb, "TIFF", icc_profile=icc)]
    tiff += [tiled(np.asarray(rgb), order) for order in "<>"]
    tiff += [saved(modes["I;16"], "TIFF", compression="tiff_lzw")]
    return {"PNG": png, "JPEG": jpeg, "TIFF": tiff}


def chunk(kind, body):
    """Return a PNG chunk with its checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def interlaced(rgb):
    """Return an interlaced PNG; Pillow writes none."""
    rows = b""
    for y0, x0, dy, dx in (
        (0, 0, 8, 8),
        (0, 4, 8, 8),
        (4, 0, 8, 4),
        (0, 2, 4, 4),
        (2, 0, 4, 2),
        (0, 1, 2, 2),
        (1, 0, 2, 1),
    ):
        rows += b"".join(b"\0" + row.tobytes() for row in rgb[y0::dy, x0::dx] if row.size)
    head = struct.pack(">IIBBBBB", rgb.shape[1], rgb.shape[0], 8, 2, 0, 0, 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiled(rgb, order):
    """Return an uncompressed TIFF of 16 x 16 tiles."""
    h, w = rgb.shape[:2]
    tiles = []
    for y in range(0, h, 16):
        for x in range(0, w, 16):
            tile = np.zeros((16, 16, 3), np.uint8)
            piece = rgb[y : y + 16, x : x + 16]
            tile[: piece.shape[0], : piece.shape[1]] = piece
            tiles.append(tile.tobytes())
    tags = [
        (256, 3, [w]),
        (257, 3, [h]),
        (258, 3, [8] * 3),
        (259, 3, [1]),
        (262, 3, [2]),
        (277, 3, [3]),
        (322, 3, [16]),
    ]
    tags += [(323, 3, [16]), (324, 4, [0] * len(tiles)), (325, 4, [len(tile) for tile in tiles])]
    return Tiff(order, False, tags, tiles).build()
