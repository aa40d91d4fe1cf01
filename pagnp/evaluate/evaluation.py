"""Run a model over ground truth and score each of its heads. The truth never goes into the model."""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Unpack

from pagnp.errors import GroundTruthError, MemoryLimitError, ShapeError, UsageError
from pagnp.evaluate import nms
from pagnp.evaluate.boundaries import Boundaries, count_matches, each_annotator, thresholds_of
from pagnp.evaluate.classnames import check_classes
from pagnp.evaluate.depth import Depth
from pagnp.evaluate.groundtruth import TRUTH, GroundTruth
from pagnp.evaluate.normals import Normals
from pagnp.evaluate.segmentation import Segmentation
from pagnp.evaluate.work import Work
from pagnp.model import Model
from pagnp.types import Array, Json, RunOptions, Tensor


@dataclass(frozen=True)
class Evaluation:
    """What a model scored on a set: plain data, ready for JSON but for NaN.

    split     part of the set, or None;  of: how many images that part has, of which `images` were scored, the first
    heads     head -> {"task", scores ...}; docs/EVALUATION.md names them
    unscored  heads that were not scored: there is no truth for their task, or it was not asked for
    work      as Work.result gives it
    scenes    a row an image: name, size, seconds, macs, kept, digest, and per head its own scores
    settings  of the scores: thresholds, nms
    """

    layout: str
    split: str | None
    images: int
    of: int
    heads: dict[str, Json]
    unscored: list[str]
    work: Json
    scenes: list[Json] = field(default_factory=list)
    settings: Json = field(default_factory=dict)


class BoundaryScore:
    """Boundaries, fed with maps: `add` an image, returning its own scores, and `result` of all, as every score has.

    add         strength float32 (h, w); truth (a, h, w) bool or (h, w), as a Scene has it
    thresholds  how many
    suppressed  non-maximum suppression comes first
    threads     None: all cores; no score depends on it
    """

    def __init__(self, thresholds: int, suppressed: bool, threads: int | None) -> None:
        self.sums, self.suppressed, self.threads = Boundaries(thresholds_of(thresholds)), suppressed, threads

    def add(self, strength: Tensor, truth: Array) -> dict[str, float]:
        strength = nms.suppress(strength) if self.suppressed else strength
        counts = count_matches(strength, each_annotator(truth), self.sums.thresholds, threads=self.threads)
        return self.sums.add(counts)

    def result(self) -> Json:
        return self.sums.result()


class _SegmentationScore(Segmentation):
    """Segmentation that knows the names of its classes."""

    def __init__(self, classes, names):
        super().__init__(classes)
        self.names = names

    def result(self, names=None):
        return super().result(self.names)


def evaluate(
    model: Model,
    truth: GroundTruth,
    *,
    tasks: Collection[str] = (),
    limit: int | None = None,
    thresholds: int = 99,
    suppressed: bool = True,
    threads: int | None = None,
    watch: Callable[[str], object] | None = None,
    **options: Unpack[RunOptions],
) -> Evaluation:
    """Return the Evaluation of `model` on the scenes of `truth`.

    tasks       which to score; none given: all that both the model and the truth have
    limit       score only so many scenes, the first ones by name
    thresholds, suppressed   of boundary heads: how many, and whether non-maximum suppression comes first
    threads     that score boundaries; None: all cores. The scores do not depend on it
    watch       called with a scene's name before it is read
    options     of Model.__call__: budget, flip, dense ...
    Raises:     UsageError where model and truth have nothing in common or differ in classes; GroundTruthError,
                ImageError, MemoryLimitError at the scene that is the cause.
    """
    heads = scored_heads(model, truth, tasks)
    scores = {head["name"]: _score_of(head, model, truth, thresholds, suppressed, threads) for head in heads}
    work, rows = Work(), []
    for name in truth.names[:limit]:
        if watch is not None:
            watch(name)
        scene = truth.read(name)
        row = {"name": name, "size": [int(side) for side in scene["image"].shape[:2]]}
        rows.append(row | _score_scene(model, truth, name, scene, heads, scores, work, options))
    return Evaluation(
        layout=truth.layout,
        split=truth.split,
        images=len(rows),
        of=len(truth.names),
        heads={head["name"]: {"task": head["task"], **scores[head["name"]].result()} for head in heads},
        unscored=[head["name"] for head in model.graph.heads if head["name"] not in scores],
        work=work.result(),
        scenes=rows,
        settings={"thresholds": thresholds, "nms": suppressed},
    )


def scored_heads(model: Model, truth: GroundTruth, tasks: Collection[str] = ()) -> list[Json]:
    """Return the heads (of `tasks`, if any are named) for which there is truth. Raises UsageError if that is none."""
    heads = [head for head in model.graph.heads if not tasks or head["task"] in tasks]
    found = [head for head in heads if TRUTH.get(head["task"]) in truth.kinds]
    have = sorted({head["task"] for head in model.graph.heads})
    given = [task for task, kind in TRUTH.items() if kind in truth.kinds]
    for task in tasks or ():
        if task not in have or task not in given:
            raise UsageError(f"eval: --task {task}: the model has {', '.join(have)}; the truth {', '.join(given)}")
    if not found:
        raise UsageError(
            f"eval: the model has {', '.join(have) or 'no heads'}, the ground truth {', '.join(given)}; "
            "give a model and a set for the same task"
        )
    return found


def _score_of(head, model, truth, thresholds, suppressed, threads):
    """Return what sums up a head: the score that its task asks for."""
    if head["task"] == "segmentation":
        names, known = head.get("classes"), model.graph.infer()[model.graph.outputs[head["output"]]].c
        check_classes(head["name"], known, names, truth.classes)
        return _SegmentationScore(known, list(names or truth.classes or map(str, range(known))))
    if head["task"] == "boundary":
        return BoundaryScore(thresholds, suppressed, threads)
    return Depth() if head["task"] == "depth" else Normals()


def _score_scene(model, truth, name, scene, heads, scores, work, options):
    """Run one scene, add it to scores and work, and return its row."""
    start = time.perf_counter()
    try:
        result = model(scene["image"], **options)
    except (ShapeError, MemoryLimitError) as error:  # these name nodes and sizes, not the image
        kind = GroundTruthError if isinstance(error, ShapeError) else type(error)
        raise kind(f"{truth.image(name)}: {error}") from error
    row = work.add(result, time.perf_counter() - start)
    row["heads"] = {}
    for head in heads:
        try:
            own = scores[head["name"]].add(result.outputs[head["name"]], scene[TRUTH[head["task"]]])
        except GroundTruthError as error:
            raise GroundTruthError(f"{truth.image(name)}: {error}") from error
        row["heads"][head["name"]] = own
    return row
