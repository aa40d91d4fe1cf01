"""What an fx node stands for while it is being translated: a graph value, a size, a weight, zeros."""

import math
from dataclasses import dataclass

import torch


class UnsupportedError(Exception):
    """Something that a pagnp graph cannot express; the message says what."""


@dataclass(frozen=True)
class Ref:
    """A value of the graph: node `name`, kind "tensor", "mask" or "index", `c` channels.

    squeezed  torch has dropped the channel axis: (n, h, w)
    copy      tells clones of one value apart: an in-place change reaches only one of them
    """

    name: str
    kind: str = "tensor"
    c: int = 1
    squeezed: bool = False
    copy: int = 0

    def shape(self):
        """Return the torch shape as a tuple: channels are known, the rest are Dims."""
        spatial = (Dim(self.name, 2), Dim(self.name, 3))
        return (Dim(self.name, 0), *spatial) if self.squeezed else (Dim(self.name, 0), self.c, *spatial)


@dataclass(frozen=True)
class Dim:
    """`factor` times the size of `of` along torch axis `axis`; unknown until an image is there."""

    of: str
    axis: int
    factor: int = 1

    def __repr__(self):
        return f"a size of '{self.of}'"


@dataclass(frozen=True)
class Weight:
    """A parameter or buffer: `key` in the state_dict and its tensor."""

    key: str
    tensor: torch.Tensor

    def __repr__(self):
        return f"parameter '{self.key}' {tuple(self.tensor.shape)}"


@dataclass(frozen=True)
class Zeros:
    """torch.zeros_like of a tensor with `c` channels."""

    c: int


class _Marker:
    def __init__(self, name):
        self.name = name

    def __repr__(self):
        return self.name


UNKNOWN = _Marker("unknown")  # comes after something unsupported; nothing more is said about it
DEVICE = _Marker("device")


def number(value):
    """Return `value` as a finite Python float if it is a number or a one-element weight, else None."""
    if isinstance(value, Weight) and value.tensor.numel() == 1 and value.tensor.ndim <= 1:
        value = value.tensor.item()
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if not math.isfinite(value):
        raise UnsupportedError(f"the number {value} in arithmetic")
    return float(value)


def tensor(value, what="input"):
    """Return `value` if it is a tensor Ref with its channel axis; UNKNOWN passes. Raises UnsupportedError."""
    if value is UNKNOWN:
        return value
    if isinstance(value, Weight):
        raise UnsupportedError(f"{value!r} as a feature map")
    if not isinstance(value, Ref):
        raise UnsupportedError(f"{what} {value!r} instead of a feature map")
    if value.kind != "tensor":
        raise UnsupportedError(f"a {value.kind} as {what}; turn a mask into numbers with .float()")
    if value.squeezed:
        raise UnsupportedError("a tensor without its channel axis; keep it (x[:, k:k+1], keepdim=True) or unsqueeze(1)")
    return value


def is_channels(dim, value):
    """Tell whether `dim` is the channel axis of the Ref `value`."""
    return dim == 1 or dim == -3 and not getattr(value, "squeezed", False)


def pair(value):
    """Return [y, x] of an int or a pair of ints."""
    if isinstance(value, (list, tuple)):
        if len(value) == 1:
            value = [value[0], value[0]]
    else:
        value = [value, value]
    if any(isinstance(v, Dim) for v in value):
        raise UnsupportedError("a kernel, stride or padding that depends on the image's size")
    return [int(v) for v in value]


def both_sides(value):
    """Return [top, bottom, left, right] of a symmetric torch padding."""
    y, x = pair(value)
    return [y, y, x, x]
