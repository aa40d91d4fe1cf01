"""Images that would cost memory or time, or that decoders disagree about: refused before a decoder sees them.

What pixels are not made of (texts, profiles, EXIF, thumbnails) is never read, so bombs in there do nothing.
"""

import io
import resource
import struct
import subprocess
import sys
import warnings
import zlib

import numpy as np
import PIL.Image
import pytest
from PIL.PngImagePlugin import PngInfo
from test_image import GREY, JPEG, RGB, H, W, grey_rgb, png_chunk, png_header, saved, tiff

from pagnp import imageguard, tiffguard
from pagnp.cli.main import main
from pagnp.errors import ImageError
from pagnp.image import load_image

PNG = saved(RGB)
BOMB = zlib.compress(bytes(1 << 28), 9)  # 256 MiB in 256 KiB


def refused(path, content, *fragments):
    path.write_bytes(content)
    with pytest.raises(ImageError) as caught:
        load_image(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ") and "\n" not in text and caught.value.exit_code == 4
    for fragment in fragments:
        assert fragment in text, text


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cat.png"


# PNG


def with_chunks(*chunks, content=PNG):
    """The picture with more chunks behind its header."""
    return content[:33] + b"".join(png_chunk(*pair) for pair in chunks) + content[33:]


def with_header(body):
    return PNG[:8] + png_chunk(b"IHDR", body) + PNG[33:]


@pytest.mark.parametrize(
    "chunk",
    [
        (b"zTXt", b"key\0\0" + BOMB),
        (b"iTXt", b"key\0\1\0\0\0" + BOMB),
        (b"iCCP", b"key\0\0" + BOMB),
        (b"tEXt", b"key\0" + b"x" * (1 << 20)),
        (b"eXIf", b"II*\0" + b"\xff" * (1 << 20)),
        (b"zzZz", bytes(1 << 20)),
        (b"acTL", struct.pack(">II", 1, 0)),
        (b"tRNS", bytes(300)),
        (b"fdAT", bytes(100)),
    ],
)
def test_what_no_pixel_is_made_of_is_not_read(path, chunk):
    path.write_bytes(with_chunks(*[chunk] * 40))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(load_image(path).pixels, RGB)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10


def test_a_real_animation_text_and_exif(path):
    text = PngInfo()
    text.add_text("words", "x" * 5000, zip=True)
    exif = PIL.Image.Exif()
    exif[0x0112] = 3
    path.write_bytes(saved(RGB, pnginfo=text, exif=exif))
    np.testing.assert_array_equal(load_image(path).pixels, RGB[::-1, ::-1])
    refused(path, with_chunks((b"acTL", struct.pack(">II", 1 << 31, 0))), "holds 2147483648 pictures")


@pytest.mark.parametrize(
    ("content", "fragment"),
    [
        (png_header(0, 5), "has no pixels (0 x 5)"),
        (png_header(5, 0), "has no pixels (5 x 0)"),
        (png_header(10_000, 10_000), "damaged or cut short (10000 x 10000 pixels cannot be in 8 bytes)"),
        (png_header(1 << 21, 1), "2097152 x 1 is too large, need at most 1048576 a side"),
        (png_header(1, (1 << 20) + 1), "1 x 1048577 is too large"),
        (PNG[:33] + PNG[8:], "the chunk IHDR has no place there"),
        (PNG.replace(b"IHDR", b"IHDr"), "no place there"),
        (with_chunks((b"ABCD", b"")), "the chunk ABCD has no place there"),
        (with_chunks((b"IDAT", b"x"), (b"tEXt", b"a\0b")), "the chunk IDAT comes again"),
        (PNG[:-12], "ends too soon"),
        (PNG[:8] + struct.pack(">I", 1 << 31) + PNG[12:], "is no chunk or ends behind the file"),
        (PNG[:33] + png_chunk(b"IEND", b""), "a chunk that it needs is missing"),
        (
            PNG[:8] + png_chunk(b"IHDR", struct.pack(">IIBBBBB", W, H, 8, 3, 0, 0, 0)) + PNG[33:],
            "a chunk that it needs",
        ),
        (PNG[:8] + png_chunk(b"IHDR", struct.pack(">IIBBBBB", W, H, 3, 2, 0, 0, 0)) + PNG[33:], "colour type 2 with 3"),
        (PNG[:8] + png_chunk(b"IHDR", struct.pack(">IIBBBBB", W, H, 8, 2, 1, 0, 0)) + PNG[33:], "is unknown"),
        (PNG[:8] + png_chunk(b"IHDR", bytes(9)) + PNG[33:], "another length than 13"),
    ],
)
def test_png(path, content, fragment):
    refused(path, content, fragment)


def test_too_many_chunks(path, monkeypatch):
    monkeypatch.setattr(imageguard, "MAX_PARTS", 20)
    refused(path, with_chunks(*[(b"tEXt", b"a\0b")] * 30), "damaged or cut short")


def test_pixels_in_many_chunks(path):
    """Pieces of pixels with texts between header and them: the excerpt has thousands of parts."""
    body = png_header(W, H)
    packed = zlib.compress(b"".join(b"\0" + row.tobytes() for row in RGB))
    pieces = b"".join(png_chunk(b"IDAT", packed[i : i + 1]) for i in range(len(packed)))
    path.write_bytes(body[:33] + png_chunk(b"tEXt", b"a\0b") + pieces + png_chunk(b"tEXt", b"a\0b") + body[-12:])
    np.testing.assert_array_equal(load_image(path).pixels, RGB)


# JPEG


def segment(marker, body):
    return bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body


def frame_of(content, marker=0xC0):
    return content.index(bytes((0xFF, marker)))


def with_frame(place, raw, marker=0xC0, content=JPEG):
    at = frame_of(content) + 4 + place
    changed = content[:at] + raw + content[at + len(raw) :]
    return changed.replace(bytes((0xFF, 0xC0)), bytes((0xFF, marker)), 1)


SCAN = JPEG[JPEG.index(b"\xff\xda") : -2]


@pytest.mark.parametrize(
    ("content", "fragment"),
    [
        *((with_frame(0, b"\x08", kind), "is a JPEG of a rare kind") for kind in (0xC3, 0xC5, 0xC9, 0xCA, 0xCB, 0xCF)),
        (with_frame(0, b"\x0c"), "is a JPEG with 12-bit samples"),
        (with_frame(1, b"\0\0"), f"has no pixels ({W} x 0)"),
        (with_frame(1, b"\xff\xff\xff\xff"), "65535 x 65535 is 4295 megapixels, the limit is 200"),
        (with_frame(1, b"\x20\x00\x20\x00"), "8192 x 8192 pixels cannot be in"),
        (with_frame(5, b"\x02"), "its frame has a wrong length"),
        (with_frame(7, b"\x99"), "samples them strangely"),
        (JPEG[:-2] + SCAN * 64 + JPEG[-2:], "is a JPEG of over 64 scans"),
        (JPEG[:2] + JPEG[frame_of(JPEG) : frame_of(JPEG) + 19] * 2 + JPEG[2:], "the marker C0 has no place there"),
        (JPEG[:2] + segment(0xD8, b"") + JPEG[2:], "the marker D8 has no place there"),
        (JPEG[: JPEG.index(b"\xff\xda")] + b"\xff\xd9", "it has no picture"),
        (JPEG[:2] + segment(0xE1, b"x" * 65000)[:400], "ends behind the file"),
    ],
)
def test_jpeg(path, content, fragment):
    refused(path, content, fragment)


def test_segments_that_are_not_read(path):
    want = np.asarray(PIL.Image.open(io.BytesIO(JPEG)))
    more = segment(0xE1, b"Exif\0\0II*\0\xff\xff\xff\xff") + segment(0xE1, b"Exif\0\0" + b"\xff" * 60_000) * 50
    more += segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(60_000)) * 50 + segment(
        0xED, b"Photoshop 3.0\x008BIM" + bytes(50)
    )
    more += segment(0xE2, b"MPF\0" + b"\xff" * 50) + segment(0xFE, bytes(60_000))
    path.write_bytes(JPEG[:2] + more + JPEG[2:] + JPEG * 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(load_image(path).pixels, want)


def test_progressive_and_restarts(path):
    for options in ({"progressive": True}, {"restart_marker_blocks": 1}, {"optimize": True, "subsampling": 2}):
        content = saved(np.tile(RGB, (9, 9, 1)), "JPEG", **options)
        path.write_bytes(content)
        np.testing.assert_array_equal(load_image(path).pixels, np.asarray(PIL.Image.open(io.BytesIO(content))))


# TIFF


def tags_of(content):
    """Where the entries of a little-endian TIFF's first directory are: tag -> place."""
    start = struct.unpack_from("<I", content, 4)[0]
    count = struct.unpack_from("<H", content, start)[0]
    places = [start + 2 + 12 * i for i in range(count)]
    return {struct.unpack_from("<H", content, place)[0]: place for place in places}


def with_tag(content, tag, value, kind=None, count=None):
    raw = bytearray(content)
    place = tags_of(content)[tag]
    struct.pack_into("<I", raw, place + 8, value)
    if kind is not None:
        struct.pack_into("<H", raw, place + 2, kind)
    if count is not None:
        struct.pack_into("<I", raw, place + 4, count)
    return bytes(raw)


def next_of(content):
    """Where the place of the second directory is."""
    start = struct.unpack_from("<I", content, 4)[0]
    return start + 2 + 12 * struct.unpack_from("<H", content, start)[0]


TIFF = saved(RGB, "TIFF")
LZW = saved(RGB, "TIFF", compression="tiff_lzw")
FAX = saved(GREY > 127, "TIFF", compression="group4")


def tiled(side, content=TIFF):
    """The tags of strips turned into those of tiles."""
    tags, raw = tags_of(content), bytearray(content)
    for old, new, value in ((273, 324, None), (278, 322, side), (279, 325, None), (284, 323, side)):
        struct.pack_into("<H", raw, tags[old], new)
        if value is not None:
            struct.pack_into("<HII", raw, tags[old] + 2, 4, 1, value)
    return bytes(raw)


@pytest.mark.parametrize(
    ("content", "fragment"),
    [
        (with_tag(TIFF, 256, 1 << 30, 4), "megapixels, the limit is 200"),
        (with_tag(TIFF, 256, 0, 4), f"has no pixels (0 x {H})"),
        (with_tag(TIFF, 257, 5000, 4), "1 sizes of them, need 1000"),
        (with_tag(with_tag(TIFF, 257, 5000, 4), 278, 5000, 4), "7 x 5000 pixels cannot be in 105 bytes"),
        (with_tag(with_tag(LZW, 257, 1 << 20, 4), 278, 1 << 20, 4), "7 x 1048576 pixels cannot be in"),
        (with_tag(with_tag(FAX, 257, 1 << 20, 4), 278, 1 << 20, 4), "7 x 1048576 pixels cannot be in"),
        (with_tag(TIFF, 273, 1 << 31), "its pixels should be behind byte"),
        (with_tag(TIFF, 279, 1 << 31, 4), "its pixels should be behind byte"),
        (with_tag(TIFF, 279, 8, 4, 1 << 22), "are asked for, it has"),
        (with_tag(TIFF, 279, 8, 4, 1 << 31), "tag 279 has type 4 and 2147483648 values"),
        (with_tag(TIFF, 259, 50000), "is a TIFF of compression 50000"),
        (with_tag(TIFF, 259, 34712), "is a TIFF of compression 34712"),
        (with_tag(TIFF, 277, 60000, 4), "the tag 277 cannot be 60000"),
        (with_tag(TIFF, 284, 9), "the tag 284 cannot be 9"),
        (with_tag(TIFF, 256, 8, 3, 3), "tag 256 has several values"),
        (tiled(1 << 20), "tiles of 1048576 x 1048576 pixels for 7 x 5"),
        (tiled(0), "tiles of 0 x 0 pixels"),
        (TIFF[:4] + b"\xff\xff\xff\x7f" + TIFF[8:], "are asked for, it has"),
        (b"II+\0" + bytes(12), "the header is no TIFF header"),
    ],
)
def test_tiff(path, content, fragment):
    refused(path, content, fragment)


def test_directories_without_end(path):
    """A chain that comes back, and one of 100,000 directories of no tags."""
    place = next_of(TIFF)
    path.write_bytes(TIFF[:place] + TIFF[4:8] + TIFF[place + 4 :])
    np.testing.assert_array_equal(load_image(path).pixels, RGB)  # led back to the first: it is the only picture
    chain = b"".join(struct.pack("<HI", 0, len(TIFF) + 6 * (i + 1)) for i in range(100_000))
    refused(path, TIFF[:place] + struct.pack("<I", len(TIFF)) + TIFF[place + 4 :] + chain, "holds over 999 pictures")


def test_tags_whose_values_share_their_bytes(path):
    """Thousands of tags of a megabyte each, all the same megabyte: a reader of all tags takes gigabytes."""
    tags = tags_of(TIFF)
    start, count = struct.unpack_from("<I", TIFF, 4)[0], len(tags)
    table = TIFF[start + 2 : start + 2 + 12 * count]
    bad = b"".join(struct.pack("<HHII", 40000 + i, 7, 1 << 20, 8) for i in range(4000))
    place = len(TIFF) + 1
    content = TIFF[:4] + struct.pack("<I", place) + TIFF[8:] + b"\0"
    content += struct.pack("<H", count + 4000) + table + bad + bytes(4) + bytes(1 << 20)
    path.write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    np.testing.assert_array_equal(load_image(path).pixels, RGB)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 << 10
    monster = content[:place] + struct.pack("<H", 65535) + content[place + 2 :]
    refused(path, monster, "65535 tags, at most 4096 are read")


def test_other_pictures_and_tags_of_a_sound_file(path):
    for options in (
        {"big_tiff": True},
        {"icc_profile": bytes(999)},
        {"compression": "packbits"},
        {"compression": "jpeg"},
    ):
        content = saved(np.tile(RGB, (5, 5, 1)), "TIFF", **options)
        path.write_bytes(content)
        np.testing.assert_array_equal(load_image(path).pixels, np.asarray(PIL.Image.open(io.BytesIO(content))))
    for order in "<>":
        path.write_bytes(tiff(GREY[:, :, None], order, photometric=1))
        np.testing.assert_array_equal(load_image(path).pixels, grey_rgb(GREY))


def test_fax(path):
    for packing in ("group3", "group4", "tiff_ccitt"):
        path.write_bytes(saved(GREY > 127, "TIFF", compression=packing))
        np.testing.assert_array_equal(load_image(path).pixels, grey_rgb((GREY > 127).astype(np.uint8) * 255))


def test_pillows_own_limit_is_not_asked(path, monkeypatch):
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 4)
    for content in (TIFF, LZW, PNG):
        path.write_bytes(content)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            np.testing.assert_array_equal(load_image(path).pixels, RGB)


