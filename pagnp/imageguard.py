"""Look into an image file that may be hostile, before a decoder does: sizes, pictures, chunks, segments, tags.

`screen` walks over the file's own structure and returns an Excerpt of it: the parts that pixels are decoded from. So
texts, profiles, EXIF, thumbnails and animations of any size are never read, and a decoder that allocates by what a
header says gets only headers that the file's bytes can fulfil.
"""

import bisect
import io
import re
import struct
from typing import NamedTuple

from pagnp import tiffguard
from pagnp.errors import ImageError

MAX_FILE = (1 << 31) - 1  # bytes; 200 megapixels of 16-bit RGBA have 1.6e9
MAX_SIDE = 1 << 20  # decoders keep a pointer per row; opset.LIMIT
MAX_PARTS = 500_000  # chunks or segments of one file
MAX_SCANS = 64  # of a progressive JPEG: encoders write about 10, each costs a pass over all pixels
MAX_EXIF = 1 << 16
DEFLATE_RATIO = 1032  # zlib's best: 258 bytes from 2 bits
BLOCK = 1 << 20

PNG, JPEG, TIFF = "PNG", "JPEG", "TIFF"
READABLE = "PNG, JPEG and TIFF"
_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", PNG),
    (b"\xff\xd8\xff", JPEG),  # of a phone's multi-picture JPEG this reads the photograph, its first picture
    (b"II*\0", TIFF),
    (b"MM\0*", TIFF),
    (b"II+\0", TIFF),  # BigTIFF
    (b"MM\0+", TIFF),
)
_REFUSED = ((8, b"WEBP", "WEBP"), (0, b"BM", "BMP"), (0, b"GIF8", "GIF"), (4, b"ftyp", "HEIC or AVIF"))

_PNG_KEPT = (b"IHDR", b"PLTE", b"IDAT", b"IEND")  # transparency (tRNS) is dropped anyhow
_PNG_BITS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}  # by colour type
_PNG_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}

_SOI, _EOI, _SOS, _APP0, _APP1, _APP14 = 0xD8, 0xD9, 0xDA, 0xE0, 0xE1, 0xEE
_SOF = {*range(0xC0, 0xD0), 0xDE, 0xDF} - {0xC4, 0xC8, 0xCC}
_SOF_READ = (0xC0, 0xC1, 0xC2)  # Huffman-coded: baseline, extended, progressive
_TABLES = (0xC4, 0xDB, 0xDD)  # DHT, DQT, DRI
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # of a segment: in a scan FF 00 is a byte, D0 to D7 restart it


class Excerpt(io.RawIOBase):
    """A seekable file made of `parts`: bytes, and (start, stop) ranges of the open `file`."""

    def __init__(self, file, parts):
        self._file, self._place, self._size = file, 0, 0
        self._parts, self._ends = [], []
        for part in parts:
            length = len(part) if isinstance(part, bytes) else part[1] - part[0]
            if length > 0:
                self._parts.append((self._size, part))
                self._size += length
                self._ends.append(self._size)

    def readable(self):
        """A raw file's own question."""
        return True

    def seekable(self):
        """A raw file's own question."""
        return True

    def tell(self):
        """Return the place."""
        return self._place

    def seek(self, offset, whence=io.SEEK_SET):
        """Go to a place and return it."""
        self._place = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence])
        return self._place

    def readinto(self, buffer):
        """Fill the buffer with what one part has; return the number of bytes."""
        number = bisect.bisect_right(self._ends, self._place)
        if number == len(self._parts):
            return 0
        begins, part = self._parts[number]
        inside, count = self._place - begins, min(len(buffer), self._ends[number] - self._place)
        if isinstance(part, bytes):
            content = part[inside : inside + count]
        else:
            self._file.seek(part[0] + inside)
            content = self._file.read(count)
        buffer[: len(content)] = content
        self._place += len(content)
        return len(content)


class Screened(NamedTuple):
    """What of a file goes to a decoder: its format, the excerpt, and the EXIF orientation (1 for none)."""

    format: str
    file: io.BufferedReader
    orientation: int


