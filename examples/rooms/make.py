"""Render a set of rooms into a folder, one NPZ per scene, and classes.csv.

    python examples/rooms/make.py --out rooms-data/test --count 200 --seed 3 --size 192x256

Stopping is harmless: scenes that exist are kept, and a file appears under its name only when it is whole. Scenes of
another seed or size in the folder are an error: no set is mixed.
"""

import argparse
import csv
import multiprocessing
import os
import signal
import sys
import time
import zlib
from pathlib import Path
from zipfile import BadZipFile

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    __package__ = "rooms"

import numpy as np
from arguments import whole_number

from .classes import CLASSES, PALETTE
from .render import render


def scene_path(folder, index):
    """Return the file of scene number `index`."""
    return Path(folder) / f"{index:06d}.npz"


def parse_size(text):
    """Read "240x320" as (240, 320)."""
    try:
        h, w = (int(part) for part in text.lower().split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"size {text!r}: expected HEIGHTxWIDTH, such as 240x320") from None
    if min(h, w) < 8:
        raise argparse.ArgumentTypeError(f"size {text!r}: both sides must be at least 8")
    return h, w


def save_scene(job):
    """Render one scene and store it; normals are rounded to float16, everything else is kept as rendered."""
    folder, seed, index, size = job
    path = scene_path(folder, index)
    arrays = render(seed, index, size)
    arrays["normals"] = arrays["normals"].astype(np.float16)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(partial, "wb") as file:
            np.savez_compressed(file, seed=seed, index=index, **arrays)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return index


def check_scene(path, seed, size):
    """Raise ValueError unless a scene that is there is one of this seed and size."""
    try:
        with np.load(path, allow_pickle=False) as scene:
            has = int(scene["seed"]), scene["boundary"].shape
    except (OSError, ValueError, KeyError, EOFError, TypeError, BadZipFile, zlib.error) as error:
        raise ValueError(f"{path}: is no scene ({error}); remove it") from error
    if has != (seed, size):
        was, shape = has
        raise ValueError(
            f"{path}: of seed {was}, {shape[0]}x{shape[1]}, not seed {seed}, {size[0]}x{size[1]}; choose another --out"
        )


def write_classes(folder):
    """Write classes.csv, by which a reader of the scenes knows what the labels mean."""
    with open(folder / "classes.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([("value", "name"), *enumerate(CLASSES)])


def contact_sheet(folder, indices, columns=3):
    """Lay scenes out beside their labels and boundaries; return an RGB uint8 array."""
    cells = []
    for index in indices:
        with np.load(scene_path(folder, index)) as scene:
            colors = np.uint8(PALETTE)[scene["labels"]]
            colors[scene["boundary"]] = 0
            cells.append(np.concatenate([scene["image"], colors], axis=1))
    cells += [np.zeros_like(cells[0])] * (-len(cells) % columns)
    rows = [np.concatenate(cells[k : k + columns], axis=1) for k in range(0, len(cells), columns)]
    return np.concatenate(rows, axis=0)


def run(args):
    """Render every missing scene, with a line of progress every ten seconds."""
    args.out.mkdir(parents=True, exist_ok=True)
    present = [k for k in range(args.count) if scene_path(args.out, k).exists()]
    for k in present:
        check_scene(scene_path(args.out, k), args.seed, args.size)
    write_classes(args.out)
    missing = sorted(set(range(args.count)) - set(present))
    print(f"{args.out}: {len(present)} scenes present, {len(missing)} to render", flush=True)
    jobs = [(args.out, args.seed, k, args.size) for k in missing]
    start = last = time.monotonic()
    with multiprocessing.get_context("spawn").Pool(
        args.workers, signal.signal, (signal.SIGINT, signal.SIG_IGN)
    ) as pool:
        for done, _ in enumerate(pool.imap_unordered(save_scene, jobs, chunksize=4), 1):
            now = time.monotonic()
            if now - last > 10 or done == len(jobs):
                rate = done / (now - start)
                print(
                    f"{done}/{len(jobs)}  {3600 * rate:.0f} scenes/h  {(len(jobs) - done) / rate:.0f} s left",
                    flush=True,
                )
                last = now


def main():
    """Parse the command line; return the exit code: 0, 1 a file is in the way or cannot be written, 130 Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=whole_number(1), default=100)
    parser.add_argument("--seed", type=whole_number(0), default=0)
    parser.add_argument("--size", type=parse_size, default=(240, 320), help="HEIGHTxWIDTH (default 240x320)")
    parser.add_argument("--workers", type=whole_number(1), default=2)
    parser.add_argument("--sheet", type=Path, help="also write a PNG of the first twelve scenes")
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the workers, which start afresh
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        run(args)
        if args.sheet:
            from PIL import Image

            Image.fromarray(contact_sheet(args.out, range(min(12, args.count)))).save(args.sheet)
    except (OSError, ValueError) as error:
        print(f"make.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("make.py: interrupted; the same command goes on with the scenes that are missing", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
