"""Build the network of a config for a stage, and start it from a dense network's weights."""

from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from pagnp.torch.nn import PAGResNet, pag_resnet

from . import camvid, room_scenes
from .config import Config
from .dataset import DataError
from .skipping import skip_whole_blocks

LABELS = {"camvid": (camvid.CLASSES, camvid.PALETTE), "rooms": (room_scenes.CLASSES, room_scenes.PALETTE)}


def build(config: Config, stage: str) -> PAGResNet:
    """Make the network of a stage.

    dense      no gates; a MultiPool, if the config has one, is soft
    pag        gates on the 3x3s, a MultiPool as the config says
    skip       a gate for every block and image, instead (ConvNet-AIG)
    truncate   without the last `network.truncate` blocks
    multipool  no gates, the MultiPool as the config says
    same       as dense: what more training alone does
    """
    options = config.network
    pool = options.multipool
    if pool and stage not in ("pag", "multipool"):
        pool = {**pool, "mode": "soft"}  # without noise, a hard choice has no gradient to the other branches
    if stage == "multipool" and not pool:
        raise DataError("stage multipool: the config has no [network.multipool]")
    net = pag_resnet(
        depth=options.depth,
        width=options.width,
        output_stride=options.output_stride,
        gated=options.gated if stage == "pag" else None,
        multipool=pool,
        gate_bias=options.gate_bias,
        res6=options.res6,
        heads={name: head_options(config.dataset, head) for name, head in config.heads.items()},
    )
    net.maxpool.stride = options.stem_pool_stride
    if stage == "skip":
        skip_whole_blocks(net, options.gate_bias)
    if stage == "truncate":
        truncate(net, options.truncate)
    return net


def decides(config: Config, stage: str) -> bool:
    """Return whether a network of this stage learns decisions, with noise at first."""
    pool = config.network.multipool
    return stage in ("pag", "skip") or stage == "multipool" and pool is not None and pool.get("mode") != "soft"


def truncate(net: PAGResNet, count: int) -> None:
    """Drop the last `count` blocks; heads that would read another number of channels begin anew."""
    names = [block.name for block in net.spec.blocks]
    if not 0 <= count < len(names) or net.res6 is not None:
        raise DataError(f"network.truncate = {count}; the network has {len(names)} blocks, and res6 = 0 is needed")
    for name in reversed(names[len(names) - count :]):
        stage, _ = name.split(".")
        setattr(net, stage, getattr(net, stage)[:-1])
    c_features = net.spec.blocks[len(names) - count - 1].c_out
    for head in net.heads.values():
        first = head.conv1
        if first.in_channels != c_features:
            head.conv1 = torch.nn.Conv2d(c_features, first.out_channels, 1, bias=first.bias is not None)
            torch.nn.init.kaiming_normal_(head.conv1.weight, mode="fan_out", nonlinearity="relu")


def head_options(dataset, head):
    """Add the data set's class names and colours to a segmentation head."""
    if head.get("task") != "segmentation":
        return head
    if dataset not in LABELS:
        raise DataError(f"dataset {dataset} has no classes: a segmentation head needs camvid or rooms")
    classes, palette = LABELS[dataset]
    return {**head, "classes": list(classes), "palette": palette}


def read_checkpoint(path: Path, device: str = "cpu") -> dict[str, Any]:
    """Read what `Course.save` wrote. Raises DataError where it is something else, OSError where it is missing."""
    try:
        state = torch.load(path, weights_only=True, map_location=device)
    except (RuntimeError, UnpicklingError, EOFError, ValueError, KeyError) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"{path}: is damaged or no checkpoint ({reason}); remove it or give another one") from error
    if not isinstance(state, dict) or not {"average", "step", "steps", "seed", "stage", "seconds"} <= set(state):
        raise DataError(f"{path}: is no checkpoint of train.py; remove it or give another one")
    return state


def start_from(net: PAGResNet, path: Path, config: Config, stage: str) -> list[str]:
    """Load the running average of a finished course; what a gate, a new head or an attention adds keeps its own start.

    The 3x3 of a block that becomes a MultiPool starts every branch. Anything else that is missing or left over, and
    what is of another shape outside the heads, is an error; blocks that stage "truncate" drops are left over by design.
    Returns what a person should know: that the course was not at its end, or that heads begin anew.
    """
    state = read_checkpoint(path)
    weights = state["average"]
    own = net.state_dict()
    if stage == "multipool":
        weights = {**weights, **branch_weights(weights, own)}
    clash = [name for name, value in weights.items() if name in own and own[name].shape != value.shape]
    missing, left_over = net.load_state_dict({k: v for k, v in weights.items() if k not in clash}, strict=False)
    new = (".gate.", ".attention.")
    wrong = [n for n in clash if not n.startswith("heads.")]
    wrong += [n for n in missing if n not in clash and not (any(part in n for part in new) or n.startswith("heads."))]
    dropped = tuple(f"{block.name}." for block in net.spec.blocks[::-1][: config.network.truncate])
    allowed = dropped if stage == "truncate" else replaced(own) if stage == "multipool" else ()
    wrong += [name for name in left_over if not name.startswith(("heads.", *allowed))]
    if wrong:
        raise DataError(f"{path}: not the weights of this network: {', '.join(wrong[:5])}{' ...' * (len(wrong) > 5)}")
    notes = []
    if state["step"] < state["steps"]:
        notes.append(f"{path}: from a course at step {state['step']} of {state['steps']}")
    heads = dict.fromkeys(n.rpartition(".")[0] for n in (*clash, *missing) if n.startswith("heads."))
    if heads:
        notes.append(f"{path}: does not have {', '.join(heads)}, which begin with random weights")
    return notes


def replaced(own):
    """Return the names, as prefixes, of the 3x3s in whose place a MultiPool stands."""
    blocks = {name.split(".multipool.")[0] for name in own if ".multipool." in name}
    return tuple(f"{block}.{part}." for block in sorted(blocks) for part in ("conv2", "bn2"))


def branch_weights(weights, own):
    """Return what the branches of a new MultiPool take from the 3x3 that was in their place."""
    found = {}
    for name in own:
        block, dot, rest = name.partition(".multipool.branches.")
        if dot and name not in weights:
            _, part, leaf = rest.split(".")  # 1.conv.weight
            source = f"{block}.{part}2.{leaf}"
            if source not in weights:
                raise DataError(
                    f"network.multipool: the weights have no {source} for {name}; start from a dense network"
                )
            found[name] = weights[source]
    return found
