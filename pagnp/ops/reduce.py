"""Reductions over channels or over the map."""

import numpy as np

from pagnp.backends.base import BackendLike
from pagnp.ops.call import Call
from pagnp.types import AnyTensor, Index, Tensor


def global_mean(x: AnyTensor, *, backend: BackendLike = "numpy") -> Tensor:
    """Average each channel over the map.

    x        (n, h, w, c) float32
    returns  (n, 1, 1, c) float32

    Numerics: EXACT; each row from +0 over x, then the row sums from +0 over rows, then / f32(h*w).
    Raises:   DtypeError, ShapeError.
    """
    call = Call("global_mean", backend)
    x = call.tensor("x", x)
    return call.fill(x, shape=(x.shape[0], 1, 1, x.shape[3]))


def softmax(x: AnyTensor, *, backend: BackendLike = "numpy") -> Tensor:
    """Return e_k / (e_0 + e_1 + ...), e_k = exp(x_k - max x), over the channels.

    x        (n, h, w, c) float32
    returns  (n, h, w, c) float32

    Numerics: EXACT; m the first maximum by `>`, the sum from +0 with k ascending.
    Raises:   DtypeError, ShapeError.
    """
    call = Call("softmax", backend)
    x = call.tensor("x", x)
    return call.fill(x, shape=x.shape)


def argmax(x: AnyTensor, *, backend: BackendLike = "numpy") -> Index:
    """Return the channel of the first maximum.

    x        (n, h, w, c) float32
    returns  (n, h, w) int32

    Numerics: EXACT; x[k] > x[best], starting from best = 0 (a NaN never replaces, and is never replaced).
    Raises:   DtypeError, ShapeError.
    """
    call = Call("argmax", backend)
    x = call.tensor("x", x)
    return call.fill(x, shape=x.shape[:3], dtype=np.int32)


def l2_normalize(x: AnyTensor, *, backend: BackendLike = "numpy") -> Tensor:
    """Return x / (sqrt(sum of squares over the channels) + 1e-5).

    x        (n, h, w, c) float32
    returns  (n, h, w, c) float32

    Numerics: EXACT; the sum by the dot-product rule.
    Raises:   DtypeError, ShapeError.
    Source:   the normals head of the PAG authors' code (eps outside the root).
    """
    call = Call("l2_normalize", backend)
    x = call.tensor("x", x)
    return call.fill(x, shape=x.shape)
