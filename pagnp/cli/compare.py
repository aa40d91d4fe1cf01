"""`pagnp compare`: one image through several backends, every layer held to the bit; or against somebody's arrays."""

import json

import click
from click.core import ParameterSource

from pagnp.cli import reference_report
from pagnp.cli.options import (
    BACKENDS,
    HOST_BACKENDS,
    arch_option,
    debug_option,
    json_option,
    load_model,
    parse_size,
    seed_option,
    threads_option,
    weights_option,
)
from pagnp.cli.streams import emit
from pagnp.errors import UsageError

SHOWN = 12  # hex digits of a digest in the table


@click.command("compare")
@weights_option
@arch_option
@click.argument("image", required=False, metavar="[IMAGE]")
@click.option("--random-image", metavar="HxW", help="Use noise of this size, drawn from --seed, instead of an image.")
@click.option("--backends", default=",".join(HOST_BACKENDS), show_default=True, metavar="LIST")
@click.option("--reference", metavar="FILE.npz", help="Hold one backend against these arrays, within error bounds.")
@click.option("--backend", type=click.Choice(("auto", *HOST_BACKENDS)), default="auto", help="With --reference.")
@click.option("--skip-unknown", is_flag=True, help="With --reference: leave out arrays that are no layer's.")
@threads_option
@click.option("--dense", is_flag=True, help="Compute everything, private layers included, and compare these too.")
@seed_option
@json_option
@debug_option
@click.pass_context
def command(
    ctx, weights, arch, image, random_image, backends, reference, backend, skip_unknown, threads, dense, seed, as_json
):
    """Run IMAGE on several backends; print the digest of every layer and the first difference.

    The first backend of the list is what the others are held against. Exit code 1 if any bit differs.

    With --reference, hold every layer against arrays that somebody saved (from PyTorch, say): names are those of
    `pagnp info --json`, and a key "input" is the network's input in place of IMAGE. Exit code 1 if any is out of the
    error bound computed for it. docs/NUMERICS.md, "Against other libraries", says how to save such a file.
    """
    check_options(ctx, reference)
    if reference is not None:
        pixels = None if image is None and random_image is None else read_pixels(image, random_image, seed)
        found = reference_report.check_reference(weights, arch, backend, threads, seed, reference, pixels, skip_unknown)
        text = json.dumps(reference_report.as_json(*found), indent=2) if as_json else None
        emit(text or "\n".join(reference_report.table(found[0])))
        return 0 if found[0].first is None else 1
    names = parse_backends(backends)
    pixels = read_pixels(image, random_image, seed)
    results = {}
    for name in names:
        model = load_model(weights, arch, name, threads)
        results[name] = model(pixels, trace=True, dense=dense, seed=seed)
    rows = compare_results(results)
    difference = first_difference(results)
    if as_json:
        emit(json.dumps({"equal": difference is None, "first_difference": difference, "values": rows}, indent=2))
    else:
        emit("\n".join(table(names, rows, difference)))
    return 0 if difference is None else 1


def check_options(ctx, reference):
    """Raise UsageError for options that belong to the other way of comparing."""
    wrong = ("backends", "dense") if reference is not None else ("backend", "skip_unknown")
    for name in wrong:
        if ctx.get_parameter_source(name) == ParameterSource.COMMANDLINE:
            option = "--" + name.replace("_", "-")
            raise UsageError(
                f"compare: {option} does not go with --reference"
                if reference is not None
                else f"compare: {option} goes with --reference alone"
            )


def parse_backends(text):
    """Return the backends of "a,b". Raises UsageError unless there are two known, different ones at least."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in BACKENDS]
    if unknown:
        raise UsageError(f"compare: backend {', '.join(unknown)} is unknown; choose from {', '.join(BACKENDS)}")
    if len(names) < 2 or len(set(names)) < len(names):
        raise UsageError(f"compare: --backends {text}: name two different backends at least")
    return names


def read_pixels(image, random_image, seed):
    """Return uint8 (h, w, 3): the image's pixels, or noise that depends on the seed alone."""
    import numpy as np

    if (image is None) == (random_image is None):
        raise UsageError("compare: give either an image or --random-image HxW")
    if image is not None:
        from pagnp.image import load_image

        return load_image(image).pixels
    h, w = parse_size(random_image, "--random-image")
    return np.random.Generator(np.random.PCG64(seed)).integers(0, 256, (h, w, 3), np.uint8)


def values_of(result):
    """Return kind/name -> array of everything a Result holds, layers first and in their order."""
    groups = ("layers", "logits", "outputs", "masks", "rates")
    found = {f"{kind}/{name}": array for kind in groups for name, array in getattr(result, kind).items()}
    return {**found, "ponder": result.ponder}


def compare_results(results):
    """Return a row a value: {"name", "shape", "digests": {backend: hex, or None where it is missing}}."""
    from pagnp.contract import digest

    values = {backend: values_of(result) for backend, result in results.items()}
    names = dict.fromkeys(name for found in values.values() for name in found)
    rows = []
    for name in names:
        arrays = {backend: found.get(name) for backend, found in values.items()}
        shape = next(list(array.shape) for array in arrays.values() if array is not None)
        digests = {backend: None if array is None else digest(array) for backend, array in arrays.items()}
        rows.append({"name": name, "shape": shape, "digests": digests})
    return rows


def first_difference(results):
    """Return {"name", "backend", "against", "what"} of the first value that differs, or None."""
    from pagnp.contract import compare

    (reference, want), *others = [(backend, values_of(result)) for backend, result in results.items()]
    for name in dict.fromkeys([*want, *(name for _, found in others for name in found)]):
        for backend, found in others:
            if name not in found or name not in want:
                what = f"only {reference if name in want else backend} has it"
            else:
                what = compare(found[name], want[name])
            if what:
                return {"name": name, "backend": backend, "against": reference, "what": str(what)}
    return None


def table(names, rows, difference):
    """Return the lines of the table and the verdict."""
    width = max(len(row["name"]) for row in rows)
    lines = [f"{'value':<{width}}  {'shape':>15}  " + "  ".join(f"{name:<{SHOWN}}" for name in names)]
    for row in rows:
        digests = [row["digests"][name] for name in names]
        shown = "  ".join((digest or "missing")[:SHOWN].ljust(SHOWN) for digest in digests)
        mark = "" if len(set(digests)) == 1 else "  DIFFERS"
        lines.append(f"{row['name']:<{width}}  {'x'.join(map(str, row['shape'])):>15}  {shown}{mark}")
    if difference is None:
        lines.append(f"{len(rows)} values, the same to the bit on {', '.join(names)}")
    else:
        d = difference
        lines.append(f"first difference: {d['name']}, {d['backend']} against {d['against']}: {d['what']}")
    return lines
