"""Rules of the exporter for slices, chunks, shapes and attributes of tensors."""

import torch

from pagnp.torch.arithmetic import squeeze, unsqueeze
from pagnp.torch.values import DEVICE, UNKNOWN, Ref, UnsupportedError, is_channels, tensor

_ALL = slice(None)


def attribute(t, x, name):
    """x.shape, x.dtype, x.device, x.ndim."""
    if x is UNKNOWN:
        return UNKNOWN
    if isinstance(x, Ref):
        if name == "shape":
            return x.shape()
        if name == "dtype":
            return {"tensor": torch.float32, "mask": torch.bool, "index": torch.int64}[x.kind]
        if name == "device":
            return DEVICE
        if name == "ndim":
            return 3 if x.squeezed else 4
    raise UnsupportedError(f"attribute .{name}")


def size(t, x, dim=None):
    if x is UNKNOWN:
        return UNKNOWN
    shape = x.shape()
    return shape if dim is None else shape[dim]


def item(t, x, index):
    """x[...]: channel slices of a feature map, elements of shapes, lists and dicts."""
    if x is UNKNOWN or _unknown(index):
        return UNKNOWN
    if isinstance(x, (tuple, list, dict)):
        return x[index]
    if not isinstance(x, Ref):
        raise UnsupportedError(f"indexing of {x!r}")
    index = list(index) if isinstance(index, tuple) else [index]
    if x.squeezed and index == [_ALL, None]:
        return unsqueeze(x)
    x = tensor(x)
    if len(index) == 3 and index[0] == _ALL and None in index[1:]:  # x[:, k, None] is x[:, k : k + 1]
        k = index[1] if index[2] is None else index[2]
        index = [_ALL, slice(k, k + 1 or None)] if isinstance(k, int) else index
    if Ellipsis in index:
        at = index.index(Ellipsis)
        index[at : at + 1] = [_ALL] * (4 - len(index) + 1)
    index += [_ALL] * (4 - len(index))
    batch, channels, *spatial = index
    if len(index) != 4 or batch != _ALL:
        raise _unsupported(index)
    return _spatial(t, _channels(t, x, channels, index), spatial, index)


def _unknown(index):
    """Tell whether an index comes after something unsupported."""
    if isinstance(index, slice):
        return UNKNOWN in (index.start, index.stop, index.step)
    return any(map(_unknown, index)) if isinstance(index, (tuple, list)) else index is UNKNOWN


def _unsupported(index):
    return UnsupportedError(f"indexing by {index}; only channels x[:, a:b] and strides x[:, :, ::s, ::s]")


def _channels(t, x, at, index):
    if at == _ALL:
        return x
    if isinstance(at, int):
        start = at + x.c if at < 0 else at
        return squeeze(_slice(t, x, start, start + 1))
    if not isinstance(at, slice) or at.step not in (None, 1):
        raise _unsupported(index)
    start, stop, _ = at.indices(x.c)
    return _slice(t, x, start, stop)


def _slice(t, x, start, stop):
    if (start, stop) == (0, x.c):
        return x
    if not 0 <= start < stop <= x.c:
        raise UnsupportedError(f"channels {start}:{stop} of a tensor with {x.c}")
    return t.aliases.view(t.emit("slice_channels", (x,), start=start, stop=stop), x, start, stop)


def _spatial(t, x, spatial, index):
    """x[:, :, ::s, ::r] is a pooling over one pixel with that stride."""
    if spatial == [_ALL, _ALL]:
        return x
    for at in spatial:
        plain = isinstance(at, slice) and at.start in (None, 0) and at.stop is None
        if not plain or not isinstance(at.step, (int, type(None))) or (at.step or 1) < 1:
            raise _unsupported(index)
    stride = [at.step or 1 for at in spatial]
    attrs = {"kernel": [1, 1], "stride": stride, "padding": [0] * 4, "dilation": [1, 1], "ceil_mode": False}
    return t.aliases.view(t.emit("max_pool2d", (unsqueeze(x),), **attrs), x, 0, x.c)


def chunk(t, x, chunks, dim=0):
    x = _whole(x, "chunk", dim)
    return UNKNOWN if x is UNKNOWN else _parts(t, x, [-(-x.c // chunks)])


def split(t, x, split_size_or_sections, dim=0):
    x = _whole(x, "split", dim)
    sizes = split_size_or_sections
    return UNKNOWN if x is UNKNOWN else _parts(t, x, list(sizes) if isinstance(sizes, (list, tuple)) else [sizes])


def split_method(t, x, split_size, dim=0):
    return split(t, x, split_size, dim)


def _whole(x, name, dim):
    x = tensor(x)
    if x is not UNKNOWN and not is_channels(dim, x):
        raise UnsupportedError(f"{name} over dim={dim}; only over channels (dim=1)")
    return x


def _parts(t, x, sizes):
    """Slice the channels of x into `sizes`; one size repeats."""
    if len(sizes) > 1 and sum(sizes) != x.c:
        raise UnsupportedError(f"split of {x.c} channels into {sizes}")
    parts, start = [], 0
    while start < x.c:
        width = sizes[0] if len(sizes) == 1 else sizes[len(parts)]
        parts.append(_slice(t, x, start, min(start + width, x.c)))
        start += width
    return tuple(parts)


def unsqueeze_channels(t, x, dim):
    if x is UNKNOWN:
        return UNKNOWN
    if not isinstance(x, Ref) or not x.squeezed or dim not in (1, -3):
        raise UnsupportedError(f"unsqueeze({dim}); only to give a (n, h, w) map its channel axis back")
    return unsqueeze(x)


def squeeze_channels(t, x, dim=None):
    if x is UNKNOWN:
        return UNKNOWN
    if not isinstance(x, Ref) or x.squeezed or x.c != 1 or not is_channels(dim, x):
        raise UnsupportedError(f"squeeze({dim}); only of a single channel (dim=1)")
    return squeeze(x)


FUNCTIONS = {"chunk": chunk, "split": split, "unsqueeze": unsqueeze_channels, "squeeze": squeeze_channels}
METHODS = {**FUNCTIONS, "split": split_method, "size": size}
