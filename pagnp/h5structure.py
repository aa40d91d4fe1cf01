"""Walk over the structure of an HDF5 file that may be hostile, without the HDF5 library, and refuse what could hurt it.

The library trusts its files: lists of free blocks that never end take all memory, trees that contain themselves,
counts and types that disagree crash it (docs/MODEL_FORMAT.md, Hostile files). So before it opens a file, everything it
will follow is followed here by the format's specification (HDF5 File Format Specification 3.0; section numbers below),
once: no two structures or data may share a byte, so nothing is reached twice and nothing is larger than the file.

Read is what HDF5 1.8 writes: superblocks 0 to 3, object headers 1 and 2, groups as symbol tables or with their links
in the header, data contiguous, compact or in chunks with a B-tree of version 1. Refused are heaps and B-trees for many
links or attributes (fractal, version 2), shared messages, superblock extensions, and chunk indices of HDF5 1.10. What
names, types and filters mean is left to `h5guard` and `h5dataset`.
"""

import struct

from pagnp.h5header import (
    ATTRIBUTES,
    DATATYPE,
    LAYOUT,
    LINK,
    LINK_INFO,
    MAX_MESSAGES,
    ONCE,
    SYMBOLS,
    UNDEFINED,
    Source,
)

MAX_DEPTH = 16  # groups in groups
# Links in the whole file: `graph`, `weights` and 20,000 in that; ResNet-101 with gates has about 800.
MAX_ENTRIES = 20_002
MAX_CHUNKS = 65_536  # of one dataset
MAX_LEVEL = 8  # of a B-tree
COMPACT, CONTIGUOUS, CHUNKED = 0, 1, 2
SOFT = 2  # cache type of a symbol: a soft link has no object


def check(file, size):
    """Walk over the open `file` of `size` bytes. Raises Fault for the first fault."""
    Walk(file, size).run()


