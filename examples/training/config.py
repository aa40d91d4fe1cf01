"""Read a course's TOML file; every key is checked, so that a slip of the pen is an error and not a default."""

import json
import math
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from pagnp.evaluate.groundtruth import TRUTH
from pagnp.torch.losses import SPARSITY_FORMS

from .augment import Augment
from .dataset import DataError

TASKS_OF = {"camvid": ("segmentation",), "bsds": ("boundary",), "rooms": tuple(TRUTH)}  # what a data set can teach
SPLITS = ("train", "trainval")  # that a network may be trained on
TABLES = ("dense", "finetune")
# What a head of a config says. Classes and colours are the data set's; how a head is decoded and upsampled is what its
# task's loss and scores take it for.
HEAD_KEYS = {"task": str, "hidden": list, "unit": str}
CHOICES = {
    "schedule": ("cosine", "poly"),
    "optimizer": ("adamw", "sgd"),
    "budget": ("gate", "work"),
    "sparsity_form": SPARSITY_FORMS,
}
POSITIVE = (
    "epochs",
    "batch",
    "lr",
    "aspect",
    "depth",
    "width",
    "output_stride",
    "stem_pool_stride",
    "crop",
    "scale",
    "temperature",
    "clip",
)
NOT_NEGATIVE = (
    "decay",
    "momentum",
    "class_weight_power",
    "lovasz",
    "distill",
    "sparsity",
    "degrees",
    "truncate",
    "res6",
)
FINITE = ("weights", "gate_bias")
SHARES = ("warmup", "ema", "boundary_threshold", "rho", "open", "noisy", "exact")  # 0..1
# Stages but the first start from a dense network and share one budget of training, so that their ends compare.
STAGES = {"dense": "dense"} | dict.fromkeys(("pag", "skip", "truncate", "multipool", "same"), "finetune")


@dataclass(frozen=True)
class Network:
    """Options of `pagnp.torch.nn.pag_resnet`, and two of ours.

    stem_pool_stride  of the stem's pool: 1 makes output stride 4 of 8
    truncate          how many of the last blocks stage "truncate" drops
    """

    depth: int = 50
    width: float = 0.25
    output_stride: int = 8
    stem_pool_stride: int = 2
    gated: Any = "all"
    gate_bias: float = 1.0
    multipool: dict[str, Any] | None = None
    res6: int = 0
    truncate: int = 1


@dataclass(frozen=True)
class Stage:
    """One course of training.

    epochs       how often every scene is seen
    schedule     "cosine" or "poly" (power .9), both from `lr` after a linear warm-up over the share `warmup`
    ema          memory of the running average of the weights, which is what is scored and exported
    weights      of the heads' losses, 1 where not given
    lovasz       weight of a segmentation head's Lovasz-Softmax loss beside its cross-entropy
    distill      weight of what sets a head's answers apart from those of the dense network that the course starts from
    boundary_threshold  share of the annotators from which a pixel is a boundary; below it and above 0 it is ignored
    open, noisy  shares of the course with all gates open, then with Gumbel noise; the rest has plain hard gates
    temperature  of the noise, from the first to the second, geometrically
    sparsity     weight of the gates' loss, form "kl", "kl_doubled" or "mild"
    rho          target share of computed pixels
    budget       "gate": every gate is to meet rho; "work": their multiply-adds together, so cheap gates may stay open
    exact        with bfloat16: the last share that is computed in float32, as inference does
    """

    epochs: int
    lr: float
    batch: int = 8
    optimizer: str = "adamw"
    schedule: str = "cosine"
    warmup: float = 0.02
    decay: float = 0.05
    momentum: float = 0.9
    clip: float = 5.0
    ema: float = 0.998
    class_weight_power: float = 0.0
    lovasz: float = 0.0
    distill: float = 0.0
    boundary_threshold: float = 0.3
    weights: dict[str, float] = field(default_factory=dict)
    rho: float = 0.7
    open: float = 0.0
    noisy: float = 0.6
    temperature: tuple[float, float] = (1.0, 0.1)
    sparsity: float = 0.5
    sparsity_form: str = "kl"
    budget: str = "gate"
    exact: float = 0.1


