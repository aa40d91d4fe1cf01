"""Layouts of folders with ground truth, one module each: how they are told apart and opened."""

from pathlib import Path

from pagnp.errors import GroundTruthError
from pagnp.evaluate.classnames import read_classes
from pagnp.evaluate.groundtruth import GroundTruth
from pagnp.evaluate.layouts import bsds, camvid, folders, panorama, rooms
from pagnp.types import FilePath

LAYOUTS = ("camvid", "bsds", "rooms", "panorama", "folders")
SPLIT = "test"  # where the user names none and the layout has some


def open_truth(root: FilePath, layout: str = "auto", split: str | None = None) -> GroundTruth:
    """Open a folder with ground truth.

    layout  one of LAYOUTS; "auto": told by what is in the folder
    split   the part of the set; None: "test", or the whole of a folder that has no parts
    Raises: GroundTruthError where the folder is not as the layout says.
    """
    root = Path(root)
    if not root.is_dir():
        raise GroundTruthError(f"{root}: no such folder; give the folder of a data set")
    try:
        return _open(root, layout, split)
    except OSError as error:
        raise GroundTruthError(f"{root}: cannot be read ({error}); check its permissions") from error


def _open(root, layout, split):
    layout = detect(root) if layout == "auto" else layout
    if layout == "camvid":
        return camvid.open_split(root, split or SPLIT)
    if layout == "bsds":
        return bsds.open_split(root, split or SPLIT)
    if layout == "panorama":
        _refuse_split(root, layout, split)
        return panorama.open_folder(root)
    if layout == "rooms":
        return rooms.open_split(root, split or (None if _has_rooms(root) else SPLIT))
    return folders.open_folders(root, split or (SPLIT if (root / "images" / SPLIT).is_dir() else None))


def detect(root: Path) -> str:
    """Return the layout of a folder. Raises GroundTruthError if it is none."""
    if (root / "boundaries_bits").is_dir():
        return "bsds"
    if _has_rooms(root) or any(_has_rooms(folder) for folder in root.iterdir() if folder.is_dir()):
        return "rooms"
    if any(root.glob("*_rgb.png")):
        return "panorama"
    if (root / "images").is_dir():
        names = read_classes(root)  # CamVid ignores class 11, which is a class for anybody else
        return "camvid" if names is not None and names[:-1] == camvid.CLASSES else "folders"
    raise GroundTruthError(f"{root}: none of the layouts {', '.join(LAYOUTS)} (docs/EVALUATION.md); give its folder")


def _has_rooms(folder):
    return any(rooms.is_scene(path) for path in folder.iterdir())


def _refuse_split(root, layout, split):
    if split is not None:
        raise GroundTruthError(f"{root}: layout {layout} has no splits; leave --split out")
