"""Look into a TIFF file that may be hostile, and write its directory anew with what pixels are decoded from.

Readers of TIFF follow every tag: chains of pictures, EXIF and maker notes, values that share their bytes, tiles of any
size. Here the first directory is read by the rules of TIFF 6.0 and BigTIFF, checked, and written behind the file with
the tags of KEPT alone; all else in the file is never looked at. EXIF is a directory of the same form (`orientation`).
"""

import io
import struct
from dataclasses import dataclass

from pagnp.errors import ImageError

MAX_TAGS = 4096
MAX_VALUES = 1 << 22  # of one tag: strips of a picture, a row each
MAX_FRAMES = 1000  # are counted
MAX_TILE = 1 << 24  # pixels of a tile; larger ones only where the picture is large too
MAX_RATIO = 4096  # LZW packs 2560:1 at best, deflate 1032:1

WIDTH, LENGTH, BITS, COMPRESSION, PHOTOMETRIC, ORIENTATION = 256, 257, 258, 259, 262, 274
SAMPLES, ROWS, PLANAR, SAMPLE_FORMAT = 277, 278, 284, 339
STRIPS, STRIP_BYTES, TILES, TILE_BYTES, TILE_WIDTH, TILE_LENGTH = 273, 279, 324, 325, 322, 323
# also: fill order, fax options, predictor, colour map, extra samples, JPEG tables, YCbCr coefficients and sampling
KEPT = {*range(256, 260), 262, 266, 273, 277, 278, 279, 284, 292, 293, 317, 320, 322, 323, 324, 325, 338, 339, 347}
KEPT |= {529, 530, 531, 532}
_ONE = (WIDTH, LENGTH, COMPRESSION, PHOTOMETRIC, SAMPLES, ROWS, PLANAR, TILE_WIDTH, TILE_LENGTH)
_CHOICES = {266: (1, 2), 317: (1, 2), PLANAR: (1, 2), SAMPLES: range(1, 7)}  # fill order, predictor
_TYPES = {1: "B", 3: "H", 4: "I", 5: "II", 7: "B", 16: "Q"}  # of numbers; 5 are fractions, 7 bytes of no type

RAW, FAX = 1, (2, 3, 4)
COMPRESSIONS = {RAW, *FAX, 5, 7, 8, 32773, 32946}  # none, fax, LZW, JPEG, deflate, PackBits, deflate's old number


@dataclass
class Directory:
    """The kept tags of one directory: tag -> (type, raw value bytes); and the place of the next directory or 0."""

    order: str
    big: bool
    tags: dict[int, tuple[int, bytes]]
    next: int

    def values(self, tag, default=()):
        """Return the numbers of `tag` as a tuple."""
        if tag not in self.tags:
            return tuple(default)
        kind, raw = self.tags[tag]
        code = _TYPES[kind]
        return struct.unpack(f"{self.order}{len(raw) // struct.calcsize(code[0])}{code[0]}", raw)

    def one(self, tag, default):
        """Return the number of a tag that has one."""
        return self.values(tag, (default,))[0]


def _header(file):
    """Return (order, big, place of the first directory), or None for another file."""
    start = file.read(16)
    order = {b"II": "<", b"MM": ">"}.get(start[:2])
    if order is None or len(start) < 8:
        return None
    magic = struct.unpack(order + "H", start[2:4])[0]
    if magic == 42:
        return order, False, struct.unpack(order + "I", start[4:8])[0]
    if magic == 43 and len(start) == 16 and struct.unpack(order + "HH", start[4:8]) == (8, 0):
        return order, True, struct.unpack(order + "Q", start[8:16])[0]
    return None


def read_directory(file, size, place, order, big, wanted):
    """Return the Directory at `place` of a file of `size` bytes; only tags in `wanted` are read.

    Raises: ValueError for what is no directory, or has values outside the file.
    """
    entry, number, most = (20, "Q", 8) if big else (12, "I", 4)
    head = struct.Struct(order + ("Q" if big else "H"))
    count = head.unpack(_piece(file, size, place, head.size))[0]
    if count > MAX_TAGS:
        raise ValueError(f"{count} tags, at most {MAX_TAGS} are read")
    block = _piece(file, size, place + head.size, count * entry)
    tags = {}
    for i in range(count):
        tag, kind, length = struct.unpack_from(order + "HH" + number, block, i * entry)
        if tag not in wanted or tag in tags:
            continue
        if kind not in _TYPES or not 1 <= length <= MAX_VALUES:
            raise ValueError(f"tag {tag} has type {kind} and {length} values")
        raw = block[(i + 1) * entry - most : (i + 1) * entry]
        needed = length * struct.calcsize("<" + _TYPES[kind])
        if needed > most:
            raw = _piece(file, size, struct.unpack(order + number, raw)[0], needed)
        tags[tag] = kind, raw[:needed]
    place += head.size + count * entry
    try:
        following = struct.unpack(order + number, _piece(file, size, place, most))[0]
    except ValueError:  # the last one may be cut off behind its tags
        following = 0
    return Directory(order, big, tags, following)


def _piece(file, size, place, count):
    if place + count > size:
        raise ValueError(f"bytes {place} to {place + count} are asked for, it has {size}")
    file.seek(place)
    return file.read(count)


def orientation(exif):
    """Return the orientation that EXIF bytes tell (TIFF header first), 1 where there is none or they are damaged."""
    file = io.BytesIO(exif)
    start = _header(file)
    try:
        directory = read_directory(file, len(exif), start[2], start[0], start[1], {ORIENTATION}) if start else None
        return directory.one(ORIENTATION, 1) if directory else 1
    except ValueError:
        return 1