class Walk(Source):
    """One walk over a file; `run` raises Fault."""

    def __init__(self, file, size):
        super().__init__(file, size)
        self.seen = set()  # addresses of object headers
        self.entries = 0

    def run(self):
        """Walk over the whole file."""
        todo = [("", self.superblock(), 0)]
        while todo:
            self.name, address, depth = todo.pop()
            if address in self.seen:  # a second name of an object: h5guard.walk says so
                continue
            self.seen.add(address)
            children = self.object(address)
            prefix = self.name + "/" if self.name else ""
            self.entries += len(children)
            if self.entries > MAX_ENTRIES:
                self.fail(f"has over {MAX_ENTRIES} entries; this is no model")
            if children and depth > MAX_DEPTH:
                self.fail(f"is nested deeper than {MAX_DEPTH} groups; export again")
            if len({name for name, _ in children}) != len(children):
                self.damaged("two entries have one name")
            todo += [(prefix + name, place, depth + 1) for name, place in children]
        self.check_claims()

    def object(self, address):
        """Claim all that belongs to one object; return [(name, address)] of a group's entries."""
        parts, links, count = {}, [], 0
        for kind, body in self.messages(address):
            count += 1
            if count > MAX_MESSAGES or (kind in parts and kind in ONCE):
                self.damaged(f"its header has over {MAX_MESSAGES} messages or has message {kind} twice")
            parts[kind] = body
            if kind == LINK:
                links.append(self.link(body))
        self.check_plain(parts)
        if (SYMBOLS in parts or LINK_INFO in parts) and LAYOUT in parts:
            self.damaged("it is both a group and a dataset")
        if LAYOUT in parts:
            self.layout(parts)
        if SYMBOLS in parts:
            if links or LINK_INFO in parts:
                self.damaged("its links are in two places")
            return self.symbol_table(*self.numbers("<QQ", parts[SYMBOLS]))
        return [link for link in links if link]

    def check_plain(self, parts):
        """Refuse links and attributes in fractal heaps. IV.A.2.c and v"""
        for kind, wide in ((LINK_INFO, 8), (ATTRIBUTES, 2)):
            if kind in parts:
                flags = self.numbers("<BB", parts[kind])[1]
                if self.numbers("<Q", parts[kind], 2 + wide * (flags & 1))[0] != UNDEFINED:
                    fix = "write it with h5py's libver='earliest' and without track_order"
                    self.fail(f"keeps links or attributes in a heap of HDF5 1.8, need them plain; {fix}")

    def link(self, body):
        """Return (name, address) of a hard link in a header; None for other links, which h5guard refuses."""
        _, flags = self.numbers("<BB", body)
        place = 2 + (flags >> 3 & 1)
        kind = body[2] if flags & 8 and len(body) > 2 else 0
        place += 8 * (flags >> 2 & 1) + (flags >> 4 & 1)
        wide = 1 << (flags & 3)
        length = int.from_bytes(body[place : place + wide], "little")
        place += wide + length
        name = body[place - length : place]
        if len(name) != length:
            self.damaged("the name of a link")
        return None if kind else (shown(name), self.numbers("<Q", body, place)[0])

    # Groups as symbol tables, III.A.1 to III.D

    def symbol_table(self, tree, heap):
        """Return the entries of a group."""
        names = self.local_heap(heap)
        found = []
        for node in self.leaves(tree, 0, 8, 2 * self.internal):
            head = self.take(node, 8, "symbol table")
            count = struct.unpack_from("<H", head, 6)[0]
            if head[:5] != b"SNOD\1" or count > 2 * self.leaf:
                self.damaged(f"{count} symbols or no symbols at {node}")
            content = self.take(node + 8, 40 * count, "symbol table")
            for at, address, cache in struct.iter_unpack("<QQI20x", content):
                end = names.find(b"\0", at) if at < len(names) else -1
                if end < 0:
                    self.damaged("a name without an end")
                if cache > SOFT:
                    self.damaged(f"a symbol of kind {cache}")
                if cache != SOFT:
                    found.append((shown(names[at:end]), address))
                if len(found) > MAX_ENTRIES:
                    self.fail(f"has over {MAX_ENTRIES} entries; this is no model")
        return found

    def local_heap(self, address):
        """Return the bytes of the names; its free blocks must come to an end."""
        head = self.take(address, 32, "heap")
        size, free, place = struct.unpack_from("<3Q", head, 8)
        if head[:5] != b"HEAP\0":
            self.damaged(f"no heap at {address}")
        content = self.take(place, size, "heap")
        seen = set()
        while free != 1:  # means: no more
            following, length = self.numbers("<QQ", content, free) if free < size else (free, 0)
            if free in seen or length < 16 or free + length > size:
                self.damaged("free blocks in a loop or outside their heap")
            seen.add(free)
            free = following
        return content

    def leaves(self, address, kind, key, most):
        """Yield what the lowest nodes of a B-tree of version 1 point to; with keys, for chunks. III.A.1"""
        todo, last = [(address, None)], {}  # level -> (the node before on it, the node that it says is next)
        while todo:
            place, expected = todo.pop()
            head = self.take(place, 24, "tree")
            signature, found, level, count, left, right = struct.unpack("<4sBBH2Q", head)
            if signature != b"TREE" or found != kind or level > MAX_LEVEL or count > most:
                self.damaged(f"no tree of this kind at {place}")
            if expected not in (None, level):
                self.damaged(f"a tree with level {level} in place of {expected}")
            before, following = last.get(level, (UNDEFINED, place))
            if left != before or following != place:
                self.damaged("a tree whose nodes are not in one order")
            last[level] = place, right
            content = self.take(place + 24, count * (key + 8) + key, "tree")
            pairs = [content[i * (key + 8) : (i + 1) * (key + 8)] for i in range(count)]
            if level:
                todo += [(struct.unpack("<Q", pair[key:])[0], level - 1) for pair in reversed(pairs)]
            elif kind:
                yield from pairs
            else:
                yield from (struct.unpack("<Q", pair[key:])[0] for pair in pairs)
        if any(right != UNDEFINED for _, right in last.values()):
            self.damaged("a tree whose nodes are not in one order")

    # Data layout, IV.A.2.i

    def layout(self, parts):
        """Claim the bytes of a dataset."""
        body = parts[LAYOUT]
        version, kind = self.numbers("<BB", body)
        if version < 3 or (kind == CHUNKED and version > 3):
            low = "libver='earliest'"
            self.fail(f"has a data layout of version {version}, need what HDF5 1.8 writes; write it with {low}")
        if kind == COMPACT:
            if self.numbers("<H", body, 2)[0] > len(body) - 4:
                self.damaged("its data are larger than its header")
        elif kind == CONTIGUOUS:
            place, size = self.numbers("<QQ", body, 2)
            if place != UNDEFINED:
                self.claim(place, size, "data")
        elif kind == CHUNKED:
            self.chunks(body, self.numbers("<I", parts.get(DATATYPE, b""), 4)[0])

    def chunks(self, body, element):
        """Claim the chunks of a dataset; the last axis of a chunk is the bytes of an element."""
        rank, tree = self.numbers("<BQ", body, 2)
        dims = self.numbers(f"<{rank}I", body, 11)
        if not dims or dims[-1] != element:
            self.damaged(f"chunks for elements of other than {element} bytes")
        if tree == UNDEFINED:
            return
        if not 2 <= rank <= 33 or 0 in dims:
            self.damaged(f"chunks of {rank} axes")
        offsets, form = set(), struct.Struct(f"<II{rank}QQ")
        for pair in self.leaves(tree, 1, 8 + 8 * rank, 2 * self.chunk_k):
            size, _, *offset, place = form.unpack(pair)
            if any(a % b for a, b in zip(offset, dims, strict=True)) or tuple(offset) in offsets:
                self.damaged("a chunk comes twice or begins inside another")
            offsets.add(tuple(offset))
            if len(offsets) > MAX_CHUNKS:
                self.fail(f"has over {MAX_CHUNKS} chunks; export again")
            self.claim(place, size, "chunk")


def shown(raw):
    """Return a name as `h5guard.walk` gives it."""
    return raw.decode("utf-8", "backslashreplace")
