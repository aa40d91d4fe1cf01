"""Measure the models of a family on ground truth, and keep what was measured in a JSON file.

    python examples/tradeoff/measure.py examples/tradeoff/camvid.toml --models MODELS --data CAMVID --out camvid.json

MODELS is a folder with NAME.h5 for the names in the family. What is in the JSON file already (the same weights, options
and images) is not measured again, so the command goes on where it was stopped; models that are not there yet are told.
"""

import argparse
import hashlib
import json
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # a checkout that is not installed

import pagnp
from pagnp.errors import PagnpError, UsageError
from pagnp.evaluate.evaluation import evaluate
from pagnp.evaluate.groundtruth import GroundTruth
from pagnp.evaluate.layouts import open_truth
from pagnp.files import write_atomic
from pagnp.modelfile import model_hash
from pagnp.types import Json

ENTRY = {"hash", "split", "settings", "heads", "work"}  # of a row in the JSON file


@dataclass(frozen=True)
class Row:
    """A point of a plot: a model, and the budget that it is run with (None: as it was trained)."""

    model: str
    budget: float | None


@dataclass(frozen=True)
class Family:
    """A file of this folder.

    head, score  what is plotted: a head's name and one of its scores
    split        of the ground truth; only the one that is reported
    thresholds   of boundary heads
    plot_from    the lowest score in the plot (in percent where the score is a share); what is lower stands in the table
    series       name -> rows, in the order in which a line joins them
    """

    head: str
    score: str
    layout: str
    split: str
    thresholds: int
    plot_from: float
    series: dict[str, list[Row]]


def load_family(path: Path) -> Family:
    """Read a family; a series has `models`, and `budgets` if each model is run with several."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
        series = {
            entry["name"]: [Row(name, budget) for name in entry["models"] for budget in entry.get("budgets", [None])]
            for entry in tables.pop("series")
        }
        if not all(series.values()) or not series:
            raise ValueError("a series without models")
        for row in (row for rows in series.values() for row in rows):
            if not isinstance(row.model, str) or not isinstance(row.budget, (int, float, type(None))):
                raise ValueError(f"model {row.model!r} with budget {row.budget!r}")
        return Family(series=series, **{"thresholds": 99, "plot_from": 0.0, **tables})
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path}: is no family of models ({error}); see camvid.toml beside measure.py") from error


def load_known(path: Path) -> dict[str, Json]:
    """Read what was measured."""
    try:
        known: dict[str, Json] = json.loads(path.read_text(encoding="utf-8"))
        for entry in known.values():
            if not ENTRY <= set(entry):
                raise ValueError("an entry without " + ", ".join(sorted(ENTRY - set(entry))))
    except (ValueError, AttributeError, TypeError) as error:
        raise UsageError(f"{path}: is not what measure.py writes ({error}); remove it or name another one") from error
    return known


def rows_of(family: Family) -> Iterator[Row]:
    """Yield each row once: a model can be in several series."""
    yield from dict.fromkeys(row for rows in family.series.values() for row in rows)


def key_of(row: Row) -> str:
    """Return what a row is called in the JSON file."""
    return row.model if row.budget is None else f"{row.model} --budget {row.budget:g}"


def images_digest(truth: GroundTruth) -> str:
    """Return a SHA-256 that tells one set of images from another: of all names, and of the first image's pixels."""
    whole = hashlib.sha256("\n".join(truth.names).encode())
    whole.update(truth.read(truth.names[0])["image"].tobytes())
    return whole.hexdigest()


def score_of(family: Family, entry: Json) -> float:
    """Return what is plotted of a row of the JSON file. Raises UsageError where it has no such head or score."""
    heads = entry["heads"]
    if family.score not in heads.get(family.head, {}):
        have = "; ".join(f"{head}: {', '.join(scores)}" for head, scores in heads.items())
        raise UsageError(
            f"{entry['model']}.h5: no {family.score} of head '{family.head}', but {have}; correct the family"
        )
    return float(heads[family.head][family.score])


def measure(family: Family, row: Row, models: Path, truth: GroundTruth, images: str, threads: int | None) -> Json:
    """Run one model over the split and return its scores and work; `images` is the split's images_digest."""
    model = pagnp.load(models / f"{row.model}.h5", threads=threads)
    options = {} if row.budget is None else {"budget": row.budget}
    found = asdict(evaluate(model, truth, thresholds=family.thresholds, threads=threads, **options))
    found.pop("scenes")
    of = {
        "hash": model_hash(model.graph),
        "budget": row.budget,
        "split": family.split,
        "images_digest": images,
    }
    return {"model": row.model, **of, **found}


def run(args: argparse.Namespace) -> int:
    """Measure what is missing; return how many models are not there."""
    family = load_family(args.family)
    known = load_known(args.out) if args.out.exists() else {}
    truth = open_truth(args.data, family.layout, family.split)
    images = images_digest(truth)
    missing = []
    for row in rows_of(family):
        path = args.models / f"{row.model}.h5"
        if not path.exists():
            missing.append(path.name)
            continue
        key, old = key_of(row), known.get(key_of(row))
        same = old and old["split"] == family.split and old["settings"]["thresholds"] == family.thresholds
        same = same and old.get("images_digest") == images  # a file of old does not say
        if same and old["hash"] == model_hash(pagnp.load(path).graph):
            score_of(family, old)
            continue
        found = measure(family, row, args.models, truth, images, args.threads)
        score, gmac = score_of(family, found), found["work"]["macs"]["executed"] / 1e9
        known[key] = found
        write_atomic(str(args.out), (json.dumps(known, indent=1) + "\n").encode(), overwrite=True)
        print(f"{key}: {family.score} {score:.4f}, {gmac:.3f} GMAC an image", flush=True)
    if missing:
        print(f"not there yet: {', '.join(dict.fromkeys(missing))}", flush=True)
    return len(missing)


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("family", type=Path, help="a TOML file of this folder")
    parser.add_argument("--models", type=Path, required=True, help="folder of the trained models")
    parser.add_argument("--data", type=Path, required=True, help="the data set's folder")
    parser.add_argument("--out", type=Path, required=True, help="JSON file of what was measured")
    parser.add_argument("--threads", type=int, help="default: all cores")
    try:
        return 1 if run(parser.parse_args(arguments)) else 0
    except (PagnpError, OSError) as error:
        print(f"measure.py: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
