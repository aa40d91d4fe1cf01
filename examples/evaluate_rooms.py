"""Measure a rooms model on freshly rendered scenes, with pagnp alone (no torch).

    python examples/evaluate_rooms.py --weights examples/models/rooms-seg.h5 --seed 3 --count 200

With --image also the model's hash and its digest on that image (the model card's JSON is this output).
Prints JSON: mean and per-class intersection over union, pixel accuracy, kept share per gate (mean and standard
deviation over scenes), use of each MultiPool rate, MACs, and one SHA-256 over the digests of all scenes.
"""

import argparse
import json
import math
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from rooms import CLASSES, render
from rooms.make import parse_size

import pagnp
from pagnp.evaluate.segmentation import Segmentation
from pagnp.evaluate.work import Work
from pagnp.modelfile import model_hash


def evaluate(model, scenes, **options):
    """Return the scores of `model` over an iterable of rendered scenes (dicts of `rooms.render`)."""
    labels, work = Segmentation(len(CLASSES)), Work()
    for scene in scenes:
        start = time.perf_counter()
        result = model(scene["image"], **options)
        work.add(result, time.perf_counter() - start)
        labels.add(result.outputs["segmentation"], scene["labels"])
    found, spent = labels.result(CLASSES), work.result()
    return {
        "mean_iou": found["mean_iou"],
        "pixel_accuracy": found["pixel_accuracy"],
        "iou": {name: value for name, value in found["iou"].items() if not math.isnan(value)},
        "kept": spent["kept"],
        "gated_share": spent["gated_share"],
        "gmac": {name: spent["macs"][name] / 1e9 for name in ("dense", "executed")},
        "rates": {
            name: {rate: round(share, 4) for rate, share in used.items()} for name, used in spent["rates"].items()
        },
        "digest": spent["digest"],
    }


def main():
    """Parse the command line, render, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=3, help="of the scenes; 1 and 2 were used for training")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--size", type=parse_size, default=(192, 256))
    parser.add_argument("--image", type=Path)
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--dense", action="store_true")
    parser.add_argument("--budget", type=float)
    args = parser.parse_args()
    model = pagnp.load(args.weights, backend=args.backend)
    scenes = (render(args.seed, index, args.size) for index in range(args.count))
    found = evaluate(model, scenes, dense=args.dense, budget=args.budget)
    if args.image:
        found = {"model_hash": model_hash(model.graph), "image_digest": model(args.image).digest} | found
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
