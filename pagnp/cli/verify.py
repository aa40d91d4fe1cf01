"""`pagnp verify`: replay a receipt and name the first difference and its cause, or spot-check it exactly."""

import os
from pathlib import Path

import click

from pagnp.cli.options import backend_option, debug_option, json_option, load_model, print_notices, threads_option
from pagnp.cli.progress import progress
from pagnp.cli.run import Failures
from pagnp.cli.verify_report import Outcome, Report
from pagnp.errors import ContractError, ImageError, ModelFileError, UsageError


@click.command("verify")
@click.argument("file", metavar="RECEIPT")
@click.option("--weights", metavar="MODEL.h5", help="The model file, instead of the receipt's path.")
@click.option("--arch", metavar="ARCH", help="Instead of the receipt's: the network of a plain state_dict.")
@click.option(
    "--image",
    "images",
    multiple=True,
    metavar="IMAGE",
    help="The image, instead of the receipt's path; for several images once for each, in their order.",
)
@backend_option
@threads_option
@click.option("--spot", type=click.IntRange(min=1), metavar="N", help="Recompute N elements of each layer exactly.")
@click.option(
    "--seed", type=click.IntRange(0, 2**64 - 1), default=0, show_default=True, metavar="N", help="Of --spot's choice."
)
@json_option
@debug_option
def command(file, weights, arch, images, backend, threads, spot, seed, as_json):
    """Replay what a RECEIPT of `pagnp run --receipt` says and compare every digest.

    On a difference: the first layer that differs, place, bits and the cause, found out by another backend and by
    exact arithmetic. With --spot N, random elements of each layer are recomputed in exact rational arithmetic from
    the layer's inputs in one run; no second backend is needed.

    Exit code 0 if all is the same, 1 if anything differs.
    """
    from pagnp import receipt

    document = receipt.read(file)
    paths = image_paths(document, file, images)
    note_version(document)
    report, failures = Report(file, as_json, spot, seed), Failures()
    model, refusal = loaded(document, file, weights, arch, backend, threads)
    if refusal is not None:
        report.refuse(refusal)
        return report.finish(0)
    with progress(len(paths)) as shown:
        for entry, path in zip(document["images"], paths, strict=True):
            shown.advance(Path(path).name)
            with failures:
                require(path, images, f"{file} names it; give the image with --image", ImageError)
                outcome = check_image(model, path, entry, spot, seed, shown.share)
                with shown.pause():
                    report.add(outcome)
    return report.finish(failures.exit_code)


def image_paths(document, file, given):
    """Return the path of each image of the receipt: those of --image in order, or its own. Raises UsageError."""
    count = len(document["images"])
    if given and len(given) != count:
        raise UsageError(f"verify: {file} has {count} image(s), --image is given {len(given)} time(s); give it {count}")
    return list(given) or [located(entry["path"], file) for entry in document["images"]]


def located(path, file):
    """Return where the receipt's `path` leads: from the receipt's folder, else from the current one."""
    beside = os.path.join(os.path.dirname(file), path)
    return beside if os.path.exists(beside) else path


def require(path, given, hint, error):
    """Raise `error` if `path`, which a receipt names and nobody has `given`, is not there."""
    if not given and not os.path.exists(path):
        raise error(f"{path}: does not exist; {hint}")


def network_of(document, file, weights):
    """Return the receipt's --arch, None if it has none or the model file `weights` in its place brings its own.

    A config.json is looked for as images are.
    """
    arch = document["model"].get("arch")
    if arch is None or (weights is not None and is_model_file(weights)):
        return None
    return located(arch, file) if arch.endswith(".json") else arch


def is_model_file(path):
    """Tell whether `path` is marked as a pagnp model file; a plain state_dict is not."""
    from pagnp import h5guard

    try:
        with h5guard.opened(path) as root:
            return h5guard.has_attribute(path, root, "format")
    except ModelFileError:  # NPZ, safetensors; what is no file at all is told by who reads it
        return False


