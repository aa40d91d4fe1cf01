"""Float32 arithmetic on single numbers, in exact rationals: the ground that the oracle stands on.

A float32 value is a Python float that holds it exactly; signed zeros, infinities and NaN are Python's own. Every
function computes the true result as a `Fraction` (or with mpmath) and rounds it once, to nearest, ties to even.
"""

import math
from fractions import Fraction

NAN = math.nan
INF = math.inf

_PRECISION_BITS = 24
_SMALLEST_EXPONENT = -149  # the unit of a subnormal
_OVERFLOW_EXPONENT = 128  # a rounded magnitude of 2^128 or more is an infinity
_MP_BITS = 320  # no float32 argument brings exp or log within 2^-100 of a rounding midpoint; ample


def unit_exponent(magnitude):
    """Return the exponent of the unit in the last place at `magnitude`, a positive Fraction."""
    numerator, denominator = magnitude.numerator, magnitude.denominator
    exponent = numerator.bit_length() - denominator.bit_length()
    if denominator << max(exponent, 0) > numerator << max(-exponent, 0):  # 2^exponent > magnitude
        exponent -= 1
    return max(exponent - (_PRECISION_BITS - 1), _SMALLEST_EXPONENT)


def round_to_f32(value, negative_zero=False):
    """Return the float32 nearest to `value` (Fraction or int), ties to even, overflow to infinity.

    negative_zero  the sign of the result where `value` is exactly 0; a tiny value keeps its own sign
    """
    value = Fraction(value)
    if value == 0:
        return -0.0 if negative_zero else 0.0
    magnitude = abs(value)
    exponent = unit_exponent(magnitude)
    denominator = magnitude.denominator << max(exponent, 0)
    units, rest = divmod(magnitude.numerator << max(-exponent, 0), denominator)
    if 2 * rest > denominator or (2 * rest == denominator and units % 2 == 1):
        units += 1
    rounded = INF if units.bit_length() + exponent > _OVERFLOW_EXPONENT else math.ldexp(units, exponent)
    return -rounded if value < 0 else rounded


def f32(number):
    """Return the float32 nearest to a Python int or float (a constant of a formula)."""
    if isinstance(number, float) and (math.isnan(number) or math.isinf(number) or number == 0.0):
        return number
    return round_to_f32(Fraction(number))


def is_negative(number):
    """Tell whether the sign bit is set, for zeros too."""
    return math.copysign(1.0, number) < 0


def fma(a, b, c):
    """Return a*b + c with a single rounding."""
    if not (math.isfinite(a) and math.isfinite(b) and math.isfinite(c)):
        return a * b + c  # a product of two finite float32 is finite in a Python float: only the class counts here
    product = Fraction(a) * Fraction(b)
    exact = product + Fraction(c)
    both_negative = product == 0 and is_negative(a) != is_negative(b) and is_negative(c)
    return round_to_f32(exact, negative_zero=both_negative)


def add(a, b):
    """Return a + b, rounded once."""
    if not (math.isfinite(a) and math.isfinite(b)):
        return a + b
    return round_to_f32(Fraction(a) + Fraction(b), negative_zero=is_negative(a) and is_negative(b) and a == 0)


def sub(a, b):
    """Return a - b, rounded once."""
    return add(a, -b)


def mul(a, b):
    """Return a * b, rounded once."""
    if not (math.isfinite(a) and math.isfinite(b)):
        return a * b
    return round_to_f32(Fraction(a) * Fraction(b), negative_zero=is_negative(a) != is_negative(b))


def div(a, b):
    """Return a / b, rounded once; x/0 is an infinity, 0/0 and inf/inf are NaN."""
    if math.isnan(a) or math.isnan(b):
        return NAN
    sign = -1.0 if is_negative(a) != is_negative(b) else 1.0
    if math.isinf(a) or b == 0:
        return NAN if math.isinf(b) or a == 0 else sign * INF
    if math.isinf(b):
        return sign * 0.0
    return round_to_f32(Fraction(a) / Fraction(b), negative_zero=sign < 0)


def sqrt(a):
    """Return the square root of a, rounded once; -0 stays -0, a negative number gives NaN."""
    if math.isnan(a) or a == 0 or a == INF:
        return a
    if a < 0:
        return NAN
    exact = Fraction(a)
    shift = 256  # the integer root then has far more than 25 bits, for the smallest subnormal too
    scaled = exact * 4**shift
    root = math.isqrt(scaled.numerator)  # scaled is an integer: float32 is a multiple of 2^-149
    # An inexact root lies strictly between two integers; its half stands for it, on the right side of any midpoint.
    value = Fraction(2 * root + (0 if root * root == scaled.numerator else 1), 2)
    return round_to_f32(value / Fraction(2) ** shift)


def to_fraction(mp_number):
    """Return an mpmath number as the Fraction that it is."""
    sign, mantissa, exponent, _ = mp_number._mpf_
    return (-1) ** sign * Fraction(int(mantissa)) * Fraction(2) ** int(exponent)


def true_exp(x):
    """Return exp(x) as a Fraction, good to more than 300 bits; |x| at most 1000."""
    from mpmath import mp

    with mp.workprec(_MP_BITS):
        return to_fraction(mp.exp(mp.mpf(x)))


def true_exp10(x):
    """Return 10**x as a Fraction; |x| at most 1000."""
    from mpmath import mp

    with mp.workprec(_MP_BITS):
        return to_fraction(mp.power(10, mp.mpf(x)))


def true_sigmoid(x):
    """Return 1/(1 + exp(-x)) as a Fraction; |x| at most 1000."""
    return 1 / (1 + true_exp(-x))


def true_log(x):
    """Return log(x) as a Fraction, x a positive finite float or Fraction."""
    from mpmath import mp

    x = Fraction(x)
    with mp.workprec(_MP_BITS):
        return to_fraction(mp.log(mp.mpf(x.numerator) / mp.mpf(x.denominator)))


def exp(x):
    """Return exp(x) correctly rounded."""
    if math.isnan(x):
        return NAN
    if abs(x) > 1000:
        return INF if x > 0 else 0.0
    return round_to_f32(true_exp(x))


def exp10(x):
    """Return 10**x correctly rounded."""
    if math.isnan(x):
        return NAN
    if abs(x) > 1000:
        return INF if x > 0 else 0.0
    return round_to_f32(true_exp10(x))


def sigmoid(x):
    """Return the logistic function of x correctly rounded."""
    if math.isnan(x):
        return NAN
    if abs(x) > 1000:
        return 1.0 if x > 0 else 0.0
    return round_to_f32(true_sigmoid(x))


def log(x):
    """Return log(x) correctly rounded; log of either zero is -inf, of a negative number NaN."""
    if math.isnan(x) or x < 0:
        return NAN
    if x == 0:
        return -INF
    return INF if x == INF else round_to_f32(true_log(x))


def ulp_error(got, true):
    """Return |got - true| in units in the last place at `true`, a nonzero Fraction; got is finite."""
    return abs(Fraction(got) - true) / Fraction(2) ** unit_exponent(abs(true))


def relu(x):
    """Return +0 if x < 0 else x: NaN stays NaN, -0 stays -0."""
    return 0.0 if x < 0 else x
