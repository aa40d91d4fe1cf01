"""Every fma of the engine: constructed ties, subnormals, the instruction, libm's fmaf and exact fractions."""

import ctypes
import ctypes.util
import importlib
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from pagnp import ops
from pagnp.backends.numpy_ref import fma
from pagnp.backends.numpy_ref.fma import Chain, fma_f32, products_may_underflow, require_subnormals
from pagnp.contract import compare
from pagnp.errors import ContractError

TOOLS = Path(__file__).resolve().parent.parent / "tools"


def _f32(*bits):
    return np.array(bits, np.uint32).view(np.float32)


def _round_exact(value, zero):
    """Return the float32 nearest to the Fraction `value`, ties to even; `zero` is what an exact 0 becomes."""
    if value == 0:
        return zero
    magnitude = abs(value)
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    if magnitude < Fraction(2) ** exponent:
        exponent -= 1
    unit = Fraction(2) ** (max(exponent, -126) - 23)
    rounded = round(magnitude / unit) * unit  # Python's round of a Fraction is half to even
    if rounded >= Fraction(2) ** 128:
        return np.float32(np.inf) * (1 if value > 0 else -1)
    return np.float32(float(rounded if value > 0 else -rounded))


def _exact_fma(a, b, c):
    with np.errstate(all="ignore"):
        out = np.float32(float(a) * float(b) + float(c))  # exact zeros and non-finite values
    if not all(np.isfinite(v) for v in (a, b, c)):
        return out
    return _round_exact(Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c)), out)


