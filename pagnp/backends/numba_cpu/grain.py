"""How finely a kernel's work is cut: small maps stay in the caller's thread, large ones make a few chunks a thread."""

from pagnp.backends.numba_cpu.threads import CHUNKS_PER_THREAD

SIMPLE = 1 << 15  # elements of a chunk at least, for a copy or a few float32 operations an element: about 20 us
COSTLY = 1 << 12  # the same for exp, log or Philox


def grain(total, threads, smallest, width=1):
    """Return the `chunk` for `parallel` over `total` rows of `width` elements, at least `smallest` elements a chunk."""
    return max(-(-smallest // max(width, 1)), -(-total // (threads * CHUNKS_PER_THREAD)))
