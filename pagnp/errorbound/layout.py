"""Bounds of the ops that move values: the errors move with them."""

from typing import Any

import numpy as np

from pagnp.errorbound.rounding import Args, Errors, Wide, error_of, errors_of


def concat(args: Args, shape: Any, errors: Errors) -> Wide:
    """The errors side by side."""
    given = errors_of(errors, "xs", len(args["xs"]))
    parts = [np.broadcast_to(e, x.shape) for x, e in zip(args["xs"], given, strict=True)]
    return np.concatenate(parts, axis=-1)


def pad(args: Args, shape: Any, errors: Errors) -> Wide:
    """The error, and zero in the frame."""
    top, bottom, left, right = args["padding"]
    e = np.broadcast_to(error_of(errors, "x"), args["x"].shape)
    return np.pad(e, ((0, 0), (top, bottom), (left, right), (0, 0)))


def slice_channels(args: Args, shape: Any, errors: Errors) -> Wide:
    """The error of the channels that are taken."""
    return np.broadcast_to(error_of(errors, "x"), args["x"].shape)[..., args["start"] : args["stop"]]
