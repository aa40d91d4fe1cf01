"""A TIFF file taken apart and put together again."""

import struct

NUMBERS = (0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 32, 64, 127, 128, 255, 256, 4095, 16383, 32767, 65500, 65535, 1 << 20)
NUMBERS += (1 << 24, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)


class Tiff:
    """A TIFF file in parts: [(tag, type, values)] and strips; `build` puts the right offsets in."""

    SIZES = {1: "B", 2: "B", 3: "H", 4: "I", 5: "Q", 6: "b", 7: "B", 8: "h", 9: "i", 11: "I", 12: "Q", 13: "I", 16: "Q"}

    def __init__(self, order, big, tags, strips):
        self.order, self.big, self.tags, self.strips, self.next = order, big, tags, strips, 0

    @classmethod
    def read(cls, content):
        """Take a sound TIFF apart (its first directory)."""
        order, big = "<" if content[:2] == b"II" else ">", content[2:4] in (b"+\0", b"\0+")
        place = struct.unpack_from(order + ("Q" if big else "I"), content, 8 if big else 4)[0]
        head, number, entry, most = ("Q", "Q", 20, 8) if big else ("H", "I", 12, 4)
        count = struct.unpack_from(order + head, content, place)[0]
        place += struct.calcsize(head)
        tags = []
        for i in range(count):
            tag, kind, length = struct.unpack_from(order + "HH" + number, content, place + i * entry)
            at = place + (i + 1) * entry - most
            code = cls.SIZES.get(kind, "B")
            if length * struct.calcsize(code) > most:
                at = struct.unpack_from(order + number, content, at)[0]
            tags.append((tag, kind, list(struct.unpack_from(f"{order}{length}{code}", content, at))))
        known = {tag: values for tag, _, values in tags}
        starts, counts = known.get(273, known.get(324, [])), known.get(279, known.get(325, []))
        return cls(order, big, tags, [content[a : a + n] for a, n in zip(starts, counts, strict=True)])

    def build(self, rng=None):
        """Return the bytes; with `rng`, one entry's raw count, type or place is spoilt afterwards."""
        order, head, number, most = self.order, "H", "I", 4
        if self.big:
            head, number, most = "Q", "Q", 8
        start = (b"II" if order == "<" else b"MM") + struct.pack(order + "H", 43 if self.big else 42)
        start += struct.pack(order + "HHQ", 8, 0, 16) if self.big else struct.pack(order + "I", 8)
        place = len(start) + struct.calcsize(head) + len(self.tags) * (2 * most + 4) + most
        data, at = b"", []
        for strip in self.strips:
            at.append(place + len(data))
            data += strip
        entries = []
        for tag, kind, values in self.tags:
            values = at if tag in (273, 324) and values == [0] * len(at) else values
            code = self.SIZES.get(kind, "B")
            limit = 1 << 8 * struct.calcsize(code)
            raw = b"".join(struct.pack(order + code.upper(), value % limit) for value in values)
            field = raw.ljust(most, b"\0")
            if len(raw) > most:
                field, data = struct.pack(order + number, place + len(data)), data + raw
            entries.append([tag, kind, len(values), field])
        if rng and entries:
            entry = rng.choice(entries)
            spoil = rng.randrange(3)
            if spoil == 0:
                entry[1] = rng.choice((0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12, 13, 16, 17, 18, 255, 65535))
            elif spoil == 1:
                entry[2] = rng.choice(NUMBERS)
            else:
                entry[3] = struct.pack(order + number, rng.choice((*NUMBERS, place, len(start) + len(data))))
        table = b"".join(struct.pack(order + "HH" + number, *entry[:3]) + entry[3] for entry in entries)
        return start + struct.pack(order + head, len(entries)) + table + struct.pack(order + number, self.next) + data
