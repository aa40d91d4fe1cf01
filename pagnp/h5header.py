"""The bytes of an HDF5 file that may be hostile: which are whose, the superblock, and the messages of object headers.

`h5structure` walks over the file with it. Section numbers are those of the HDF5 File Format Specification 3.0.
"""

import struct

MAX_MESSAGES = 4096  # of one object header
UNDEFINED = (1 << 64) - 1

# Header messages, IV.A.2
DATASPACE, LINK_INFO, DATATYPE, LINK, LAYOUT, CONTINUATION, SYMBOLS, ATTRIBUTES = 1, 2, 3, 6, 8, 16, 17, 21
ONCE = (DATASPACE, LINK_INFO, DATATYPE, 5, LAYOUT, 11, SYMBOLS, ATTRIBUTES)  # 5 fill value, 11 filters
KNOWN = {0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14, 16, 17, 18, 21, 22}
SHARED = 2  # flag of a message


class Fault(Exception):
    """What is wrong: `args` are the name of the entry and the problem."""


class Source:
    """An open file of `size` bytes; `name` is the entry at work. What is wrong raises Fault."""

    def __init__(self, file, size):
        self.file, self.size = file, size
        self.claims = []  # (first byte, byte behind it, name)
        self.name = ""

    def fail(self, problem):
        """Raise Fault for the entry at work."""
        raise Fault(self.name, problem)

    def damaged(self, what):
        """Raise Fault for what no writer writes."""
        self.fail(f"is damaged or cut short ({what}); copy or export it again")

    def take(self, place, count, what):
        """Return `count` bytes at `place`, which from now on belong to `what`."""
        if not 0 <= place <= place + count <= self.size:
            self.damaged(f"{what} at {place} to {place + count} of {self.size} bytes")
        self.claims.append((place, place + count, self.name))
        self.file.seek(place)
        content = self.file.read(count)
        if len(content) != count:
            self.damaged(f"{what} cannot be read")
        return content

    def peek(self, place, count):
        """Return up to `count` bytes at `place` that `take` asks for later."""
        if not 0 <= place < self.size:
            self.damaged(f"byte {place} of {self.size}")
        self.file.seek(place)
        return self.file.read(count).ljust(count, b"\0")

    def claim(self, place, count, what):
        """Say that `count` bytes of data at `place` belong to the entry at work."""
        if not 0 <= place <= place + count <= self.size:
            self.damaged(f"{what} at {place} to {place + count} of {self.size} bytes")
        self.claims.append((place, place + count, self.name))

    def check_claims(self):
        """Refuse structures and data that share bytes."""
        end = 0
        for first, behind, name in sorted(self.claims):
            if first < end:
                self.name = name
                self.damaged(f"byte {first} belongs to something else, too")
            end = max(end, behind)

    def superblock(self):
        """Return the address of the root group's header. II."""
        version = self.peek(0, 9)[8]
        if version > 3:
            self.fail(f"has a superblock of version {version}, need 0 to 3; export again")
        if version < 2:
            more = 4 * version
            head = self.take(0, 96 + more, "superblock")
            sizes = head[13:15]
            self.leaf, self.internal = struct.unpack_from("<HH", head, 16)
            self.chunk_k = struct.unpack_from("<H", head, 24)[0] if version else 32
            base, free, end, driver = struct.unpack_from("<4Q", head, 24 + more)
            root = struct.unpack_from("<Q", head, 64 + more)[0]
            strange = min(free, driver)
        else:
            head = self.take(0, 48, "superblock")
            sizes = head[9:11]
            self.leaf, self.internal, self.chunk_k = 4, 16, 32
            base, strange, end, root = struct.unpack_from("<4Q", head, 12)
        if sizes != b"\10\10":
            self.fail("has addresses or lengths of another size than 8 bytes; export again")
        if base or strange != UNDEFINED:
            self.fail("has a superblock extension, a driver or free space of its own, need none; export again")
        if end > self.size:
            self.damaged(f"it has {self.size} of {end} bytes")
        return root

    # Object headers, IV.A

    def messages(self, address):
        """Yield (type, body) of the header at `address`, with the blocks that it continues in."""
        start = self.peek(address, 16)
        if start[:4] == b"OHDR":
            yield from self._messages_2(address, start)
            return
        if start[0] != 1:
            self.damaged(f"no object header at {address}")
        size = struct.unpack_from("<I", start, 8)[0]
        self.take(address, 16, "object header")
        blocks = [(address + 16, size)]
        while blocks:
            content = self.take(*blocks.pop(), "object header")
            yield from self._split(content, "<HHB3x", blocks)

    def _messages_2(self, address, start):
        version, flags = start[4:6]
        if version != 2:
            self.damaged(f"object header of version {version}")
        extra = 16 * (flags >> 5 & 1) + 4 * (flags >> 4 & 1)
        wide = 1 << (flags & 3)
        head = self.take(address, 6 + extra + wide, "object header")
        size = int.from_bytes(head[-wide:], "little")
        form = "<BHB2x" if flags & 4 else "<BHB"
        blocks = []
        yield from self._split(self.take(address + len(head), size + 4, "object header")[:-4], form, blocks)
        while blocks:
            content = self.take(*blocks.pop(), "object header")
            if content[:4] != b"OCHK" or len(content) < 8:
                self.damaged("a header continues in what is no header")
            yield from self._split(content[4:-4], form, blocks)

    def _split(self, content, form, blocks):
        """Yield the messages of one block; add to `blocks` where it continues."""
        head, place = struct.Struct(form), 0
        while place + head.size <= len(content):
            kind, size, flags = head.unpack_from(content, place)
            place += head.size
            body = content[place : place + size]
            if len(body) != size or kind not in KNOWN:
                self.damaged(f"message {kind} of {size} bytes in its header")
            if flags & SHARED:
                self.fail("shares a part of its header (a named type), need one of its own; export again")
            if kind == CONTINUATION:
                blocks.append(self.numbers("<QQ", body))
            else:
                yield kind, body
            place += size

    def numbers(self, form, content, place=0):
        """Return the numbers at `place` of a structure."""
        if place + struct.calcsize(form) > len(content):
            self.damaged("a part of its header is too short")
        return struct.unpack_from(form, content, place)
