"""Train a small gated network to label rooms, on a CPU, and export it.

    python examples/rooms/make.py --out rooms-data/train --count 6000 --seed 1 --size 192x256
    python examples/rooms/make.py --out rooms-data/val --count 200 --seed 2 --size 192x256
    python examples/train_rooms.py --data rooms-data --work rooms-run --minutes 75 --export rooms.h5

Stopping is harmless: the same command goes on from the last checkpoint. The course has three parts: every gate open,
then noisy straight-through gates that cool down, then the plain hard gates that inference uses.
"""

# ruff: noqa: E402 - torch reads the environment when it is imported
import argparse
import copy
import csv
import os
import sys
import time
from pathlib import Path

# Threads that spin while they wait cost ten times the step on a machine with other work to do.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a checkout that is not installed

import numpy as np
import torch
from rooms import CLASSES, PALETTE
from rooms.dataset import Rooms, batches, normalise

from pagnp.torch.losses import segmentation_loss, sparsity_loss, upsample
from pagnp.torch.nn import gate_probabilities, gates, pag_resnet, set_gate_mode, set_temperature

HEAD = "segmentation"
RATES = [0, 1, 2, 4, 6, 8]
OPEN_UNTIL, NOISY_UNTIL = 0.25, 0.75  # shares of the course


def build(width):
    """Make the network: gates in every block but the one that pools adaptively."""
    head = {"task": "segmentation", "classes": list(CLASSES), "palette": PALETTE, "hidden": [128, 64]}
    return pag_resnet(
        depth=26,
        width=width,
        gated="all",
        multipool={"block": "layer4.1", "rates": RATES, "mode": "hard", "hidden": [64, 32]},
        output_stride=8,
        heads={HEAD: head},
    )


def confusion(net, rooms, batch=20):
    """Label scenes with hard gates; return the confusion matrix and the keep rate of each scene and gate."""
    count = len(CLASSES)
    matrix, kept = np.zeros((count, count), np.int64), []
    net.eval()
    with torch.no_grad():
        for start in range(0, len(rooms), batch):
            images = torch.stack(rooms.images[start : start + batch])
            labels = torch.stack(rooms.labels[start : start + batch]).long()
            found = upsample(net(normalise(images))[HEAD], labels.shape[1:]).argmax(1)
            pairs = (labels * count + found).flatten().numpy()
            matrix += np.bincount(pairs, minlength=matrix.size).reshape(matrix.shape)
            masks = [gate.unit.chosen[:, 1] for gate in gates(net).values()]
            kept.append(torch.stack([mask.mean((1, 2)) for mask in masks], dim=1))
    return matrix, torch.cat(kept).numpy()


def report(net, rooms):
    """Print and return the scores of a set of scenes; classes that never occur are left out of the mean."""
    matrix, kept = confusion(net, rooms)
    hit, union = np.diag(matrix), matrix.sum(0) + matrix.sum(1) - np.diag(matrix)
    iou = np.where(union > 0, hit / np.maximum(union, 1), np.nan)
    scores = {"miou": float(np.nanmean(iou)), "accuracy": float(hit.sum() / matrix.sum()), "keep": float(kept.mean())}
    print("  IoU   ", "  ".join(f"{name} {value:.3f}" for name, value in zip(CLASSES, iou, strict=True)))
    for name, mean, spread in zip(gates(net), kept.mean(0), kept.std(0), strict=True):
        print(f"  {name} keeps {mean:.3f}, standard deviation over scenes {spread:.3f}")
    print("  " + "  ".join(f"{name} {value:.4f}" for name, value in scores.items()), flush=True)
    return scores


def class_weights(rooms):
    """Weigh rare classes up, by the inverse square root of their share; the mean weight of a pixel is 1."""
    counts = [torch.bincount(labels.flatten(), minlength=len(CLASSES)) for labels in rooms.labels[:500]]
    share = torch.stack(counts).sum(0).double()
    share = (share / share.sum()).clamp(min=1e-3)
    weight = share**-0.5
    return (weight / (weight * share).sum()).float()