# All formats


def test_a_file_larger_than_any_picture(path, monkeypatch):
    monkeypatch.setattr(imageguard, "MAX_FILE", 100)
    refused(path, PNG, f"has {len(PNG)} bytes, need at most 100")


def test_orientation_of_damaged_exif():
    sound = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0"
    assert tiffguard.orientation(sound) == 6
    for place in range(len(sound)):
        assert 0 <= tiffguard.orientation(sound[:place]) <= 8
        for byte in (0, 1, 255):
            tiffguard.orientation(sound[:place] + bytes((byte,)) + sound[place + 1 :])


def test_our_own_mistakes_are_not_called_damage(path, monkeypatch):
    path.write_bytes(PNG)

    def mistaken(*args):
        raise TypeError("ours")

    monkeypatch.setattr(imageguard, "_png_header", mistaken)
    with pytest.raises(TypeError, match="ours"):
        load_image(path)


def test_refusals_cost_no_memory(path):
    """Under 256 MiB more than Python and NumPy take: a picture of 14142 x 14142 would need 1.4 GB."""
    header = png_header(14142, 14142)
    path.write_bytes(header[:33] + png_chunk(b"IDAT", bytes(200_000)) + header[-12:])
    script = "import sys, resource; import numpy, PIL.Image; from pagnp.image import load_image, ImageError\n"
    script += "size = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize() + (256 << 20)\n"
    script += "resource.setrlimit(resource.RLIMIT_AS, (size, size))\n"
    script += "try: load_image(sys.argv[1])\nexcept ImageError as error: print(error)"
    command = [sys.executable, "-c", script, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "14142 x 14142 pixels cannot be in 200000 bytes" in done.stdout, done.stderr


def test_the_command_line_returns_4(path, tmp_path, capsys):
    from small_model import small_graph

    from pagnp import modelfile

    modelfile.write(small_graph(), tmp_path / "m.h5")
    path.write_bytes(with_frame(1, b"\xff\xff\xff\xff"))
    options = ["--weights", str(tmp_path / "m.h5"), "--out", str(tmp_path / "out"), "--backend", "numpy"]
    assert main(["run", str(path), *options]) == 4
    assert "65535 x 65535" in capsys.readouterr().err
