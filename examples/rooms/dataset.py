"""Stored rooms as a torch dataset, held in memory as uint8, with the augmentation used in training."""

import re
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from pagnp.nn.spec import IMAGENET


class Rooms(torch.utils.data.Dataset):
    """The scenes of a folder made by `rooms.make`; `refresh` adds what has been rendered since."""

    def __init__(self, folder, limit=None):
        self.folder, self.limit = Path(folder), limit
        self.names, self.images, self.labels = [], [], []
        self.refresh()

    def refresh(self):
        """Read scenes not yet in memory; return how many there are now."""
        names = sorted(path.name for path in self.folder.iterdir() if re.fullmatch(r"\d{6}\.npz", path.name))
        known = set(self.names)
        for name in names[: self.limit]:
            if name in known:
                continue
            with np.load(self.folder / name) as scene:
                self.images.append(torch.from_numpy(scene["image"]).permute(2, 0, 1).contiguous())
                self.labels.append(torch.from_numpy(scene["labels"]))
            self.names.append(name)
        return len(self.names)

    def __len__(self):
        return len(self.names)

    def __getitem__(self, k):
        """Return the image (3, h, w) uint8 and the labels (h, w) uint8."""
        return self.images[k], self.labels[k]


def normalise(images):
    """Turn uint8 images (n, 3, h, w) into the network's float32 input."""
    mean, std = (torch.tensor(IMAGENET[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    return (images.float() / 255 - mean) / std


def color_jitter(image, rng):
    """Change brightness, contrast, saturation, tint, gamma and noise of a float image (3, h, w) in [0, 1]."""
    image = (
        image * float(rng.uniform(0.75, 1.3)) * torch.tensor(rng.uniform(0.92, 1.08, (3, 1, 1)), dtype=torch.float32)
    )
    mean = image.mean()
    image = mean + (image - mean) * float(rng.uniform(0.75, 1.3))
    gray = image.mean(0, keepdim=True)
    image = gray + (image - gray) * float(rng.uniform(0.5, 1.4))
    image = image.clamp(0, 1) ** float(rng.uniform(0.8, 1.25))
    if rng.random() < 0.3:
        image = image + float(rng.uniform(0, 0.03)) * torch.from_numpy(rng.standard_normal(image.shape, np.float32))
    return image.clamp(0, 1)


def augment(image, labels, rng, crop):
    """Scale, crop, mirror and recolour one scene; return uint8 arrays (3, crop, crop) and (crop, crop)."""
    h, w = labels.shape
    scale = float(np.exp(rng.uniform(np.log(0.7), np.log(1.5))))
    side = min(round(crop / scale), h, w)
    top, left = int(rng.integers(h - side + 1)), int(rng.integers(w - side + 1))
    image = image[:, top : top + side, left : left + side].float() / 255
    labels = labels[top : top + side, left : left + side]
    if side != crop:
        image = functional.interpolate(
            image[None], (crop, crop), mode="bilinear", antialias=side > crop, align_corners=False
        )[0]
        labels = functional.interpolate(labels[None, None].float(), (crop, crop), mode="nearest-exact")[0, 0].to(
            torch.uint8
        )
    if rng.random() < 0.5:
        image, labels = image.flip(2), labels.flip(1)
    return (color_jitter(image, rng) * 255).round().to(torch.uint8), labels


def batches(rooms, seed, epoch, batch, crop):
    """Yield the augmented batches of one epoch, in an order that (seed, epoch) fixes."""
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(rooms))
    for start in range(0, len(order) - batch + 1, batch):
        pairs = [augment(*rooms[k], rng, crop) for k in order[start : start + batch]]
        images, labels = zip(*pairs, strict=True)
        yield torch.stack(images), torch.stack(labels).long()
