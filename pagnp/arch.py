"""Which network a plain state_dict belongs to: named architectures read off their keys, or a config.json."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pagnp import graphjson, h5guard
from pagnp.errors import ModelFileError, UsageError
from pagnp.graph import Graph
from pagnp.types import FilePath, Json, Tensor

NAMES = ("pag_resnet26", "pag_resnet50", "pag_resnet101", "resnet50", "resnet101")
TASKS = ("segmentation", "depth", "normals", "boundary")
RATES = (0, 1, 2, 4, 6, 8, 10)  # PAG.md section 3; the dilation of a weight is not visible in its shape
FIX = "correct it (docs/MODEL_FORMAT.md)"
FULL_WIDTH = 512  # layer4's inner channels in ResNet-50 (He et al. 2016, Table 1)
CLASSIFIER = "labels"  # what the head is called that torchvision's `fc` becomes


@dataclass
class Network:
    """A network to be built: the keyword arguments of `pag_resnet`, and how its keys are called in the file."""

    options: dict[str, Any]
    preprocess: Json | None = None
    renamed: dict[str, str] = field(default_factory=dict)

    def build(self) -> Graph:
        """Return the Graph with random weights. Raises UsageError naming a wrong option."""
        from pagnp.nn import pag_resnet

        graph = pag_resnet(**self.options)
        if self.preprocess is not None:
            graph.preprocess = self.preprocess
        return graph

    def is_constant(self, key: str) -> bool:
        """Return whether the weight `key` is fixed by the architecture, so that a file may lack it."""
        return key.endswith(".gate.blur.weight")


def plan(arch: FilePath, state: Mapping[str, Tensor], label: str, notices: list[str]) -> Network:
    """Return the Network that `arch` and the keys and shapes of `state` describe.

    label    the state_dict's file in messages
    notices  a list that gets a line for each thing that was inferred
    Raises:  UsageError for an unknown arch; ModelFileError for a bad config.json or keys that say too little.
    """
    arch = os.fspath(arch)
    shapes = {key: tuple(array.shape) for key, array in state.items()}
    if arch in NAMES:
        return _named(arch, shapes, label, notices)
    if arch.endswith(".json") or os.path.exists(arch):
        return _configured(arch, shapes)
    raise UsageError(f"arch '{h5guard.shown(arch)}' is unknown; choose one of {', '.join(NAMES)} or a config.json")


def _configured(path, shapes):
    """Return the Network of a config.json: keyword arguments of `pag_resnet` and `preprocess`."""
    label = h5guard.shown(path)
    try:
        with open(path, "rb") as file:
            options = graphjson.parse(file.read(graphjson.MAX_BYTES + 1), label, FIX)
    except OSError as error:
        raise ModelFileError(f"{label}: cannot be read ({error.strerror}); check --arch") from error
    graphjson.check_schema(options, label, "config", FIX)
    from pagnp.nn import resnet_spec

    network = Network(options, options.pop("preprocess", None))
    plain = [name for name, head in options["heads"].items() if head.get("hidden") == []]
    if len(options["heads"]) == 1 and plain:
        network.renamed = _classifier(shapes, plain[0])
    try:
        resnet_spec(**options)
    except UsageError as error:
        raise ModelFileError(f"{label}: {error}") from error
    return network


def _named(arch, shapes, label, notices):
    """Return the Network of a name in NAMES, its options read off keys and shapes."""
    guessed = _guesses(shapes)
    shapes = {**guessed, **shapes}
    stem = _conv(shapes, "conv1.weight", label, c_in=None, k=7)
    mid = _conv(shapes, "layer4.0.conv1.weight", label, c_in=None, k=1)
    features = _conv(shapes, "layer4.0.conv3.weight", label, c_in=mid[0], k=1)[0]
    torchvision = arch.startswith("resnet")
    options = {
        "depth": int(arch.rsplit("resnet", 1)[1]),
        "width": mid[0] / FULL_WIDTH,  # the widest layer shows the multiplier best
        "in_channels": stem[1],
        "stride_on": "conv2" if torchvision else "conv1",
        "output_stride": 32 if torchvision else 8,
        "gated": _blocks_with(shapes, r"(layer\d\.\d+)\.gate\.conv\.weight") or None,
        "gate_blur": any(key.endswith(".gate.blur.weight") for key in shapes),
        "multipool": _multipool(shapes, label, notices),
    }
    if "res6.conv.weight" in shapes:
        features = options["res6"] = _conv(shapes, "res6.conv.weight", label, c_in=features, k=3)[0]
    heads = _heads(shapes, features, label, notices)
    renamed = {} if heads else _classifier(shapes, CLASSIFIER)
    if renamed:
        heads = {CLASSIFIER: {"task": "segmentation", "classes": shapes["fc.weight"][0], "hidden": []}}
        notices.append(f"fc becomes a classifier of every pixel with {shapes['fc.weight'][0]} classes")
        if not torchvision:
            hint = f"torchvision's network is --arch {arch.removeprefix('pag_')}"
            notices.append(f"{arch} has its strides on the first 1x1 and output stride 8; {hint}")
    if guessed and not heads:
        heads = {CLASSIFIER: {"task": "segmentation", "classes": 1, "hidden": []}}
    if not heads:
        fix = "check --arch, or name the heads in a config.json"
        raise ModelFileError(f"{label}: has neither heads.* nor fc.*, need a head of {arch}; {fix}")
    return Network({**options, "heads": heads}, renamed=renamed)


def _guesses(shapes):
    """Return shapes for the keys that tell the widths and are missing, so that the error can list all that is.

    None for a width beyond the full one: nothing confirms it, and a network would be built from it.
    """
    inner = shapes.get("layer4.0.conv3.weight", ())[1:2] or (FULL_WIDTH,)
    mid = shapes.get("layer4.0.conv1.weight", inner)[:1] or inner
    if not 1 <= mid[0] <= FULL_WIDTH:
        return {}
    guesses = {
        "conv1.weight": (64, 3, 7, 7),
        "layer4.0.conv1.weight": (*mid, 2 * mid[0], 1, 1),
        "layer4.0.conv3.weight": (4 * mid[0], *mid, 1, 1),
    }
    return {key: shape for key, shape in guesses.items() if key not in shapes}


def _conv(shapes, key, label, c_in, k):
    """Return the shape of a conv weight that must have `c_in` input channels (None: any) and a k x k kernel.

    Widths are believed only where they agree with the next layer: a network is built from them.
    """
    shape = shapes.get(key)
    if shape is None:
        raise ModelFileError(f"{label}: {key} is missing; check --arch or give a config.json")
    if len(shape) != 4 or 0 in shape or c_in not in (None, shape[1]) or shape[2:] != (k, k):
        need = f"(c_out, {c_in or 'c_in'}, {k}, {k})"
        raise ModelFileError(f"{label}: {key} has shape {shape}, need {need}; check --arch or give a config.json")
    return shape


def _blocks_with(shapes, pattern):
    """Return the block names that the first group of `pattern` matches in the keys, in order."""
    found = {match[1] for match in map(re.compile(pattern).fullmatch, shapes) if match}
    return sorted(found, key=lambda name: [int(part) for part in re.findall(r"\d+", name)])


def _classifier(shapes, head):
    """Return how torchvision's `fc` is called as the only layer of `head`, if the file has it."""
    if len(shapes.get("fc.weight", ())) not in (2, 4) or any(key.startswith("heads.") for key in shapes):
        return {}
    return {f"fc.{part}": f"heads.{head}.conv1.{part}" for part in ("weight", "bias")}