def screen(file, path, max_pixels):
    """Return the Screened of an open binary file. `path` is for messages.

    Raises: ImageError (another format, damaged, several pictures, larger than `max_pixels`, pixels not in the file).
    """
    kind = _kind(file, path)
    size = file.seek(0, io.SEEK_END)
    if size > MAX_FILE:
        raise ImageError(f"{path}: has {size} bytes, need at most {MAX_FILE}; make it smaller")
    file.seek(0)
    look = {PNG: _screen_png, JPEG: _screen_jpeg, TIFF: tiffguard.screened}[kind]
    try:
        parts, turn = look(file, size, lambda w, h: _check_size(w, h, max_pixels))
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error
    except ValueError as error:
        raise ImageError(f"{path}: damaged or cut short ({error}); get the file again or save it anew") from error
    return Screened(kind, io.BufferedReader(Excerpt(file, parts)), turn)


def _kind(file, path):
    """Return the format of what `file` holds, by its first bytes."""
    start = file.read(12)
    if not start:
        raise ImageError(f"{path}: is empty; get the file again")
    for magic, kind in _MAGIC:
        if start.startswith(magic):
            return kind
    for offset, magic, name in _REFUSED:
        if start[offset:].startswith(magic):
            raise ImageError(f"{path}: is {name}; pagnp reads {READABLE}: save it as PNG first")
    raise ImageError(f"{path}: is not an image that pagnp knows; it reads {READABLE}")


def _check_size(w, h, max_pixels):
    """Raise ImageError for a size that no picture has or that is over the limit."""
    if w < 1 or h < 1:
        raise ImageError(f"has no pixels ({w} x {h}); get the file again")
    if w * h > max_pixels:
        raise ImageError(
            f"{w} x {h} is {w * h / 1e6:.0f} megapixels, the limit is {max_pixels / 1e6:g}; make it smaller"
        )
    if max(w, h) > MAX_SIDE:
        raise ImageError(f"{w} x {h} is too large, need at most {MAX_SIDE} a side; make it smaller")


def _exactly(file, count):
    content = file.read(count)
    if len(content) != count:
        raise ValueError("it ends too soon")
    return content


def _screen_png(file, size, check_size):
    """Return (parts, orientation) of a PNG: its pixels and palette; all other chunks stay unread."""
    parts, place, turn = [(0, 8)], 8, 1
    seen = {}
    for count in range(MAX_PARTS):
        file.seek(place)
        length, kind = struct.unpack(">I4s", _exactly(file, 8))
        if not kind.isalpha() or place + 12 + length > size:
            raise ValueError(f"chunk {count} is no chunk or ends behind the file")
        if (count == 0) != (kind == b"IHDR") or (kind[:1].isupper() and kind not in _PNG_KEPT):
            raise ValueError(f"the chunk {kind.decode('latin-1')} has no place there")
        if kind == b"IHDR":
            header = _png_header(_exactly(file, min(length, 14)), check_size)
        elif kind == b"acTL" and length == 8:
            frames = struct.unpack(">I", _exactly(file, 4))[0]
            if frames > 1:
                raise ImageError(f"holds {frames} pictures; save the one you want as a file of its own")
        elif kind == b"eXIf":
            turn = tiffguard.orientation(file.read(min(length, MAX_EXIF)))
        if kind in _PNG_KEPT and not (kind == b"PLTE" and header[3] != 3):
            if kind in seen and (kind != b"IDAT" or parts[-1][1] != place):
                raise ValueError(f"the chunk {kind.decode()} comes again")
            seen[kind] = seen.get(kind, 0) + length
            ends = place + 12 + length
            parts[-1:] = [(parts[-1][0], ends)] if parts[-1][1] == place else [parts[-1], (place, ends)]
        place += 12 + length
        if kind == b"IEND":
            break
    _check_png_data(header, seen)
    return parts, turn


