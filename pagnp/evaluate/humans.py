"""How well people agree about boundaries: each annotator's map is scored against those of all the others.

Source: Martin, Fowlkes, Malik 2004; the "human" point of the BSDS500 benchmark (F about 0.80 on its 200 test images).
"""

from collections.abc import Callable

import numpy as np

from pagnp.errors import UsageError
from pagnp.evaluate.boundaries import count_matches, each_annotator, f_measure, recall_precision
from pagnp.evaluate.groundtruth import GroundTruth
from pagnp.types import Json


def human_agreement(
    truth: GroundTruth,
    *,
    limit: int | None = None,
    threads: int | None = None,
    watch: Callable[[str], object] | None = None,
) -> Json:
    """Return layout, split, images, of and scenes as in an Evaluation, and maps, f, recall, precision.

    Counts are summed over annotators and images.

    Images with a single annotator have nobody to agree with and do not count.
    Raises: UsageError where the truth has no boundaries, or no image has two annotators.
    """
    if "boundary" not in truth.kinds:
        raise UsageError(f"eval: --humans: layout {truth.layout} has no boundaries; give BSDS500 or another such set")
    total, scenes, maps = np.zeros(4, np.int64), [], 0
    for name in truth.names[:limit]:
        if watch is not None:
            watch(name)
        annotators = each_annotator(truth.read(name)["boundary"])
        if len(annotators) < 2:
            continue
        counts = np.zeros(4, np.int64)
        for one in range(len(annotators)):
            others = np.delete(annotators, one, axis=0)
            strength = annotators[one].astype(np.float32)
            counts += count_matches(strength, others, np.array([0.5]), threads=threads)[0]
        total += counts
        maps += len(annotators)
        scenes.append({"name": name, "annotators": len(annotators), **_scores(counts)})
    if not scenes:
        raise UsageError("eval: --humans: no image has two annotators; give BSDS500 or another such set")
    found = {"layout": truth.layout, "split": truth.split, "images": len(scenes), "of": len(truth.names), "maps": maps}
    return {**found, **_scores(total), "scenes": scenes}


def _scores(counts):
    """Return f, recall and precision of one row of counts."""
    recall, precision = recall_precision(counts[None])
    f = f_measure(recall, precision)
    return {"f": float(f[0]), "recall": float(recall[0]), "precision": float(precision[0])}
