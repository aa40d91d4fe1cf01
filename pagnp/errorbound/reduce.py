"""Bounds of what goes over channels or over the map: mean, softmax, argmax, l2_normalize."""

from typing import Any

import numpy as np

from pagnp.errorbound.rounding import LARGEST, TINY, Args, Errors, U, Wide, averaged, error_of, gamma, wide
from pagnp.types import Mask


def global_mean(args: Args, shape: Any, errors: Errors) -> Wide:
    """As a sum of h*w terms, and a quotient; ours has a row's and the rows' sums."""
    x, e = np.abs(wide(args["x"])), error_of(errors, "x")
    spread, moved = (part.sum(axis=(1, 2), keepdims=True) if np.any(part) else 0.0 for part in (x, e))
    h, w = x.shape[1:3]
    return averaged(h * w, spread, moved, h * w, h + w)


def softmax(args: Args, shape: Any, errors: Errors) -> Wide:
    """As softmax_of."""
    return softmax_of(wide(args["x"]), error_of(errors, "x"))


def softmax_of(x: Any, e: Any = 0.0) -> Any:
    """Return the bound of softmax over the last axis of x, which may be off by e.

    exp's argument is off by u|z - m|, exp by an ULP, the sum by gamma_K, the quotient by one rounding; a move of the
    logits by e changes log p by at most e and the largest of all e.
    """
    e = np.broadcast_to(e, x.shape)
    widest = e.max(axis=-1, keepdims=True)
    distance = x.max(axis=-1, keepdims=True) - x
    powers = np.exp(-distance)
    s = powers.sum(axis=-1, keepdims=True)
    p = powers / s
    moved = np.where(e + widest > 1, 1.0, p * np.expm1(e + widest))
    p, distance = np.minimum(p + moved, 1.0), distance + e + widest
    relative = gamma(1) * distance + gamma(2)
    of_sum = (p * relative).sum(axis=-1, keepdims=True) + gamma(x.shape[-1])
    return np.minimum(moved + 2 * p * (relative + of_sum + gamma(1)) + 3 * TINY, 1.0)


def argmax(args: Args, shape: Any, errors: Errors) -> Mask:
    """As possible_maxima."""
    return possible_maxima(wide(args["x"]), error_of(errors, "x"))


def possible_maxima(x: Any, e: Any = 0.0) -> Mask:
    """Return bool (n, h, w, K): the channels that may be the first maximum when x may be off by e.

    With no error at a pixel it is the first maximum itself. With a NaN it may be any: for PyTorch NaN is the largest.
    """
    e = np.broadcast_to(e, x.shape)
    first = np.zeros(x.shape, bool)
    np.put_along_axis(first, np.argmax(np.where(np.isnan(x), -np.inf, x), axis=-1)[..., None], True, axis=-1)
    reached = ~(x + e < (x - e).max(axis=-1, keepdims=True))  # with a NaN every comparison is false
    fixed = (e == 0).all(axis=-1, keepdims=True) & ~np.isnan(x).any(axis=-1, keepdims=True)
    return np.where(fixed, first, reached | first)


def l2_normalize(args: Args, shape: Any, errors: Errors) -> Wide:
    """Half of gamma_K from the root, and the roundings of root, sum and quotient, on both sides."""
    x, e = wide(args["x"]), error_of(errors, "x") + np.zeros(shape)
    squares = (x * x).sum(axis=-1, keepdims=True)
    length, moves = np.sqrt(squares), np.sqrt((e * e).sum(axis=-1, keepdims=True))
    y = np.abs(x) / (length + 1e-5)
    moved = np.minimum((e + y * moves) / (np.maximum(length - moves, 0) + 1e-5), 1 + y)
    error = moved + 2 * (gamma(x.shape[-1]) + gamma(4)) * (y + moved) + TINY
    return np.where((length + moves) ** 2 * (1 + 8 * U) > LARGEST, np.inf, error)
