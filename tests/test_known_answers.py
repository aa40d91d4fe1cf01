"""Values known from outside: Random123's Philox vectors, exp, log and sigmoid at their ends and against mpmath."""

import importlib
from pathlib import Path

import numpy as np
import pytest

from pagnp import ops
from pagnp.contract import CONTRACT, compare

# Random123 kat_vectors, "philox4x32 10": counter, key, result
PHILOX = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]

INF, NAN, TINY = float("inf"), float("nan"), 2.0**-149
# x, result; smallest and largest x on each side of a change
EXACT = {
    "exp": [(0.0, 1), (-0.0, 1), (INF, INF), (-INF, 0), (NAN, NAN), (TINY, 1), (89.0, INF), (-104.0, 0), (3e38, INF)],
    "exp10": [(0.0, 1), (-0.0, 1), (2.0, 100), (-3e38, 0), (INF, INF), (-INF, 0), (39.0, INF), (-46.0, 0), (NAN, NAN)],
    "log": [(0.0, -INF), (-0.0, -INF), (1.0, 0), (INF, INF), (-INF, NAN), (-TINY, NAN), (NAN, NAN), (-1.0, NAN)],
    "sigmoid": [(0.0, 0.5), (-0.0, 0.5), (INF, 1), (-INF, 0), (104.0, 1), (-104.0, 0), (-3e38, 0), (NAN, NAN)],
}


def _words(text):
    return np.array([int(word, 16) for word in text.split()], np.uint32)


@pytest.mark.parametrize(("counter", "key", "result"), PHILOX)
def test_philox(counter, key, result, backend_name):
    got = ops.philox4x32(_words(counter)[None], _words(key), backend=backend_name)
    assert got[0].tolist() == _words(result).tolist()


def test_gumbel_noise_is_placed_by_coordinates(backend_name):
    for form in ("kong2018", "torch"):
        options = {"seed": (5 << 32) + 3, "gate_index": 2, "form": form, "backend": backend_name}
        whole = ops.gumbel_noise(9, 8, 6, **options)
        part = ops.gumbel_noise(4, 3, 6, y0=5, x0=5, **options)
        assert not compare(part, whole[5:9, 5:8].copy())
        assert not compare(ops.gumbel_noise(9, 8, 4, **options), whole[..., :4].copy())


def test_gumbel_noise_from_its_words(backend_name):
    mpmath = pytest.importorskip("mpmath")
    got = ops.gumbel_noise(1, 2, 6, seed=(5 << 32) + 3, gate_index=2, form="torch", backend=backend_name)
    words = ops.philox4x32(np.array([[1, 0, 1, 2]], np.uint32), np.array([3, 5], np.uint32))  # ox 1, channels 4 ..
    for k in (4, 5):
        u = mpmath.mpf((int(words[0, k - 4]) >> 9) * 2 + 1) / 2**24
        assert abs(got[0, 1, k] + mpmath.log(-mpmath.log(u))) < 1e-6


@pytest.mark.parametrize("form", ["torch", "kong2018"])
def test_noise_is_the_nearest_float32(form, monkeypatch):
    """A part of what tools/check_noise.py does for every word; a float32 logarithm would not pass."""
    pytest.importorskip("mpmath")
    if np.finfo(np.longdouble).nmant < 63:
        pytest.skip("NumPy's long double is no wider than double here")
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parent.parent / "tools"))
    tool = importlib.import_module("check_noise")
    monkeypatch.setattr(tool, "WORDS_AT_ONCE", 1 << 16)
    worst, _, misrounded = tool.worst_of(form, 1 << 16)
    assert 0.49 < worst <= 0.5 and misrounded == 0
    monkeypatch.setattr(tool, "log64", lambda x: np.log(x.astype(np.float32)).astype(np.float64))
    assert tool.worst_of(form, 1 << 16)[2] > 1000


@pytest.mark.parametrize("name", EXACT)
def test_ends(name, backend_name):
    x = np.array([pair[0] for pair in EXACT[name]], np.float32)
    want = np.array([pair[1] for pair in EXACT[name]], np.float32)
    difference = compare(getattr(ops, name)(x, backend=backend_name), want)
    assert not difference, str(difference)


@pytest.mark.parametrize("name", EXACT)
def test_worst_error_over_a_sample(name):
    mpmath = pytest.importorskip("mpmath")
    true = {
        "exp": mpmath.exp,
        "exp10": lambda x: mpmath.power(10, x),
        "log": mpmath.log,
        "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
    }[name]
    x = _sample(name, 1500)
    y = getattr(ops, name)(x)
    with mpmath.workprec(160):
        for given, got in zip(x.tolist(), y.tolist(), strict=True):
            value = true(mpmath.mpf(given))
            if value >= mpmath.mpf(2) ** 128 * (1 - mpmath.mpf(2) ** -25):
                assert got == INF
                continue
            unit = mpmath.mpf(2) ** max(int(mpmath.floor(mpmath.log(abs(value), 2))) - 23, -149) if value else 1
            assert not abs(mpmath.mpf(got) - value) / unit > CONTRACT[name][1], (name, given, got)


def _sample(name, count):
    """Inputs over the range where the result varies: all exponents, subnormal inputs and results among them."""
    rng = np.random.default_rng(31)
    if name == "log":
        return rng.integers(1, 0x7F800000, count, dtype=np.uint32).view(np.float32)
    wide = rng.uniform(-105, 90, count // 2) / (np.log(10) if name == "exp10" else 1)
    near_zero = np.ldexp(rng.standard_normal(count - count // 2), rng.integers(-30, 3, count - count // 2))
    return np.concatenate([wide, near_zero]).astype(np.float32)
