"""The oracle itself, against things that share nothing with it: the processor, hand-worked numbers, adjointness."""

import ast
import ctypes
import math
import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from pagnp.contract import CONTRACT
from pagnp.testing import oracle_conv, oracle_gate, oracle_pointwise, oracle_scalar, oracle_spatial
from pagnp.testing import oracle_scalar as scalar
from pagnp.testing.fills import fill, whole
from pagnp.testing.oracle import ORACLE, element

UNIT = 2.0**-23
PAIRS = [
    (a, b)
    for name, seed in (("bits", 1), ("normal", 2), ("subnormal", 3), ("huge", 4), ("inf_nan", 5), ("signed_zeros", 6))
    for a, b in zip(fill(name, seed, 0, (300,)), fill(name, seed, 1, (300,)), strict=True)
]


def bits(value):
    """Return the float32 bits of a number as hex, any NaN as 7FC00000."""
    return "7FC00000" if math.isnan(value) else struct.pack(">f", value).hex().upper()


@pytest.mark.parametrize("name", ["add", "sub", "mul", "div"])
def test_arithmetic_is_the_processors(name):
    operation = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide}[name]
    with np.errstate(all="ignore"):
        for a, b in PAIRS:
            got = getattr(scalar, name)(float(a), float(b))
            assert bits(got) == bits(float(operation(a, b))), (name, a, b)


def test_square_root_is_the_processors():
    with np.errstate(all="ignore"):
        for a, _ in PAIRS:
            assert bits(scalar.sqrt(float(a))) == bits(float(np.sqrt(a))), a


def test_rounding_is_the_processors():
    """float64 to float32: ties, subnormals, overflow; a Fraction holds the float64 exactly."""
    patterns = whole(7, 0, (2000,), 1 << 53).astype(np.float64) * 2.0**-53
    exponents = whole(7, 1, (2000,), 300) - 170
    values = [*np.ldexp(patterns, exponents), *(1 + UNIT * np.array([0.5, 1.5, 2.5, 0.5 + 2.0**-29]))]
    values += [2.0**128 - 2.0**103, 2.0**128 - 2.0**103 - 2.0**80, 2.0**-150, 2.0**-150 + 2.0**-180, 3 * 2.0**-150]
    with np.errstate(all="ignore"):
        for value in values:
            assert bits(scalar.round_to_f32(Fraction(float(value)))) == bits(float(np.float32(value))), value
            assert bits(scalar.round_to_f32(Fraction(-float(value)))) == bits(float(np.float32(-value))), -value


def test_rounding_of_what_no_float64_holds():
    assert scalar.round_to_f32(Fraction(10) ** 400) == math.inf
    assert scalar.round_to_f32(-(Fraction(10) ** 400)) == -math.inf
    assert bits(scalar.round_to_f32(-(Fraction(10) ** -400))) == bits(-0.0)


@pytest.mark.parametrize(
    ("a", "b", "c", "want"),
    [
        (1 + UNIT, 1 - UNIT, -1.0, -(2.0**-46)),  # the product's last bit survives
        (UNIT / 2 * (1 + UNIT), 1 - UNIT, 1 + UNIT, 1 + UNIT),  # a hair under a midpoint: float64 would round up
        (UNIT / 2, 1.0, 1.0, 1.0),  # a tie, to even below
        (UNIT / 2, 1.0, 1 + UNIT, 1 + 2 * UNIT),  # a tie, to even above
        (-0.0, 1.0, -0.0, -0.0),
        (-0.0, 1.0, 0.0, 0.0),
        (0.0, -1.0, 0.0, 0.0),
        (1.0, -1.0, 1.0, 0.0),  # exact cancellation gives +0
        (2.0**-149, -0.25, 0.0, -0.0),  # underflow keeps its sign
        (2.0**-149, 0.5, 2.0**-149, 2.0**-148),  # a tie between subnormals, to even
        (2.0**127, 2.0, -(2.0**127), 2.0**127),  # the product alone would overflow
        (2.0**127, 2.0, 0.0, math.inf),
        (math.inf, 0.0, 1.0, math.nan),
        (math.inf, 1.0, -math.inf, math.nan),
        (2.0**127, 2.0**127, -math.inf, -math.inf),
    ],
)
def test_fma_by_hand(a, b, c, want):
    assert bits(scalar.fma(a, b, c)) == bits(want)


def test_fma_is_the_c_librarys():
    try:
        fmaf = ctypes.CDLL(None).fmaf
    except (OSError, AttributeError):
        pytest.skip("no C library with fmaf to be found by ctypes here")
    fmaf.restype, fmaf.argtypes = ctypes.c_float, [ctypes.c_float] * 3
    for name in ("near_ties", "subnormal", "cancelling", "bits"):
        a, b, c = (fill(name, 9, role, (400,)) for role in (0, 1, 2))
        for x, y, z in zip(a, b, c, strict=True):
            assert bits(scalar.fma(float(x), float(y), float(z))) == bits(fmaf(x, y, z)), (name, x, y, z)


