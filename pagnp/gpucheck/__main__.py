"""python -m pagnp.gpucheck [--out DIR] [--only conformance,speed] [--backend cupy]: prove and measure GPU backends.

python -m pagnp.gpucheck --merge A/gpucheck.json B/gpucheck.json [--out DIR]: one report of several runs
"""

import argparse
import datetime
import functools
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import pagnp
from pagnp.backends.gpu import driver
from pagnp.errors import BackendError, PagnpError, UsageError
from pagnp.files import make_folder
from pagnp.gpucheck import document as files
from pagnp.gpucheck import environment as surroundings
from pagnp.gpucheck import running, stages
from pagnp.types import Json

MINUTES = 8.0
ROOT = Path(pagnp.__file__).parent.parent
WEIGHTS, IMAGE = ROOT / "examples/models/rooms-seg.h5", ROOT / "examples/images/room.png"
INTERRUPTED = 130


class _Parser(argparse.ArgumentParser):
    """One whose errors are UsageErrors: one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"gpucheck: {message}; see python -m pagnp.gpucheck --help")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the options. Raises UsageError for a name, number or file that is not possible."""
    parser = _Parser(prog="python -m pagnp.gpucheck", description="Prove and measure GPU backends.")
    parser.add_argument("--out", type=Path, default=Path("gpucheck"), help="folder for gpucheck.json and gpucheck.md")
    parser.add_argument("--only", default="", help=f"some of {','.join(stages.NAMES)}")
    parser.add_argument("--backend", default="", help=f"some of {','.join(stages.BACKENDS)}")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="for everything (default %(default)s)")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="the shipped model")
    parser.add_argument("--image", type=Path, default=IMAGE, help="the shipped picture")
    parser.add_argument("--commit", help="of the source, where git cannot tell")
    parser.add_argument("--every", type=int, default=1, help="take every N-th row and layer: a quick try, no proof")
    parser.add_argument("--merge", type=Path, nargs="+", default=[], help="gpucheck.json of runs: nothing is run anew")
    options = parser.parse_args(arguments)
    options.only = _names("--only", options.only, stages.NAMES)
    options.backend = _names("--backend", options.backend, stages.BACKENDS)
    for name, default in (("weights", WEIGHTS), ("image", IMAGE)):
        if (path := getattr(options, name)) != default and not path.is_file():
            parser.error(f"--{name} {path}: there is no such file")
    if options.every < 1 or not options.minutes > 0:
        parser.error("--every and --minutes need a number above 0")
    return options


def _names(option, text, known):
    found = [part for part in text.split(",") if part]
    if unknown := [part for part in found if part not in known]:
        raise UsageError(f"gpucheck: {option} {', '.join(unknown)} is unknown; choose from {', '.join(known)}")
    return found


def files_of(options: argparse.Namespace) -> list[str]:
    """Return what the stages are told beside their names: key=value."""
    found = [f"{name}={path}" for name in ("weights", "image") if (path := getattr(options, name)).is_file()]
    return [*found, f"every={options.every}"]


def command_line(options: argparse.Namespace) -> str:
    """Return the command as others would repeat it: without what says where this one lay."""
    words = ["python -m pagnp.gpucheck"]
    words += [f"--{name} {','.join(getattr(options, name))}" for name in ("only", "backend") if getattr(options, name)]
    words += [f"--minutes {options.minutes:g}"] if options.minutes != MINUTES else []
    return " ".join(words + ([f"--every {options.every}"] if options.every != 1 else []))


class Document:
    """The two files, written anew whenever something has changed."""

    def __init__(self, folder: Path, about: Json, clock: Callable[[], float] = time.monotonic) -> None:
        self.folder, self.about, self.clock, self.begun = folder, about, clock, clock()
        make_folder(folder)

    def write(self, outcomes: Sequence[running.Outcome]) -> Json:
        """Write gpucheck.json and gpucheck.md, and return the document."""
        about = {**self.about, "seconds": self.clock() - self.begun}
        document = files.made(about, [outcome.as_json() for outcome in outcomes])
        files.write(self.folder, document)
        return document


def summary(document: Json) -> list[str]:
    """Return the last lines for the terminal: targets, then stages."""
    lines = [f"target  {t['verdict']:<12}  {t['name']}: {_number(t)} ({t['wanted']})" for t in document["targets"]]
    lines += [f"stage   {s['status']:<12}  {s['name']}, {s['backend']}" for s in document["stages"]]
    return lines


def _number(target: Json) -> Any:
    return "-" if target["measured"] is None else f"{target['measured']:.3f}"


def main(arguments: Sequence[str], command: stages.Command | None = None) -> int:
    """Run the check; return 0, 1 if a stage failed, 5 without a GPU or where no stage could run, 130 after Ctrl-C.

    With --merge: 0 if the report was written, whatever it says.
    """
    try:
        options = parse(arguments)
        if options.merge:
            return merge(options)
        try:
            about = surroundings.environment(options.commit)
        except driver.DriverProblem as problem:
            raise BackendError(f"gpucheck: {problem}; there is nothing to check") from problem
        about |= {"command": command_line(options), "every": options.every}
        about |= {"when": datetime.datetime.now().astimezone().isoformat(timespec="seconds")}
        document = Document(options.out, about)
    except PagnpError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return carry_out(options, document, command or functools.partial(stages.command, files=files_of(options)))


def merge(options: argparse.Namespace) -> int:
    """Write one report of several runs, and tell what is in it."""
    document = files.merged([files.read(path) for path in options.merge])
    make_folder(options.out)
    files.write(options.out, document)
    print("\n".join(summary(document)), flush=True)
    return 0


def carry_out(options: argparse.Namespace, document: Document, command: stages.Command) -> int:
    """Run the chosen stages; return the exit code."""
    wanted = stages.chosen(options.only, options.backend)
    told = functools.partial(print, flush=True)
    try:
        outcomes = running.run(wanted, command, 60 * options.minutes, document.write, told)
    except KeyboardInterrupt:
        told(f"stopped; what there is lies in {document.folder}")
        return INTERRUPTED
    document.about["nvidia-smi at the end"] = surroundings.smi()
    for line in summary(document.write(outcomes)):
        told(line)
    if all(outcome.status == running.UNRUN for outcome in outcomes):
        print("gpucheck: no stage could run, nothing was checked", file=sys.stderr)
        return BackendError.exit_code
    return int(any(outcome.status == running.FAILED for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
