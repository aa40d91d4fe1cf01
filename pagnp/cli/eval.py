"""`pagnp eval`: a model over a folder with ground truth, and the scores of its heads."""

from pathlib import Path

import click
from click.core import ParameterSource

from pagnp.cli.options import (
    arch_option,
    backend_option,
    check_run_options,
    check_target,
    debug_option,
    json_option,
    load_model,
    run_options,
    seed_option,
    threads_option,
)
from pagnp.cli.progress import progress
from pagnp.cli.streams import emit
from pagnp.errors import UsageError

LAYOUTS = ("auto", "camvid", "bsds", "rooms", "panorama", "folders")
OF_MODELS = "weights arch tasks backend budget threshold dense flip tile gate_mode seed thresholds nms".split()
NAMES = {"tasks": "--task", "nms": "--nms, --no-nms"}
TASKS = ("segmentation", "boundary", "depth", "normals")


@click.command("eval")
@click.option("--weights", metavar="MODEL.h5", help="The model file.")
@arch_option
@click.argument("truth_folder", metavar="DATA")
@click.option("--layout", type=click.Choice(LAYOUTS), default="auto", show_default=True, help="How DATA is laid out.")
@click.option("--split", metavar="NAME", help="Part of the set; default: test, where there are parts.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N images by name.")
@click.option("--task", "tasks", type=click.Choice(TASKS), multiple=True, help="Only this one; may be repeated.")
@backend_option
@threads_option
@run_options
@seed_option
@click.option(
    "--thresholds", type=click.IntRange(1, 9999), default=99, show_default=True, metavar="N", help="Of boundary maps."
)
@click.option(
    "--nms/--no-nms", default=True, help="Suppress what is no ridge of a boundary map first (default), or not."
)
@click.option("--humans", is_flag=True, help="Score the annotators of boundaries against each other; no model.")
@click.option("--per-image", is_flag=True, help="Also the scores of every image.")
@json_option
@click.option("--csv", "csv_file", metavar="FILE", help="Write image,head,metric,value rows; - is stdout.")
@click.option("--overwrite", is_flag=True, help="Replace the CSV file if it exists.")
@debug_option
def command(weights, arch, truth_folder, layout, split, humans, per_image, as_json, csv_file, overwrite, **call):
    """Run a model over DATA, a folder with ground truth, and print its scores.

    \b
    Segmentation: mean IoU, pixel and class accuracy. Boundaries: ODS, OIS, AP as
    in the BSDS500 benchmark. Depth: abs rel, RMSE, log RMSE, delta. Normals:
    mean, median, within 11.25, 22.5, 30 degrees. And the multiply-adds done,
    the share of pixels that each gate kept, seconds, one digest of all results.

    What each number means, and the layouts of DATA: docs/EVALUATION.md.
    """
    check_usage(weights, humans, as_json, csv_file, call)
    if csv_file not in (None, "-"):
        check_csv(csv_file, overwrite, [weights, arch], truth_folder)
    from pagnp.cli import eval_report
    from pagnp.evaluate.layouts import open_truth

    truth = open_truth(truth_folder, layout, split)
    if humans:
        found = measure_humans(truth, call["limit"], call["threads"])
    else:
        found = measure_model(load_model(weights, arch, call.pop("backend"), call["threads"]), weights, truth, call)
    found = {"data": truth_folder, **found}
    if not per_image:
        found.pop("scenes")
    try:  # whichever of both fails, the other is not lost
        if csv_file == "-":
            emit(eval_report.as_csv(found).rstrip("\n"))
        else:
            emit(eval_report.as_json(found) if as_json else eval_report.as_table(found))
    finally:
        if csv_file not in (None, "-"):
            from pagnp.files import write_atomic

            write_atomic(csv_file, eval_report.as_csv(found).encode("utf-8", "surrogateescape"), overwrite)


def check_usage(weights, humans, as_json, csv_file, call):
    """Raise UsageError where options exclude each other or one is missing."""
    check_run_options("eval", call)
    given = click.get_current_context().get_parameter_source
    of_model = [name for name in OF_MODELS if given(name) is ParameterSource.COMMANDLINE]
    if humans and of_model:
        options = ", ".join(NAMES.get(name, f"--{name.replace('_', '-')}") for name in of_model)
        raise UsageError(f"eval: --humans scores annotators, not a model; leave out {options}")
    if not humans and not weights:
        raise UsageError("eval: Missing option '--weights'; name a model file, or give --humans")
    if csv_file == "-" and as_json:
        raise UsageError("eval: --json and --csv - both want stdout; give --csv a file")


def check_csv(csv_file, overwrite, inputs, truth_folder):
    """Raise UsageError, before any work, if the CSV file cannot be written or would replace what is read."""
    check_target("eval: --csv", csv_file, overwrite, "scores.csv")
    target, data = Path(csv_file).resolve(), Path(truth_folder).resolve()
    of_data = target.is_relative_to(data) or target == data.parent / "classes.csv"  # which a panorama reads
    if target in [Path(name).resolve() for name in inputs if name] or of_data and target.exists():
        raise UsageError(f"eval: --csv {csv_file}: is the model or part of DATA; give another name")


def measure_humans(truth, limit, threads):
    """Return what `human_agreement` does, with progress on a terminal."""
    from pagnp.evaluate.humans import human_agreement

    with progress(len(truth.names[:limit])) as shown:
        return human_agreement(truth, limit=limit, threads=threads, watch=shown.advance)


def measure_model(model, weights, truth, call):
    """Return the Evaluation as a dict that JSON takes, with progress on a terminal."""
    from dataclasses import asdict

    from pagnp.evaluate.evaluation import evaluate

    call = {("suppressed" if name == "nms" else name): value for name, value in call.items()}
    with progress(len(truth.names[: call["limit"]])) as shown:
        found = asdict(evaluate(model, truth, watch=shown.advance, **call))
    run = {name: call[name] for name in ("limit", "tasks", "budget", "threshold", "dense", "flip", "gate_mode", "seed")}
    run["tasks"] = list(run["tasks"])
    return {"model": str(weights), "backend": model.backend.name, **found, "run": run}
