"""Mutated images: PNG by chunks (checksums right), JPEG by segments, TIFF by tags, and plain bytes."""

import struct
import zlib
from pathlib import Path

import byte_damage
from image_seeds import H, W, chunk, seeds
from tiff_parts import NUMBERS, Tiff

EXTRA: list[bytes] = []


def prepare(corpus):
    """Make the seeds; add the files of the folder `corpus`."""
    seeds()
    EXTRA.extend(path.read_bytes() for path in sorted(Path(corpus).glob("*")) if corpus and path.is_file())


def any_seed(rng):
    """Return a sound file of any format, or one of the corpus."""
    if EXTRA and rng.random() < 0.1:
        return rng.choice(EXTRA)
    return rng.choice(seeds()[rng.choice(("PNG", "JPEG", "TIFF"))])


def bits_flipped(rng):
    """Any bytes."""
    return byte_damage.flipped(rng, any_seed(rng))


def cut_short(rng):
    """A beginning."""
    return byte_damage.cut(rng, any_seed(rng))


def spliced(rng):
    """Pieces of two files; one behind the other."""
    return byte_damage.spliced(rng, any_seed(rng), any_seed(rng))


def _chunks(content):
    place, found = 8, []
    while place < len(content):
        length = struct.unpack_from(">I", content, place)[0]
        found.append([content[place + 4 : place + 8], content[place + 8 : place + 8 + length]])
        place += 12 + length
    return found


def _png_extra(rng):
    """Return a chunk that somebody might add."""
    bomb = zlib.compress(bytes(1 << 16) * rng.choice((1, 64)), 9)
    return rng.choice(
        (
            [b"zTXt", b"key\0\0" + bomb],
            [b"iTXt", b"key\0\1\0\0\0" + bomb],
            [b"iCCP", b"key\0\0" + bomb],
            [b"tEXt", b"key\0" + b"x" * rng.choice((1, 1 << 16))],
            [b"acTL", struct.pack(">II", rng.choice((0, 1, 2, 1 << 31)), 0)],
            [b"fcTL", struct.pack(">IIIIIHHBB", 0, W, H, 0, 0, 1, 1, 0, 0)],
            [b"fdAT", struct.pack(">I", 1) + bomb[:99]],
            [b"eXIf", b"II*\0\x08\0\0\0" + rng.randbytes(rng.choice((2, 14, 60)))],
            [b"tRNS", rng.randbytes(rng.choice((0, 1, 2, 6, 256, 300)))],
            [b"PLTE", rng.randbytes(rng.choice((0, 3, 4, 768, 771)))],
            [b"gAMA", rng.randbytes(4)],
            [b"cHRM", rng.randbytes(32)],
            [b"IDAT", rng.randbytes(rng.choice((0, 9, 99)))],
            [b"IEND", b""],
            [rng.choice((b"ABCD", b"abcd", b"aB\0d", b"CgBI")), rng.randbytes(8)],
        )
    )


def png_by_chunks(rng):
    """Header fields, order, lengths, more and fewer chunks; pixels that are too many or no pixels."""
    chunks = _chunks(rng.choice(seeds()["PNG"]))
    for _ in range(rng.choice((1, 1, 2, 3))):
        move = rng.randrange(8)
        i = rng.randrange(len(chunks)) if chunks else 0
        if not chunks or move == 0:
            chunks.insert(rng.randint(0, len(chunks)), _png_extra(rng))
        elif move < 4:
            fields = bytearray(chunks[0][1].ljust(13, b"\0"))
            if rng.random() < 0.5:
                fields[8 + rng.randrange(5)] = rng.choice((0, 1, 2, 3, 4, 6, 8, 16, 255))
            else:
                struct.pack_into(">I", fields, rng.choice((0, 4)), rng.choice((*NUMBERS, H - 1, W + 1)))
            chunks[0][1] = bytes(fields)
        elif move == 4:
            del chunks[i]
        elif move == 5:
            chunks.insert(rng.randrange(len(chunks) + 1), list(chunks[i]))
        elif move == 6:
            chunks[i][1] = bytes(byte_damage.flipped(rng, chunks[i][1]))
        else:
            rows = bytes(rng.choice((0, 1, H * (1 + 3 * W) - 1, H * (1 + 3 * W), 1 << 20)))
            chunks[i] = [b"IDAT", zlib.compress(bytes(byte_damage.flipped(rng, rows)))]
    content = b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*pair) for pair in chunks)
    if rng.random() < 0.1 and chunks:  # a length that is not the chunk's
        content = bytearray(content)
        content[8:12] = struct.pack(">I", rng.choice(NUMBERS))
    return content


def _segments(content):
    """Return ([[marker, body]] up to the first scan, the rest from its data on)."""
    place, found = 2, []
    while True:
        marker, length = content[place + 1], struct.unpack_from(">H", content, place + 2)[0]
        found.append([marker, content[place + 4 : place + 2 + length]])
        place += 2 + length
        if marker == 0xDA:
            return found, content[place:]


