"""Names of classes: those that a data set's classes.csv gives, and whether they are a model's."""

import csv
from collections.abc import Sequence
from pathlib import Path

from pagnp.errors import GroundTruthError, UsageError


def read_classes(*folders: Path) -> tuple[str, ...] | None:
    """Return the class names in the first classes.csv (columns value, name) of the folders, None where there is none.

    Raises: GroundTruthError where values are not 0, 1, 2 ...
    """
    path = next((folder / "classes.csv" for folder in folders if (folder / "classes.csv").is_file()), None)
    if path is None:
        return None
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:  # spreadsheets begin with a mark of the encoding
            rows = [(int(row["value"]), row["name"]) for row in csv.DictReader(file)]
    except (KeyError, TypeError, ValueError, OSError, csv.Error) as error:
        raise GroundTruthError(f"{path}: cannot be read ({error}); need the columns value, name") from error
    if not rows:
        raise GroundTruthError(f"{path}: has no rows; need the columns value, name, or no such file")
    names = dict(rows)
    for value, name in rows:
        if not name or not name.strip():
            raise GroundTruthError(f"{path}: class {value} has no name; give it one")
        if name != names[value]:
            raise GroundTruthError(f"{path}: class {value} is '{name}' and '{names[value]}'; keep one of them")
    if sorted(names) != list(range(len(names))):
        raise GroundTruthError(f"{path}: values are {sorted(names)}, need 0, 1, 2 ... without a gap")
    return tuple(names[value] for value in range(len(names)))


def check_classes(head: str, known: int, names: Sequence[str] | None, truth: Sequence[str] | None) -> None:
    """Raise UsageError unless a head's classes are those of the truth. Names may differ in case.

    known   how many classes the head has;  names: what the model file calls them, None if it does not
    truth   names of the data set's classes, None if it does not tell: then each label is checked when it is read
    """
    if truth is None:
        return
    if known != len(truth):
        raise UsageError(
            f"eval: head '{head}' has {known} classes, the ground truth {len(truth)} ({', '.join(truth)}); "
            "give a model trained for this set"
        )
    for value, (mine, theirs) in enumerate(zip(names or truth, truth, strict=True)):
        if mine.casefold() != theirs.casefold():
            raise UsageError(
                f"eval: class {value} is '{mine}' for head '{head}' and '{theirs}' in the ground truth; "
                "give a model trained for this set"
            )
