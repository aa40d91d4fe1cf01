"""Damage to a JSON document: as a tree, and as text."""

from pagnp.opset import OPS

VALUES = (None, True, False, 0, 1, -1, 2, 3, 7, 64, 3.0, 0.5, -0.0, 1e-320, 1e308, -1e308, 2**31, 2**53, 2**63)
VALUES += (-(2**70),)
VALUES += (10**25, 1048576, 1048577, "", "x", "input", "a/b", "..", "\x1b[2J", "\ud800", "ö", "x" * 300, [], {})
VALUES += ([[]], [0, 0], [1, 1], [2, 2], [1 << 20, 1 << 20], [0, 0, 0, 0], [1, 2, 3], {"op": "none"}, {"a": {"b": []}})


def _places(value, found, holder=None, key=None):
    """Collect (holder, key) of every value in the tree."""
    if holder is not None:
        found.append((holder, key))
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, child in steps:
        _places(child, found, value, step)
    return found


def damaged_json(rng, document):
    """Return the document with one to three values changed."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places = _places(document, [])
        if not places:
            return document
        holder, key = rng.choice(places)
        old, draw = holder[key], rng.random()
        if draw < 0.15:
            del holder[key]
        elif draw < 0.45:
            _nudge(rng, document, holder, key, old)
        elif draw < 0.7:
            holder[key] = rng.choice(VALUES)
        elif draw < 0.85:  # something from elsewhere in the document: cycles, names of other kinds
            other, place = rng.choice(places)
            holder[key] = _copied(other[place]) if place in _keys(other) else rng.choice(VALUES)
        elif isinstance(holder, list):
            holder.insert(rng.randrange(len(holder) + 1), _copied(old))
        else:
            holder[rng.choice(("extra", "name", "op", "eps", "scale", "value", "groups", "rates", "size"))] = old
    return document


def _keys(holder):
    return holder if isinstance(holder, dict) else range(len(holder))


def _copied(value):
    if isinstance(value, dict):
        return {key: _copied(child) for key, child in value.items()}
    return [_copied(child) for child in value] if isinstance(value, list) else value


def _nudge(rng, document, holder, key, old):
    """Change a value into one of its own kind, so that more of the file stays plausible."""
    if isinstance(old, bool):
        holder[key] = not old
    elif isinstance(old, (int, float)):
        holder[key] = rng.choice((old + 1, old - 1, old * 2, 0, 1, 2, 3, -old, old + 0.5, 1 << 20))
    elif key == "op":
        holder[key] = rng.choice(sorted(OPS))
    elif isinstance(old, str):
        nodes = document.get("nodes") if isinstance(document, dict) else None
        names = [node.get("name") for node in nodes if isinstance(node, dict)] if isinstance(nodes, list) else []
        holder[key] = rng.choice([*names, "input", "hard", "soft", "gumbel_hard", "gumbel_soft", old])
    elif isinstance(old, list) and old:
        rng.shuffle(old)
    else:
        holder[key] = rng.choice(VALUES)


WORDS = (b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999", b"9" * 400, b"9" * 5000, b"\xff", b"\\ud800")
WORDS += (b"\\u0000",)
WORDS += (b"\0", b"[" * 200, b"[" * 100_000, b'{"a":' * 200, b"0x10", b"01", b"1.", b"//", b"\xef\xbb\xbf", b'"')
WORDS += (b"null",)
WORDS += (b"null", b'"a":1,"a":2,', b"\\", b"1" + b"0" * 30, b"1e-400", b"-", b"\xf0\x9f\x98\x80", b"[]," * 3000)
WORDS += (b"true",)


def damaged_text(rng, text):
    """Return the text with words put in, written over values, or keys doubled."""
    text = bytes(text)
    for _ in range(rng.choice((1, 1, 2))):
        places = [i for i, byte in enumerate(text) if byte in b":,[{"] or [0]
        place = rng.choice(places) + 1
        draw = rng.random()
        if draw < 0.4:  # over the value that begins there
            ends = [text.find(mark, place) for mark in (b",", b"}", b"]")]
            end = min([end for end in ends if end >= 0] or [len(text)])
            text = text[:place] + rng.choice(WORDS) + text[end:]
        elif draw < 0.7:
            text = text[:place] + rng.choice(WORDS) + text[place:]
        elif draw < 0.85:
            text = text[: rng.randrange(len(text) + 1)]
        else:
            place = rng.randrange(len(text) + 1)
            text = text[:place] + bytes([rng.randrange(256)]) + text[place + 1 :]
    return text
