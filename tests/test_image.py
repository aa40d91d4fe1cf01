"""Reading pictures: what is taken, to the bit, and what is refused with which words."""

import io
import os
import struct
import sys
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image as PillowImage

from pagnp.contract import digest
from pagnp.errors import ImageError
from pagnp.image import find_images, from_array, load_image

H, W = 5, 7
RNG = np.random.default_rng(20)
RGB = RNG.integers(0, 256, (H, W, 3), np.uint8)
GREY = RGB[:, :, 0].copy()
ALPHA = RNG.integers(0, 256, (H, W), np.uint8)
WIDE = RNG.integers(0, 65536, (H, W, 4)).astype(np.uint16)
AS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0


def grey_rgb(grey):
    return np.repeat(grey[:, :, None], 3, axis=2)


def saved(array, form="PNG", mode=None, **options):
    image = PillowImage.fromarray(array)
    buffer = io.BytesIO()
    (image.convert(mode) if mode else image).save(buffer, form, **options)
    return buffer.getvalue()


def png_chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png16(array):
    """A 16-bit PNG of (h, w, c); Pillow writes only grey ones."""
    h, w, c = array.shape
    header = struct.pack(">IIBBBBB", w, h, 16, {1: 0, 2: 4, 3: 2, 4: 6}[c], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    body = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def png_header(w, h):
    """A PNG that claims a size and has no pixels."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(b"")) + png_chunk(b"IEND", b"")


def tiff(array, order="<", photometric=2, sample_format=1, bits=None, planar=1, extra=None, deflate=False):
    """A one-strip TIFF of (h, w, c), written by the format's own rules: Pillow writes few of these."""
    h, w, c = array.shape
    bits = bits or array.dtype.itemsize * 8
    planes = [array] if planar == 1 else [array[:, :, k] for k in range(c)]
    strips = [plane.astype(array.dtype.newbyteorder(order)).tobytes() for plane in planes]
    strips = [zlib.compress(strip) for strip in strips] if deflate else strips
    counts = [len(strip) for strip in strips]
    tags = {256: ("I", [w]), 257: ("I", [h]), 258: ("H", [bits] * c), 259: ("H", [8 if deflate else 1])}
    tags |= {262: ("H", [photometric]), 273: ("I", [0] * len(strips)), 277: ("H", [c]), 278: ("I", [h])}
    tags |= {279: ("I", counts), 284: ("H", [planar]), 339: ("H", [sample_format] * c)}
    if extra is not None:
        tags[338] = ("H", [extra])
    values_at = 8 + 2 + 12 * len(tags) + 4
    long_values = sum(struct.calcsize(kind) * len(v) for kind, v in tags.values() if struct.calcsize(kind) * len(v) > 4)
    starts = np.cumsum([values_at + long_values, *counts])[:-1].tolist()
    tags[273] = ("I", starts)
    entries, values = b"", b""
    for tag, (kind, numbers) in sorted(tags.items()):
        packed = struct.pack(order + kind * len(numbers), *numbers)
        if len(packed) > 4:
            place, values = struct.pack(order + "I", values_at + len(values)), values + packed
        else:
            place = packed.ljust(4, b"\0")
        entries += struct.pack(order + "HHI", tag, {"H": 3, "I": 4}[kind], len(numbers)) + place
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, len(tags))
    return head + entries + b"\0\0\0\0" + values + b"".join(strips)


def palette_png(**options):
    image = PillowImage.new("P", (W, H))
    image.putpalette(list(range(30)) * 2)
    image.putdata([k % 10 for k in range(H * W)])
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    index = np.arange(H * W).reshape(H, W, 1) % 10
    return buffer.getvalue(), (index * 3 + np.arange(3)).astype(np.uint8)


def frames(form, count=2):
    buffer = io.BytesIO()
    pictures = [PillowImage.fromarray(np.full((H, W, 3), 40 * k, np.uint8)) for k in range(1, count + 1)]
    pictures[0].save(buffer, form, save_all=True, append_images=pictures[1:])
    return buffer.getvalue()


