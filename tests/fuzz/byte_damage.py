"""Damage to any file's bytes that knows nothing of its structure."""


def flipped(rng, content):
    """Return the content with one to eight bits or bytes changed."""
    content = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4, 8)) if content else 0):
        place = rng.randrange(len(content))
        if rng.random() < 0.5:
            content[place] ^= 1 << rng.randrange(8)
        else:
            content[place] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
    return content


def cut(rng, content):
    """Return the beginning of the content."""
    keep = rng.randrange(len(content)) if rng.random() < 0.7 else len(content) - rng.randint(1, 16)
    return content[: max(keep, 0)]


def spliced(rng, content, other):
    """Return the content with a piece of `other` written over or put in, a piece left out, or `other` behind it."""
    draw, content = rng.random(), bytes(content)
    place = rng.randrange(len(content) + 1)
    first = rng.randrange(len(other))
    piece = bytes(other[first : first + rng.choice((1, 4, 16, 64, 512, 4096))])
    if draw < 0.4:
        return content[:place] + piece + content[place + len(piece) :]
    if draw < 0.6:
        return content[:place] + piece + content[place:]
    if draw < 0.8:
        return content[:place] + content[place + len(piece) :]
    return content + bytes(other)
