"""BSDS500: photographs with boundaries by several people, as images/SPLIT/ID.jpg and boundaries_bits/SPLIT/ID.png.

Bit a of the 16-bit map is set where annotator a marks a boundary; index.csv tells how many annotators an image has.
Arbelaez, Maire, Fowlkes, Malik 2011.
"""

import csv
from pathlib import Path

import numpy as np

from pagnp.errors import GroundTruthError
from pagnp.evaluate.groundtruth import GroundTruth, Scene, check_pairs, read_grey, read_rgb, same_size, stems
from pagnp.types import Array, Mask

MOST = 16  # annotators: bits of a map


def annotators(root: Path) -> dict[tuple[str, str], int]:
    """Read {(split, id): number of annotators} from index.csv. Raises GroundTruthError."""
    path = root / "index.csv"
    if not path.is_file():
        raise GroundTruthError(f"{path}: missing; it tells the number of annotators of each image")
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            counts = {(row["split"], row["id"]): int(row["annotators"]) for row in csv.DictReader(file)}
    except (KeyError, TypeError, ValueError, OSError, csv.Error) as error:
        raise GroundTruthError(f"{path}: cannot be read ({error}); need columns id, split, annotators") from error
    if not all(1 <= count <= MOST for count in counts.values()):
        raise GroundTruthError(f"{path}: annotators must be 1 to {MOST}, the bits of a map")
    return counts


def each_annotator(bits: Array, count: int) -> Mask:
    """Unpack a 16-bit map into (count, h, w) bool, one map an annotator."""
    return ((bits[None].astype(np.uint16) >> np.arange(count, dtype=np.uint16)[:, None, None]) & 1).astype(bool)


def open_split(root: Path, split: str) -> GroundTruth:
    """Open "train", "val", "test", or "trainval": the 300 images that the benchmark's rules allow for training."""
    parts = ("train", "val") if split == "trainval" else (split,)
    counts = annotators(root)
    images, maps = _all(root / "images", parts, ".jpg"), _all(root / "boundaries_bits", parts, ".png")
    for part, stem in counts:
        if part in parts and f"{part}/{stem}" not in images:
            path = root / "images" / part / f"{stem}.jpg"
            raise GroundTruthError(f"{path}: no such file, but index.csv has a row for it; get it again")
    check_pairs(images, maps, "boundaries", lambda name: root / "boundaries_bits" / f"{name}.png")

    def read(name: str) -> Scene:
        part, _, stem = name.rpartition("/")  # a --split typed as "test/" has one of its own
        path = maps[name]
        if (part, stem) not in counts:
            raise GroundTruthError(f"{root / 'index.csv'}: no row for {name}")
        bits = read_grey(path, bits=16)
        if (bits >> np.uint16(counts[part, stem] - 1) > 1).any():
            raise GroundTruthError(f"{path}: has marks of more than the {counts[part, stem]} annotators of index.csv")
        boundary = each_annotator(bits, counts[part, stem])
        return same_size(path, {"image": read_rgb(images[name]), "boundary": boundary})

    return GroundTruth("bsds", list(images), ("boundary",), read, images.__getitem__, split=split)


def _all(folder, parts, suffix):
    """Return {"part/stem": path} of the files in the folders of the parts."""
    return {f"{part}/{stem}": path for part in parts for stem, path in stems(folder / part, suffix).items()}
