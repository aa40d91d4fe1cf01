"""Readers of command-line arguments that several scripts of this folder share."""

import argparse
from collections.abc import Callable

LARGEST = 2**63 - 1  # of a seed that both NumPy and torch take


def whole_number(least: int) -> Callable[[str], int]:
    """Return a reader of whole numbers from `least` on, for `type=` of an argument."""

    def read(text: str) -> int:
        if not (text.isascii() and text.isdecimal()) or len(text) < 20 and int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r}: need a whole number from {least} on")
        if len(text) >= 20 or int(text) > LARGEST:
            raise argparse.ArgumentTypeError(f"{text!r}: need a whole number up to {LARGEST}")
        return int(text)

    return read
