"""Measure a rooms model on freshly rendered scenes, with pagnp alone (no torch).

    python examples/evaluate_rooms.py --weights examples/models/rooms-seg.h5 --seed 3 --count 200

With --image also the model's hash and its digest on that image (the model card's JSON is this output).
Prints JSON: mean and per-class intersection over union, pixel accuracy, kept share per gate (mean and standard
deviation over scenes), use of each MultiPool rate, MACs, and one SHA-256 over the digests of all scenes.
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

from rooms import CLASSES, render
from rooms.make import parse_size

import pagnp
from pagnp.modelfile import model_hash


def evaluate(model, scenes, **options):
    """Return the scores of `model` over an iterable of rendered scenes (dicts of `rooms.render`)."""
    count = len(CLASSES)
    confusion = np.zeros((count, count), np.int64)
    kept, macs, rates, digests = [], [], {}, hashlib.sha256()
    for scene in scenes:
        result = model(scene["image"], **options)
        pairs = scene["labels"].astype(np.int64) * count + result.outputs["segmentation"]
        confusion += np.bincount(pairs.ravel(), minlength=count * count).reshape(count, count)
        kept.append(list(result.kept.values()))
        macs.append([result.macs[key] for key in ("dense", "executed", "gated_dense", "gated_executed")])
        for name, chosen in result.rates.items():
            for rate, pixels in zip(*np.unique(chosen, return_counts=True), strict=True):
                rates.setdefault(name, {}).setdefault(int(rate), 0)
                rates[name][int(rate)] += int(pixels)
        digests.update(bytes.fromhex(result.digest))
    return scores(confusion) | work(list(result.masks), np.array(kept), np.array(macs), rates, digests)


def scores(confusion):
    """Return mean IoU over the classes that occur, IoU by class and pixel accuracy."""
    hit = np.diag(confusion)
    union = confusion.sum(0) + confusion.sum(1) - hit
    iou = {name: float(hit[i] / union[i]) for i, name in enumerate(CLASSES) if union[i]}
    return {
        "mean_iou": float(np.mean(list(iou.values()))),
        "pixel_accuracy": float(hit.sum() / confusion.sum()),
        "iou": iou,
    }


def work(gates, kept, macs, rates, digests):
    """Return what the network spent: kept shares, MACs a scene, shares of the rates, and the digest."""
    dense, executed, gated_dense, gated_executed = macs.mean(0)
    return {
        "kept": {
            name: {"mean": float(m), "std": float(s)}
            for name, m, s in zip(gates, kept.mean(0), kept.std(0), strict=True)
        },
        "gated_share": float(gated_executed / gated_dense),
        "gmac": {"dense": dense / 1e9, "executed": executed / 1e9},
        "rates": {
            name: {rate: round(n / sum(used.values()), 4) for rate, n in sorted(used.items())}
            for name, used in rates.items()
        },
        "digest": digests.hexdigest(),
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
