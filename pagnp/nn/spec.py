"""What a `pag_resnet(...)` call means: channels, strides, gates and heads as plain data.

The torch modules (`pagnp.torch.nn`) and the torch-free builder (`pagnp.nn`) both read this, so they build one network.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypedDict

from pagnp.errors import UsageError
from pagnp.nn.builder import is_count
from pagnp.opset import GATE_MODES, GUMBEL_FORMS
from pagnp.types import GateForm, GateMode, Json

StrideOn: TypeAlias = Literal["conv1", "conv2"]

BLOCKS = {26: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}  # He et al. 2016, Table 1 (26: the short one)
# output stride -> (stride, dilation) of layer1 .. layer4
STAGES = {
    8: ((1, 1), (2, 1), (1, 2), (1, 4)),
    16: ((1, 1), (2, 1), (2, 1), (1, 2)),
    32: ((1, 1), (2, 1), (2, 1), (2, 1)),
}
# task -> (channels, how the head's logits become the answer); None: as many as there are classes
TASKS = {
    "segmentation": (None, "argmax"),
    "depth": (1, "exp"),
    "normals": (3, "l2_normalize"),
    "boundary": (1, "sigmoid"),
}
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}  # torchvision's constants
HEAD_KEYS = ("task", "classes", "hidden", "upsample", "decode", "palette", "unit")
MULTIPOOL_KEYS = ("block", "rates", "mode", "tied", "hidden")


@dataclass(frozen=True)
class GateSpec:
    """What all gates of a network share; `bias` is the start of z[1], and minus that of z[0]."""

    mode: GateMode = "hard"
    form: GateForm = "kong2018"
    temperature: float = 1.0
    blur: bool = False
    bias: float = 1.0

    def __post_init__(self) -> None:
        if self.mode not in GATE_MODES:
            raise UsageError(f"gate: mode '{self.mode}' is unknown; choose one of {', '.join(GATE_MODES)}")
        if self.form not in GUMBEL_FORMS:
            raise UsageError(f"gate: form '{self.form}' is unknown; choose one of {', '.join(GUMBEL_FORMS)}")
        if not self.temperature > 0:
            raise UsageError(f"gate: temperature {self.temperature} is not positive")


@dataclass(frozen=True)
class MultiPoolSpec:
    """Dilation rates in channel order, and the widths of the attention head's two hidden convs."""

    rates: tuple[int, ...]
    mode: GateMode
    tied: bool
    hidden: tuple[int, ...]


@dataclass(frozen=True)
class BlockSpec:
    """One bottleneck. gate_index: None when neither gated nor MultiPool."""

    name: str
    c_in: int
    mid: int
    stride: int
    dilation: int
    gate_index: int | None = None
    multipool: MultiPoolSpec | None = None

    @property
    def c_out(self) -> int:
        return 4 * self.mid

    @property
    def downsample(self) -> bool:
        return self.stride != 1 or self.c_in != self.c_out

    @property
    def gated(self) -> bool:
        return self.gate_index is not None and self.multipool is None


@dataclass(frozen=True)
class HeadSpec:
    """One head: hidden widths, output channels, and its entry in the model file."""

    name: str
    channels: int
    hidden: tuple[int, ...]
    entry: Json


@dataclass(frozen=True)
class ResNetSpec:
    """A whole network; `blocks` in order, `c_features` channels go into every head."""

    in_channels: int
    stem: int
    blocks: tuple[BlockSpec, ...]
    c_features: int
    res6: int
    heads: tuple[HeadSpec, ...]
    stride_on: StrideOn
    gate: GateSpec
    preprocess: Json | None


class ResNetOptions(TypedDict, total=False):
    """The arguments of `resnet_spec`, as both `pag_resnet` take them."""

    depth: Literal[26, 50, 101]
    width: float
    gated: Literal["all"] | Sequence[str] | None
    multipool: Mapping[str, Any] | None
    output_stride: Literal[8, 16, 32]
    stride_on: StrideOn
    heads: Mapping[str, Mapping[str, Any]] | None
    res6: int
    in_channels: int
    gate_mode: GateMode
    gate_form: GateForm
    gate_temperature: float
    gate_blur: bool
    gate_bias: float


def scale_channels(channels: int, width: float) -> int:
    """Return `channels * width` rounded to a multiple of 8, at least 8."""
    return max(8, int(channels * width / 8 + 0.5) * 8)


