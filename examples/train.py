"""Train a PAG network by a recipe: first dense, then with gates at a target rate; on a CPU or a GPU.

    python examples/train.py examples/configs/camvid.toml --data CAMVID --work runs/camvid-dense
    python examples/train.py examples/configs/camvid.toml --data CAMVID --work runs/camvid-pag70 \
        --stage pag --rho 0.7 --start runs/camvid-dense --export camvid-pag70.h5

CAMVID is the folder with images/ and labels/. Stopping is harmless: the same command goes on from the last checkpoint
and ends with the same weights (on a CPU). In the folder of --work are checkpoint.pt, log.csv (losses) and scores.csv
(the scores of the running average on the validation split). The test split is read by --evaluate test alone.
"""

# ruff: noqa: E402 - torch reads the environment when it is imported
import argparse
import os
import sys
import time
from pathlib import Path

# Threads that spin while they wait cost ten times the step on a machine with other work to do.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a checkout that is not installed
sys.path.insert(0, str(Path(__file__).resolve().parent))

import torch
from arguments import whole_number
from training import bsds, camvid, room_scenes
from training.augment import normalise
from training.config import STAGES, load
from training.course import Course
from training.dataset import DataError
from training.progress import Log, Window, line

from pagnp.cli.options import check_target
from pagnp.errors import PagnpError

READERS = {"camvid": camvid.dataset, "bsds": bsds.dataset, "rooms": room_scenes.dataset}
CHECKPOINT = "checkpoint.pt"
HELP_STAGE = (
    "dense; or, from a dense network: pag (a gate a pixel), skip (a gate a block and image), truncate (without the "
    "last blocks), multipool, same (nothing new)"
)
# Exit codes: the course is at its end; a file or an option is wrong; --stop-after came first; Ctrl-C.
DONE, FAILED, STOPPED, INTERRUPTED = 0, 1, 3, 130


def parse(arguments=None):
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path, help="a file of examples/configs")
    parser.add_argument("--data", type=Path, required=True, help="the data set's folder")
    parser.add_argument("--work", type=Path, required=True, help="folder for the checkpoint and the logs")
    parser.add_argument("--stage", choices=tuple(STAGES), default="dense", help=HELP_STAGE)
    parser.add_argument(
        "--rho", type=float, help="share that each gate should compute (pag: of the pixels, skip: of the images)"
    )
    parser.add_argument("--start", type=Path, help="folder of a finished course whose weights this one starts from")
    parser.add_argument("--set", action="append", default=[], metavar="TABLE.KEY=VALUE", help="change the config")
    parser.add_argument("--stop-after", type=float, help="stop after so many minutes, with a checkpoint")
    parser.add_argument("--evaluate", choices=("val", "test"), help="only score the checkpoint's running average")
    parser.add_argument("--export", type=Path, help="write the model file when the course is at its end")
    parser.add_argument("--checkpoint-every", type=float, default=3, help="minutes between checkpoints")
    parser.add_argument(
        "--score-every", type=whole_number(1), default=20, help="epochs between scores on the validation split"
    )
    parser.add_argument("--bf16", action="store_true", help="compute in bfloat16 until the last part of the course")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument(
        "--ahead", type=whole_number(0), default=0, help="processes that prepare batches ahead (for a GPU: 3)"
    )
    parser.add_argument("--in-memory", action="store_true", help="read all scenes first")
    parser.add_argument("--threads", type=whole_number(1), default=2)
    parser.add_argument("--seed", type=whole_number(0), default=0)
    return parser.parse_args(arguments)


def check(args):
    """Raise an error, before hours of work, where the device or the file of --export cannot be had."""
    try:
        if torch.zeros(1, device=args.device).device.type not in ("cpu", "cuda"):
            raise RuntimeError("of another kind")
    except (RuntimeError, AssertionError) as error:  # the latter of a torch without CUDA
        message = f"--device {args.device}: torch does not see it; give cpu, or cuda where there is a GPU"
        raise DataError(message) from error
    if args.rho is not None and args.stage not in ("pag", "skip"):
        raise DataError(f"--rho {args.rho}: stage {args.stage} has no gates; leave it out, or choose pag or skip")
    if not args.evaluate:
        args.work.mkdir(parents=True, exist_ok=True)
    if args.export is not None:
        check_target("--export", args.export, True, "model.h5")


