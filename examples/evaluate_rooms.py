"""Measure a rooms model on freshly rendered scenes, with pagnp alone (no torch): the numbers of its model card.

    python examples/evaluate_rooms.py --weights examples/models/rooms-seg.h5 --image examples/images/room.png

Prints JSON: the model's hash, its digest on the image, and what `pagnp eval --json` says of the same scenes in a folder
(docs/EVALUATION.md), less what differs from machine to machine: the seconds.
"""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a checkout that is not installed
sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
from arguments import whole_number
from rooms import CLASSES, render
from rooms.make import parse_size

import pagnp
from pagnp.cli.eval_report import as_json
from pagnp.errors import PagnpError
from pagnp.evaluate.evaluation import BoundaryScore, evaluate
from pagnp.evaluate.groundtruth import GroundTruth
from pagnp.evaluate.layouts.rooms import KINDS
from pagnp.modelfile import model_hash
from pagnp.types import Json

THRESHOLDS = 9  # of a map of 0 and 1: any would do


def rendered(seed: int, count: int, size: tuple[int, int]) -> GroundTruth:
    """Return scenes as ground truth that are rendered when they are read, as rooms.make stores them."""

    def read(name):
        scene = render(seed, int(name), size)
        # Stored scenes have normals in float16; both ways must give one score.
        scene["normals"] = scene["normals"].astype(np.float16).astype(np.float32)
        scene["boundary"] = scene["boundary"].astype(np.float32)
        return {kind: scene[kind] for kind in ("image", *KINDS)}

    return GroundTruth("rooms", [f"{k:06d}" for k in range(count)], KINDS, read, Path, tuple(CLASSES))


def main() -> None:
    """Parse the command line; render, measure and print, or say in one line what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--weights", type=Path)
    what.add_argument("--ceiling", action="store_true", help="score the true boundaries as if they were an answer")
    parser.add_argument("--seed", type=whole_number(0), default=3, help="of the scenes; 1 and 2 were used for training")
    parser.add_argument("--count", type=whole_number(1), default=200)
    parser.add_argument("--size", type=parse_size, default=(192, 256))
    parser.add_argument("--image", type=Path)
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--dense", action="store_true")
    parser.add_argument("--budget", type=float)
    args = parser.parse_args()
    try:
        print(as_json(ceiling(args) if args.ceiling else measured(args)))
    except PagnpError as error:
        raise SystemExit(f"evaluate_rooms.py: {error}") from error


def ceiling(args: argparse.Namespace) -> Json:
    """Return what true boundaries score as an answer: not 1, as some are two pixels thick."""
    ways = {"nms": BoundaryScore(THRESHOLDS, True, None), "no_nms": BoundaryScore(THRESHOLDS, False, None)}
    truth = rendered(args.seed, args.count, args.size)
    for name in truth.names:
        boundary = truth.read(name)["boundary"]
        for score in ways.values():
            score.add(boundary, boundary)
    of = {"seed": args.seed, "size": list(args.size), "count": args.count}
    found = {way: score.result() for way, score in ways.items()}
    return {"rendered": of, **{way: {key: scores[key] for key in ("ods", "ois")} for way, scores in found.items()}}


def measured(args: argparse.Namespace) -> Json:
    """Return what is printed of a model."""
    model = pagnp.load(args.weights, backend=args.backend)
    digest = {"image_digest": model(args.image).digest} if args.image else {}
    truth = rendered(args.seed, args.count, args.size)
    found = asdict(evaluate(model, truth, dense=args.dense, budget=args.budget))
    del found["scenes"], found["work"]["seconds"]
    for scores in found["heads"].values():
        scores.pop("curve", None)
    of = {"seed": args.seed, "size": list(args.size)}
    run = {"dense": args.dense, "budget": args.budget}
    return {**digest, "model_hash": model_hash(model.graph), "rendered": of, **found, "run": run}


if __name__ == "__main__":
    main()