UPPER = (WIDE >> 8).astype(np.uint8)
JPEG = saved(RGB, "JPEG", quality=95)
DECODED_JPEG = np.asarray(PillowImage.open(io.BytesIO(JPEG)))
ONE_BIT = (GREY > 127).astype(np.uint8) * 255
PALETTE, PALETTE_RGB = palette_png()
CLEAR_PALETTE, _ = palette_png(transparency=bytes(range(10)))

READ = {
    "png-rgb": (saved(RGB), RGB),
    "png-rgba": (saved(np.dstack([RGB, ALPHA])), RGB),
    "png-grey": (saved(GREY), grey_rgb(GREY)),
    "png-grey-alpha": (saved(np.dstack([GREY, ALPHA])), grey_rgb(GREY)),
    "png-palette": (PALETTE, PALETTE_RGB),
    "png-palette-clear": (CLEAR_PALETTE, PALETTE_RGB),
    "png-1bit": (saved(GREY > 127), grey_rgb(ONE_BIT)),
    "png-16-grey": (png16(WIDE[:, :, :1]), grey_rgb(UPPER[:, :, 0])),
    "png-16-grey-alpha": (png16(WIDE[:, :, :2]), grey_rgb(UPPER[:, :, 0])),
    "png-16-rgb": (png16(WIDE[:, :, :3]), UPPER[:, :, :3]),
    "png-16-rgba": (png16(WIDE), UPPER[:, :, :3]),
    "jpeg-rgb": (JPEG, DECODED_JPEG),
    "jpeg-multi-picture": (frames("MPO"), np.full((H, W, 3), 40, np.uint8)),
    "tiff-rgb": (saved(RGB, "TIFF"), RGB),
    "tiff-lzw": (saved(RGB, "TIFF", compression="tiff_lzw"), RGB),
    "tiff-1bit": (saved(GREY > 127, "TIFF"), grey_rgb(ONE_BIT)),
    "tiff-palette": (saved(RGB // 64 * 64, "TIFF", mode="P"), None),
    "tiff-planar": (tiff(RGB, planar=2), RGB),
    "tiff-rgba": (tiff(np.dstack([RGB, ALPHA]), extra=2), RGB),
    "tiff-white-is-zero": (tiff(GREY[:, :, None], photometric=0), grey_rgb(255 - GREY)),
    "tiff-16-grey": (tiff(WIDE[:, :, :1], photometric=1), grey_rgb(UPPER[:, :, 0])),
    "tiff-16-grey-big": (tiff(WIDE[:, :, :1], ">", photometric=1), grey_rgb(UPPER[:, :, 0])),
    "tiff-16-white-is-zero": (tiff(WIDE[:, :, :1], photometric=0), grey_rgb(255 - UPPER[:, :, 0])),
    "tiff-16-rgb": (tiff(WIDE[:, :, :3]), UPPER[:, :, :3]),
    "tiff-16-rgb-big": (tiff(WIDE[:, :, :3], ">"), UPPER[:, :, :3]),
    "tiff-16-rgb-deflate": (tiff(WIDE[:, :, :3], deflate=True), UPPER[:, :, :3]),
    "tiff-16-rgb-big-deflate": (tiff(WIDE[:, :, :3], ">", deflate=True), UPPER[:, :, :3]),
    "tiff-16-rgba": (tiff(WIDE, extra=2), UPPER[:, :, :3]),
}


@pytest.mark.parametrize("name", READ)
def test_reads(name, tmp_path):
    content, want = READ[name]
    path = tmp_path / "wrong.extension"  # the content decides
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = load_image(path)
    assert image.pixels.dtype == np.uint8 and image.pixels.flags.c_contiguous
    assert image.path == path and image.size == (H, W) and image.digest == digest(image.pixels)
    if want is None:
        want = np.asarray(PillowImage.open(path).convert("RGB"))
    np.testing.assert_array_equal(image.pixels, want)


UPRIGHT = {
    1: RGB,
    2: RGB[:, ::-1],
    3: RGB[::-1, ::-1],
    4: RGB[::-1],
    5: RGB.transpose(1, 0, 2),
    6: np.rot90(RGB, -1),
    7: np.rot90(RGB, 2).transpose(1, 0, 2),
    8: np.rot90(RGB, 1),
    9: RGB,  # no such orientation
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_orientation(form, orientation, tmp_path):
    exif = PillowImage.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned"
    path.write_bytes(saved(RGB, form, exif=exif))
    np.testing.assert_array_equal(load_image(path).pixels, UPRIGHT[orientation])
    np.testing.assert_array_equal(from_array(PillowImage.open(path)).pixels, UPRIGHT[orientation])


def test_orientation_of_16_bit_grey_and_broken_exif(tmp_path):
    exif = PillowImage.Exif()
    exif[0x0112] = 6
    path = tmp_path / "turned.png"
    path.write_bytes(saved(WIDE[:, :, 0].copy(), exif=exif))
    np.testing.assert_array_equal(load_image(path).pixels, grey_rgb(np.rot90(UPPER[:, :, 0], -1)))
    path.write_bytes(saved(RGB, "JPEG", quality=95, exif=b"Exif\0\0MM\0*\xff\xff\xff\xff"))
    assert load_image(path).size == (H, W)


FLOAT = np.ones((H, W, 3), np.float32)
REFUSED = {
    "empty": (b"", "is empty"),
    "text": (b"hello, world\n", "not an image"),
    "webp": (saved(RGB, "WEBP"), "is WEBP; pagnp reads PNG, JPEG and TIFF: save it as PNG"),
    "bmp": (saved(RGB, "BMP"), "is BMP"),
    "gif": (saved(GREY, "GIF"), "is GIF"),
    "cmyk-jpeg": (saved(RGB, "JPEG", mode="CMYK"), "CMYK colours"),
    "cmyk-tiff": (saved(RGB, "TIFF", mode="CMYK"), "CMYK colours"),
    "lab-tiff": (saved(RGB, "TIFF", mode="LAB"), "LAB colours"),
    "float-tiff": (tiff(FLOAT[:, :, :1], photometric=1, sample_format=3), "float or signed samples"),
    "float-rgb-tiff": (tiff(FLOAT, sample_format=3), "float or signed samples"),
    "signed-tiff": (tiff(WIDE[:, :, :1] // 2, photometric=1, sample_format=2), "float or signed samples"),
    "32bit-tiff": (tiff(WIDE[:, :, :1].astype(np.uint32), photometric=1), "32-bit samples"),
    "planar-16-tiff": (tiff(WIDE[:, :, :3], planar=2), "separate planes"),
    "two-page-tiff": (frames("TIFF"), "holds 2 pictures"),
    "animated-png": (frames("PNG", 3), "holds 3 pictures"),
    "cut-png": (saved(RGB)[:-40], "damaged or cut short"),
    "cut-jpeg": (JPEG[: len(JPEG) // 2], "damaged or cut short"),
    "cut-tiff": (saved(RGB, "TIFF")[:-20], "damaged or cut short"),
    "cut-lzw-tiff": (saved(RGB, "TIFF", compression="tiff_lzw")[:40], "damaged or cut short"),
    "png-signature-only": (b"\x89PNG\r\n\x1a\n", "damaged or cut short"),
    "jpeg-signature-only": (b"\xff\xd8\xff", "damaged or cut short"),
    "png-zero-width": (png_header(0, 5), ""),
    "no-pixels": (png_header(6, 5), "damaged or cut short"),
    "too-large": (png_header(20001, 10000), "20001 x 10000 is 200 megapixels, the limit is 200"),
    "bomb": (png_header(2**31 - 1, 2**31 - 1), "megapixels"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name, tmp_path):
    content, message = REFUSED[name]
    path = tmp_path / "cat.png"
    path.write_bytes(content)
    with pytest.raises(ImageError) as caught:
        load_image(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ") and message in text and "\n" not in text
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("seed", range(3))
def test_damaged_bytes_are_image_errors(seed, tmp_path):
    """Whatever bytes are changed, reading gives pixels or an ImageError, never another exception."""
    rng = np.random.default_rng(seed)
    path = tmp_path / "damaged"
    for content, _ in READ.values():
        damaged = bytearray(content)
        for _ in range(4):
            damaged[rng.integers(len(damaged))] = rng.integers(256)
        path.write_bytes(damaged)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                load_image(path)
            except ImageError:
                continue


def test_refuses_what_is_no_file(tmp_path):
    for path, message in ((tmp_path, "is a folder"), (tmp_path / "no.png", "no such file")):
        with pytest.raises(ImageError, match=message):
            load_image(path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(ImageError, match="device or pipe"):
            load_image(tmp_path / "pipe")


@pytest.mark.skipif(AS_ROOT or sys.platform == "win32", reason="root may read every file; Windows has no such modes")
def test_refuses_unreadable_file(tmp_path):
    path = tmp_path / "cat.png"
    path.write_bytes(saved(RGB))
    path.chmod(0)
    with pytest.raises(ImageError, match="Permission denied"):
        load_image(path)


def test_pixel_limit_is_ours_and_touches_nothing_global(tmp_path):
    before = PillowImage.MAX_IMAGE_PIXELS
    path = tmp_path / "large.png"
    path.write_bytes(png_header(19000, 10000))  # above both of Pillow's limits, below ours
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ImageError, match="damaged"):  # it got as far as decoding
            load_image(path)
    with pytest.raises(ImageError, match="the limit is 100"):
        load_image(path, max_pixels=100_000_000)
    assert before == PillowImage.MAX_IMAGE_PIXELS


def test_from_array_takes():
    rows = {"rgb": (RGB, RGB), "grey": (GREY, grey_rgb(GREY)), "flipped": (RGB[:, ::-1], RGB[:, ::-1])}
    rows["pil"] = (PillowImage.fromarray(np.dstack([RGB, ALPHA])), RGB)
    for given, want in rows.values():
        image = from_array(given)
        assert image.path is None and image.pixels.flags.c_contiguous and image.pixels.dtype == np.uint8
        np.testing.assert_array_equal(image.pixels, want)
    assert from_array(image) is image


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (RGB.astype(np.float32), "float32, need uint8"),
        (WIDE[:, :, :3], "uint16, need uint8"),
        (np.dstack([RGB, ALPHA]), r"\(5, 7, 4\), need \(h, w, 3\)"),
        (RGB[None], "need"),
        (RGB[:0], "need"),
        (np.zeros((0, 4), np.uint8), "need"),
        ([[1, 2], [3, 4]], "got list"),
        (None, "got NoneType"),
        (PillowImage.new("CMYK", (2, 2)), "CMYK colours"),
        (PillowImage.new("F", (2, 2)), "F colours"),
        (PillowImage.new("RGB", (0, 2)), "no pixels"),
    ],
)
def test_from_array_refuses(given, message):
    with pytest.raises(ImageError, match=message):
        from_array(given)


def test_find_images(tmp_path):
    for name in (
        "b/2.PNG",
        "b/1.jpg",
        "a.tiff",
        "b/deep/3.JPEG",
        "c.tif",
        ".hidden.png",
        "b/._1.jpg",
        "notes.txt",
        "d.webp",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    found = [path.relative_to(tmp_path).as_posix() for path in find_images([tmp_path])]
    assert found == ["a.tiff", "b/1.jpg", "b/2.PNG", "b/deep/3.JPEG", "c.tif"]
    given = [tmp_path / "d.webp", str(tmp_path / "c.tif"), tmp_path, tmp_path / "c.tif"]  # named files are always taken
    assert [path.name for path in find_images(given)] == ["d.webp", "c.tif", "a.tiff", "1.jpg", "2.PNG", "3.JPEG"]
    for path, message in ((tmp_path / "empty", "no image in this folder"), (tmp_path / "no", "no such file")):
        with pytest.raises(ImageError, match=message):
            find_images([path])