@pytest.mark.parametrize(
    ("name", "x", "want"),
    [
        ("exp", 1.0, "402DF854"),
        ("exp", 0.0, "3F800000"),
        ("exp", -104.0, "00000000"),
        ("exp", -103.0, "00000001"),
        ("exp", 89.0, "7F800000"),
        ("exp", -math.inf, "00000000"),
        ("exp", math.nan, "7FC00000"),
        ("exp10", 2.0, "42C80000"),
        ("exp10", 39.0, "7F800000"),
        ("log", 2.0, "3F317218"),
        ("log", 1.0, "00000000"),
        ("log", -0.0, "FF800000"),
        ("log", -1.0, "7FC00000"),
        ("log", math.inf, "7F800000"),
        ("sigmoid", 0.0, "3F000000"),
        ("sigmoid", -math.inf, "00000000"),
        ("sigmoid", 200.0, "3F800000"),
        ("sigmoid", -math.log(3.0), "3E800000"),
    ],
)
def test_curves_by_hand(name, x, want):
    assert bits(getattr(scalar, name)(scalar.f32(x))) == want


def test_dot_cuts_at_128():
    terms = [(1.0, 1.0)] + [(UNIT / 2, 1.0)] * 254 + [(1.0, 1.0)]
    # First block: 1 + 127 halves of a unit, each a tie that goes back to 1. Second: 127 halves and a 1, then the total.
    second = 0.0
    for weight, x in terms[128:]:
        second = scalar.fma(weight, x, second)
    assert oracle_conv.dot(terms) == scalar.add(1.0, second) != 2.0
    assert bits(oracle_conv.dot([])) == bits(0.0)
    assert bits(oracle_conv.dot([(-0.0, 1.0)])) == bits(0.0)
    assert bits(oracle_conv.dot([(-(2.0**-149), 0.25)])) == bits(-0.0)


def whole_map(op, shape, **args):
    """Return the whole output of the oracle as float64."""
    out = np.empty(shape)
    for index in np.ndindex(*shape):
        out[index] = element(op, index, shape, args)
    return out


CONV_ARGS = {"scale": None, "shift": None, "bias": None, "residual": None, "relu": False}


