"""Oracle of the pointwise ops and of the reductions over channels and space, from the written rules.

Every function takes the place `index` of the element and the `shape` of the output, then the kernel's arguments.
`softmax` takes the routine for exp: the engine's, so that all the rest is held to the bit.
"""

import math
from fractions import Fraction

from pagnp.testing import oracle_scalar as scalar
from pagnp.testing.oracle_conv import dot
from pagnp.testing.oracle_scalar import f32


def broadcast(array, index):
    """Return array[index], an axis of length 1 read at 0."""
    place = tuple(0 if size == 1 else i for i, size in zip(index, array.shape, strict=True))
    return array[place]


def _binary(function):
    def element(index, shape, a, b):
        return function(float(broadcast(a, index)), float(broadcast(b, index)))

    return element


def _unary(function):
    def element(index, shape, x):
        return function(float(x[index]))

    return element


add = _binary(scalar.add)
sub = _binary(scalar.sub)
mul = _binary(scalar.mul)
div = _binary(scalar.div)
relu = _unary(scalar.relu)
exp = _unary(scalar.exp)
exp10 = _unary(scalar.exp10)
log = _unary(scalar.log)
sigmoid = _unary(scalar.sigmoid)

_COMPARISONS = {
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
}


def compare(index, shape, a, b, op):
    """IEEE comparison: with a NaN only `ne` holds, and -0 equals +0."""
    return bool(_COMPARISONS[op](float(broadcast(a, index)), float(broadcast(b, index))))


def norm(index, shape, x, scale, shift):
    """fma(x, scale, shift) per channel."""
    return scalar.fma(float(x[index]), float(scale[index[-1]]), float(shift[index[-1]]))


def channels(x, index):
    """Return the channels of the pixel at `index` as a list of floats."""
    return [float(x[(*index[:3], c)]) for c in range(x.shape[3])]


def first_maximum(values):
    """Return the position of the first maximum by z[k] > z[best] from best = 0."""
    best = 0
    for k in range(1, len(values)):
        if values[k] > values[best]:
            best = k
    return best


def softmax_of(values, exp):
    """Return the probabilities: m the first maximum, e_k = exp(z_k - m), summed in order from +0, e_k / s."""
    m = values[first_maximum(values)]
    parts = [exp(scalar.sub(value, m)) for value in values]
    s = 0.0
    for part in parts:
        s = scalar.add(s, part)
    return [scalar.div(part, s) for part in parts]


def softmax(index, shape, x, exp=scalar.exp):
    """Softmax over channels."""
    return softmax_of(channels(x, index), exp)[index[3]]


def argmax(index, shape, x):
    """The first maximum over channels."""
    return first_maximum(channels(x, index))


def l2_normalize(index, shape, x):
    """s by the dot-product rule; x / (sqrt(s) + f32(1e-5))."""
    values = channels(x, index)
    s = dot((value, value) for value in values)
    return scalar.div(values[index[3]], scalar.add(scalar.sqrt(s), scalar.round_to_f32(Fraction(1, 100000))))


def global_mean(index, shape, x):
    """Each row from +0 over x; then the row sums from +0 over rows; divided by f32(h*w)."""
    n, _, _, c = index
    total = 0.0
    for iy in range(x.shape[1]):
        row = 0.0
        for ix in range(x.shape[2]):
            row = scalar.add(row, float(x[n, iy, ix, c]))
        total = scalar.add(total, row)
    return scalar.div(total, f32(x.shape[1] * x.shape[2]))


def true_pointwise(op, x):
    """Return the unrounded value of exp, exp10, sigmoid or log at the float x as a Fraction.

    None where the result is 0, infinite or NaN, or where |x| is beyond 1000: there the rounded value alone counts.
    """
    if math.isnan(x) or math.isinf(x) or abs(x) > 1000 and op != "log" or x <= 0 and op == "log":
        return None
    true = getattr(scalar, f"true_{op}")(x)
    return None if true == 0 or math.isinf(scalar.round_to_f32(true)) else true