@dataclass(frozen=True)
class Config:
    """A whole file: the data set, the network, its heads by name, the augmentation, and the Stages by their table."""

    dataset: str
    train_split: str
    network: Network
    heads: dict[str, dict[str, Any]]
    augment: Augment
    stages: dict[str, Stage]


def load(path: Path, changes: Sequence[str] = ()) -> Config:
    """Read a file; `changes` are "table.key=value" with a TOML value, applied on top."""
    try:
        with open(path, "rb") as file:
            tables = tomllib.load(file)
    except ValueError as error:  # no TOML, or no UTF-8
        raise DataError(f"{path}: is no TOML file ({error}); see examples/configs") from error
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals:
            raise DataError(f"--set {change}: write table.key=value")
        *place, last = key.split(".")
        table = tables
        for name in place:
            table = table.setdefault(name, {}) if isinstance(table, dict) else None
        if not isinstance(table, dict):
            raise DataError(f"--set {change}: {'.'.join(place)} is no table")
        try:
            table[last] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError as error:
            raise DataError(f"--set {change}: {text} is no TOML value ({error})") from error
    return parse(tables, path)


def parse(tables: dict[str, Any], path: Path) -> Config:
    """Check the tables of a file and turn them into a Config."""
    unknown = set(tables) - {"dataset", "train_split", "network", "heads", "augment", *TABLES}
    if unknown:
        raise DataError(f"{path}: unknown {', '.join(sorted(unknown))}")
    if not isinstance(tables.get("dataset"), str) or tables["dataset"] not in TASKS_OF:
        raise DataError(f"{path}: dataset = {tables.get('dataset')!r}; choose one of {', '.join(TASKS_OF)}")
    if tables.get("train_split", "train") not in SPLITS:
        raise DataError(
            f"{path}: train_split = {tables['train_split']!r}; choose {' or '.join(SPLITS)}, never the test"
        )
    heads = tables.get("heads", {})
    parts = {name: tables.get(name, {}) for name in ("network", "augment", *TABLES, "heads")}
    parts |= {f"heads.{name}": head for name, head in heads.items()} if isinstance(heads, dict) else {}
    for name, part in parts.items():
        if not isinstance(part, dict):
            raise DataError(f"{path}: {name} = {part!r}; need a table [{name}]")
    config = Config(
        tables["dataset"],
        tables.get("train_split", "train"),
        table_of(Network, tables, "network", path),
        heads,
        table_of(Augment, tables, "augment", path),
        {name: table_of(Stage, tables, name, path) for name in TABLES if name in tables},
    )
    check_together(config, path)
    return config


def check_together(config: Config, path: Path) -> None:
    """Raise DataError where settings that are fine one by one do not go together."""
    for name, stage in config.stages.items():
        unknown = set(stage.weights) - set(config.heads)
        if unknown:
            raise DataError(f"{path}: [{name}] weights: there is no head {', '.join(sorted(unknown))}")
        if stage.optimizer == "sgd" and not stage.momentum:
            raise DataError(f"{path}: [{name}] momentum = 0; optimizer sgd is Nesterov's, which needs more than 0")
    for name, head in config.heads.items():
        check_head(name, head, config.dataset, path)
    how, tasks = config.augment, {head.get("task") for head in config.heads.values()}
    if "normals" in tasks and (how.degrees or how.quarters):
        raise DataError(
            f"{path}: [augment] turns pictures, but not the normals in them; leave out degrees and quarters"
        )