def resnet_spec(
    depth: Literal[26, 50, 101] = 50,
    width: float = 1.0,
    gated: Literal["all"] | Sequence[str] | None = "all",
    multipool: Mapping[str, Any] | None = None,
    output_stride: Literal[8, 16, 32] = 8,
    stride_on: StrideOn = "conv1",
    heads: Mapping[str, Mapping[str, Any]] | None = None,
    res6: int = False,
    in_channels: int = 3,
    gate_mode: GateMode = "hard",
    gate_form: GateForm = "kong2018",
    gate_temperature: float = 1.0,
    gate_blur: bool = False,
    gate_bias: float = 1.0,
) -> ResNetSpec:
    """Check the arguments of `pag_resnet` and return its ResNetSpec.

    depth          26, 50 or 101: bottleneck blocks per stage (2,2,2,2), (3,4,6,3), (3,4,23,3)
    width          multiplier of every channel count, rounded to multiples of 8
    gated          "all", a list of blocks like ["layer1.0", "layer4.1"], or None
    multipool      None or {"block", "rates", "mode": hard|soft, "tied": bool, "hidden": [128, 32]}
    output_stride  8, 16 or 32; the stages that lose their stride are dilated instead, every block of them
                   (torchvision gives the first block of such a stage the dilation of the stage before)
    stride_on      "conv1" (the first 1x1, Caffe) or "conv2" (the 3x3, torchvision)
    heads          {name: {"task", "classes", "hidden"?, "upsample"?, "decode"?, "palette"?, "unit"?}}
    res6           channels of an extra conv3x3 + bn + relu behind layer4, or False
    Raises:        UsageError naming the argument.
    """
    _check_choice("depth", depth, BLOCKS)
    _check_choice("output_stride", output_stride, STAGES)
    _check_choice("stride_on", stride_on, ("conv1", "conv2"))
    gate = GateSpec(gate_mode, gate_form, float(gate_temperature), bool(gate_blur), float(gate_bias))
    stem = scale_channels(64, width)
    blocks = _blocks(depth, width, stem, output_stride, gated, multipool)
    for block in blocks:
        if block.multipool and block.stride != 1:
            raise UsageError(f"pag_resnet: multipool cannot stand in {block.name}, which has stride {block.stride}")
    res6 = int(res6 or 0)
    return ResNetSpec(
        in_channels=in_channels,
        stem=stem,
        blocks=blocks,
        c_features=res6 or blocks[-1].c_out,
        res6=res6,
        heads=_heads(heads, width),
        stride_on=stride_on,
        gate=gate,
        preprocess={"kind": "torchvision", **IMAGENET, "pad_multiple": output_stride} if in_channels == 3 else None,
    )


def _check_choice(name, value, allowed):
    if value not in allowed:
        raise UsageError(f"pag_resnet: {name} {value!r} is unknown; choose one of {', '.join(map(str, allowed))}")


def _blocks(depth, width, c_in, output_stride, gated, multipool):
    """Lay out the blocks and number their gates in order."""
    names = [f"layer{i + 1}.{j}" for i, count in enumerate(BLOCKS[depth]) for j in range(count)]
    if isinstance(gated, str) and gated != "all" or not isinstance(gated, Iterable | None):
        raise UsageError(f"pag_resnet: gated is {gated!r}, need 'all', None or a list of blocks")
    pool_at, pool = _multipool(multipool, width, names)
    gated = [n for n in names if n != pool_at] if gated == "all" else list(gated or ())
    for name in gated:
        if name not in names:
            raise UsageError(f"pag_resnet: gated block '{name}' does not exist; the last is {names[-1]}")
        if name == pool_at:
            raise UsageError(f"pag_resnet: block '{name}' cannot be gated, it holds the MultiPool")
    blocks, gates = [], 0
    for i, count in enumerate(BLOCKS[depth]):
        mid = scale_channels(64 * 2**i, width)
        stride, dilation = STAGES[output_stride][i]
        for j in range(count):
            name = f"layer{i + 1}.{j}"
            has_gate = name in gated or name == pool_at
            index = gates if has_gate else None
            block_pool = pool if name == pool_at else None
            blocks.append(BlockSpec(name, c_in, mid, stride if j == 0 else 1, dilation, index, block_pool))
            c_in, gates = 4 * mid, gates + has_gate
    return tuple(blocks)


