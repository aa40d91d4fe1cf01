"""A course of training in progress: what a step does, what a checkpoint holds, how far it has come.

A step depends on the state and the step's number alone (its batch and its noise are seeded by both), so on a CPU a
course that was stopped and taken up again ends with the same bits as one that ran through, on the same machine and
threads. On a GPU it does not: some of torch's gradients there add up in the order in which threads come.
"""

import copy
import functools
import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pagnp.graph import padded_size
from pagnp.torch.losses import sparsity_loss
from pagnp.torch.nn import MultiPool, gate_probabilities, gates, keep_rates, set_gate_mode, set_temperature

from .augment import Batches, normalise, steps_of_epoch
from .config import STAGES, Config, changed, settings
from .dataset import DataError, Dataset
from .networks import build, decides, read_checkpoint, start_from
from .schedule import plan
from .tasks import Scores, class_weights, task_losses, teacher_losses


class Course:
    """The network, its running average, the optimiser, and the number of steps taken."""

    def __init__(
        self,
        config: Config,
        stage: str,
        data: Dataset,
        seed: int = 0,
        device: str = "cpu",
        bf16: bool = False,
        ahead: int = 0,
    ) -> None:
        self.config, self.name, self.stage = config, stage, config.stages[STAGES[stage]]
        self.data, self.seed, self.device, self.bf16, self.ahead = data, seed, device, bf16, ahead
        torch.manual_seed(seed)
        self.net = build(config, stage).to(device, memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.net).eval()
        self.optimizer = make_optimizer(self.net, self.stage)
        self.tasks = {head: options["task"] for head, options in config.heads.items()}
        self.classes = max(
            [1, *(head.channels for head in self.net.spec.heads if head.entry["task"] == "segmentation")]
        )
        self.step, self.seconds = 0, 0.0
        self.start: str | None = ""  # digest of the weights that the course began with; "": none; None: not known
        self.finite = torch.ones((), dtype=torch.bool, device=device)
        self.teacher: torch.nn.Module | None = None
        self.pairs: list[tuple[torch.Tensor, torch.Tensor]] = []
        self.decides = decides(config, stage)
        self.budget = {}
        if stage == "pag" and self.stage.budget == "work":
            self.budget = {"budget": "global", "weights": macs_a_pixel(self.net)}
        self.batches: Iterator[dict[str, torch.Tensor]] | None = None
        self.steps = self.stage.epochs * steps_of_epoch(data, self.stage.batch)

    @functools.cached_property
    def class_weights(self) -> torch.Tensor | None:
        """Weights (classes,) of the segmentation loss, None where there is none or all count alike."""
        if "segmentation" not in self.tasks.values():
            return None
        weights = class_weights(self.data, self.classes, self.stage.class_weight_power)
        return None if weights is None else weights.to(self.device)

    def start_from(self, path: Path) -> list[str]:
        """Take the weights of a finished course, before the first step; return what a person should know of it."""
        notes = start_from(self.net, path, self.config, self.name)
        self.average.load_state_dict(self.net.state_dict())
        self.start = weights_digest(read_checkpoint(path)["average"])
        return notes

    def check_start(self, path: Path) -> None:
        """Raise DataError if this course is known to have begun with other weights than those of a finished course."""
        if self.start is not None and self.start != weights_digest(read_checkpoint(path)["average"]):
            raise DataError(
                f"{path}: not the weights that this course began with; give its own --start or another --work"
            )

    def learn_from(self, path: Path) -> None:
        """Take the dense network of a finished course for the teacher of `distill`; it is no part of the checkpoint.

        Raises: DataError where it has not learned all heads, or is not at its end.
        """
        self.teacher = build(self.config, "same")
        notes = start_from(self.teacher, path, self.config, "same")
        if notes:
            raise DataError(f"{notes[0]}; a teacher must have learned all that it teaches")
        self.teacher = self.teacher.to(self.device, memory_format=torch.channels_last).eval().requires_grad_(False)

    def settings(self) -> dict[str, Any]:
        """Return {name: value} of what the course depends on, but for the weights that it starts from."""
        found = settings(self.config, STAGES[self.name]) | {"bf16": self.bf16}
        if self.teacher is not None:
            found["teacher"] = weights_digest(self.teacher.state_dict())
        return found

    @property
    def progress(self) -> float:
        return self.step / self.steps

    def save(self, path: Path) -> None:
        """Write a checkpoint under a temporary name, then give it its own; of a finished course the average is kept.

        Raises: DataError where it cannot be written.
        """
        parts = ("average",) if self.step == self.steps else ("net", "average", "optimizer")
        state = {name: getattr(self, name).state_dict() for name in parts}
        state |= {
            "step": self.step,
            "steps": self.steps,
            "seconds": self.seconds,
            "seed": self.seed,
            "stage": self.name,
            "config": self.settings(),
            "start": self.start,
        }
        partial = path.with_name(f"{path.name}.part")
        try:
            torch.save(state, partial)
            os.replace(partial, path)
        except (OSError, RuntimeError) as error:  # the latter is torch's of a full disk
            partial.unlink(missing_ok=True)
            reason = str(error).partition("\n")[0]
            raise DataError(f"{path}: cannot be written ({reason}); free some space, or see to its folder") from error

    def load(self, path: Path, to_train: bool = True) -> None:
        """Go on from a checkpoint of this very course; not `to_train`: other settings of the training do not matter."""
        state = read_checkpoint(path, self.device)
        if not to_train:
            self.steps, self.seed = state["steps"], state["seed"]
        for name, mine in (("steps", self.steps), ("seed", self.seed), ("stage", self.name)):
            if state[name] != mine:
                raise DataError(f"{path}: a course with {name} {state[name]}, not {mine}; choose another --work")
        # Checkpoints of old do not tell their settings.
        other = changed(state.get("config", {}), self.settings(), STAGES[self.name])
        if other and to_train:
            raise DataError(f"{path}: a course whose {'; '.join(other)}; go on with its own, or choose another --work")
        try:
            self.net.load_state_dict(state.get("net", state["average"]))
            self.average.load_state_dict(state["average"])
        except RuntimeError as error:  # names every tensor, one a line
            raise DataError(f"{path}: the weights of another network; give its own config and options") from error
        if "optimizer" in state:
            self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds, self.start = (
            state["step"],
            state["seconds"],
            state.get("start"),
        )  # those of old do not tell

    def next_batch(self) -> dict[str, torch.Tensor]:
        """Return this step's batch on the device."""
        if self.batches is None:
            made = Batches(self.data, self.stage.batch, self.seed, self.config.augment)
            self.batches = made.steps(self.step, self.steps, self.ahead, pinned=self.device != "cpu")
        return {name: value.to(self.device, non_blocking=True) for name, value in next(self.batches).items()}

    def take_step(self) -> dict[str, torch.Tensor | float]:
        """Take one step; return its losses, the share of pixels kept and the step's settings.

        Nothing here reads a number back: a GPU works on while the next step is prepared.
        """
        began = time.monotonic()
        stage, now = self.stage, plan(self.progress, self.stage, self.decides)
        batch = self.next_batch()
        for group in self.optimizer.param_groups:
            group["lr"] = now.lr
        set_train_mode(self.net, now.mode)
        set_temperature(self.net, now.temperature)
        torch.manual_seed(int(np.random.SeedSequence([self.seed, 3, self.step]).generate_state(1)[0]))  # Gumbel noise
        self.net.train()
        images = normalise(batch["image"]).to(memory_format=torch.channels_last)
        with torch.autocast(self.device, torch.bfloat16, enabled=self.bf16 and self.progress < 1 - stage.exact):
            outputs = self.net(images)
            taught = None if self.teacher is None else self.teacher(images)
        losses = task_losses(outputs, self.tasks, batch, stage, self.class_weights)
        if taught is not None:
            losses |= teacher_losses(outputs, taught, self.tasks)
        loss = sum(loss_weight(name, stage) * value for name, value in losses.items())
        if gates(self.net):
            losses["gates"] = sparsity_loss(kept_maps(self.net), stage.rho, stage.sparsity_form, **self.budget)
            loss = loss + now.sparsity * losses["gates"]
        self.finite &= loss.detach().isfinite()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), stage.clip)
        self.optimizer.step()
        self.step += 1
        self.follow()
        self.seconds += time.monotonic() - began
        means = {f"loss.{head}": value.detach() for head, value in losses.items()}
        chosen = [gate.unit.chosen for gate in gates(self.net).values()]
        if chosen:
            means["keep"] = torch.stack([one[:, 1].mean() for one in chosen]).mean()
        return means | {"lr": now.lr, "temperature": now.temperature}

    def check(self) -> None:
        """Raise DataError if the loss of a step was no finite number: the weights are spoiled since then."""
        if not self.finite:
            raise DataError(
                f"step {self.step}: the loss is no finite number, here or up to 50 steps before; the checkpoint is "
                "from before that. Lower lr or the weights of the losses"
            )

    @torch.no_grad()
    def follow(self) -> None:
        """Move the running average towards the network; a short memory at first."""
        share = 1 - min(self.stage.ema, self.step / (self.step + 10))
        if not self.pairs:
            both = zip(self.average.state_dict().values(), self.net.state_dict().values(), strict=True)
            self.pairs = [pair for pair in both if pair[0].is_floating_point()]  # the rest counts batches
        torch._foreach_lerp_(*zip(*self.pairs, strict=True), share)

    @torch.no_grad()
    def score(self, data: Dataset) -> dict[str, float]:
        """Score the running average, deciding hard, on whole images in float32."""
        scores, kept = Scores(self.tasks, self.classes), []
        self.average.eval()
        for k in range(len(data)):
            scene = data[k]
            image = normalise(scene["image"][None].to(self.device).float() / 255)
            h, w = image.shape[-2:]
            below, right = (b - a for a, b in zip((h, w), padded_size((h, w), self.net.spec.preprocess), strict=True))
            padded = torch.nn.functional.pad(image, (0, right, 0, below))
            outputs = self.average(padded.to(memory_format=torch.channels_last))
            outputs = {head: cropped(logits, (h, w), padded.shape[-2:]) for head, logits in outputs.items()}
            scores.add(outputs, scene)
            kept.append(list(keep_rates(self.average).values()))
        found = scores.result()
        if kept and kept[0]:
            means = np.mean(kept, axis=0)
            found["keep"] = float(means.mean())
            found |= {f"keep.{name}": float(v) for name, v in zip(gates(self.average), means, strict=True)}
        return found