def plan(progress, args):
    """Return the learning rate, gate mode, temperature and weight of the gates' loss at that share of the course."""
    rate = args.lr * min(1.0, progress / 0.02) * float(max(0.5 * (1 + np.cos(np.pi * progress)), 0.005))
    if progress < OPEN_UNTIL:
        return rate, "open", 1.0, 0.0
    if progress < NOISY_UNTIL:
        share = (progress - OPEN_UNTIL) / (NOISY_UNTIL - OPEN_UNTIL)
        return rate, "gumbel_hard", float(0.1**share), args.sparsity * min(1.0, 4 * share)
    return rate, "hard", 0.1, args.sparsity


def kept_maps(net):
    """Return each gate's P(compute), half soft and half as inference decides, so that both shares meet the target."""
    maps = [p.float() for p in gate_probabilities(net)]
    return [p - 0.5 * p.detach() + 0.5 * (p.detach() > 0.5).float() for p in maps]


class Run:
    """A training in progress: the network, its running average, the optimiser, and how far it has come.

    progress counts time spent training or steps, whichever limit is nearer; both are carried over a restart.
    """

    def __init__(self, args):
        torch.manual_seed(args.seed)
        self.args = args
        self.net = build(args.width).to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.net).eval()
        self.optimizer = torch.optim.AdamW(self.net.parameters(), lr=args.lr, weight_decay=args.decay)
        self.step = self.epoch = 0
        self.before, self.start = 0.0, time.monotonic()
        self.path = args.work / "checkpoint.pt"
        if self.path.exists():
            self.load()

    def seconds(self):
        return self.before + time.monotonic() - self.start

    def progress(self):
        by_time = self.seconds() / (60 * self.args.minutes) if self.args.minutes else 0.0
        by_steps = self.step / self.args.steps if self.args.steps else 0.0
        return max(by_time, by_steps)

    def load(self):
        state = torch.load(self.path, weights_only=True)
        self.net.load_state_dict(state["net"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.epoch, self.before = state["step"], state["epoch"], state["seconds"]
        torch.manual_seed(self.args.seed + self.step)
        print(f"going on from step {self.step}, {self.before / 60:.1f} minutes", flush=True)

    def save(self):
        """Write a checkpoint under a temporary name, then give it its own."""
        state = {name: getattr(self, name).state_dict() for name in ("net", "average", "optimizer")}
        state.update(step=self.step, epoch=self.epoch, seconds=self.seconds())
        partial = self.path.with_suffix(".part")
        torch.save(state, partial)
        os.replace(partial, self.path)

    def take_step(self, images, labels, weight):
        """Take one step; return the label loss, the gates' loss and the share of pixels kept."""
        rate, mode, temperature, pressure = plan(self.progress(), self.args)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        set_gate_mode(self.net, mode)
        set_temperature(self.net, temperature)
        self.net.train()
        inputs = normalise(images).to(memory_format=torch.channels_last)
        # bfloat16 halves the time of a step; the last part computes as inference does.
        with torch.autocast("cpu", torch.bfloat16, enabled=self.args.bf16 and mode != "hard"):
            logits = self.net(inputs)[HEAD].float()
        label_loss = segmentation_loss(upsample(logits, labels.shape[1:]), labels, class_weights=weight)
        maps = kept_maps(self.net)
        gate_loss = sparsity_loss(maps, self.args.rho)
        self.optimizer.zero_grad(set_to_none=True)
        (label_loss + pressure * gate_loss).backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 5.0)
        self.optimizer.step()
        self.step += 1
        self.follow()
        kept = torch.stack([gate.unit.chosen[:, 1].mean() for gate in gates(self.net).values()]).mean()
        return label_loss.item(), gate_loss.item(), kept.item()

    @torch.no_grad()
    def follow(self):
        """Move the running average towards the network; a short memory at first."""
        share = 1 - min(self.args.ema, self.step / (self.step + 10))
        pairs = zip(self.average.state_dict().values(), self.net.state_dict().values(), strict=True)
        for slow, fast in pairs:
            slow.lerp_(fast, share) if slow.is_floating_point() else slow.copy_(fast)


def train(run, train_set, val_set):
    """Train until the limit, with a checkpoint every few minutes and the scores of the average now and then."""
    args = run.args
    weight = class_weights(train_set)
    saved = tested = time.monotonic()
    sums = []
    with open(args.work / "log.csv", "a", newline="") as file:
        log = csv.writer(file)
        while run.progress() < 1:
            print(f"epoch {run.epoch}: {train_set.refresh()} scenes", flush=True)
            for images, labels in batches(train_set, args.seed, run.epoch, args.batch, args.crop):
                sums.append(run.take_step(images, labels, weight))
                if run.step % 50 == 0:
                    show(run, np.mean(sums, axis=0), log)
                    file.flush()
                    sums.clear()
                if time.monotonic() - saved > 120:
                    run.save()
                    saved = time.monotonic()
                if time.monotonic() - tested > 60 * args.test_every:
                    report(run.average, val_set)
                    tested = time.monotonic()
                if run.progress() >= 1:
                    break
            else:
                run.epoch += 1
    run.save()


def show(run, means, log):
    """Print a line of progress and log it."""
    progress = run.progress()
    rate, mode, temperature, _ = plan(progress, run.args)
    left = run.seconds() * (1 - progress) / max(progress, 1e-6) / 60
    label_loss, gate_loss, kept = means
    print(
        f"step {run.step}  {100 * progress:.1f} %  {left:.0f} min left  loss {label_loss:.4f}  gates {gate_loss:.4f}"
        f"  keep {kept:.3f}  {mode} t {temperature:.2f}  lr {rate:.5f}",
        flush=True,
    )
    log.writerow([run.step, round(run.seconds()), label_loss, gate_loss, kept, mode, temperature, rate])


def export_model(net, path, example):
    """Write the model file; preprocessing, class names and colours come from the network's own specification."""
    from pagnp.torch import export

    export(net.to(memory_format=torch.contiguous_format).eval(), path, normalise(example[None]))
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


def parse():
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with train, val (and test) made by rooms/make.py"
    )
    parser.add_argument("--work", type=Path, required=True, help="folder for the checkpoint and the log")
    parser.add_argument("--minutes", type=float, help="stop after so many minutes of training")
    parser.add_argument("--steps", type=int, help="stop after so many steps")
    parser.add_argument("--evaluate", choices=("val", "test"), help="only score the checkpoint's running average")
    parser.add_argument("--export", type=Path, help="write the model file here (with --evaluate or after training)")
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--rho", type=float, default=0.5, help="share of the pixels each gate should keep")
    parser.add_argument("--sparsity", type=float, default=0.5, help="weight of the gates' loss")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--crop", type=int, default=160)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--decay", type=float, default=0.02)
    parser.add_argument("--ema", type=float, default=0.998)
    parser.add_argument("--bf16", action="store_true", help="compute in bfloat16 until the last part of the course")
    parser.add_argument("--test-every", type=float, default=10, help="minutes between scores on the val scenes")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if not (args.minutes or args.steps or args.evaluate or args.export):
        parser.error("give a limit: --minutes or --steps (or only --evaluate or --export a checkpoint)")
    return args


def main():
    """Train, score, export."""
    args = parse()
    torch.set_num_threads(args.threads)
    args.work.mkdir(parents=True, exist_ok=True)
    run = Run(args)
    val_set = Rooms(args.data / "val")
    if args.minutes or args.steps:
        print(f"{sum(p.numel() for p in run.net.parameters()) / 1e6:.2f} M parameters", flush=True)
        train(run, Rooms(args.data / "train"), val_set)
        report(run.average, val_set)
    elif args.evaluate:
        report(run.average, Rooms(args.data / args.evaluate))
    if args.export:
        export_model(run.average, args.export, val_set.images[0])


if __name__ == "__main__":
    main()
