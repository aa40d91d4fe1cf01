"""Bounds of gates, and of what they steer.

The error of a mask is bool: True where the other side may have decided otherwise. That of an index is bool
(n, h, w, K): the branches that the other side may have chosen.
"""

from typing import Any

import numpy as np

from pagnp.errorbound.pointwise import log_of
from pagnp.errorbound.reduce import possible_maxima, softmax_of
from pagnp.errorbound.rounding import (
    LARGEST,
    Args,
    Errors,
    U,
    Wide,
    accumulated,
    error_of,
    errors_of,
    gamma,
    rounded,
    wide,
)


def gate(args: Args, shape: Any, errors: Errors) -> Any:
    """Hard: a decision is open only where its margin is within the logits' errors. Soft: a softmax.

    args   as the kernel's; the noise is the same on both sides. `index`: the answer is one (None: if K > 2)
    """
    y, e, mode = *scores(args, errors), args["mode"]
    if mode == "soft":
        return softmax_of(y, e)
    if mode == "gumbel_soft":
        temperature = float(args["temperature"])
        y, e = y / temperature, e / temperature
        return softmax_of(y, e if temperature == 1 else e + gamma(3) * (np.abs(y) + e))
    if _is_index(args):
        return possible_maxima(y, e)
    margin, error = margins(args, errors)
    return (error > 0) & ~(np.abs(margin) > error)


def scores(args: Args, errors: Errors) -> tuple[Any, Any]:
    """Return float64 (y, error) of what is decided from: the logits, with their noise in the gumbel modes."""
    z, e = wide(args["z"]), np.broadcast_to(error_of(errors, "z"), np.shape(args["z"]))
    if not args["mode"].startswith("gumbel"):
        return z, e
    noise = wide(args["noise"])
    if args["form"] == "torch":
        return z + noise, rounded(np.abs(z + noise) + e, e)
    powers = np.exp(z - z.max(axis=-1, keepdims=True))
    p = powers / powers.sum(axis=-1, keepdims=True)
    c = (p + 1e-3) / 1.001
    error = softmax_of(z, e) + 4 * U * (p + 1e-3 + c)  # sum, quotient and both constants, on both sides
    y = np.log(c) + noise
    error = log_of(c, error)
    return y, error + 2 * U * (np.abs(y) + error)


def margins(args: Args, errors: Errors) -> tuple[Any, Any]:
    """Return float64 (margin, error) of hard decisions (n, h, w): the distance from where they would turn.

    Two-way: z1 - z0 (- threshold), with its sign. K-way: the first maximum's lead over the best of the others.
    """
    y, e = scores(args, errors)
    if _is_index(args):
        return lead(y, e)
    margin, error = y[..., 1] - y[..., 0], e[..., 1] + e[..., 0]
    if args.get("threshold") is not None:
        error = rounded(np.abs(margin) + error, error)
        margin = margin - float(args["threshold"])
    return margin, error


def lead(x: Any, e: Any = 0.0) -> tuple[Any, Any]:
    """Return (lead of the largest channel over the next, twice the largest error) of x (n, h, w, K)."""
    e = np.broadcast_to(e, x.shape)
    if x.shape[-1] == 1:
        return np.full(x.shape[:-1], np.inf), np.zeros(x.shape[:-1])
    top = np.partition(x, -2, axis=-1)
    return top[..., -1] - top[..., -2], 2 * e.max(axis=-1)


def _is_index(args):
    index = args.get("index")
    return args["z"].shape[-1] != 2 if index is None else bool(index)


def select(args: Args, shape: Any, errors: Errors) -> Wide:
    """The error of the branch taken; where the choice is open, the distance to the furthest branch that is possible."""
    control, branches = np.asarray(args["control"]), args["branches"]
    given = errors_of(errors, "branches", len(branches))
    number, possible = control.astype(np.int64)[..., None], errors.get("control")
    if possible is not None and possible.shape == control.shape:  # of a mask
        taken = control.astype(bool)
        possible = np.stack([~taken | possible, taken | possible], axis=-1)
    found = np.zeros(shape)
    chosen = _picked(number, branches)
    for k, e in enumerate(given):
        found = np.where(number == k, e, found)
    if possible is None or not (possible.sum(axis=-1) > 1).any():
        return found
    for k, (branch, e) in enumerate(zip(branches, given, strict=True)):
        apart = np.abs(wide(branch) - chosen) + e
        other = possible[..., k : k + 1] & (number != k)
        found = np.where(other, np.fmax(found, np.where(np.isnan(apart), np.inf, apart)), found)
    return found


def _picked(number, branches):
    out = wide(branches[0])
    for k, branch in enumerate(branches[1:], start=1):
        out = np.where(number == k, branch, out)
    return out


def masked(args: Args, shape: Any, errors: Errors) -> Wide:
    """The error where the mask is True; |x| and its error where the mask is open."""
    zeros = np.zeros(shape)
    return select(
        {"control": args["mask"], "branches": [zeros, args["x"]]},
        shape,
        {"control": errors.get("mask"), "branches": [None, errors.get("x")]},
    )


def blend(args: Args, shape: Any, errors: Errors) -> Wide:
    """A sum of K products p_k * branch_k of which both may be off."""
    p, ep = np.abs(wide(args["p"])), error_of(errors, "p") + np.zeros(np.shape(args["p"]))
    given = errors_of(errors, "branches", len(args["branches"]))
    spread, moved = np.zeros(shape), np.zeros(shape)
    for k, (branch, e) in enumerate(zip(args["branches"], given, strict=True)):
        size = np.abs(wide(branch))
        weight, off = p[..., k : k + 1], ep[..., k : k + 1]
        spread += weight * size
        moved += weight * e + off * (size + e)
    return np.where(spread > LARGEST, np.inf, accumulated(len(args["branches"]), spread, moved))
