"""How far two honest float32 computations of an op may lie apart, computed from the data in float64.

Honest: sums in any order, fused or not, every step rounded to nearest in float32; PyTorch's on the CPU is. Not:
TF32, half precision, Winograd or Fourier convolutions. A bound counts both sides, ours and the other's; inputs may
be off already. `network` walks a whole graph with it. docs/NUMERICS.md, "Against other libraries".
"""

from typing import Any

import numpy as np

from pagnp.errorbound import conv, gate, layout, pointwise, pool, reduce, resample
from pagnp.errorbound.rounding import LARGEST, Args, Errors

OPS = {
    **{name: getattr(conv, name) for name in ("conv2d", "conv_transpose2d", "bilinear_deconv")},
    **{name: getattr(pool, name) for name in ("max_pool2d", "avg_pool2d")},
    **{name: getattr(resample, name) for name in ("bilinear", "nearest")},
    **{name: getattr(pointwise, name) for name in ("add", "sub", "mul", "div", "relu", "norm", "compare")},
    **{name: getattr(pointwise, name) for name in ("exp", "exp10", "log", "sigmoid", "logical_not", "to_float")},
    **{name: getattr(reduce, name) for name in ("global_mean", "softmax", "argmax", "l2_normalize")},
    **{name: getattr(layout, name) for name in ("concat", "pad", "slice_channels")},
    **{name: getattr(gate, name) for name in ("gate", "select", "masked", "blend")},
}
OWN_ROUNDING = 1 + 2.0**-30  # of the bound itself: float64 sums of up to 2^20 positive terms


def bound(op: str, args: Args, shape: tuple[int, ...], errors: Errors | None = None) -> Any:
    """Return how far two honest float32 results of `op` may lie apart, at each element.

    args     the kernel's arguments by name (docs/ARCHITECTURE.md); `norm` may replace scale and shift, see
             conv.batch_norm; logical_not and to_float have m
    shape    of the result
    errors   the same names (a list for a list) -> how far that input may be off; absent or None: exact. Of a mask:
             bool, True where it may be otherwise; of an index: bool (n, h, w, K), the values that it may have
    returns  float64 of `shape` for a tensor, inf where nothing can be said and NaN where the other side must be NaN or
             the same infinity; for masks and indices what `errors` takes
    """
    with np.errstate(all="ignore"):
        found = OPS[op](args, shape, errors or {})
    if found.dtype == bool:
        return found
    found = np.broadcast_to(found, shape) * OWN_ROUNDING
    return np.where(found > 2 * LARGEST, np.inf, found)
