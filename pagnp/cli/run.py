"""`pagnp run`: images in, pictures and a table (or JSON) out."""

import os
import time
from collections import Counter
from pathlib import Path

import click

from pagnp import outputs
from pagnp.cli.options import (
    arch_option,
    backend_option,
    check_run_options,
    debug_option,
    json_option,
    load_model,
    print_notices,
    run_options,
    seed_option,
    threads_option,
    weights_option,
)
from pagnp.cli.progress import progress
from pagnp.cli.report import JsonReport, TableReport, describe
from pagnp.cli.streams import say
from pagnp.errors import ImageError, MemoryLimitError, ShapeError, UsageError

LISTED = 12  # names of existing files in an error message
LONGEST_NAME = 255  # bytes of a file's name on ext4, APFS, NTFS ...
DECISIONS = ("ponder", "masks", "rates")  # the kinds that tell what gates decided: soft ones decide nothing


@click.command("run")
@weights_option
@arch_option
@click.argument("images", nargs=-1, required=True, metavar="IMAGES...")
@click.option("--out", default="pagnp-out", show_default=True, metavar="DIR", help="Folder for the pictures.")
@click.option("--overwrite", is_flag=True, help="Replace files that exist.")
@backend_option
@threads_option
@run_options
@click.option(
    "--save",
    default=",".join(outputs.DEFAULT_KINDS),
    metavar="KINDS",
    help="What to write; default: all but figure, npz.",
)
@click.option("--figure", is_flag=True, help="Write one picture of it all, too: as if figure were in --save.")
@click.option("--receipt", "receipt_file", metavar="FILE", help="Write the digests of every layer, for pagnp verify.")
@json_option
@seed_option
@debug_option
def command(weights, arch, images, out, overwrite, backend, threads, save, figure, receipt_file, as_json, **call):
    """Run a model on IMAGES (files or folders) and write its maps as pictures.

    \b
    Kinds to --save: labels, overlay, depth, normals, boundary, ponder (how many
    gates computed each pixel), masks (one per gate), rates (chosen by each
    MultiPool), figure (all of these in one picture), npz (the raw arrays).

    On stdout: height and width, seconds, dense and executed GMACs, the share of
    the gated convolutions that was computed, and the digest of each image.
    """
    check_run_options("run", call)
    kinds = parse_kinds(save, figure)
    check_out(out)
    out = Path(out)
    model = load_model(weights, arch, backend, threads)
    files = outputs.planned(model.graph, kinds, settings(weights, call))
    note_missing(kinds, files, save, call["gate_mode"])
    failures = Failures()
    paths = collect(images, out, failures)
    bases = {path: out / stem for path, stem in outputs.stems(paths).items()}
    for folder in {base.parent for base in bases.values()}:
        check_out(folder)
    check_targets(files, bases, overwrite)
    recorder = None
    if receipt_file is not None:
        from pagnp import receipt

        check_receipt(receipt_file, [weights, *([arch] if arch else [])], files, bases, overwrite)
        recorder = receipt.Recorder(model, weights, arch)
        recorder.require_room(bases)
        call["trace"] = "digests"
    report = JsonReport() if as_json else TableReport(paths)
    try:
        with progress(len(paths)) as shown:
            for path in paths:
                shown.advance(path.name)
                with failures:
                    entry = run_one(
                        model, path, files, bases[path], overwrite, {**call, "progress": shown.share}, recorder
                    )
                    with shown.pause():
                        report.add(entry)
    finally:  # whatever stopped the rest, what is done is told
        report.finish()
    if recorder is not None:
        finish_receipt(recorder, receipt_file, overwrite)
    return failures.exit_code


def run_one(model, path, files, base, overwrite, call, recorder=None):
    """Run one image, write its files, add it to the receipt, return its entry of the report."""
    from pagnp.image import load_image

    check_names(path, base, files)
    image = load_image(path).pixels
    start = time.perf_counter()
    try:
        result = model(image, **call)
    except (ShapeError, MemoryLimitError) as error:  # these name nodes and sizes, not the image
        raise type(error)(f"{path}: {error}") from error
    except MemoryError as error:  # others took what was free when the run was planned
        raise MemoryLimitError(f"{path}: out of memory; use a smaller image, or bands (--tile 32)") from error
    seconds = time.perf_counter() - start
    if result.tile != call["tile"]:
        print_notices([f"{path}: memory is short, computed in bands of {result.tile} rows"])
    try:
        written = outputs.write(files, result, image, base, overwrite)
    except MemoryError as error:
        raise MemoryLimitError(f"{path}: not enough memory to make its files; ask for fewer with --save") from error
    if recorder is not None:
        recorder.add(path, result, call)
    return describe(path, image, seconds, result, written)


def check_names(path, base, files):
    """Raise ImageError if a file of this image would have a name that no file system takes."""
    longest = max((outputs.path_of(base, file).name for file in files), key=len, default="")
    if len(os.fsencode(longest)) > LONGEST_NAME:
        raise ImageError(f"{path}: the name is too long to add '{longest[len(base.name) :]}' to it; rename the image")


