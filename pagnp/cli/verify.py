"""`pagnp verify`: replay a receipt and name the first difference and its cause, or spot-check it exactly."""

import os
from pathlib import Path

import click

from pagnp.cli.options import BACKENDS, debug_option, json_option, load_model, print_notices, threads_option
from pagnp.cli.progress import progress
from pagnp.cli.run import Failures
from pagnp.cli.verify_report import Outcome, Report
from pagnp.errors import ContractError, UsageError


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
@click.option(
    "--backend", type=click.Choice(["auto", *BACKENDS]), default="auto", show_default=True, help="auto is numba."
)
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
    source = weights or located(document["model"]["path"], file)
    network = arch or located_arch(document["model"].get("arch"), file)
    model, refusal = loaded(document, source, network, backend, threads)
    if refusal is not None:
        report.refuse(refusal)
        return report.finish(0)
    with progress(len(paths)) as shown:
        for entry, path in zip(document["images"], paths, strict=True):
            shown.advance(Path(path).name)
            with failures:
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


def located_arch(arch, file):
    """Return the receipt's --arch; a config.json is looked for as images are."""
    return located(arch, file) if arch is not None and arch.endswith(".json") else arch


def loaded(document, path, arch, backend, threads):
    """Return (the receipt's model, None), or (None, Finding): another contract, another model, flushed subnormals."""
    from pagnp.contract import CONTRACT_NAME
    from pagnp.diagnose import Finding
    from pagnp.modelfile import model_hash

    made_for = document["contract"]
    if made_for != CONTRACT_NAME:
        text = f"the receipt is of {made_for}, this pagnp keeps {CONTRACT_NAME}; use the pagnp of the receipt"
        return None, Finding("contract", text)
    try:
        model = load_model(path, arch, backend, threads)
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
        _, rows = replay.replay(model, image.pixels, entry, progress)
        difference = replay.first_difference(rows)
        finding = None if difference is None else diagnose.explain(model, image.pixels, entry, difference)
    except ContractError as error:
        return Outcome(path, finding=diagnose.Finding("subnormals", str(error)))
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
    from pagnp import diagnose, replay
    from pagnp.testing import spot_run

    options = replay.call_options(entry)
    result = spot_run.traced(model, pixels, options)
    searched = replay.Row(replay.THRESHOLDS, *map(replay.spoken, (entry["thresholds"], result.thresholds)))
    private = frozenset() if "dense" in options else spot_run.private_layers(model, result.size, options)
    rows = replay.rows(entry, result, searched, private)
    spots = list(spot_run.spots(model, pixels, result, options, count, seed))
    difference, wrong = replay.first_difference(rows), next((spot for spot in spots if not spot.ok), None)
    finding = None
    if wrong is not None:
        text = f"{wrong.name} ({wrong.op}) is not what exact arithmetic makes of its inputs"
        finding = diagnose.Finding("this backend", f"{text} on {model.backend.name}", [wrong.first])
    elif difference is not None:
        text = "every element recomputed agrees with this machine; the receipt's was wrong, or the receipt was changed"
        finding = diagnose.Finding("receipt", text, diagnose.probes_apart(entry, result))
    return Outcome(path, rows, difference, finding, spots)