def _jpeg_extra(rng):
    return rng.choice(
        (
            [0xE1, b"Exif\0\0MM\0*\0\0\0\x08" + rng.randbytes(rng.choice((2, 14, 200)))],
            [0xE1, b"Exif\0\0"],
            [0xE2, b"ICC_PROFILE\0\1\1" + rng.randbytes(30)],
            [0xE2, b"MPF\0" + rng.randbytes(40)],
            [0xED, b"Photoshop 3.0\0" + b"8BIM" + rng.randbytes(30)],
            [0xEE, b"Adobe\0\x64\0\0\0\0" + rng.randbytes(1)],
            [0xE0, b"JFIF\0" + rng.randbytes(rng.choice((0, 2, 9)))],
            [0xDD, rng.randbytes(2)],
            [0xDC, rng.randbytes(2)],
            [0xCC, rng.randbytes(2)],
            [0xC4, rng.randbytes(rng.choice((1, 17, 40)))],
            [0xDB, rng.randbytes(rng.choice((1, 65, 130)))],
            [0xDA, rng.randbytes(rng.choice((0, 6, 10)))],
            [0xFE, rng.randbytes(200)],
            [rng.choice((0x01, 0xC3, 0xC8, 0xC9, 0xD0, 0xD8, 0xDE, 0xDF, 0xF0)), rng.randbytes(6)],
        )
    )


def jpeg_by_segments(rng):
    """Frame fields, tables, order; many scans; markers among the pixels."""
    segments, data = _segments(rng.choice(seeds()["JPEG"]))
    for _ in range(rng.choice((1, 1, 2, 3))):
        move = rng.randrange(9)
        i = rng.randrange(len(segments)) if segments else 0
        frame = next((pair for pair in segments if 0xC0 <= pair[0] <= 0xC2 and len(pair[1]) > 8), None)
        if not segments or move == 0:
            segments.insert(rng.randint(0, len(segments)), _jpeg_extra(rng))
        elif move < 3 and frame:
            fields = bytearray(frame[1])
            if rng.random() < 0.5:
                struct.pack_into(">H", fields, rng.choice((1, 3)), rng.choice((*NUMBERS, H + 1, W - 1)) & 0xFFFF)
            else:
                place = rng.choice((0, 5, *range(6, len(fields))))
                fields[place] = rng.choice((0, 1, 2, 3, 4, 0x11, 0x12, 0x21, 0x22, 0x41, 0x44, 12, 255))
            frame[1] = bytes(fields)
        elif move == 3:
            frame = frame or segments[i]
            frame[0] = rng.choice((0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC9, 0xCA, 0xCB, 0xCF))
        elif move == 4:
            del segments[i]
        elif move == 5:
            segments.insert(rng.randrange(len(segments) + 1), list(segments[i]))
        elif move == 6:
            segments[i][1] = bytes(byte_damage.flipped(rng, segments[i][1]))
        elif move == 7:
            data = bytes(byte_damage.flipped(rng, data))
        else:
            scan = b"\xff" + bytes([segments[-1][0]]) + struct.pack(">H", len(segments[-1][1]) + 2) + segments[-1][1]
            data = data[:-2] + (scan + rng.choice((b"", b"\0", data[:-2]))) * rng.choice((1, 9, 70)) + data[-2:]
    content = b"\xff\xd8"
    for marker, body in segments:
        content += bytes((0xFF, marker)) + struct.pack(">H", min(len(body) + 2, 65535)) + body
    return content + data


def tiff_by_tags(rng):
    """Values, types, counts and places of tags, strips that are shared, loops of directories, missing and new tags."""
    tiff = Tiff.read(rng.choice(seeds()["TIFF"]))
    for i, (tag, kind, values) in enumerate(tiff.tags):
        if tag in (273, 324):
            tiff.tags[i] = (tag, kind if rng.random() < 0.1 else 4, [0] * len(values))
    for _ in range(rng.choice((1, 1, 2, 3))):
        _change_tags(rng, tiff)
    tiff.tags.sort(key=lambda item: item[0])
    if rng.random() < 0.1:
        tiff.next = rng.choice((8, 1, len(tiff.tags), 1 << 31))
    return tiff.build(rng if rng.random() < 0.25 else None)


# Of every kind that readers know: sizes, strips, tiles, colours, other directories, old JPEG, profiles, maker notes
TAGS = (*range(254, 256), 258, 259, 262, 266, 274, 277, 278, 282, 284, 292, 317, 320, *range(322, 326), 330, 338, 339)
TAGS += (347, 512, 513, 514, *range(529, 533), 700, 33723, 34377, 34665, 34675, 34853, 37500, 48129)


def _change_tags(rng, tiff):
    move = rng.randrange(7)
    i = rng.randrange(len(tiff.tags)) if tiff.tags else 0
    if move < 3 and tiff.tags:
        tag, kind, values = tiff.tags[i]
        values = list(values) or [0]
        values[rng.randrange(len(values))] = rng.choice((*NUMBERS, H, W, 5, 6, 32773, 34712, 50000))
        tiff.tags[i] = (tag, kind, values)
    elif move == 3 and tiff.tags:
        tag, kind, values = tiff.tags[i]
        values = values[: rng.randrange(len(values) + 1)] if rng.random() < 0.5 else values * rng.choice((2, 3, 100))
        tiff.tags[i] = (tag, rng.choice((kind, 1, 3, 4, 5, 16)), values)
    elif move == 4 and tiff.tags:
        del tiff.tags[i]
    elif move == 5:
        values = [rng.choice(NUMBERS) for _ in range(rng.choice((1, 1, 2, 3, 6, 768)))]
        tiff.tags.append((rng.choice(TAGS), rng.choice((1, 3, 4, 5, 7, 12, 13)), values))
    elif tiff.strips:
        k = rng.randrange(len(tiff.strips))
        tiff.strips[k] = bytes(byte_damage.flipped(rng, tiff.strips[k]))


MUTATORS = (bits_flipped, cut_short, spliced, png_by_chunks, jpeg_by_segments, tiff_by_tags)
WEIGHTS = (25, 4, 8, 20, 20, 25)
