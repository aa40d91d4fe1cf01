"""Element by element: one IEEE operation, or one fma, each."""

import numpy as np

from pagnp.backends.numpy_ref.fma import fma_f32

CHUNK = 65536  # elements handled at once by fma: its float64 intermediates stay in cache

_COMPARISONS = {
    "gt": np.greater,
    "ge": np.greater_equal,
    "lt": np.less,
    "le": np.less_equal,
    "eq": np.equal,
    "ne": np.not_equal,
}


def add(a, b, out):
    """out = a + b."""
    np.add(a, b, out=out)


def sub(a, b, out):
    """out = a - b."""
    np.subtract(a, b, out=out)


def mul(a, b, out):
    """out = a * b."""
    np.multiply(a, b, out=out)


def div(a, b, out):
    """out = a / b."""
    np.divide(a, b, out=out)


def relu(x, out):
    """out = +0 if x < 0 else x; not max(x, 0), which loses NaN or -0 on some machines."""
    np.copyto(out, np.where(x < 0, np.float32(0), x))


def norm(x, scale, shift, out):
    """out = fma(x, scale, shift), scale and shift one value a channel."""
    rows, out_rows = x.reshape(-1, x.shape[-1]), out.reshape(-1, x.shape[-1])
    step = max(1, CHUNK // x.shape[-1])
    for start in range(0, len(rows), step):
        out_rows[start : start + step] = fma_f32(rows[start : start + step], scale, shift)


def compare(a, b, op, out):
    """out = a op b; op is gt, ge, lt, le, eq or ne."""
    _COMPARISONS[op](a, b, out=out)