def _multipool(multipool, width, names):
    """Return (block name, MultiPoolSpec), or (None, None)."""
    if not multipool:
        return None, None
    if not isinstance(multipool, Mapping):
        raise UsageError(f"pag_resnet: multipool is {multipool!r}, need a dict of {', '.join(MULTIPOOL_KEYS)}")
    unknown = [key for key in multipool if key not in MULTIPOOL_KEYS]
    if unknown:
        raise UsageError(f"pag_resnet: multipool has no option {', '.join(unknown)}; it takes {MULTIPOOL_KEYS}")
    block = multipool.get("block", names[-2])
    if block not in names:
        raise UsageError(f"pag_resnet: multipool block '{block}' does not exist; the last is {names[-1]}")
    hidden = multipool.get("hidden") or (scale_channels(128, width), scale_channels(32, width))
    hidden = _widths("pag_resnet: multipool hidden", hidden)
    spec = MultiPoolSpec(
        check_rates(multipool.get("rates", (0, 1, 2, 4, 6, 8, 10))),
        multipool.get("mode", "hard"),
        bool(multipool.get("tied", False)),
        hidden,
    )
    if spec.mode not in GATE_MODES:
        raise UsageError(f"pag_resnet: multipool mode '{spec.mode}' is unknown; choose one of {', '.join(GATE_MODES)}")
    if len(spec.hidden) != 2:
        raise UsageError(f"pag_resnet: multipool hidden needs two widths, got {list(spec.hidden)}")
    return block, spec


def check_rates(rates: Iterable[int]) -> tuple[int, ...]:
    """Return dilation rates as a tuple of ints, or raise UsageError."""
    if not isinstance(rates, Iterable) or isinstance(rates, str):
        raise UsageError(f"MultiPool: rates is {rates!r}, need a list")
    rates = tuple(int(rate) for rate in rates)
    if len(rates) < 2 or min(rates) < 0 or len(set(rates)) != len(rates):
        raise UsageError(f"MultiPool: rates {list(rates)} must be two or more different integers, 0 or above")
    return rates


def _widths(what, values):
    """Return channel counts as a tuple of ints, or raise UsageError."""
    if not isinstance(values, (list, tuple)) or not all(map(is_count, values)):
        raise UsageError(f"{what} is {values!r}, need a list of whole numbers of at least 1")
    return tuple(int(c) for c in values)


def _heads(heads, width):
    if not heads:
        raise UsageError('pag_resnet: no heads; give heads={"labels": {"task": "segmentation", "classes": 21}}')
    return tuple(_head(name, dict(options), width) for name, options in heads.items())


def _head(name, options, width):
    """Resolve one head's options into a HeadSpec."""
    unknown = [key for key in options if key not in HEAD_KEYS]
    if unknown:
        raise UsageError(f"head '{name}': no option {', '.join(unknown)}; it takes {', '.join(HEAD_KEYS)}")
    task = options.get("task")
    if task not in TASKS:
        raise UsageError(f"head '{name}': task {task!r} is unknown; choose one of {', '.join(TASKS)}")
    channels, decode = TASKS[task]
    classes = options.get("classes")
    if channels is None:
        if not classes:
            raise UsageError(f"head '{name}': segmentation needs classes (a number or a list of names)")
        channels = classes if isinstance(classes, int) else len(classes)
    how = options.get("upsample") or {"op": "bilinear", "align_corners": False}
    if not isinstance(how, Mapping):
        raise UsageError(
            f"head '{name}': upsample is {how!r}, need a dict such as {{'op': 'bilinear_deconv', 'factor': 8}}"
        )
    entry = {
        "name": name,
        "task": task,
        "output": name,
        "upsample": dict(how),
        "decode": options.get("decode", decode),
    }
    if isinstance(classes, (list, tuple)):
        entry["classes"] = [str(label) for label in classes]
    if options.get("palette"):
        entry["palette"] = [[int(v) for v in colour] for colour in options["palette"]]
    if options.get("unit"):
        entry["unit"] = options["unit"]
    hidden = options.get("hidden")
    if hidden is None:
        hidden = (scale_channels(128, width), scale_channels(32, width))
    return HeadSpec(name, channels, _widths(f"head '{name}': hidden", hidden), entry)
