"""Reductions over channels or over the map."""

import numpy as np

from pagnp.backends.base import BackendLike
from pagnp.ops import checks
from pagnp.types import Index, Tensor


def global_mean(x: Tensor, *, backend: BackendLike = "numpy") -> Tensor:
    """Average each channel over the map.

    x        (n, h, w, c) float32
    returns  (n, 1, 1, c) float32

    Numerics: EXACT; each row from +0 over x, then the row sums from +0 over rows, then / f32(h*w).
    Raises:   DtypeError, ShapeError.
    """
    x = checks.tensor("global_mean", "x", x)
    return _fill("global_mean", x, (x.shape[0], 1, 1, x.shape[3]), np.float32, backend)


def softmax(x: Tensor, *, backend: BackendLike = "numpy") -> Tensor:
    """Return e_k / (e_0 + e_1 + ...), e_k = exp(x_k - max x), over the channels.

    x        (n, h, w, c) float32
    returns  (n, h, w, c) float32

    Numerics: EXACT; m the first maximum by `>`, the sum from +0 with k ascending.
    Raises:   DtypeError, ShapeError.
    """
    x = checks.tensor("softmax", "x", x)
    return _fill("softmax", x, x.shape, np.float32, backend)


def argmax(x: Tensor, *, backend: BackendLike = "numpy") -> Index:
    """Return the channel of the first maximum.

    x        (n, h, w, c) float32
    returns  (n, h, w) int32

    Numerics: EXACT; x[k] > x[best], starting from best = 0 (a NaN never replaces, and is never replaced).
    Raises:   DtypeError, ShapeError.
    """
    x = checks.tensor("argmax", "x", x)
    return _fill("argmax", x, x.shape[:3], np.int32, backend)


def l2_normalize(x: Tensor, *, backend: BackendLike = "numpy") -> Tensor:
    """Return x / (sqrt(sum of squares over the channels) + 1e-5).

    x        (n, h, w, c) float32
    returns  (n, h, w, c) float32

    Numerics: EXACT; the sum by the dot-product rule.
    Raises:   DtypeError, ShapeError.
    Source:   the normals head of the PAG authors' code (eps outside the root).
    """
    x = checks.tensor("l2_normalize", "x", x)
    return _fill("l2_normalize", x, x.shape, np.float32, backend)


def _fill(op, x, shape, dtype, backend):
    out = np.empty(shape, dtype)
    checks.kernel(op, backend)(x, out)
    return out
