"""Where the metadata of an HDF5 file are, and damage to them with the checksums put right again.

Newer structures (OHDR, BTHD ...) end in a checksum; without a right one the library refuses them at once, and a
fuzzer would see nothing behind that check.
"""

import struct

SIGNATURES = {  # -> bytes worth damaging
    b"\x89HDF": 96,
    b"TREE": 120,
    b"SNOD": 168,
    b"HEAP": 48,
    b"OHDR": 280,
    b"OCHK": 280,
    b"FRHP": 146,
    b"FHDB": 60,
    b"FHIB": 60,
    b"BTHD": 38,
    b"BTLF": 120,
    b"BTIN": 120,
    b"FAHD": 28,
    b"FADB": 60,
    b"EAHD": 76,
    b"EAIB": 60,
    b"GCOL": 48,
}
PLAIN = (b"TREE", b"SNOD", b"HEAP", b"GCOL", b"FHDB", b"FHIB")  # end in no checksum, or in one far behind
LONGEST = 600  # of a structure whose checksum is put right
INTERESTING = (0, 1, 2, 3, 4, 7, 8, 15, 16, 31, 32, 63, 64, 127, 128, 255, 256, 1 << 15, 65535, 1 << 16, 1 << 20)
INTERESTING += ((1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)


def lookup3(content):
    """Return Bob Jenkins's hashlittle (lookup3.c, public domain) of bytes, as HDF5 uses it."""
    mask = 0xFFFFFFFF
    a = b = c = (0xDEADBEEF + len(content)) & mask
    place, last = 0, max(len(content) - 1, 0) // 12 * 12
    for place in range(0, last, 12):
        x, y, z = struct.unpack_from("<III", content, place)
        a, b, c = (a + x) & mask, (b + y) & mask, (c + z) & mask
        for turn in (4, 6, 8, 16, 19, 4):
            a = (a - c) & mask ^ ((c << turn | c >> (32 - turn)) & mask)
            a, b, c = b, (c + b) & mask, a
    if not content:
        return c
    x, y, z = struct.unpack("<III", content[last:].ljust(12, b"\0"))
    a, b, c = (a + x) & mask, (b + y) & mask, (c + z) & mask
    for turn in (14, 11, 25, 16, 4, 14, 24):
        c = ((c ^ b) - (b << turn | b >> (32 - turn))) & mask
        a, b, c = b, c, a
    return b


class Seed:
    """A sound HDF5 file and where its metadata are.

    places   [(first byte, number of bytes)] of structures
    sums     [(first byte, place of the checksum)] of those that end in one
    """

    def __init__(self, content, headers=()):
        self.content = bytes(content)
        self.places = []
        for place in headers:  # version 1: they have no signature
            self.places.append((place, 16 + struct.unpack_from("<I", self.content, place + 8)[0]))
        self.sums = []
        for signature, length in SIGNATURES.items():
            place = self.content.find(signature)
            while place >= 0:
                self.places.append((place, length))
                if signature not in PLAIN and not (place == 0 and self.content[8] < 2):
                    self._find_sum(place)
                place = self.content.find(signature, place + 1)
        self.addresses = [place for place, _ in self.places]

    def _find_sum(self, place):
        for end in range(place + 12, min(place + LONGEST, len(self.content) - 4)):
            have = self.content[end : end + 4]
            # A checksum hardly ever has so many zeros or letters; trying all places would take seconds.
            if have.count(0) < 2 and not have.isalnum() and int.from_bytes(have, "little") == self._sum(place, end):
                self.sums.append((place, end))
                return

    def _sum(self, place, end):
        return lookup3(self.content[place:end])

    def put_right(self, content, touched):
        """Write the checksums of the structures around the bytes `touched`; not where they are cut off."""
        for place, end in self.sums:
            if end + 4 <= len(content) and any(place <= byte < end for byte in touched):
                content[end : end + 4] = struct.pack("<I", lookup3(bytes(content[place:end])))
        return content


def number(rng, seed, size):
    """Return `size` bytes: an interesting number, an address of another structure, the file's size, or anything."""
    draw = rng.random()
    if draw < 0.45:
        value = rng.choice(INTERESTING)
    elif draw < 0.75:
        value = rng.choice(seed.addresses)
    elif draw < 0.85:
        value = len(seed.content) + rng.randint(-8, 8)
    else:
        value = rng.getrandbits(8 * size)
    return (value % (1 << 8 * size)).to_bytes(size, "little")


def damaged_fields(rng, seed):
    """Return the file with one to three fields of its metadata changed."""
    content, touched = bytearray(seed.content), []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        first, length = rng.choice(seed.places)
        place = min(first + rng.randrange(length), len(content) - 8)
        draw = rng.random()
        if draw < 0.25:
            content[place] ^= 1 << rng.randrange(8)
            touched.append(place)
            continue
        size = rng.choice((1, 1, 2, 4, 8, 8))
        if draw < 0.4:  # a little more or less
            value = int.from_bytes(content[place : place + size], "little") + rng.choice((-8, -2, -1, 1, 2, 8))
            content[place : place + size] = (value % (1 << 8 * size)).to_bytes(size, "little")
        else:
            place -= place % size if rng.random() < 0.8 else 0
            content[place : place + size] = number(rng, seed, size)
        touched += range(place, place + size)
    return seed.put_right(content, touched)


def exchanged_blocks(rng, seed):
    """Return the file with a piece of one structure copied over another: loops, types in a wrong place."""
    content = bytearray(seed.content)
    (source, length), (target, _) = rng.choice(seed.places), rng.choice(seed.places)
    count = rng.randint(1, length)
    shift = 0 if rng.random() < 0.6 else rng.randrange(0, 64, 8)
    piece = content[source + shift : source + shift + count][: len(content) - target]
    content[target : target + len(piece)] = piece
    return seed.put_right(content, range(target, target + len(piece)))


def exchanged_addresses(rng, seed):
    """Return the file with a pointer to one structure led to another: trees and headers that contain themselves."""
    content = bytearray(seed.content)
    old = struct.pack("<Q", rng.choice(seed.addresses))
    places, place = [], content.find(old)
    while place >= 0:
        places.append(place)
        place = content.find(old, place + 1)
    if not places or old == bytes(8):
        return damaged_fields(rng, seed)
    place = rng.choice(places)
    content[place : place + 8] = struct.pack("<Q", rng.choice(seed.addresses))
    return seed.put_right(content, range(place, place + 8))
