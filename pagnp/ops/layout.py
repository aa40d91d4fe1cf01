"""Moving values: concatenation, padding, channel slices."""

import numpy as np

from pagnp.backends.base import BackendLike
from pagnp.errors import ShapeError, UsageError
from pagnp.ops import checks
from pagnp.types import Sides, Tensor, Tensors


def concat(xs: Tensors, *, backend: BackendLike = "numpy") -> Tensor:
    """Join the channels of several tensors, in order.

    xs       list of (n, h, w, c_i) float32
    returns  (n, h, w, sum of c_i) float32

    Raises:   DtypeError, UsageError; ShapeError if n, h or w differ.
    """
    if not isinstance(xs, (list, tuple)) or not xs:
        raise UsageError(f"concat: xs is {type(xs).__name__}, need a list of at least one array")
    xs = [checks.tensor("concat", f"xs[{i}]", x) for i, x in enumerate(xs)]
    for i, x in enumerate(xs):
        if x.shape[:3] != xs[0].shape[:3]:
            raise ShapeError(f"concat: xs[{i}] has shape {x.shape}, xs[0] has {xs[0].shape}; only channels may differ")
    out = np.empty((*xs[0].shape[:3], sum(x.shape[3] for x in xs)), np.float32)
    checks.kernel("concat", backend)(xs, out)
    return out


def pad(x: Tensor, padding: Sides, *, backend: BackendLike = "numpy") -> Tensor:
    """Put a frame of +0 around the map.

    x        (n, h, w, c) float32
    padding  int or (top, bottom, left, right)
    returns  (n, top+h+bottom, left+w+right, c) float32

    Raises:   DtypeError, ShapeError, UsageError.
    """
    x = checks.tensor("pad", "x", x)
    padding = checks.sides("pad", padding)
    n, h, w, c = x.shape
    out = np.empty((n, h + padding[0] + padding[1], w + padding[2] + padding[3], c), np.float32)
    checks.kernel("pad", backend)(x, padding, out)
    return out


def slice_channels(x: Tensor, start: int, stop: int, *, backend: BackendLike = "numpy") -> Tensor:
    """Return a copy of the channels start .. stop-1.

    x        (n, h, w, c) float32
    returns  (n, h, w, stop-start) float32

    Raises:   DtypeError, UsageError; ShapeError if there are no such channels.
    """
    x = checks.tensor("slice_channels", "x", x)
    start = checks.integer("slice_channels", "start", start, 0)
    stop = checks.integer("slice_channels", "stop", stop, 1)
    if not start < stop <= x.shape[3]:
        raise ShapeError(f"slice_channels: channels {start}:{stop} of x with {x.shape[3]}")
    out = np.empty((*x.shape[:3], stop - start), np.float32)
    checks.kernel("slice_channels", backend)(x, start, stop, out)
    return out
