"""Find the command that was asked for, run it, and turn what goes wrong into one line and an exit code.

Command modules are imported when they are asked for: `pagnp --help` loads neither NumPy nor a backend.
"""

import importlib
import sys
import traceback

import click

from pagnp import __version__, notices
from pagnp.cli import streams
from pagnp.cli.options import debug_option
from pagnp.errors import PagnpError

COMMANDS = {
    "run": "Run a model on images; write label maps, depth, masks and more as pictures.",
    "eval": "Score a model against ground truth: mean IoU, ODS, depth and normal errors, and its work.",
    "info": "Show what is inside a model file and what it costs.",
    "compare": "Run a model on several backends and compare every layer to the bit.",
    "verify": "Replay a receipt of `run` to the bit; name the first difference and its cause.",
    "convert": "Make a self-contained model file from a plain state_dict.",
    "bench": "Time a network or single layers here, beside other libraries.",
    "export-onnx": "Write a model as ONNX, for other runtimes.",
    "doctor": "Check that this machine can keep the numerical contract.",
    "vectors": "Write cases with their expected bits for other kernels, or check outputs against them.",
}
INTERRUPTED = 130  # 128 + SIGINT, as shells report it
BROKEN_PIPE = 141  # 128 + SIGPIPE: the reader of our output went away


class Interrupted(Exception):
    """Ctrl-C, carried past click, which would print an empty line and exit with 1."""


class CommandGroup(click.Group):
    """The commands of COMMANDS, each in `pagnp.cli.<name>` as `command` (- as _), loaded on use."""

    def list_commands(self, ctx):
        return list(COMMANDS)

    def get_command(self, ctx, name):
        if name not in COMMANDS:
            return None
        return importlib.import_module(f"pagnp.cli.{name.replace('-', '_')}").command

    def format_commands(self, ctx, formatter):
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx):
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise Interrupted from error
        except BrokenPipeError as error:
            raise _PipeClosed from error


class _PipeClosed(Exception):
    """A closed pipe, carried past click, which would exit with 1 ("a check failed")."""


@click.group(cls=CommandGroup, no_args_is_help=False, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="pagnp")
@debug_option
def pagnp():
    """Run Pixel-wise Attentional Gating networks, the same to the bit on every backend."""


def main(arguments=None):
    """Run the command line `arguments` (default: those of the process) and return the exit code."""
    with streams.prepared(), notices.heard_by(lambda message: streams.say(f"note: {message}")):
        return _run(arguments, {"debug": False})


def _run(arguments, state):
    try:
        code = pagnp.main(arguments, "pagnp", standalone_mode=False, obj=state)
        sys.stdout.flush()
        return code or 0
    except (Interrupted, KeyboardInterrupt, click.Abort):
        return _fail("interrupted", INTERRUPTED)
    except (_PipeClosed, BrokenPipeError):
        streams.discard("stdout")
        return BROKEN_PIPE
    except click.ClickException as error:
        path = error.ctx.command_path if getattr(error, "ctx", None) else "pagnp"
        return _fail(f"error: {error.format_message().rstrip('.')}; see '{path} --help'", error.exit_code)
    except PagnpError as error:
        return _fail(f"error: {error}", error.exit_code, state["debug"])
    except MemoryError:
        return _fail("error: out of memory; use a smaller image", 5, state["debug"])
    except Exception as error:
        hint = "add --debug to see where, and please report it"
        return _fail(f"error: unexpected {type(error).__name__}: {error}; {hint}", 1, state["debug"])


def _fail(message, code, with_traceback=False):
    """Print `message` on stderr as one line and return `code`."""
    if with_traceback:
        traceback.print_exc()
    streams.say(message)
    return code
