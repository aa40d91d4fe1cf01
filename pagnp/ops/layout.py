"""Moving values: concatenation, padding, channel slices."""

from pagnp.backends.base import BackendLike
from pagnp.errors import ShapeError
from pagnp.ops import checks
from pagnp.ops.call import Call
from pagnp.types import AnyTensor, AnyTensors, Sides, Tensor


def concat(xs: AnyTensors, *, backend: BackendLike = "numpy") -> Tensor:
    """Join the channels of several tensors, in order.

    xs       list of (n, h, w, c_i) float32
    returns  (n, h, w, sum of c_i) float32

    Raises:   DtypeError, UsageError; ShapeError if n, h or w differ.
    """
    call = Call("concat", backend)
    xs = call.tensors("xs", xs)
    for i, x in enumerate(xs):
        if x.shape[:3] != xs[0].shape[:3]:
            raise ShapeError(f"concat: xs[{i}] has shape {x.shape}, xs[0] has {xs[0].shape}; only channels may differ")
    return call.fill(xs, shape=(*xs[0].shape[:3], sum(x.shape[3] for x in xs)))


def pad(x: AnyTensor, padding: Sides, *, backend: BackendLike = "numpy") -> Tensor:
    """Put a frame of +0 around the map.

    x        (n, h, w, c) float32
    padding  int or (top, bottom, left, right)
    returns  (n, top+h+bottom, left+w+right, c) float32

    Raises:   DtypeError, ShapeError, UsageError.
    """
    call = Call("pad", backend)
    x = call.tensor("x", x)
    padding = checks.sides("pad", padding)
    n, h, w, c = x.shape
    return call.fill(x, padding, shape=(n, h + padding[0] + padding[1], w + padding[2] + padding[3], c))


def slice_channels(x: AnyTensor, start: int, stop: int, *, backend: BackendLike = "numpy") -> Tensor:
    """Return a copy of the channels start .. stop-1.

    x        (n, h, w, c) float32
    returns  (n, h, w, stop-start) float32

    Raises:   DtypeError, UsageError; ShapeError if there are no such channels.
    """
    call = Call("slice_channels", backend)
    x = call.tensor("x", x)
    start = checks.integer("slice_channels", "start", start, 0)
    stop = checks.integer("slice_channels", "stop", stop, 1)
    if not start < stop <= x.shape[3]:
        raise ShapeError(f"slice_channels: channels {start}:{stop} of x with {x.shape[3]}")
    return call.fill(x, start, stop, shape=(*x.shape[:3], stop - start))