def check_head(name, head, dataset, path):
    """Raise DataError unless a head's table has what the recipe can train."""
    for key, value in head.items():
        if key not in HEAD_KEYS:
            raise DataError(f"{path}: [heads.{name}] has no {key}; it takes {', '.join(HEAD_KEYS)}")
        if not isinstance(value, HEAD_KEYS[key]):
            raise DataError(f"{path}: [heads.{name}] {key} = {value!r}; need {HEAD_KEYS[key].__name__}")
    if head.get("task") not in TASKS_OF[dataset]:
        raise DataError(
            f"{path}: [heads.{name}] task = {head.get('task')!r}; {dataset} has truths for "
            f"{', '.join(TASKS_OF[dataset])}"
        )


def table_of(kind, tables, name, path):
    """Make one dataclass of one table."""
    table = {key: tuple(v) if isinstance(v, list) and key != "gated" else v for key, v in tables.get(name, {}).items()}
    wanted = typing.get_type_hints(kind)
    unknown = set(table) - set(wanted)
    if unknown:
        raise DataError(f"{path}: [{name}] has no {', '.join(sorted(unknown))}")
    for key, value in table.items():
        if not fits(value, wanted[key]):
            raise DataError(f"{path}: [{name}] {key} = {value!r}; need {getattr(wanted[key], '__name__', wanted[key])}")
        if key in CHOICES and value not in CHOICES[key]:
            raise DataError(f"{path}: [{name}] {key} = {value!r}; choose {' or '.join(CHOICES[key])}")
        every = value if isinstance(value, tuple) else (value,)
        if key in POSITIVE and not all(0 < one < math.inf for one in every):
            raise DataError(f"{path}: [{name}] {key} = {value!r}; need more than 0")
        if key in NOT_NEGATIVE and not 0 <= value < math.inf:
            raise DataError(f"{path}: [{name}] {key} = {value!r}; need 0 or more")
        if key in SHARES and not 0 <= value <= 1:
            raise DataError(f"{path}: [{name}] {key} = {value!r}; need 0 to 1")
        if key in FINITE and not all(map(math.isfinite, value.values() if isinstance(value, dict) else (value,))):
            raise DataError(f"{path}: [{name}] {key} = {value!r}; need finite numbers")
        if key == "scale" and value[0] > value[1]:
            raise DataError(f"{path}: [{name}] scale = {value!r}; need the smaller one first")
    try:
        return kind(**table)
    except TypeError as error:
        raise DataError(f"{path}: [{name}] {error}") from error


def fits(value: Any, kind: Any) -> bool:
    """Return whether a TOML value is of the kind that a field's annotation says; whole numbers are floats, too."""
    if kind is Any:
        return True
    if typing.get_origin(kind) is tuple:
        inner = typing.get_args(kind)
        return isinstance(value, tuple) and len(value) == len(inner) and all(map(fits, value, inner))
    if typing.get_origin(kind) is dict:
        inner = typing.get_args(kind)[1]
        return isinstance(value, dict) and all(fits(one, inner) for one in value.values())
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        return any(fits(value, one) for one in typing.get_args(kind))
    if kind in (int, float):
        return isinstance(value, (int, kind)) and not isinstance(value, bool)
    return isinstance(value, typing.get_origin(kind) or kind)


def settings(config: Config, table: str) -> dict[str, Any]:
    """Return {"table.key": value} of all that a course with the Stage of `table` depends on, as JSON has it."""
    found: dict[str, Any] = {"dataset": config.dataset, "train_split": config.train_split, "heads": config.heads}
    for name, part in (("network", config.network), ("augment", config.augment), (table, config.stages[table])):
        found |= {f"{name}.{key}": value for key, value in asdict(part).items()}
    return dict(json.loads(json.dumps(found)))


def changed(old: Mapping[str, Any], new: Mapping[str, Any], table: str) -> list[str]:
    """Return "key was VALUE, now VALUE" of the settings that differ; what only one of them has says nothing.

    A setting of a Stage that is newer than `old` had its default then.
    """
    if old:
        defaults = {f"{table}.{one.name}": one.default for one in fields(Stage) if one.default is not MISSING}
        old = {**json.loads(json.dumps(defaults)), **old}
    return [f"{key} was {old[key]!r}, now {new[key]!r}" for key in old if key in new and old[key] != new[key]]
