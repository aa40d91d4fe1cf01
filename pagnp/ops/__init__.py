"""Every op, public: NumPy arrays in and out, arguments checked, one bit pattern on every backend.

from pagnp import ops
y = ops.conv2d(x, weight, padding=1, relu=True, backend="numba")
"""

from pagnp.ops.conv import conv2d, conv_transpose2d
from pagnp.ops.gate import blend, gate, gather, grow_mask, mask_to_sites, masked, scatter, select
from pagnp.ops.layout import concat, pad, slice_channels
from pagnp.ops.multipool import multipool
from pagnp.ops.pointwise import (
    add,
    compare,
    div,
    exp,
    exp10,
    fma,
    log,
    mul,
    norm,
    normalize_image,
    relu,
    sigmoid,
    sub,
)
from pagnp.ops.pool import avg_pool2d, max_pool2d
from pagnp.ops.random import gumbel_noise, philox4x32
from pagnp.ops.reduce import argmax, global_mean, l2_normalize, softmax
from pagnp.ops.resample import bilinear, bilinear_deconv, nearest

__all__ = [
    "add",
    "argmax",
    "avg_pool2d",
    "bilinear",
    "bilinear_deconv",
    "blend",
    "compare",
    "concat",
    "conv2d",
    "conv_transpose2d",
    "div",
    "exp",
    "exp10",
    "fma",
    "gate",
    "gather",
    "global_mean",
    "grow_mask",
    "gumbel_noise",
    "l2_normalize",
    "log",
    "mask_to_sites",
    "masked",
    "max_pool2d",
    "mul",
    "multipool",
    "nearest",
    "norm",
    "normalize_image",
    "pad",
    "philox4x32",
    "relu",
    "scatter",
    "select",
    "sigmoid",
    "slice_channels",
    "softmax",
    "sub",
]