def prepare(args):
    """Make the course of the command line, taken up where it was left."""
    table = STAGES[args.stage]
    changes = [] if args.rho is None else [f"{table}.rho={args.rho!r}"]
    config = load(args.config, [*args.set, *changes])
    if table not in config.stages:
        raise DataError(f"{args.config}: no [{table}]")
    stage = config.stages[table]
    if args.stage == "skip" and stage.budget == "work":
        raise DataError(f"{table}.budget = work is for stage pag: a gate of stage skip decides on a whole block")
    if args.stage == "skip" and stage.batch == 1:
        raise DataError(f"{table}.batch = 1: the gates of stage skip have norms over images; need 2 or more")
    if stage.distill and args.start is None and not args.evaluate:
        raise DataError(f"{table}.distill needs --start, the dense network that teaches")
    data = READERS[config.dataset](args.data, args.evaluate or config.train_split)
    if args.in_memory:
        data = data.in_memory()
    course = Course(config, args.stage, data, args.seed, args.device, args.bf16, args.ahead)
    if stage.distill and not args.evaluate:
        course.learn_from(args.start / CHECKPOINT)
    checkpoint = args.work / CHECKPOINT
    if checkpoint.exists():
        course.load(checkpoint, to_train=not args.evaluate)
        if args.start and not args.evaluate:
            course.check_start(args.start / CHECKPOINT)
        print(f"{checkpoint}: step {course.step} of {course.steps}, {course.seconds / 60:.1f} minutes", flush=True)
    elif args.evaluate:
        raise DataError(f"{checkpoint}: missing; nothing to score")
    elif args.start:
        for note in course.start_from(args.start / CHECKPOINT):
            print(f"train.py: note: {note}", file=sys.stderr)
    elif args.stage != "dense":
        print(f"train.py: note: --stage {args.stage} without --start begins with random weights", file=sys.stderr)
    return course


def train(course, val, args):
    """Take the steps that are left; return False if the time was up first."""
    began = saved = time.monotonic()
    log, scores = (Log(args.work / f"{name}.csv", course.step) for name in ("log", "scores"))
    window = Window()
    score_steps = args.score_every * course.steps // course.stage.epochs
    while course.step < course.steps:
        before = course.seconds
        window.add(course.take_step(), course.seconds - before)
        if course.step % 50 == 0 or course.step == course.steps:
            course.check()
            means = window.take()
            print(line(course.step, course.steps, window.pace, means), flush=True)
            log.add({"step": course.step, "seconds": course.seconds, **means})
        if course.step % score_steps == 0 or course.step == course.steps:
            show(course.score(val), course, scores)
        now = time.monotonic()
        up = args.stop_after is not None and now - began > 60 * args.stop_after
        if up or now - saved > 60 * args.checkpoint_every or course.step == course.steps:
            course.check()
            course.save(args.work / CHECKPOINT)
            saved = time.monotonic()
        if up and course.step < course.steps:
            return False
    return True


def show(found, course, log=None):
    """Print scores; log them."""
    print("  " + "  ".join(f"{name} {value:.4f}" for name, value in found.items()), flush=True)
    if log is not None:
        log.add({"step": course.step, "seconds": course.seconds, **found})


def export_model(course, path):
    """Write the model file; preprocessing, class names and colours come from the network's own specification."""
    from pagnp.torch import export

    net = course.average.to("cpu", memory_format=torch.contiguous_format).eval()
    example = course.data[0]["image"][None, :, :128, :160].float() / 255
    export(net, path, normalise(example))
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


def main(arguments=None):
    """Train, score, export; return the exit code."""
    args = parse(arguments)
    torch.set_num_threads(args.threads)
    torch.backends.cudnn.benchmark = True  # crops are all of one size
    try:
        check(args)
        course = prepare(args)
        if args.evaluate:
            if args.export and course.step < course.steps:
                raise DataError(f"--export {args.export}: the course is at step {course.step} of {course.steps}")
            show(course.score(course.data), course)
            finished = True
        else:
            val = READERS[course.config.dataset](args.data, "val")
            size = sum(p.numel() for p in course.net.parameters()) / 1e6
            print(f"{len(course.data)} scenes, {course.steps} steps, {size:.2f} M parameters", flush=True)
            finished = train(course, val, args)
        if args.export and finished:
            export_model(course, args.export)
    except (DataError, PagnpError, OSError) as error:
        lines = str(error).splitlines() or [repr(error)]
        # An error in a process of --ahead has its whole traceback before it.
        print(f"train.py: {[line for line in lines if line.strip()][-1]}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("train.py: interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        return INTERRUPTED
    return DONE if finished else STOPPED


if __name__ == "__main__":
    sys.exit(main())
