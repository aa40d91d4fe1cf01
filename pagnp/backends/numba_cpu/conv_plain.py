"""conv2d as the definition says it, one output at a time: to read first, and what the tests hold the tiles against."""

import numpy as np

from pagnp.backends.numba_cpu.compile import jit
from pagnp.backends.numba_cpu.scalar_fma import fma32
from pagnp.contract import BLOCK


@jit
def conv2d_f32_plain(
    x, weight, scale, shift, bias, residual, relu, sites, stride, padding, dilation, groups, size, out
):
    """Fill the rows of `out`: row i for sites[i] if `out` is compact, row sites[i] if it is the whole map.

    weight  (k_h, k_w, c_in/groups, c_out);  sites (m,) int32 ascending;  size (h_out, w_out)
    out     (m, c_out) or (n*h_out*w_out, c_out), and `residual` alike;  absent parts are None
    """
    _, h_in, w_in, _ = x.shape
    k_h, k_w, c_in, c_out = weight.shape
    h_out, w_out = size
    for i in range(sites.size):
        site = np.int64(sites[i])
        image, oy, ox = site // (h_out * w_out), site // w_out % h_out, site % w_out
        row = i if out.shape[0] == sites.size else site
        for co in range(c_out):
            first_ci = co // (c_out // groups) * c_in
            total, s, term = np.float32(0), np.float32(0), 0
            for ky in range(k_h):
                for kx in range(k_w):
                    iy = oy * stride[0] - padding[0] + ky * dilation[0]
                    ix = ox * stride[1] - padding[2] + kx * dilation[1]
                    inside = 0 <= iy < h_in and 0 <= ix < w_in
                    for ci in range(c_in):
                        value = x[image, iy, ix, first_ci + ci] if inside else np.float32(0)
                        s = fma32(weight[ky, kx, ci, co], value, s)
                        term += 1
                        if term % BLOCK == 0 or term == k_h * k_w * c_in:
                            total = s if term <= BLOCK else total + s
                            s = np.float32(0)
            if scale is not None:
                total = fma32(total, scale[co], shift[co])
            elif bias is not None:
                total = total + bias[co]
            if residual is not None:
                total = total + residual[row, co]
            if relu and total < np.float32(0):
                total = np.float32(0)
            out[row, co] = total
