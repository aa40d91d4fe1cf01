"""Bounds of the convolutions and of what their epilogue does, and the convolutions in float64 that they need."""

from math import gcd
from typing import Any

import numpy as np

from pagnp.errorbound.rounding import LARGEST, TINY, Args, Errors, U, Wide, accumulated, chained, error_of, gamma, wide


def conv64(x: Any, weight: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> Wide:
    """Return the convolution in float64, (n, h_out, w_out, c_out); weight (k_h, k_w, c_in/groups, c_out)."""
    x, weight = wide(x), wide(weight)
    k_h, k_w, c_group, c_out = weight.shape
    padded = np.pad(x, ((0, 0), padding[:2], padding[2:], (0, 0)))
    h_out = (padded.shape[1] - dilation[0] * (k_h - 1) - 1) // stride[0] + 1
    w_out = (padded.shape[2] - dilation[1] * (k_w - 1) - 1) // stride[1] + 1
    out = np.zeros((x.shape[0], h_out, w_out, c_out))
    per_group = c_out // groups
    for ky in range(k_h):
        for kx in range(k_w):
            rows = padded[:, ky * dilation[0] :][:, : (h_out - 1) * stride[0] + 1 : stride[0]]
            taps = rows[:, :, kx * dilation[1] :][:, :, : (w_out - 1) * stride[1] + 1 : stride[1]]
            for g in range(groups):
                part = weight[ky, kx, :, g * per_group : (g + 1) * per_group]
                out[..., g * per_group : (g + 1) * per_group] += _product(taps[..., g * c_group :], part)
    return out


def _product(x, weight):
    """Return x[..., : c_in] @ weight (c_in, c_out): as one matrix, which NumPy multiplies several times as fast."""
    rows = np.ascontiguousarray(x[..., : len(weight)]).reshape(-1, len(weight))
    return (rows @ weight).reshape(*x.shape[:-1], weight.shape[1])


def deconv64(x: Any, weight: Any, stride: Any, padding: Any, dilation: Any, groups: int, shape: Any) -> Wide:
    """Return the transposed convolution in float64, in scatter form, of the given output shape."""
    x, weight = wide(x), wide(weight)
    k_h, k_w, c_in, per_group = weight.shape
    n, h_in, w_in, _ = x.shape
    top, _, left, _ = padding
    above, before = max(0, -top), max(0, -left)  # a negative crop has pixels there
    full_h = above + max((h_in - 1) * stride[0] + dilation[0] * (k_h - 1) + 1, top + shape[1])
    full_w = before + max((w_in - 1) * stride[1] + dilation[1] * (k_w - 1) + 1, left + shape[2])
    full = np.zeros((n, full_h, full_w, shape[3]))
    c_group = c_in // groups
    for ky in range(k_h):
        for kx in range(k_w):
            y0, x0 = above + ky * dilation[0], before + kx * dilation[1]
            rows = slice(y0, y0 + (h_in - 1) * stride[0] + 1, stride[0])
            columns = slice(x0, x0 + (w_in - 1) * stride[1] + 1, stride[1])
            for g in range(groups):
                target = full[..., g * per_group : (g + 1) * per_group]
                part = weight[ky, kx, g * c_group : (g + 1) * c_group]
                target[:, rows, columns] += _product(x[..., g * c_group :], part)
    return full[:, above + top :, before + left :][:, : shape[1], : shape[2]]


def conv2d(args: Args, shape: Any, errors: Errors) -> Wide:
    """sum |w|e, gamma_K sum |w|(|x| + e) of theirs and the same over our own roundings; then the epilogue.

    K are the terms of a sum, of which ours sees 128 in a chain and the blocks' totals.
    """
    window = [args[name] for name in ("stride", "padding", "dilation", "groups")]
    x, weight, e = np.abs(wide(args["x"])), np.abs(wide(args["weight"])), error_of(errors, "x")
    spread = conv64(x, weight, *window)
    moved = conv64(e, weight, *window) if np.any(e) else 0.0
    return _after_sum(weight[..., 0].size, spread, moved, args, shape, errors)


def conv_transpose2d(args: Args, shape: Any, errors: Errors) -> Wide:
    """As conv2d; K are the taps of one phase."""
    window = args["stride"], args["padding"], args["dilation"], args["groups"], shape
    x, weight, e = np.abs(wide(args["x"])), np.abs(wide(args["weight"])), error_of(errors, "x")
    spread = deconv64(x, weight, *window)
    moved = deconv64(e, weight, *window) if np.any(e) else 0.0
    taps = [-(-k // (s // gcd(s, d))) for k, s, d in zip(weight.shape, args["stride"], args["dilation"], strict=False)]
    terms = taps[0] * taps[1] * weight.shape[2] // args["groups"]
    return _after_sum(terms, spread, moved, args, shape, errors)


def bilinear_deconv(args: Args, shape: Any, errors: Errors) -> Wide:
    """A depthwise conv_transpose2d of four taps; its weight, an exact product, is the same on both sides."""
    factor = args["factor"]
    w = 1 - np.abs((np.arange(2 * factor) + 0.5) / factor - 1)
    plane = (w[:, None] * w).astype(np.float32)[:, :, None, None]
    weight = np.broadcast_to(plane, (2 * factor, 2 * factor, shape[3], 1))
    place = {"stride": (factor,) * 2, "padding": (factor // 2,) * 4, "dilation": (1, 1), "groups": shape[3]}
    return conv_transpose2d({"x": args["x"], "weight": weight, **place}, shape, errors)


def _after_sum(terms, spread, moved, args, shape, errors):
    """Return the error behind the sums and their epilogue: bias; norm, or scale and shift; residual; relu."""
    error = accumulated(terms, spread, moved, chained(terms))
    size = (spread + moved) * (1 + gamma(terms))
    if args.get("sites") is not None and len(shape) == 2:
        size, error = (part.reshape(-1, part.shape[-1])[args["sites"]] for part in (size, error))
    unbounded, norm = np.isinf(error), args.get("norm")
    bias = args.get("bias") if norm is None else norm.get("bias")
    if bias is not None:  # the other side may begin its sum with it, and round it at every term
        size = size + np.abs(wide(bias))
        error = error + 2 * U * size + gamma(terms + 1) * np.abs(wide(bias))
    if norm is not None:
        size, error = batch_norm(size, error, norm, terms)
    elif args.get("scale") is not None:
        size, error = scaled(size, error, args["scale"], args["shift"])
    if args.get("residual") is not None:
        e = error_of(errors, "residual")
        size = size + np.abs(wide(args["residual"])) + e
        error = error + e + 2 * U * size
    unbounded = unbounded | (np.isfinite(size) & (size > LARGEST))
    return np.where(unbounded, np.inf, error)  # a relu brings nothing further apart


def scaled(size: Any, error: Any, scale: Any, shift: Any) -> tuple[Any, Any]:
    """Return (size, error) of x * scale + shift: fused on one side, two roundings on the other."""
    scale, shift = np.abs(wide(scale)), np.abs(wide(shift))
    size = size * scale + shift
    return size, error * scale + 3 * U * size + 2 * TINY


def batch_norm(size: Any, error: Any, part: Args, terms: int = 0) -> tuple[Any, Any]:
    """Return (size, error) behind a norm of a value of at most `size`, known up to `error`.

    part   mean, var, gamma, beta (c,) and eps
    terms  of the sum before it: the other side may fold the norm into the weights and begin its sum with the shift
    Ten roundings: the other side's sum, root, quotient, products and sums in float32, and our scale, shift and fma.
    """
    scale = np.abs(wide(part.get("gamma", 1.0))) / np.sqrt(wide(part["var"]) + part["eps"])
    shift = np.abs(wide(part["mean"])) * scale + np.abs(wide(part.get("beta", 0.0)))
    inner, size = size + error, (size + error) * scale + shift
    # A subnormal scale is off by half of its spacing.
    return size, error * scale + gamma(10) * size + gamma(terms + 1) * shift + (4 + inner) * TINY