def _multipool(shapes, label, notices):
    """Return the option `multipool` as far as keys show it; rates only where they are the paper's seven."""
    blocks = _blocks_with(shapes, r"(layer\d\.\d+)\.multipool\.attention\.conv3\.weight")
    if not blocks:
        return None
    name = f"{blocks[0]}.multipool"
    branches = _conv(shapes, f"{name}.attention.conv3.weight", label, None, 1)[0]
    copies = [i for i in range(branches) if f"{name}.branches.{i}.bn.weight" not in shapes]
    if branches != len(RATES) or copies != [0]:
        raise ModelFileError(
            f"{label}: {name} has {branches} branches whose dilation rates are not in the weights; "
            f"name multipool.rates in a config.json"
        )
    notices.append(f"{name}: taken for the rates {list(RATES)}; a config.json can say others")
    hidden, c_in = [], None
    for i, k in ((1, 1), (2, 3)):
        c_in = _conv(shapes, f"{name}.attention.conv{i}.weight", label, c_in, k)[0]
        hidden.append(c_in)
    return {"block": blocks[0], "rates": list(RATES), "tied": f"{name}.conv.weight" in shapes, "hidden": hidden}


def _heads(shapes, features, label, notices):
    """Return the option `heads` from the keys heads.NAME.convK.weight; a task is taken from the head's name."""
    lasts = {}
    for match in filter(None, (re.fullmatch(r"heads\.([^.]+)\.conv(\d{1,2})\.weight", key) for key in shapes)):
        lasts[match[1]] = max(lasts.get(match[1], 1), int(match[2]))
    heads = {}
    for name, last in sorted(lasts.items()):
        widths = [features]
        for i in range(1, last + 1):
            k = 1 if i in (1, last) else 3
            widths.append(_conv(shapes, f"heads.{name}.conv{i}.weight", label, widths[-1], k)[0])
        task = _task(name, widths[-1])
        if task is None:
            fix = "name its task in a config.json"
            raise ModelFileError(f"{label}: head '{name}' with {widths[-1]} channels could be several tasks; {fix}")
        heads[name] = {"task": task, "hidden": widths[1:-1]}
        if task == "segmentation":
            heads[name]["classes"] = widths[-1]
        notices.append(f"head '{name}': taken for {task} with {widths[-1]} channels; a config.json can say more")
    return heads


def _task(name, channels):
    """Return the task that a head's name begins with, or segmentation for an unknown name and many channels."""
    for task in TASKS:
        if name.startswith(task.rstrip("s")):
            return task
    return "segmentation" if channels > 3 or name in ("labels", "classes", "semantic") else None
