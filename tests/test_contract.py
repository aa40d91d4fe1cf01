"""The contract's own tools: comparison by bits, digests, and an import that needs only NumPy."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest

from pagnp.contract import BLOCK, combined_digest, compare, digest
from pagnp.errors import DtypeError


def f32(*values):
    return np.array(values, dtype=np.float32)


def from_bits(*patterns):
    return np.array(patterns, dtype=np.uint32).view(np.float32)


def test_block_is_128():
    assert BLOCK == 128


def test_equal_arrays_do_not_differ():
    difference = compare(f32(1, -0.0, np.inf), f32(1, -0.0, np.inf))
    assert not difference and difference.count == 0 and str(difference) == "same bits"


def test_any_nan_is_any_nan():
    assert not compare(from_bits(0x7FC00000, 0xFFC00001), from_bits(0x7F800001, 0x7FFFFFFF))
    assert compare(f32(np.nan), f32(1.0)).first[0].ulp is None


def test_zeros_differ_by_sign():
    difference = compare(f32(0.0), f32(-0.0))
    assert difference.count == 1 and difference.first[0].ulp == 1
    assert (difference.first[0].got_bits, difference.first[0].want_bits) == ("00000000", "80000000")


@pytest.mark.parametrize(
    ("got", "want", "ulp"),
    [
        (0x3F800001, 0x3F800000, 1),
        (0x3F7FFFFF, 0x3F800001, 2),
        (0x00000001, 0x80000001, 3),  # through both zeros
        (0x7F800000, 0x7F7FFFFF, 1),
        (0xBF800000, 0xBF800005, 5),
    ],
)
def test_distance_in_ulp(got, want, ulp):
    assert compare(from_bits(got), from_bits(want)).first[0].ulp == ulp


def test_place_and_count_of_the_first_differences():
    want = np.zeros((2, 3, 4), dtype=np.float32)
    got = want.copy()
    got[0, 2, 1] = got[1, 0, 3] = got[1, 2, 2] = got[1, 2, 3] = 1
    difference = compare(got, want)
    assert (difference.count, difference.size) == (4, 24)
    assert [place.index for place in difference.first] == [(0, 2, 1), (1, 0, 3), (1, 2, 2)]
    assert "4 of 24 elements differ" in str(difference)
    assert "out[0,2,1]  got 3F800000 (1.0)  want 00000000 (0.0)" in str(difference)


@pytest.mark.parametrize(
    ("got", "want"),
    [
        (f32(1, 2), f32(1, 2, 3)),
        (f32(1, 2), f32(1, 2)[None]),
        (f32(1), np.array([1], dtype=np.int32)),
        (np.array([1.0]), np.array([1.0])),
        (np.array([True]), np.array([1], dtype=np.uint8)),
    ],
)
def test_shape_and_dtype_are_part_of_it(got, want):
    difference = compare(got, want)
    assert difference and difference.reason


def test_integers_and_bools():
    assert compare(np.array([1, 2], dtype=np.int32), np.array([1, 3], dtype=np.int32)).first[0].index == (1,)
    assert not compare(np.array([True, False]), np.array([True, False]))
    assert compare(np.array([True]), np.array([False])).count == 1


def test_empty_arrays_agree():
    assert not compare(np.empty((0, 3), dtype=np.float32), np.empty((0, 3), dtype=np.float32))


def test_strided_arrays_compare_by_value():
    base = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert not compare(base[:, ::2], np.ascontiguousarray(base[:, ::2]))


def written_digest(dtype, shape, payload):
    """Return the digest from the written format alone."""
    return hashlib.sha256(b"pagnp-bits/1\0" + dtype + b"\0" + shape + b"\0" + payload).hexdigest()


def test_digest_of_floats_is_the_written_format():
    payload = bytes.fromhex("0000803f 00000080 0000c07f 000080ff")  # 1, -0, NaN, -inf, little-endian
    array = from_bits(0x3F800000, 0x80000000, 0xFFFFFFFF, 0xFF800000).reshape(1, 2, 2)
    assert digest(array) == written_digest(b"<f4", b"1,2,2", payload)
    assert digest(array) == "6f87bee3d4ff32923e905bd536e0b6fb686c23ed2abf453391635d614b64e4bd"


def test_digest_of_a_mask_counts_bytes_0_and_1():
    mask = np.array([[True, False, True]])
    assert digest(mask) == written_digest(b"|b1", b"1,3", b"\x01\x00\x01")


def test_digest_of_integers_is_little_endian():
    index = np.array([[1, -2]], dtype=np.int32)
    want = written_digest(b"<i4", b"1,2", bytes.fromhex("01000000 feffffff"))
    assert digest(index) == digest(index.astype(">i4")) == want
    assert digest(np.array([[7]], dtype=np.uint8)) == written_digest(b"|u1", b"1,1", b"\x07")


def test_digest_sees_shape_dtype_sign_and_order():
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    others = [x.reshape(3, 2), x.astype(np.int32), np.where(x == 0, np.float32(-0.0), x), x[::-1]]
    assert len({digest(a) for a in [x, *others]}) == 5
    assert digest(np.asfortranarray(x)) == digest(x)


def test_digest_leaves_its_argument_alone():
    x = from_bits(0x7F800001, 1)
    before = x.tobytes()
    digest(x)
    assert x.tobytes() == before


def test_a_digest_is_of_values_in_any_byte_order_and_of_no_other_dtype():
    x = np.array([1, -0.0, np.inf, np.nan], np.float32)
    x.view(np.uint32)[3] = 0xFFC12345  # any NaN
    assert digest(x.astype(">f4")) == digest(x)
    for strange in (np.ones(2), np.array([None]), np.ones(2, np.float16)):
        with pytest.raises(DtypeError, match="digest: the array is"):
            digest(strange)


def test_combined_digest_is_of_sorted_lines():
    want = hashlib.sha256(b"logits/a 11\noutput/b 22\n").hexdigest()
    assert combined_digest({"output/b": "22", "logits/a": "11"}) == want


BLOCKED = ("torch", "cupy", "numba", "h5py")


def test_import_needs_none_of_the_heavy_packages():
    block = "\n".join(
        [
            "import sys",
            "class Block:",
            "    def find_spec(self, name, path=None, target=None):",
            f"        if name.split('.')[0] in {BLOCKED!r}:",
            "            raise ImportError('blocked: ' + name)",
            "sys.meta_path.insert(0, Block())",
            "import pagnp, pagnp.ops, pagnp.nn, pagnp.contract, numpy as np",
            "x = np.ones((1, 2, 2, 1), dtype=np.float32)",
            "print(pagnp.ops.relu(x).sum(), sorted(set(sys.modules) & set(" + repr(BLOCKED) + ")))",
        ]
    )
    done = subprocess.run([sys.executable, "-c", block], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["4.0", "[]"]
