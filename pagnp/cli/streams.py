"""stdout and stderr as they really are: closed, full, in any encoding, in front of any file name."""

import os
import sys
import warnings
from contextlib import contextmanager

from pagnp.errors import UsageError


@contextmanager
def prepared():
    """Make both streams safe to print to: a closed one swallows text, no character can end the program.

    Inside, Python's warnings are notices of one line.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by the caller (>&-); print(file=None) would go to the other one
            setattr(sys, name, open(os.devnull, "w"))
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        yield


def say(message):
    """Print `message` on stderr as one line. That nobody can read it must not stop the work."""
    try:
        print(f"pagnp: {printable(' '.join(line.strip() for line in str(message).splitlines()))}", file=sys.stderr)
    except OSError:  # a full disk or a closed pipe behind stderr
        discard("stderr")


def printable(text):
    """Return `text` with control characters and undecodable bytes as escapes: one line, and no terminal commands."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def emit(text):
    """Print data on stdout. Raises UsageError if there is no room for it, BrokenPipeError if nobody reads it."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        discard("stdout")
        raise UsageError(
            f"stdout: cannot be written ({error.strerror}); free space there, or send it elsewhere"
        ) from error


def discard(name):
    """Send what the stream `name` still holds nowhere: Python flushes it at exit and would complain once more."""
    descriptor = {"stdout": 1, "stderr": 2}[name]
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, descriptor)
    if null != descriptor:
        os.close(null)


def _show_warning(message, category, filename, lineno, file=None, line=None):
    say(f"note: {str(message).removeprefix('pagnp: ')}")
