"""Mistakes that any kernel can make, whatever it computes; and the tools to make one wrong kernel of a right one.

WRONG_ANYWHERE[op][mistake] is a kernel with the reference's signature; ANYWHERE says where a mistake changes nothing.
"""

import numpy as np
from known_bad_rounding import F32, flushed

from pagnp.backends.base import KERNELS, get_backend

REFERENCE = get_backend("numpy").kernels


def replace_argument(op, position, change):
    """Return the reference kernel of `op` with one argument changed first."""

    def kernel(*args):
        args = list(args)
        args[position] = change(args[position])
        REFERENCE[op](*args)

    return kernel


def filling(function):
    """Return a kernel that writes function(args without out) to `out`."""

    def kernel(*args):
        with np.errstate(all="ignore"):
            args[-1][...] = function(*args[:-1])

    return kernel


def after(op, change):
    """Return the reference kernel of `op` followed by change(out, args)."""

    def kernel(*args):
        REFERENCE[op](*args)
        with np.errstate(all="ignore"):
            change(args[-1], args)

    return kernel


def forgetting(part):
    """Return a function op -> the reference kernel that leaves part(out), a view, as it was."""

    def wrong(op):
        def kernel(*args):
            before = part(args[-1]).copy()
            REFERENCE[op](*args)
            part(args[-1])[...] = before

        return kernel

    return wrong


def afterwards(change):
    """Return a function op -> the reference kernel followed by change(out)."""
    return lambda op: after(op, lambda out, args: change(out))


def flush_inputs(op):
    """Take subnormal inputs for zero."""

    def kernel(*args):
        REFERENCE[op](*(_without_subnormals(value) for value in args[:-1]), args[-1])

    return kernel


def _without_subnormals(value):
    if isinstance(value, list):
        return [_without_subnormals(part) for part in value]
    return flushed(value) if isinstance(value, np.ndarray) and value.dtype == F32 else value


def add_to_out(op):
    """Add to, or join with, whatever `out` held: right where it was cleared before."""

    def kernel(*args):
        out = args[-1]
        before = out.copy()
        REFERENCE[op](*args)
        with np.errstate(all="ignore"):
            out[...] = out | before if out.dtype == bool else out + before

    return kernel


def spoil_input(op):
    """Use the first input as scratch memory."""

    def kernel(*args):
        REFERENCE[op](*args)
        first = args[0][0] if isinstance(args[0], list) else args[0]
        first[...] = 0

    return kernel


def write_beyond(op):
    """Write a whole vector over the end of `out`."""

    def beyond(out):
        np.lib.stride_tricks.as_strided(out.reshape(-1)[-1:], (4,), (out.itemsize,))[1:] = 0

    return afterwards(beyond)(op)


def first_image(out):
    """Give every image of a batch the first one's answer."""
    out[1:] = out[:1]


def lose_nan(out):
    """Turn NaN into zero."""
    out[np.isnan(out)] = 0


CHANNELLESS = {"compare", "argmax", "grow_mask"}  # the last axis of their results is the map's width
FLAT = {"gather", "philox4x32"}  # results (m, c)
NO_BATCH = {*FLAT, "gumbel_noise"}  # every image has the same noise
RETURNING = {"pack_conv2d", "mask_to_sites"}
NO_FLOATS = {"compare", "argmax", "grow_mask", "philox4x32"}  # in their results
ABOVE_ZERO = {"sigmoid", "exp", "exp10", "softmax", "gate"}  # results are never -0
ALL = set(KERNELS) - RETURNING
ANYWHERE = {  # mistake -> (op -> wrong kernel, ops where it cannot be seen or made)
    "never written": (forgetting(lambda out: out), set()),
    "last element missing": (forgetting(lambda out: out.reshape(-1)[-1:]), set()),
    "last row missing": (forgetting(lambda out: out[:, -1:]), FLAT),
    "last columns missing": (forgetting(lambda out: out[:, :, out.shape[2] // 8 * 8 :]), {*FLAT, "global_mean"}),
    "last channels missing": (forgetting(lambda out: out[..., out.shape[-1] // 8 * 8 :]), CHANNELLESS),
    "every image is the first": (afterwards(first_image), NO_BATCH),
    "adds to out": (add_to_out, set()),
    # exp(x) is 1 for every subnormal x; Philox and the noise made of it have no float input
    "subnormal inputs flushed": (
        flush_inputs,
        {"exp", "exp10", "sigmoid", "softmax", "grow_mask", "gumbel_noise", "philox4x32"},
    ),
    # the smallest log that is not zero is 2^-24
    "subnormal results flushed": (
        afterwards(lambda out: np.copyto(out, flushed(out)) if out.dtype == F32 else None),
        {*NO_FLOATS, "log", "gumbel_noise"},
    ),
    "-0 lost": (
        afterwards(lambda out: np.add(out, 0, out=out, casting="unsafe")),
        {*NO_FLOATS, *ABOVE_ZERO, "log", "gumbel_noise"},
    ),
    "NaN lost": (afterwards(lose_nan), {*NO_FLOATS, "gumbel_noise", "scatter"}),
    "input spoilt": (spoil_input, {"gumbel_noise"}),
    "writes beyond out": (write_beyond, set()),
}
OWN = {  # what a convolution's own mistakes say more sharply (known_bad_conv.py)
    "conv2d": {"subnormal inputs flushed", "subnormal results flushed", "adds to out", "writes beyond out"},
    "conv_transpose2d": {"subnormal inputs flushed", "subnormal results flushed"},
}
WRONG_ANYWHERE = {
    op: {
        name: wrong(op)
        for name, (wrong, unseen) in ANYWHERE.items()
        if op not in unseen and name not in OWN.get(op, ())
    }
    for op in KERNELS
    if op in ALL
}