def loaded(document, file, weights, arch, backend, threads):
    """Return (the model of the receipt `file`, None), or (None, Finding): another contract or model, no subnormals.

    weights, arch   in place of what the receipt names, or None
    """
    from pagnp.contract import CONTRACT_NAME
    from pagnp.diagnose import Finding
    from pagnp.modelfile import model_hash

    made_for = document["contract"]
    if made_for != CONTRACT_NAME:
        text = f"the receipt is of {made_for}, this pagnp keeps {CONTRACT_NAME}; use the pagnp of the receipt"
        return None, Finding("contract", text)
    path = located(document["model"]["path"], file) if weights is None else weights
    require(path, weights is not None, f"{file} names it; give the model with --weights", ModelFileError)
    try:
        network = network_of(document, file, weights) if arch is None else arch
        model = load_model(path, network, backend, threads)
    except ContractError as error:
        return None, Finding("subnormals", str(error))
    here, want = model_hash(model.graph), document["model"]["hash"]
    if here == want:
        return model, None
    return None, Finding("weights", f"{path} is another model: its hash is {here[:16]}..., not {want[:16]}...")


def note_version(document):
    """Say on stderr if another version of pagnp wrote the receipt: information, no difference."""
    from pagnp import __version__

    if document["pagnp"] != __version__:
        print_notices([f"the receipt is by pagnp {document['pagnp']}, this is {__version__}"])


def check_image(model, path, entry, count, seed, progress):
    """Return the Outcome of one image of the receipt; `count` and `seed` are those of --spot."""
    from pagnp import diagnose, replay
    from pagnp.image import load_image

    image = load_image(path)
    if image.digest != entry["pixels"]:
        return Outcome(path, finding=other_pixels(path, image, entry))
    try:
        if count is not None:
            return spot_image(model, path, image.pixels, entry, count, seed)
        here, rows = replay.replay(model, image.pixels, entry, progress)
        difference = replay.first_difference(rows)
        finding = None if difference is None else diagnose.explain(model, image.pixels, entry, here, difference)
    except ContractError as error:
        return Outcome(path, finding=diagnose.Finding("subnormals", str(error)))
    except UsageError as error:
        raise UsageError(f"{path}: the receipt's options cannot be run: {error}") from error
    return Outcome(path, rows, difference, finding)


def other_pixels(path, image, entry):
    """Return the Finding for an image whose pixels are not the receipt's."""
    from pagnp.diagnose import Finding

    h, w = image.size
    if [h, w] != entry["size"]:
        sizes = f"{h}x{w} here, {'x'.join(map(str, entry['size']))} in the receipt"
        return Finding("pixels", f"{path} is another image: {sizes}")
    text = f"{path} has other pixels: digest {image.digest[:16]}..., the receipt's {entry['pixels'][:16]}..."
    return Finding("pixels", f"{text}; another file, or another JPEG decoder (a PNG is decoded alike everywhere)")


def spot_image(model, path, pixels, entry, count, seed):
    """Return the Outcome of --spot: digests of one dense run against the receipt, elements against exact arithmetic."""
    from pagnp import diagnose, receipt, replay
    from pagnp.canonical import canonical
    from pagnp.testing import spot_run

    options = replay.call_options(entry)
    result = spot_run.traced(model, pixels, options)
    searched = replay.Row(replay.THRESHOLDS, *map(replay.spoken, (entry["thresholds"], result.thresholds)))
    private = frozenset() if "dense" in options else spot_run.private_layers(model, result.size, options)
    here = receipt.image_entry(canonical(model.graph), path, result, entry["options"])
    rows = replay.rows(entry, here, searched, private)
    spots = list(spot_run.spots(model, pixels, result, options, count, seed))
    difference, wrong = replay.first_difference(rows), next((spot for spot in spots if not spot.ok), None)
    finding = None
    if wrong is not None:
        text = f"{wrong.name} ({wrong.op}) is not what exact arithmetic makes of its inputs"
        finding = diagnose.Finding("this backend", f"{text} on {model.backend.name}", [wrong.first])
    elif difference is not None:
        finding = diagnose.explain_by_spots(entry, here, difference, spots, receipt.values_of(result))
    return Outcome(path, rows, difference, finding, spots)
