"""Augmentation: one affine map for the image and all its truths, then colours; and the batches of a step."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch.nn import functional
from torch.utils.data import DataLoader

from pagnp.nn.spec import IMAGENET

from .dataset import IGNORE, Dataset


@dataclass(frozen=True)
class Augment:
    """How a scene is varied.

    crop      (h, w) of what the network sees
    scale     range of the zoom, drawn log-uniformly; where the crop is larger than the scene the rest is ignored
    aspect    the width is stretched by up to this factor, either way
    degrees   turned by up to so much, either way
    mirror    flipped left to right half of the time
    quarters  turned by 0, 90, 180 or 270 degrees first
    """

    crop: tuple[int, int]
    scale: tuple[float, float] = (1.0, 1.0)
    aspect: float = 1.0
    degrees: float = 0.0
    mirror: bool = True
    quarters: bool = False


def augment(scene: Mapping[str, torch.Tensor], rng: np.random.Generator, how: Augment) -> dict[str, torch.Tensor]:
    """Vary one scene; the image is float32 in 0..1, and `inside` tells which pixels the scene covers."""
    if how.quarters:
        turns = int(rng.integers(4))
        scene = {name: torch.rot90(value, turns, (-2, -1)) for name, value in scene.items()}
    grid, flipped = sampling_grid(scene["image"].shape[-2:], rng, how)
    out = {name: sample(value, grid, name) for name, value in scene.items()}
    inside = ((grid[..., 0].abs() <= 1) & (grid[..., 1].abs() <= 1))[0]
    out["image"] = color_jitter(out["image"], rng)
    if "labels" in out:
        out["labels"] = torch.where(inside, out["labels"], torch.full_like(out["labels"], IGNORE))
    if "normals" in out and flipped:
        out["normals"] = out["normals"] * torch.tensor([-1.0, 1.0, 1.0]).view(3, 1, 1)
    out["inside"] = inside
    return out


def sampling_grid(size, rng, how):
    """Draw where each pixel of the crop comes from: (1, h, w, 2) in grid_sample's coordinates, and whether mirrored."""
    (h, w), (crop_h, crop_w) = size, how.crop
    zoom = float(np.exp(rng.uniform(*np.log(how.scale))))
    stretch = float(np.exp(rng.uniform(-1, 1) * np.log(how.aspect)))
    angle = float(np.radians(rng.uniform(-1, 1) * how.degrees))
    flipped = how.mirror and rng.random() < 0.5
    view_h, view_w = crop_h / zoom, crop_w / zoom / stretch  # what the crop covers, in pixels of the scene
    centers = [rng.uniform(-1, 1) * max(side - view, 0) / 2 for side, view in ((h, view_h), (w, view_w))]
    if (view_h, view_w) == how.crop and not angle:  # no resampling: keep to whole pixels
        centers = [
            round(c + (side - view) / 2) - (side - view) / 2
            for c, side, view in zip(centers, size, how.crop, strict=True)
        ]
    y = torch.linspace(-1 + 1 / crop_h, 1 - 1 / crop_h, crop_h).view(-1, 1) * (view_h / 2)
    x = torch.linspace(-1 + 1 / crop_w, 1 - 1 / crop_w, crop_w).view(1, -1) * (view_w / 2 * (-1 if flipped else 1))
    turned_y = y * np.cos(angle) + x * np.sin(angle) + centers[0]
    turned_x = x * np.cos(angle) - y * np.sin(angle) + centers[1]
    return torch.stack((turned_x / (w / 2), turned_y / (h / 2)), dim=-1)[None], flipped


def sample(value, grid, name):
    """Sample one map; truths take the nearest pixel, so that no class, line or depth is invented."""
    planes = value[None] if value.dim() == 3 else value[None, None]
    image = name == "image"
    mode = "bilinear" if image else "nearest"
    out = functional.grid_sample(planes.float(), grid, mode=mode, padding_mode="border", align_corners=False)[0]
    if image:
        return out / 255
    out = out if value.dim() == 3 else out[0]
    return out.to(value.dtype)


def color_jitter(image, rng):
    """Change brightness, contrast, saturation, tint, gamma and noise of a float32 image (3, h, w) in 0..1, into one."""
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


def normalise(images: torch.Tensor) -> torch.Tensor:
    """Turn float images (n, 3, h, w) in 0..1 into the network's input: torchvision's ImageNet statistics."""
    mean, std = statistics(images.device)
    return (images - mean) / std


@cache  # a copy to a GPU waits for all that it has to do
def statistics(device):
    return [torch.tensor(IMAGENET[name], device=device).view(1, 3, 1, 1) for name in ("mean", "std")]


def batch_of_step(data: Dataset, step: int, batch: int, seed: int, how: Augment) -> dict[str, torch.Tensor]:
    """Make the batch of a step; (seed, step) alone fix it, so a stopped course goes on as if it had not been."""
    steps = steps_of_epoch(data, batch)
    epoch, place = divmod(step, steps)
    order = np.random.default_rng([seed, 1, epoch]).permutation(len(data))
    rng = np.random.default_rng([seed, 2, step])
    chosen = np.resize(order[place * batch : (place + 1) * batch], batch)
    scenes = [augment(data[k], rng, how) for k in chosen]
    return {name: torch.stack([scene[name] for scene in scenes]) for name in scenes[0]}


class Batches(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """The batches of a course by their step's number, as torch's DataLoader takes them."""

    def __init__(self, data: Dataset, batch: int, seed: int, how: Augment) -> None:
        self.data, self.batch, self.seed, self.how = data, batch, seed, how

    def __getitem__(self, step: int) -> dict[str, torch.Tensor]:
        return batch_of_step(self.data, step, self.batch, self.seed, self.how)

    def steps(self, first: int, end: int, workers: int, pinned: bool) -> Iterator[dict[str, torch.Tensor]]:
        """Yield the batches of steps first..end-1; `workers` processes make them ahead (0: made when asked for)."""
        ahead = {"prefetch_factor": 4} if workers else {}
        sampler = range(first, end)
        return iter(DataLoader(self, None, sampler=sampler, num_workers=workers, pin_memory=pinned, **ahead))


def steps_of_epoch(data: Dataset, batch: int) -> int:
    """Return how many steps see every scene once; what is left over waits for another epoch's order."""
    return max(1, len(data) // batch)