def _png_header(content, check_size):
    """Return (w, h, bits of a pixel, colour type) of the chunk IHDR."""
    if len(content) != 13:
        raise ValueError("the chunk IHDR has another length than 13")
    w, h, bits, colour, compression, filters, interlace = struct.unpack(">IIBBBBB", content)
    check_size(w, h)
    if bits not in _PNG_BITS.get(colour, ()) or compression or filters or interlace > 1:
        raise ValueError(f"colour type {colour} with {bits} bits is unknown")
    return w, h, bits * _PNG_SAMPLES[colour], colour


def _check_png_data(header, seen):
    w, h, bits, colour = header
    if b"IEND" not in seen or b"IDAT" not in seen or (colour == 3) and not 3 <= seen.get(b"PLTE", 0) <= 768:
        raise ValueError("a chunk that it needs is missing or of a wrong length")
    if w * h * bits // 8 > DEFLATE_RATIO * seen[b"IDAT"]:
        raise ValueError(f"{w} x {h} pixels cannot be in {seen[b'IDAT']} bytes")


def _screen_jpeg(file, size, check_size):
    """Return (parts, orientation) of a JPEG: frame, tables and scans; no EXIF, profiles, texts, further pictures."""
    parts, turn, frame, scans, first_scan = [b"\xff\xd8"], 1, None, 0, 0
    place = 2
    for _ in range(MAX_PARTS):
        place = _next_marker(file, place, size)
        file.seek(place)
        marker = _exactly(file, 2)[1] if place < size else _EOI
        if marker == _EOI:
            break
        length = struct.unpack(">H", _exactly(file, 2))[0]
        if length < 2 or place + 2 + length > size:
            raise ValueError(f"the segment {marker:02X} ends behind the file")
        body = _exactly(file, length - 2)
        if marker < 0xC0 or marker == _SOI or (marker in _SOF and frame):
            raise ValueError(f"the marker {marker:02X} has no place there")
        if marker in _SOF:
            frame = _jpeg_frame(marker, body, check_size)
        elif marker == _SOS:
            scans += 1
            first_scan = first_scan or place
        elif marker == _APP1 and body.startswith(b"Exif\0\0"):
            turn = tiffguard.orientation(body[6:])
        if not scans and (marker in _TABLES or marker in _SOF or _tells_colours(marker, body)):
            parts.append((place, place + 2 + length))
        if scans > MAX_SCANS:
            raise ImageError(f"is a JPEG of over {MAX_SCANS} scans; save it anew or as PNG")
        place += 2 + length
    else:
        raise ValueError(f"it has over {MAX_PARTS} segments")
    if not frame or not scans:
        raise ValueError("it has no picture")
    w, h = frame
    if -(-w // 8) * -(-h // 8) > 8 * (place - first_scan):  # every block has at least one bit
        raise ValueError(f"{w} x {h} pixels cannot be in {place - first_scan} bytes")
    return [*parts, (first_scan, min(place + 2, size))], turn


def _next_marker(file, place, size):
    """Return where the next segment's marker begins, `size` if there is none."""
    block = 1 << 12
    while place < size:
        file.seek(place)
        content = file.read(block)
        block = min(16 * block, BLOCK)
        found = _MARKER.search(content)
        if found:
            return place + found.start()
        place += max(len(content) - 1, 1)
    return size


def _tells_colours(marker, body):
    """Return whether a segment says if the colours are YCbCr or RGB."""
    return (marker == _APP0 and body.startswith(b"JFIF\0")) or (marker == _APP14 and body.startswith(b"Adobe"))


def _jpeg_frame(marker, body, check_size):
    """Return (w, h) of a frame segment."""
    if marker not in _SOF_READ:
        raise ImageError("is a JPEG of a rare kind (arithmetic, lossless or hierarchical); save it as PNG")
    if len(body) < 6 or len(body) != 6 + 3 * body[5]:
        raise ValueError("its frame has a wrong length")
    bits, h, w, components = struct.unpack(">BHHB", body[:6])
    check_size(w, h)
    if bits != 8:
        raise ImageError(f"is a JPEG with {bits}-bit samples; save it as PNG")
    if components not in (1, 3, 4) or any(not (1 <= s >> 4 <= 4 and 1 <= s & 15 <= 4) for s in body[7::3]):
        raise ValueError(f"it has {components} components or samples them strangely")
    return w, h
