"""Build the network of a config, and give a dense network's weights to a gated one."""

from pathlib import Path

import torch

from pagnp.torch.nn import PAGResNet, pag_resnet

from . import camvid, room_scenes
from .config import Config
from .dataset import DataError

LABELS = {"camvid": (camvid.CLASSES, camvid.PALETTE), "rooms": (room_scenes.CLASSES, room_scenes.PALETTE)}


def build(config: Config, gated: bool) -> PAGResNet:
    """Make the network: with gates and a hard MultiPool, or dense with a soft one."""
    options = config.network
    pool = options.multipool
    if pool and not gated:
        pool = {**pool, "mode": "soft"}  # without noise, a hard choice has no gradient to the other branches
    net = pag_resnet(
        depth=options.depth,
        width=options.width,
        output_stride=options.output_stride,
        gated=options.gated if gated else None,
        multipool=pool,
        gate_bias=options.gate_bias,
        res6=options.res6,
        heads={name: head_options(config.dataset, head) for name, head in config.heads.items()},
    )
    net.maxpool.stride = options.stem_pool_stride
    return net


def head_options(dataset, head):
    """Add the data set's class names and colours to a segmentation head."""
    if head.get("task") != "segmentation":
        return head
    if dataset not in LABELS:
        raise DataError(f"dataset {dataset} has no classes: a segmentation head needs camvid or rooms")
    classes, palette = LABELS[dataset]
    return {**head, "classes": list(classes), "palette": palette}


def start_from(net: torch.nn.Module, path: Path) -> None:
    """Load the running average of a finished course; what a gate or a new head adds keeps its own start.

    Anything else that is missing, left over or of another shape is an error.
    """
    weights = torch.load(path, weights_only=True, map_location="cpu")["average"]
    own = net.state_dict()
    clash = [name for name, value in weights.items() if name in own and own[name].shape != value.shape]
    missing, left_over = net.load_state_dict({k: v for k, v in weights.items() if k not in clash}, strict=False)
    wrong = [name for name in (*clash, *missing, *left_over) if not (".gate." in name or name.startswith("heads."))]
    if wrong:
        raise DataError(f"{path}: not the weights of this network: {', '.join(wrong[:5])}{' ...' * (len(wrong) > 5)}")
