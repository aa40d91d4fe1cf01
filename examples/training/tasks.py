"""The loss of each head and the scores that steer a course, of torch's answers. What is published is of `pagnp`'s."""

from collections.abc import Mapping

import numpy as np
import torch
from torch.nn import functional

from pagnp.evaluate.depth import Depth
from pagnp.evaluate.groundtruth import TRUTH
from pagnp.evaluate.normals import WITHIN, Normals
from pagnp.evaluate.segmentation import Segmentation
from pagnp.torch.losses import boundary_loss, depth_loss, normals_loss, segmentation_loss, upsample

from .config import Stage
from .dataset import IGNORE, Dataset
from .lovasz import lovasz_softmax

SHOWN = {  # what is logged of a task's scores
    "boundary": ("quick_f", "threshold"),
    "depth": ("abs_rel", "rmse", "delta1"),
    "normals": ("mean", *(f"within_{limit:g}" for limit in WITHIN)),
}
TOLERANCE = 3  # pixels, of the quick boundary score


def task_losses(
    outputs: Mapping[str, torch.Tensor],
    tasks: Mapping[str, str],
    batch: Mapping[str, torch.Tensor],
    stage: Stage,
    class_weights: torch.Tensor | None,
) -> dict[str, torch.Tensor]:
    """Return {head: its unweighted loss}, and {head.lovasz: ...}, at the truths' own resolution.

    Pixels outside a scene never count.
    """
    inside = batch["inside"]
    losses = {}
    for head, task in tasks.items():
        logits, truth = upsample(outputs[head].float(), inside.shape[1:]), batch[TRUTH[task]]
        if task == "segmentation":
            losses[head] = segmentation_loss(logits, truth.long(), IGNORE, class_weights)
            if stage.lovasz:  # every second row and column: sorting all pixels would take a fifth of the step
                losses[f"{head}.lovasz"] = lovasz_softmax(logits[..., ::2, ::2], truth[..., ::2, ::2], IGNORE)
        elif task == "depth":
            losses[head] = depth_loss(logits, truth, inside & (truth > 0))
        elif task == "normals":
            losses[head] = normals_loss(logits, truth, inside)
        else:
            # Marked by few annotators: neither a boundary nor none (Liu et al. 2017).
            sure = (truth == 0) | (truth >= stage.boundary_threshold)
            # The balanced loss counts each side for half of the whole; a mean of 1 is easier to weigh.
            losses[head] = 10 * boundary_loss(logits, truth > 0, inside & sure)
    return losses


def teacher_losses(
    outputs: Mapping[str, torch.Tensor], taught: Mapping[str, torch.Tensor], tasks: Mapping[str, str]
) -> dict[str, torch.Tensor]:
    """Return {head.teacher: how far its answers are from the teacher's}, at the heads' own resolution.

    Hinton et al. 2015, at temperature 1: the divergence from the teacher's probabilities for classes and boundaries
    (for boundaries by the factor of `task_losses`), squared error of the log depth, 1 - cosine of normals. What lies
    outside a scene counts, too: both networks see the same there.
    """
    losses = {}
    for head, task in tasks.items():
        mine, other = outputs[head].float(), taught[head].float()
        if task == "segmentation":
            apart = divergence(functional.log_softmax(mine, 1), functional.log_softmax(other, 1))
        elif task == "depth":
            apart = (mine - other).square().mean()
        elif task == "normals":
            apart = (1 - functional.cosine_similarity(mine, other)).mean()
        else:
            both = [functional.logsigmoid(torch.cat((logits, -logits), 1)) for logits in (mine, other)]
            apart = 10 * divergence(*both)
        losses[f"{head}.teacher"] = apart
    return losses


def divergence(mine, other):
    """Return the mean Kullback-Leibler divergence of log probabilities (n, k, h, w) from those of the teacher."""
    return functional.kl_div(mine, other, reduction="none", log_target=True).sum(1).mean()