@pytest.mark.parametrize(
    ("stride", "dilation", "groups", "padding"),
    [((1, 1), (1, 1), 1, (0, 0, 0, 0)), ((2, 1), (1, 2), 1, (1, 1, 2, 2)), ((2, 3), (1, 1), 2, (0, 1, 1, 0))],
)
def test_convolutions_are_adjoint(stride, dilation, groups, padding):
    """<conv(x), y> = <x, conv_transpose(y)> on integers, exactly; and conv(x) by plain loops over the formula."""
    c_in, c_out, k_h, k_w = 4, 6, 3, 2
    x = fill("integers", 1, 0, (2, 8, 8, c_in))
    weight = fill("integers", 1, 1, (k_h, k_w, c_in // groups, c_out))
    where = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    h_out = oracle_conv.output_size(8, k_h, stride[0], padding[0], padding[1], dilation[0])
    w_out = oracle_conv.output_size(8, k_w, stride[1], padding[2], padding[3], dilation[1])
    shape = (2, h_out, w_out, c_out)
    out = whole_map("conv2d", shape, x=x, weight=weight, **CONV_ARGS, sites=None, **where)
    y = fill("integers", 1, 2, shape)
    # The transposed weight: (k_h, k_w, c_out, c_in/groups), each group's block turned.
    blocks = [weight[..., g * (c_out // groups) : (g + 1) * (c_out // groups)].swapaxes(2, 3) for g in range(groups)]
    turned = np.ascontiguousarray(np.concatenate(blocks, axis=2))
    back = whole_map("conv_transpose2d", x.shape, x=y, weight=turned, **CONV_ARGS, **where)
    assert (out * y).sum() == (x * back).sum()
    padded = np.pad(x, ((0, 0), padding[:2], padding[2:], (0, 0)))
    per_in, per_out = c_in // groups, c_out // groups
    for n, oy, ox, co in [(0, 0, 0, 0), (1, h_out - 1, w_out - 1, c_out - 1), (0, 1, 1, per_out - 1)]:
        rows = padded[n, oy * stride[0] :: dilation[0]][:k_h]
        patch = rows[:, ox * stride[1] :: dilation[1]][:, :k_w]
        group = co // per_out
        assert out[n, oy, ox, co] == (patch[..., group * per_in : (group + 1) * per_in] * weight[..., co]).sum()


def test_sites_are_rows_of_the_dense_map():
    x, weight = fill("normal", 3, 0, (2, 4, 5, 3)), fill("normal", 3, 1, (3, 3, 3, 2))
    where = {"stride": (1, 1), "padding": (1, 1, 1, 1), "dilation": (1, 1), "groups": 1}
    args = {"x": x, "weight": weight, **CONV_ARGS, **where}
    sites = np.array([0, 7, 39], dtype=np.int32)
    for row, site in enumerate(sites):
        place = (site // 20, site // 5 % 4, site % 5, 1)
        dense = element("conv2d", place, (2, 4, 5, 2), {**args, "sites": None})
        assert element("conv2d", (row, 1), (3, 2), {**args, "sites": sites}) == dense
    assert element("conv2d", (0, 0, 1, 0), (2, 4, 5, 2), {**args, "sites": sites}) is None


def test_positions_by_hand():
    position = oracle_spatial.source_position
    assert [position(o, 2, 4, False) for o in range(4)] == [(0, 1, 0.0), (0, 1, 0.25), (0, 1, 0.75), (1, 1, 0.25)]
    assert [position(o, 3, 5, True) for o in range(5)] == [(0, 1, 0), (0, 1, 0.5), (1, 2, 0), (1, 2, 0.5), (2, 2, 0)]
    assert position(0, 7, 1, True) == (0, 1, 0.0)
    assert [oracle_spatial.nearest_position(o, 2, 5) for o in range(5)] == [0, 0, 0, 1, 1]
    assert (
        oracle_spatial.nearest_position(23, 14, 46) == 6
    )  # 7 in exact numbers; PyTorch's float32 ratio is a hair less


def test_weights_need_no_float64_in_between():
    """The oracle rounds the exact quotient once, the rule divides in float64 and rounds again: the same float32."""
    for denominator in (*range(1, 400), 641, 959, 2 * 4096, 2 * 7168, 2 * 40009):
        for rest in range(0, denominator, max(1, denominator // 150)):
            twice = float(np.float32(rest / denominator))
            assert scalar.round_to_f32(Fraction(rest, denominator)) == twice, (rest, denominator)
    for factor in range(2, 66, 2):
        line = [1 - abs((k + 0.5) / factor - 1) for k in range(2 * factor)]
        for k, weight in enumerate(line):
            exact = oracle_conv.deconv_weight(k, factor) * oracle_conv.deconv_weight(factor, factor)
            assert scalar.round_to_f32(exact) == float(np.float32(weight * line[factor])), (k, factor)


def test_average_counts_as_pytorch_does():
    counted = oracle_spatial.counted
    assert counted(-1, 3, 5, 1, 1, True) == 3 and counted(-1, 3, 5, 1, 1, False) == 2
    assert counted(4, 3, 5, 1, 1, True) == 2  # 5 is padding and counts, 6 exists only by ceil mode and does not
    assert counted(4, 3, 5, 1, 1, False) == 1


def test_deconv_weight_sums_to_one_per_phase():
    for factor in (2, 4, 8):
        weights = [oracle_conv.deconv_weight(k, factor) for k in range(2 * factor)]
        assert weights == weights[::-1]
        assert all(weights[k] + weights[k + factor] == 1 for k in range(factor))


@pytest.mark.parametrize(
    ("counter", "key", "want"),
    [  # Random123's known answers, kat_vectors, philox4x32 10
        ([0] * 4, [0] * 2, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_known_answers(counter, key, want):
    assert oracle_gate.philox_words(counter, key) == want


def test_gumbel_noise_has_its_mean():
    """The mean of Gumbel(0, 1) is Euler's constant, .5772; its deviation over 2000 draws .0287."""
    args = {"seed": 5, "gate_index": 1, "form": "torch", "y0": 0, "x0": 0}
    values = [oracle_gate.gumbel_noise((i // 40, i % 40, 0), None, **args) for i in range(2000)]
    assert abs(sum(values) / len(values) - 0.5772) < 4 * 0.0287


def test_ties_and_nan_in_choices():
    maximum, nan = oracle_pointwise.first_maximum, math.nan
    assert [maximum(v) for v in ([1, 1], [0, 2, 2], [nan, 5], [1, nan], [-0.0, 0.0])] == [0, 1, 0, 0, 0]
    args = {"mode": "hard", "form": "torch", "temperature": 1.0, "noise": None, "threshold": None}
    for z, want in (([1.0, 1.0], False), ([0.0, 1.0], True), ([nan, 1.0], False), ([0.0, nan], False)):
        assert oracle_gate.gate((0, 0, 0), None, np.array(z, np.float32).reshape(1, 1, 1, 2), **args) is want


def test_oracle_imports_no_backend():
    folder = Path(oracle_scalar.__file__).parent
    allowed = {"math", "fractions", "mpmath", "pagnp.testing"}
    for path in folder.glob("oracle*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            bad = [name for name in names if name not in allowed and not name.startswith("pagnp.testing.oracle")]
            assert not bad, f"{path.name} imports {bad}"
    assert len(ORACLE) == len(CONTRACT)
