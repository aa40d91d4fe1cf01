"""Rules of the exporter for functions, methods and operators: target -> function (translation, ...) -> value."""

import builtins
import operator

import torch
from torch.nn import functional

from pagnp.torch import arithmetic as arith
from pagnp.torch import indexing
from pagnp.torch.values import UNKNOWN, Dim, Ref, UnsupportedError, Weight, both_sides, is_channels, pair, tensor


def conv2d(t, x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    x = tensor(x)
    if not _parameters("conv2d", weight, bias):
        return UNKNOWN
    kernel = weight.tensor.shape[2:]
    attrs = {"stride": pair(stride), "dilation": pair(dilation), "groups": groups}
    attrs["padding"] = _conv_padding(padding, kernel, attrs["dilation"])
    return t.emit("conv2d", (x,), {"weight": weight, "bias": bias}, **attrs)


def conv_transpose2d(t, x, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    x = tensor(x)
    if not _parameters("conv_transpose2d", weight, bias):
        return UNKNOWN
    return t.emit(
        "conv_transpose2d",
        (x,),
        {"weight": weight, "bias": bias},
        stride=pair(stride),
        padding=both_sides(padding),
        output_padding=pair(output_padding),
        dilation=pair(dilation),
        groups=groups,
    )


def batch_norm(t, x, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    if training or running_mean is None or running_var is None:
        raise UnsupportedError("batch_norm with the statistics of the batch; only with running statistics")
    if not _parameters("batch_norm", running_mean, running_var, weight, bias):
        return UNKNOWN
    weights = {"mean": running_mean, "var": running_var, "gamma": weight, "beta": bias}
    return t.emit("norm", (tensor(x),), weights, eps=eps)


def _parameters(op, *parts):
    """Raise UnsupportedError unless all are parameters, buffers or None; return whether all are known."""
    if not all(part is None or part is UNKNOWN or isinstance(part, Weight) for part in parts):
        raise UnsupportedError(f"{op} with a computed weight or bias; only parameters and buffers")
    return UNKNOWN not in parts


def _conv_padding(padding, kernel, dilation):
    if padding == "valid":
        return [0, 0, 0, 0]
    if padding == "same":
        total = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        return [v for both in total for v in (both // 2, both - both // 2)]
    return both_sides(padding)


def max_pool2d(t, x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    if return_indices:
        raise UnsupportedError("max_pool2d with return_indices=True")
    return t.emit(
        "max_pool2d",
        (tensor(x),),
        kernel=pair(kernel_size),
        stride=pair(stride or kernel_size),
        padding=both_sides(padding),
        dilation=pair(dilation),
        ceil_mode=ceil_mode,
    )


def avg_pool2d(
    t, x, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None
):
    if divisor_override is not None:
        raise UnsupportedError("avg_pool2d with divisor_override")
    return t.emit(
        "avg_pool2d",
        (tensor(x),),
        kernel=pair(kernel_size),
        stride=pair(stride or kernel_size),
        padding=both_sides(padding),
        ceil_mode=ceil_mode,
        count_include_pad=count_include_pad,
    )


def adaptive_avg_pool2d(t, x, output_size):
    if output_size not in (1, (1, 1), [1, 1]):
        raise UnsupportedError(f"AdaptiveAvgPool2d to {output_size}; only to 1")
    return t.emit("global_mean", (tensor(x),))


def mean(t, x, dim=None, keepdim=False, *, dtype=None):
    dims = sorted(d % 4 for d in (dim if isinstance(dim, (list, tuple)) else [dim]) if d is not None)
    if dims != [2, 3] or not keepdim or dtype not in (None, torch.float32):
        raise UnsupportedError(f"mean over {dim} with keepdim={keepdim}; only (2, 3) with keepdim=True")
    return t.emit("global_mean", (tensor(x),))


def relu(t, x, inplace=False):
    result = t.emit("relu", (tensor(x),))
    return t.aliases.change(x, result) if inplace else result


def relu_(t, x):
    return relu(t, x, inplace=True)


def sigmoid(t, x):
    return _unary(t, "sigmoid", x)


def exp(t, x):
    return _unary(t, "exp", x)


def log(t, x):
    return _unary(t, "log", x)


def _unary(t, op, x):
    if isinstance(x, Ref) and x.squeezed:
        return arith.squeeze(_unary(t, op, arith.unsqueeze(x)))
    return t.emit(op, (tensor(x),))


def softmax(t, x, dim=None, _stacklevel=3, dtype=None):
    if not is_channels(dim, x) or dtype not in (None, torch.float32):
        raise UnsupportedError(f"softmax over dim={dim}; only over channels (dim=1)")
    return t.emit("softmax", (tensor(x),))


def argmax(t, x, dim=None, keepdim=False):
    if not is_channels(dim, x):
        raise UnsupportedError(f"argmax over dim={dim}; only over channels (dim=1)")
    result = t.emit("argmax", (tensor(x),))
    return result if keepdim else arith.squeeze(result)


def normalize(t, x, p=2.0, dim=1, eps=1e-12, out=None):
    raise UnsupportedError("F.normalize (its eps rule differs); normals are normalised by the head's decoding")


def cat(t, tensors, dim=0, axis=None):
    dim = dim if axis is None else axis
    if any(value is UNKNOWN for value in tensors):
        return UNKNOWN
    parts = [tensor(value) for value in tensors]
    if not is_channels(dim, parts[0]):
        raise UnsupportedError(f"cat over dim={dim}; only over channels (dim=1)")
    return t.emit("concat", parts)


def pad(t, x, pad, mode="constant", value=None):
    if mode != "constant" or value not in (None, 0, 0.0):
        raise UnsupportedError(f"pad with mode='{mode}', value={value}; only constant 0")
    if pad is UNKNOWN or isinstance(pad, (list, tuple)) and UNKNOWN in pad:
        return UNKNOWN
    sides = list(pad) if isinstance(pad, (list, tuple)) else [pad] * 4
    if len(sides) not in (2, 4) or not all(isinstance(v, int) and v >= 0 for v in sides):
        raise UnsupportedError(f"pad by {sides}; only 2 or 4 numbers, 0 or above, on the last two axes")
    left, right, top, bottom = (*sides, 0, 0)[:4]
    return t.emit("pad", (tensor(x),), padding=[top, bottom, left, right])


def interpolate(
    t,
    x,
    size=None,
    scale_factor=None,
    mode="nearest",
    align_corners=None,
    recompute_scale_factor=None,
    antialias=False,
):
    if mode not in ("bilinear", "nearest") or antialias:
        raise UnsupportedError(f"interpolate with mode='{mode}'{', antialias=True' if antialias else ''}")
    x = tensor(x)
    attrs = {"align_corners": bool(align_corners)} if mode == "bilinear" else {}
    if size is None:
        return t.emit(mode, (x,), scale=_integer_scale(scale_factor), **attrs)
    size = list(size) if isinstance(size, (list, tuple)) else [size, size]
    if UNKNOWN in size or x is UNKNOWN:
        return UNKNOWN
    if all(isinstance(v, int) for v in size):
        return t.emit(mode, (x,), size=size, **attrs)
    height, width = size if len(size) == 2 else (None, None)
    if not (isinstance(height, Dim) and isinstance(width, Dim) and (height.axis, width.axis) == (2, 3)):
        raise UnsupportedError(f"interpolate to size {size}; only numbers, or another tensor's shape[-2:]")
    if t.kind_of(height.of) != "tensor":
        raise UnsupportedError("interpolate to the size of a mask or argmax; take the size of a feature map")
    if height.of == width.of and (height.factor, width.factor) == (1, 1):
        return t.emit(mode, (x, Ref(height.of)), **attrs)
    if height.of == width.of == x.name:
        return t.emit(mode, (x,), scale=[height.factor, width.factor], **attrs)
    raise UnsupportedError("interpolate to a multiple of another tensor's size")


def _integer_scale(scale_factor):
    factors = scale_factor if isinstance(scale_factor, (list, tuple)) else (scale_factor, scale_factor)
    if not all(isinstance(f, (int, float)) and f == int(f) and f >= 1 for f in factors):
        raise UnsupportedError(f"interpolate with scale_factor={scale_factor}; only whole numbers")
    return [int(f) for f in factors]


def dropout(t, x, p=0.5, training=True, inplace=False):
    if training:
        raise UnsupportedError("F.dropout with training=True; pass training=self.training")
    return x


def same(t, x, *args, **kwargs):
    """detach, contiguous: the same tensor."""
    return x


def clone(t, x, *, memory_format=None):
    return t.aliases.clone(x) if isinstance(x, Ref) else x


def _by_name(*names):
    """Return the functions of torch and torch.nn.functional with these names."""
    found = [getattr(place, name, None) for place in (torch, functional) for name in names]
    return [function for function in found if function is not None]


_SHARED = {
    "max_pool2d": max_pool2d,
    "avg_pool2d": avg_pool2d,
    "adaptive_avg_pool2d": adaptive_avg_pool2d,
    "conv2d": conv2d,
    "conv_transpose2d": conv_transpose2d,
    "mean": mean,
    "relu": relu,
    "relu_": relu_,
    "sigmoid": sigmoid,
    "exp": exp,
    "log": log,
    "softmax": softmax,
    "argmax": argmax,
    "normalize": normalize,
    "cat": cat,
    "concat": cat,
    "pad": pad,
    "interpolate": interpolate,
    "upsample": interpolate,
    "dropout": dropout,
    "dropout2d": dropout,
    "clone": clone,
    "detach": same,
    **arith.FUNCTIONS,
    **indexing.FUNCTIONS,
}
# Functions of torch and torch.nn.functional, and operators.
FUNCTIONS = {function: rule for name, rule in _SHARED.items() for function in _by_name(name)}
FUNCTIONS |= arith.OPERATORS
FUNCTIONS |= {functional.batch_norm: batch_norm}  # torch.batch_norm takes its weights in another order
FUNCTIONS |= {builtins.getattr: indexing.attribute, operator.getitem: indexing.item}
# Tensor methods.
_METHOD_NAMES = ("mean", "relu", "relu_", "sigmoid", "exp", "log", "softmax", "argmax", "clone", "detach")
METHODS = {name: _SHARED[name] for name in _METHOD_NAMES} | {"contiguous": same} | arith.METHODS | indexing.METHODS