def class_weights(data: Dataset, classes: int, power: float) -> torch.Tensor | None:
    """Weigh classes by their share of the pixels to the power of -`power`; the mean weight of a pixel is 1."""
    if not power:
        return None
    counts = torch.zeros(256, dtype=torch.float64)
    for k in range(0, len(data), max(1, len(data) // 500)):
        counts += torch.bincount(data[k]["labels"].flatten().long(), minlength=256).double()
    share = (counts[:classes] / counts[:classes].sum()).clamp(min=1e-3)
    weight = share**-power
    return (weight / (weight * share).sum()).float()


class Scores:
    """Scores of each head over the scenes of a split: `pagnp`'s own, but for boundaries."""

    def __init__(self, tasks: Mapping[str, str], classes: int) -> None:
        self.tasks = tasks
        kinds = {
            "segmentation": lambda: Segmentation(classes),
            "boundary": QuickBoundary,
            "depth": Depth,
            "normals": Normals,
        }
        self.scores = {head: kinds[task]() for head, task in tasks.items()}

    def add(self, outputs: Mapping[str, torch.Tensor], scene: Mapping[str, torch.Tensor]) -> None:
        """Add one scene; outputs are the raw heads of a batch of one."""
        size = scene["image"].shape[-2:]
        for head, task in self.tasks.items():
            logits, truth = upsample(outputs[head].float(), size)[0], scene[TRUTH[task]]
            if task == "segmentation":
                self.scores[head].add(logits.argmax(0).numpy(), truth.numpy())
            elif task == "depth":
                self.scores[head].add(torch.exp(logits[0]).numpy(), truth.numpy())
            elif task == "normals":
                self.scores[head].add(*(x.permute(1, 2, 0).numpy() for x in (logits, truth)))
            else:
                self.scores[head].add(torch.sigmoid(logits), truth)

    def result(self) -> dict[str, float]:
        """Return {"head.score": value}, `iou0` and so on for the classes."""
        out = {}
        for head, task in self.tasks.items():
            found = self.scores[head].result()
            if task == "segmentation":
                found |= {f"iou{k}": value for k, value in enumerate(found["iou"].values())}
                shown = ["mean_iou", "pixel_accuracy", *(f"iou{k}" for k in range(len(found["iou"])))]
            else:
                shown = SHOWN[task]
            out |= {f"{head}.{name}": float(found[name]) for name in shown}
        return out


class QuickBoundary:
    """Counts with a tolerance but without one-to-one matching: a quick stand-in for ODS, and above it."""

    def __init__(self) -> None:
        self.counts = np.zeros((4, 99))  # found and right, found, recalled, marked; a column a threshold

    def add(self, p: torch.Tensor, truth: torch.Tensor) -> None:
        """Add one image: probabilities (1, h, w), and the share of annotators who marked a pixel (h, w)."""
        p = thin(p)
        marked = truth >= 0.3
        near_truth, near_p = spread(marked[None].float())[0] > 0, spread(p)[0]
        edges = torch.linspace(0.01, 0.99, 99)
        for row, values in enumerate((p[0][near_truth], p[0], near_p[marked])):
            found = torch.bucketize(values.flatten(), edges, right=True)
            self.counts[row] += np.bincount(found.numpy(), minlength=100)[::-1].cumsum()[::-1][1:]
        self.counts[3] += int(marked.sum())

    def result(self) -> dict[str, float]:
        """Return `quick_f`, the best F-measure, and its `threshold`."""
        right, found, recalled, marked = self.counts
        precision, recall = right / np.maximum(found, 1), recalled / np.maximum(marked, 1)
        f = 2 * precision * recall / np.maximum(precision + recall, 1e-9)
        return {"quick_f": f.max(), "threshold": 0.01 * (1 + f.argmax())}


def spread(p):
    """Give each pixel the largest value within the tolerance; (1, h, w)."""
    return functional.max_pool2d(p, 2 * TOLERANCE + 1, stride=1, padding=TOLERANCE)


def thin(p):
    """Keep values that are the largest of a row or a column of five: a crude non-maximum suppression; (1, h, w)."""
    across = functional.max_pool2d(p, (1, 5), stride=1, padding=(0, 2))
    down = functional.max_pool2d(p, (5, 1), stride=1, padding=(2, 0))
    return torch.where((p >= across) | (p >= down), p, torch.zeros_like(p))
