"""Every op, public: arrays in, arrays out, arguments checked, one bit pattern on every backend.

from pagnp import ops
y = ops.conv2d(x, weight, padding=1, relu=True, backend="numba")

The backends "cupy" and "numba-cuda" compute on the GPU. There an op takes NumPy arrays, which it copies over, and
arrays that are on the GPU (of CuPy, Numba, torch, or with __cuda_array_interface__ or DLPack), which it reads where
they are; both may be mixed. With one on the GPU the result stays there, as an array of the first such one's library,
and the call returns when the work is queued, on that library's current stream; else the result is a NumPy array. What
has to know values waits for the GPU: sites and indices of branches are checked, and mask_to_sites counts. An array on
the GPU that is not in C order is first copied by its library; Numba has no such copy, its arrays are refused. A
tensor of torch must not require grad: pass x.detach(). The annotations speak of NumPy arrays throughout.
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