class Failures:
    """Context manager around one image: prints its error and lets the others go on."""

    def __init__(self):
        self.exit_code = 0

    def __enter__(self):
        return self

    def __exit__(self, kind, error, _trace):
        if not isinstance(error, (ImageError, ShapeError, MemoryLimitError)):
            return False
        self.add(error)
        return True

    def add(self, error):
        """Report `error`; a size that the network cannot take counts as a bad image."""
        say(f"error: {error}")
        code = error.exit_code if isinstance(error, MemoryLimitError) else ImageError.exit_code
        self.exit_code = max(self.exit_code, code)


def parse_kinds(text, figure=False):
    """Return the kinds of --save, and of --figure, in their usual order. Raises UsageError on an unknown one."""
    asked = [part.strip() for part in text.split(",") if part.strip()] + ["figure"] * figure
    unknown = [kind for kind in asked if kind not in outputs.KINDS]
    if unknown or not asked:
        raise UsageError(f"run: --save {', '.join(unknown) or 'nothing'}: choose from {', '.join(outputs.KINDS)}")
    return [kind for kind in outputs.KINDS if kind in asked]


def settings(weights, call):
    """Return [(name, value)] of what a figure tells of the command: the model's file and the options in force."""
    found = [("model", Path(weights).name)]
    given = [name for name in ("budget", "gate_mode", "tile") if call[name] is not None]
    given += ["seed"] if call["seed"] else []
    found += [(name.replace("_", " "), f"{call[name]}") for name in given]
    found += [("flip", "on, work of one pass")] if call["flip"] else []
    return found + ([("dense", "on")] if call["dense"] else [])


def note_missing(kinds, files, save, gate_mode):
    """Say on stderr which kinds the user asked for that this model, or its soft gates, do not have."""
    if save == ",".join(outputs.DEFAULT_KINDS):
        return
    has = {file.kind for file in files}
    soft = DECISIONS if gate_mode in ("soft", "gumbel_soft") else ()
    missing = {"this model has": set(kinds) - has, f"with --gate-mode {gate_mode} there are": has.intersection(soft)}
    for why, which in missing.items():
        if which:
            print_notices([f"{why} no {', '.join(sorted(which))} to save"])


def check_receipt(file, read, files, bases, overwrite):
    """Raise UsageError if the receipt `file` cannot be written, or is a file that the run reads or writes itself."""
    from pagnp import receipt

    written = [outputs.path_of(base, output) for base in bases.values() for output in files]
    receipt.check_target(file, overwrite, [*read, *bases, *written])
    receipt.check_names([*map(os.fspath, read), *map(str, bases)])
    check_out(Path(file).parent, "--receipt")


def finish_receipt(recorder, file, overwrite):
    """Write the receipt of the images that were done, if there are any."""
    if recorder.images:
        recorder.write(file, overwrite)
    else:
        print_notices([f"no image was run, so there is no receipt {file}"])


def check_out(out, option="--out"):
    """Raise UsageError if `out` is not a folder that we can write to or make."""
    if not os.fspath(out):
        raise UsageError("run: --out is empty; name a folder, for instance --out pagnp-out")
    existing = out = Path(out)
    while not os.path.lexists(existing) and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        raise UsageError(f"run: {option} {out}: {existing} is a file, not a folder; choose another one")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UsageError(f"run: {option} {out}: no permission to write to {existing}; choose another folder")


def collect(images, out, failures):
    """Return the image paths of the arguments, each once; what is missing or empty is reported as a failure.

    Pictures of an earlier run, in the folder `out` below an argument, are no input.
    """
    from pagnp.image import find_images

    found = {}
    for argument in images:
        try:
            if not argument:  # Path("") would be the current folder
                raise ImageError("'': an empty name is no image; is a variable of your script unset?")
            paths = find_images([argument])
            if Path(argument).is_dir() and out.resolve() != Path(argument).resolve():
                paths = [path for path in paths if out.resolve() not in path.resolve().parents]
            found.update((os.path.realpath(path), path) for path in paths if os.path.realpath(path) not in found)
        except ImageError as error:
            failures.add(error)
    return list(found.values())


def check_targets(files, bases, overwrite):
    """Raise UsageError if a file to be written exists, is an input, or would be written twice."""
    targets = [outputs.path_of(base, file) for base in bases.values() for file in files]
    sources = {os.path.realpath(path) for path in bases}
    clashing = [path for path in targets if os.path.realpath(path) in sources]
    if clashing:
        raise UsageError(f"run: {clashing[0]} is an input and would be written too; choose another --out")
    twice = [path for path, count in Counter(targets).items() if count > 1]
    if twice:
        raise UsageError(f"run: {twice[0]} would be written for two images; run them apart")
    existing = [path for path in targets if os.path.lexists(path)]
    if existing and not overwrite:
        names = ", ".join(str(path) for path in existing[:LISTED])
        more = f" and {len(existing) - LISTED} more" if len(existing) > LISTED else ""
        raise UsageError(f"run: these files exist: {names}{more}; add --overwrite or choose another --out")