def loss_weight(name, stage):
    """Return the weight of a head's loss, or of "head.lovasz" or "head.teacher"."""
    head, _, part = name.partition(".")
    return stage.weights.get(head, 1.0) * {"": 1.0, "lovasz": stage.lovasz, "teacher": stage.distill}[part]


def weights_digest(state):
    """Return a SHA-256 of all weights and statistics of a network, from its state_dict."""
    whole = hashlib.sha256()
    for value in state.values():
        whole.update(value.detach().cpu().contiguous().numpy().tobytes())
    return whole.hexdigest()


def cropped(logits, size, padded):
    """Bring logits to the padded image's size and cut off what was padded, as `pagnp` does."""
    if tuple(size) == tuple(padded):
        return logits.float().cpu()
    full = torch.nn.functional.interpolate(logits.float(), size=tuple(padded), mode="bilinear", align_corners=False)
    return full[..., : size[0], : size[1]].cpu()


def set_train_mode(net, mode):
    """Set what gates and MultiPools do in training; a MultiPool that blends in the model file blends here, too."""
    set_gate_mode(net, mode)
    for module in net.modules():
        if isinstance(module, MultiPool) and module.unit.mode == "soft":
            module.unit.train_mode = "soft"


def kept_maps(net):
    """Return each gate's P(compute), half soft and half as inference decides.

    So it is the mean of both shares that meets the target. A gate that is not sure (soft .6) may compute more (.8).
    """
    maps = [p.float() for p in gate_probabilities(net)]
    return [p - 0.5 * p.detach() + 0.5 * (p.detach() > 0.5).float() for p in maps]


def macs_a_pixel(net):
    """Return, for each gate, the multiply-adds of a pixel that it lets through: those of its block's 3x3."""
    return [float(net.get_submodule(name.rpartition(".")[0]).conv2.weight.numel()) for name in gates(net)]


def make_optimizer(net, stage):
    """Make AdamW, or SGD with Nesterov's momentum; norms and biases do not decay."""
    decaying = [p for p in net.parameters() if p.dim() > 1]
    free = [p for p in net.parameters() if p.dim() <= 1]
    groups = [{"params": decaying, "weight_decay": stage.decay}, {"params": free, "weight_decay": 0.0}]
    if stage.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=stage.lr, momentum=stage.momentum, nesterov=True)
    return torch.optim.AdamW(groups, lr=stage.lr, fused=next(net.parameters()).is_cuda)
