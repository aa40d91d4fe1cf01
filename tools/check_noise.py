"""Hold the Gumbel noise of every word, 2^23 of form torch and 2^24 of form kong2018, against exact logarithms.

    python tools/check_noise.py

u takes no other values, so this is all there is of g = f32(-log64(-log64(u))). The truth is that of 80-bit logarithms,
and of mpmath where |g| < 2^-10: there the inner one loses digits. About a minute of one core. The exit status is 1 if
any value is not the float32 nearest to the truth.
"""

import sys

import mpmath
import numpy as np

from pagnp.backends.numpy_ref.random import _uniform
from pagnp.backends.numpy_ref.transcendental import log64

WORDS_AT_ONCE = 1 << 20
SMALL = 2.0**-10


def uniform_of(form, numbers):
    """Return every u (float64) for the numbers that a form takes from a word: its upper 23 or 24 bits."""
    return _uniform(numbers << np.uint32(9 if form == "torch" else 8), form)


def true_noise(u):
    """Return -log(-log(u)) as long double."""
    truth = -np.log(-np.log(u.astype(np.longdouble)))
    with mpmath.workprec(200):
        for i in np.flatnonzero(np.abs(truth) < SMALL):
            exact = -mpmath.log(-mpmath.log(mpmath.mpf(float(u[i]))))
            high = float(exact)
            truth[i] = np.longdouble(high) + np.longdouble(float(exact - high))
    return truth


def worst_of(form, count):
    """Return (worst error in ulp, u there, number of values that are not the nearest float32)."""
    worst, at, misrounded = 0.0, None, 0
    for start in range(0, count, WORDS_AT_ONCE):
        u = uniform_of(form, np.arange(start, start + WORDS_AT_ONCE, dtype=np.uint32))
        got, truth = (-log64(-log64(u))).astype(np.float32), true_noise(u)
        unit = np.ldexp(np.longdouble(1), np.frexp(np.abs(truth))[1] - 24)
        error = np.abs(got.astype(np.longdouble) - truth) / unit
        place = int(np.argmax(error))
        misrounded += int(np.count_nonzero(~(error <= 0.5)))
        if not error[place] <= worst:
            worst, at = float(error[place]), float(u[place])
    return worst, at, misrounded


def main():
    """Print a line for each form; return the exit status."""
    if np.finfo(np.longdouble).nmant < 63:
        raise SystemExit("check_noise: NumPy's long double is no wider than double here; use x86 with Linux")
    wrong = 0
    for form, bits in (("torch", 23), ("kong2018", 24)):
        worst, at, misrounded = worst_of(form, 1 << bits)
        wrong += misrounded
        print(f"{form:9s} 2^{bits} words: worst error {worst:.9f} ulp at u = {at.hex()}, {misrounded} not the nearest")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