def screened(file, size, check_size):
    """Return (parts, orientation) of a TIFF file: `parts` are bytes and ranges of the file for `imageguard.Excerpt`.

    file, size   open file and its bytes
    check_size   called with (w, h) before anything that depends on them
    Raises:      ImageError for what Pillow would decode wrongly or not at all, ValueError for damaged directories.
    """
    start = _header(file)
    if start is None:
        raise ValueError("the header is no TIFF header")
    order, big, place = start
    directory = read_directory(file, size, place, order, big, KEPT | {ORIENTATION})
    _check_frames(file, size, place, directory)
    for tag in (*_ONE, *_CHOICES, 292, 293):
        if len(directory.values(tag, (1,))) != 1:
            raise ValueError(f"tag {tag} has several values")
    w, h = directory.one(WIDTH, 0), directory.one(LENGTH, 0)
    check_size(w, h)
    _check_samples(directory)
    _check_storage(directory, size, w, h)
    turn = directory.one(ORIENTATION, 1)
    directory.tags.pop(ORIENTATION, None)
    begins = 16 if big else 8
    return [*_rewritten(directory, begins, size)], turn


def _check_frames(file, size, place, directory):
    """Refuse several pictures; of long chains only so many are counted, and loops end."""
    places, following = [place], directory.next
    while following and following not in places and len(places) < MAX_FRAMES:
        places.append(following)
        try:
            following = read_directory(file, size, following, directory.order, directory.big, ()).next
        except ValueError:
            break
    if len(places) > 1:
        count = f"over {MAX_FRAMES - 1}" if len(places) == MAX_FRAMES else len(places)
        raise ImageError(f"holds {count} pictures; save the one you want as a file of its own")


def _check_samples(directory):
    """Raise ImageError for samples that Pillow would hand over unscaled or wrongly."""
    bits, formats = set(directory.values(BITS, (1,))), set(directory.values(SAMPLE_FORMAT, (1,)))
    if formats != {1} or not bits <= {1, 2, 4, 8, 16}:
        kind = "float or signed" if formats != {1} else "/".join(map(str, sorted(bits)[:4])) + "-bit"
        raise ImageError(f"has {kind} samples; pagnp reads 8 and 16 bits, unsigned: save it as 8-bit RGB")
    # Pillow 13 takes the bytes of separate 16-bit planes for 8-bit samples.
    if 16 in bits and directory.one(PLANAR, 1) == 2:
        raise ImageError("has 16-bit samples in separate planes; save it interleaved or as PNG")
    for tag, choices in _CHOICES.items():
        if directory.one(tag, 1) not in choices:
            raise ValueError(f"the tag {tag} cannot be {directory.one(tag, 1)}")
    compression = directory.one(COMPRESSION, RAW)
    if compression not in COMPRESSIONS:
        raise ImageError(f"is a TIFF of compression {compression}; pagnp reads LZW, deflate, JPEG and fax: save as PNG")


def _check_storage(directory, size, w, h):
    """Raise ValueError for strips and tiles outside the file, too large, or too few for the pixels."""
    if TILES in directory.tags or TILE_WIDTH in directory.tags:
        places, counts = directory.values(TILES), directory.values(TILE_BYTES)
        wide, long = directory.one(TILE_WIDTH, 0), directory.one(TILE_LENGTH, 0)
        if not (0 < wide and 0 < long and wide * long <= max(MAX_TILE, 2 * w * h)):
            raise ValueError(f"tiles of {wide} x {long} pixels for {w} x {h}")
        if STRIPS in directory.tags:
            raise ValueError("it has both strips and tiles")
        grid = -(-w // wide) * -(-h // long)
    else:
        places, counts = directory.values(STRIPS), directory.values(STRIP_BYTES)
        grid = -(-h // max(directory.one(ROWS, h), 1))
    planes = directory.one(SAMPLES, 1) if directory.one(PLANAR, 1) == 2 else 1
    compression = directory.one(COMPRESSION, RAW)
    if len(places) != grid * planes or (len(counts) != len(places) and (counts or compression != RAW)):
        raise ValueError(f"it has {len(places)} strips or tiles and {len(counts)} sizes of them, need {grid * planes}")
    stored = sum(counts) if counts else size
    if max(places) > size or any(a + b > size for a, b in zip(places, counts, strict=bool(counts))) or stored > size:
        raise ValueError(f"its pixels should be behind byte {size}, its last")
    packed = w * h * max(directory.values(BITS, (1,))) * directory.one(SAMPLES, 1) // 8
    least = {RAW: packed, **dict.fromkeys(FAX, h // 8)}.get(compression, packed // MAX_RATIO)  # fax: a bit a row
    if stored < least:
        raise ValueError(f"{w} x {h} pixels cannot be in {stored} bytes")


def _rewritten(directory, begins, size):
    """Yield the parts of the file with a header and a directory of our own."""
    order, big = directory.order, directory.big
    entry, number, most = (20, "Q", 8) if big else (12, "I", 4)
    place = size + size % 2
    start = b"II" if order == "<" else b"MM"
    yield start + (struct.pack(order + "HHHQ", 43, 8, 0, place) if big else struct.pack(order + "HI", 42, place))
    yield begins, size
    yield bytes(size % 2)
    entries, values = b"", b""
    tags = sorted(directory.tags.items())
    values_at = place + (8 if big else 2) + len(tags) * entry + most
    for tag, (kind, raw) in tags:
        count = len(raw) // struct.calcsize("<" + _TYPES[kind])
        field = raw.ljust(most, b"\0")
        if len(raw) > most:
            field, values = struct.pack(order + number, values_at + len(values)), values + raw + bytes(len(raw) % 2)
        entries += struct.pack(order + "HH" + number, tag, kind, count) + field
    yield struct.pack(order + ("Q" if big else "H"), len(tags)) + entries + bytes(most) + values