def _adversarial(rng, count):
    """Triples around halfway points: c = 1.x * 2^e, a * b = half an ulp of it, slightly more or slightly less."""
    c = rng.integers(0x3F800000, 0x40000000, count, dtype=np.uint32)
    scale = rng.integers(-150, 100, count)
    a = (1 + rng.integers(-4, 5, count) * 2.0**-23) * 2.0**-12
    b = (1 + rng.integers(-4, 5, count) * 2.0**-23) * 2.0**-12
    sign = rng.choice([-1.0, 1.0], (3, count))
    c = np.ldexp(c.view(np.float32).astype(np.float64), scale).astype(np.float32)
    a = np.ldexp(a, scale // 2).astype(np.float32)
    b = np.ldexp(b, scale - scale // 2).astype(np.float32)
    return (a * sign[0]).astype(np.float32), (b * sign[1]).astype(np.float32), (c * sign[2]).astype(np.float32)


def _triples(kind, count, seed):
    rng = np.random.default_rng(seed)
    if kind == "bits":
        return tuple(rng.integers(0, 2**32, count, dtype=np.uint32).view(np.float32) for _ in range(3))
    if kind == "ties":
        return _adversarial(rng, count)
    if kind == "subnormal":
        a = np.ldexp(rng.standard_normal(count), rng.integers(-80, -60, count)).astype(np.float32)
        b = np.ldexp(rng.standard_normal(count), rng.integers(-80, -60, count)).astype(np.float32)
        return a, b, rng.integers(0, 0x01800000, count, dtype=np.uint32).view(np.float32)
    a, b = (rng.standard_normal(count).astype(np.float32) for _ in range(2))
    return a, b, (-(a.astype(np.float64) * b)).astype(np.float32)  # cancelling


KINDS = ("bits", "ties", "subnormal", "cancelling")

# a, b, c, a*b + c as float32 bits
KNOWN = {
    "just above a tie": (0x39800001, 0x39800001, 0x3F800000, 0x3F800001),
    "a tie goes to even": (0x39800000, 0x39800000, 0x3F800000, 0x3F800000),
    "a tie goes to even, up": (0x39800000, 0x39800000, 0x3F800001, 0x3F800002),
    "just below a tie": (0x397FFFFF, 0x397FFFFF, 0x3F800001, 0x3F800001),
    "far below a tie's last bit": (0x00000001, 0x00000001, 0x3F800000, 0x3F800000),
    "subnormal result": (0x1F800000, 0x1F800001, 0x00000001, 0x00200001),
    "half the smallest, to even": (0x1B000000, 0x19000000, 0x00000000, 0x00000000),
    "above half the smallest": (0x1B000001, 0x19000000, 0x00000000, 0x00000001),
    "largest number": (0x7F7FFFFF, 0x3F800000, 0x00000000, 0x7F7FFFFF),
    "overflow tie": (0x72800000, 0x3F800000, 0x7F7FFFFF, 0x7F7FFFFF),
    "overflow": (0x7F7FFFFF, 0x7F7FFFFF, 0x00000000, 0x7F800000),
    "no spurious overflow": (0x7F7FFFFF, 0x40000000, 0xFF7FFFFF, 0x7F7FFFFF),
    "minus zero": (0x80000000, 0x3F800000, 0x80000000, 0x80000000),
    "zeros of two signs": (0x80000000, 0x3F800000, 0x00000000, 0x00000000),
    "inf minus inf": (0x7F800000, 0x3F800000, 0xFF800000, 0x7FC00000),
    "inf times zero": (0x7F800000, 0x00000000, 0x3F800000, 0x7FC00000),
    "inf": (0x7F800000, 0xBF800000, 0x3F800000, 0xFF800000),
}


@pytest.mark.parametrize("name", KNOWN)
def test_known_results(name):
    a, b, c, want = (_f32(bits) for bits in KNOWN[name])
    assert not compare(fma_f32(a, b, c), want)
    if name not in ("inf minus inf", "inf times zero"):
        assert not compare(np.array([_exact_fma(a[0], b[0], c[0])]), want)


@pytest.mark.parametrize("kind", KINDS)
def test_against_exact_fractions(kind):
    a, b, c = _triples(kind, 4000, seed=11)
    with np.errstate(all="ignore"):
        want = np.array([_exact_fma(*triple) for triple in zip(a, b, c, strict=True)], np.float32)
    difference = compare(fma_f32(a, b, c), want)
    assert not difference, str(difference)


@pytest.mark.parametrize("kind", KINDS)
def test_against_libm(kind, libm_fmaf):
    a, b, c = _triples(kind, 300_000, seed=12)
    want = np.array([libm_fmaf(*triple) for triple in zip(a.tolist(), b.tolist(), c.tolist(), strict=True)], np.float32)
    difference = compare(fma_f32(a, b, c), want)
    assert not difference, str(difference)


@pytest.mark.parametrize("kind", KINDS)
def test_chain_steps_equal_fma(kind):
    a, b, c = (v.reshape(8, -1) for v in _triples(kind, 800, seed=13))
    chain = Chain(a.shape[1], products_may_underflow(a, b))
    chain.restart((a.shape[1],))
    value = np.zeros(a.shape[1], np.float32)
    one = np.ones(a.shape[1])
    with np.errstate(all="ignore"):
        for row_a, row_b, row_c in zip(a, b, c, strict=True):
            chain.step(row_a.astype(np.float64), row_b.astype(np.float64))
            value = fma_f32(row_a, row_b, value)
            assert not compare(chain.value, value)
            chain.step(one, row_c.astype(np.float64))
            value = fma_f32(one, row_c, value)
            assert not compare(chain.value, value)


@pytest.fixture
def check_fma(monkeypatch):
    """tools/check_fma.py as a module."""
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module("check_fma")


def test_every_fma_on_a_million_triples(check_fma):
    """What tools/check_fma.py does on 10^8; a wrong fma must differ on the classes that are made for it."""
    references, told = check_fma.judges(), set()
    if not references:
        pytest.skip("neither an FMA unit nor a C library with fmaf here")
    for name in check_fma.CLASSES:
        triple = check_fma.draw(name, 15, 0, 1 << 17)
        counts, bits, lines = check_fma.check(triple, check_fma.CANDIDATES, references)
        assert bits == 0 and not any(counts.values()), (name, counts, lines)
        caught, _, _ = check_fma.check(triple, check_fma.WRONG, references)
        told |= {(wrong, name) for wrong in check_fma.WRONG if caught[wrong] > 100}
    assert told >= {
        *(("two steps", name) for name in check_fma.CLASSES),
        *(("float64", name) for name in ("near_midpoints", "subnormal_results", "overflow_edge")),
        *(("ties away", name) for name in ("midpoints", "near_midpoints", "subnormal_results", "overflow_edge")),
    }


def test_a_difference_is_counted_and_shown(check_fma):
    a, b, c = _f32(0x3F800000, 0x40000000, 0x7FC00000), _f32(*[0x3F800000] * 3), _f32(0, 0, 0)

    def off_by_one(a, b, c):
        return (fma_f32(a, b, c).view(np.uint32) ^ np.uint32(3)).view(np.float32)

    counts, bits, lines = check_fma.check((a, b, c), {"off": off_by_one}, {"numpy": fma_f32})
    assert counts == {"off": 2} and bits == 4  # NaN is one class
    assert lines == ["fma(3F800000, 3F800000, 00000000) is 3F800003 by off, 3F800000 by numpy"]


def test_the_tool_is_one_command(check_fma, capsys):
    assert check_fma.main(["--count", "1", "--seed", "3", "--jobs", "1", "--classes", "midpoints"]) == 0
    first, row, last = capsys.readouterr().out.splitlines()
    assert first.startswith("seed 3; judged by ")
    assert row.startswith("midpoints") and "numba scalar 0" in row
    assert last.startswith("262,144 triples, 0 results and 0 bits differ")


def test_multiply_then_add_would_be_caught():
    a, b, c = _triples("ties", 10_000, seed=14)
    assert compare(a * b + c, fma_f32(a, b, c))
    naive = (a.astype(np.float64) * b + c).astype(np.float32)  # rounds twice: wrong on near-ties only
    assert compare(naive, fma_f32(a, b, c))


def test_shapes_broadcast_and_inputs_stay():
    a, b, c = np.ones((2, 1, 3), np.float32), np.full((4, 1), 2, np.float32), np.float32(3)
    assert fma_f32(a, b, c).shape == (2, 4, 3)
    assert fma_f32(np.float32(2), np.float32(3), np.float32(4)).shape == ()
    assert (a == 1).all()


def test_underflow_is_recognised():
    ones, tiny = np.ones(3, np.float32), np.array([0, 2.0**-40, 1], np.float32)
    assert not products_may_underflow(ones, tiny)
    assert products_may_underflow(tiny, tiny * np.float32(2.0**-30))
    assert not products_may_underflow(np.zeros(2, np.float32), tiny)


def test_no_global_state():
    before = np.geterr()
    with np.errstate(all="raise"):
        fma_f32(np.float32(3e38), np.float32(10), np.float32(-np.inf))
    assert np.geterr() == before
    require_subnormals()


def test_flushed_subnormals_are_noticed(monkeypatch):
    monkeypatch.setattr(fma, "_TINY", np.zeros(1, np.float32))  # what a flushing thread would read
    with pytest.raises(ContractError, match="flushes subnormals"):
        ops.relu(np.ones((1, 1, 1, 1), np.float32))


@pytest.fixture
def libm_fmaf():
    name = ctypes.util.find_library("m")
    library = ctypes.CDLL(name) if name else None
    if library is None or not hasattr(library, "fmaf"):
        pytest.skip("no C library with fmaf here")
    function = library.fmaf
    function.restype, function.argtypes = ctypes.c_float, (ctypes.c_float,) * 3
    return function
