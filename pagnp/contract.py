"""The numerical contract `pagnp-bits/1`: its constants, the rule of every op, bit comparison and digests.

docs/NUMERICS.md says the same for people who write another backend.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pagnp import gpuarrays
from pagnp.errors import DtypeError
from pagnp.types import OnGpu, Tensor, Words

CONTRACT_NAME = "pagnp-bits/1"
BLOCK = 128  # terms of one fma chain; more accurate than one long chain at about 1 % of the time
CANONICAL_NAN = np.uint32(0x7FC00000)

_CHAIN = "fma chains of 128 terms over ky, kx, ci; block totals added in order"
_IEEE = "one IEEE operation, one rounding"
_COPY = "moves values, no arithmetic"

# op -> (rule, worst error against the true value in ULP, or None where the rule is one rounding or a written order)
CONTRACT: dict[str, tuple[str, float | None]] = {
    "conv2d": (_CHAIN + "; then fma(acc, scale, shift) or acc + bias, + residual, relu", None),
    "conv_transpose2d": ("gather form: " + _CHAIN + " over the taps of the output's phase; epilogue as conv2d", None),
    "bilinear_deconv": (
        "depthwise conv_transpose2d, w[k] = 1 - abs((k+.5)/f - 1), kernel 2f, stride f, crop f/2",
        None,
    ),
    "max_pool2d": ("scan order; v > best or NaN replaces; padding never wins", None),
    "avg_pool2d": ("acc = +0; acc + x in scan order, padding adds +0; acc / f32(count)", None),
    "bilinear": ("integer source positions; fma(wx, b-a, a), fma(wx, d-c, c), fma(wy, u-t, t)", None),
    "nearest": ("min(int(floor(f32(oy) * (f32(h_in)/f32(h_out)))), h_in-1)", None),
    "add": (_IEEE, None),
    "sub": (_IEEE, None),
    "mul": (_IEEE, None),
    "div": (_IEEE, None),
    "relu": ("+0 if x < 0 else x: NaN stays NaN, -0 stays -0", None),
    "norm": ("fma(x, scale, shift)", None),
    "sigmoid": ("float64 1/(1+exp64(-x)), unfused, rounded once", 0.5000001),
    "exp": ("float64 exp64, unfused, rounded once", 0.5000001),
    "exp10": ("float64 exp64(x * ln 10), unfused, rounded once", 0.5000001),
    "log": ("float64 log64, unfused, rounded once", 0.5000001),
    "compare": ("IEEE comparison", None),
    "softmax": ("m = first maximum by >; e_k = exp(z_k - m); s = +0, s + e_k, k ascending; e_k / s", None),
    "argmax": ("z[k] > z[best] from best = 0: the first maximum", None),
    "l2_normalize": ("s = sum of squares by the dot-product rule; x / (sqrt(s) + f32(1e-5))", None),
    "global_mean": ("each row from +0 over x, then the row sums from +0 over rows, / f32(h*w)", None),
    "concat": (_COPY, None),
    "pad": (_COPY + "; outside is +0", None),
    "slice_channels": (_COPY, None),
    "gate": ("hard: z[1] > z[0] (or z[1] - z[0] > t); soft: softmax; gumbel forms in NUMERICS.md", None),
    "select": (_COPY, None),
    "blend": ("acc = +0; acc = fma(p_k, branch_k, acc), k ascending", None),
    "masked": ("m ? x : +0", None),
    "mask_to_sites": (_COPY, None),
    "grow_mask": (_COPY, None),
    "gather": (_COPY, None),
    "scatter": (_COPY, None),
    "gumbel_noise": ("Philox4x32-10 words; g = f32(-log64(-log64(u)))", None),
    "philox4x32": ("Random123's Philox4x32-10", None),
}


@dataclass(frozen=True)
class Place:
    """One differing element: index, bits (hex, or the value) and values, distance in units in the last place."""

    index: tuple[int, ...]
    got_bits: str
    want_bits: str
    got: object
    want: object
    ulp: int | None

    def __str__(self) -> str:
        place = ",".join(str(i) for i in self.index)
        ulp = "" if self.ulp is None else f"  {self.ulp} ulp"
        return f"out[{place}]  got {self.got_bits} ({self.got})  want {self.want_bits} ({self.want}){ulp}"


@dataclass(frozen=True)
class Difference:
    """What `compare` found; false in a boolean context when there is no difference.

    count of `size` elements differ; `first` holds the first few Places; `reason` speaks of shapes or dtypes
    """

    count: int
    size: int
    first: tuple[Place, ...] = ()
    reason: str = ""

    def __bool__(self) -> bool:
        return self.count > 0 or bool(self.reason)

    def __str__(self) -> str:
        if self.reason or not self.count:
            return self.reason or "same bits"
        return "\n".join([f"{self.count} of {self.size} elements differ", *(f"  {place}" for place in self.first)])


def _ordered(bits):
    """Map float32 bits to int64 so that neighbours differ by one (and -0, +0 by one)."""
    signed = bits.astype(np.int64)
    return np.where(signed & 0x80000000, 0x7FFFFFFF - signed, signed)


def canonical_bits(array: Tensor) -> Words:
    """Return the float32 `array` as uint32 bits with every NaN as 7FC00000."""
    bits = np.ascontiguousarray(array).view(np.uint32).reshape(array.shape).copy()
    bits[np.isnan(array)] = CANONICAL_NAN
    return bits


def compare(got: npt.ArrayLike | OnGpu, want: npt.ArrayLike | OnGpu, show: int = 3) -> Difference:
    """Compare two arrays bit by bit; any NaN equals any NaN, and -0.0 differs from +0.0.

    got, want  arrays of one shape; float32, integer or bool; on a GPU, too
    returns    Difference: false when they agree; else the first `show` places
    Numerics:  EXACT; distances count float32 values in between (None where one side is NaN).
    """
    got, want = np.asarray(gpuarrays.to_host(got)), np.asarray(gpuarrays.to_host(want))
    if got.shape != want.shape or got.dtype != want.dtype:
        return Difference(0, want.size, reason=f"got {got.dtype} {got.shape}, want {want.dtype} {want.shape}")
    if got.dtype.kind == "f" and got.dtype != np.float32:
        return Difference(0, want.size, reason=f"the contract knows float32, got {got.dtype}")
    is_float = got.dtype == np.float32
    a, b = (canonical_bits(got), canonical_bits(want)) if is_float else (got, want)
    differ = np.argwhere(a != b)
    first = tuple(_place(tuple(int(i) for i in index), a, b, got, want, is_float) for index in differ[:show])
    return Difference(len(differ), want.size, first)


def _place(index, a, b, got, want, is_float):
    if not is_float:
        return Place(index, str(a[index]), str(b[index]), got[index], want[index], None)
    ulp = None
    if not (np.isnan(got[index]) or np.isnan(want[index])):
        ulp = abs(int(_ordered(a[index])) - int(_ordered(b[index])))
    return Place(index, f"{int(a[index]):08X}", f"{int(b[index]):08X}", got[index], want[index], ulp)


def digest(array: npt.ArrayLike | OnGpu) -> str:
    """Return the SHA-256 (hex) of one image's `array`: contract, dtype, shape and little-endian bytes.

    array    (h, w, c), (h, w) or any shape without a batch axis; float32, integer or bool; on a GPU, too
    Numerics: every NaN is hashed as 7FC00000, bool as 0 and 1.
    Raises:   DtypeError for another dtype.
    """
    array = np.asarray(gpuarrays.to_host(array))
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.dtype != np.float32 and array.dtype.kind not in "iub":
        raise DtypeError(f"digest: the array is {array.dtype}, need float32, an integer type or bool")
    running = RunningDigest(array.dtype, array.shape)
    running.update(array)
    return running.hexdigest()


class RunningDigest:
    """The `digest` of an array whose elements come piece by piece, in C order.

    dtype, shape  of the whole array
    """

    CHUNK = 1 << 20  # elements hashed at once: a copy in canonical form stays small

    def __init__(self, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> None:
        self._dtype = np.dtype(dtype).newbyteorder("<")
        sizes = ",".join(str(size) for size in shape)
        self._sha = hashlib.sha256(f"{CONTRACT_NAME}\0{self._dtype.str}\0{sizes}\0".encode())  # <f4, |b1, |u1, <i4

    def update(self, part: npt.NDArray[Any]) -> None:
        """Add the next elements, an array of any shape."""
        flat = np.ascontiguousarray(part).reshape(-1)
        for start in range(0, flat.size, self.CHUNK):
            piece = flat[start : start + self.CHUNK]
            if piece.dtype == np.float32:
                piece = canonical_bits(piece).view(np.float32)
            self._sha.update(piece.astype(self._dtype, copy=False).data)

    def hexdigest(self) -> str:
        """Return the digest (hex) of what has been added."""
        return self._sha.hexdigest()


def combined_digest(entries: Mapping[str, str]) -> str:
    """Return the SHA-256 (hex) of the sorted lines `name hex\\n` of `entries`, a dict name -> hex digest."""
    lines = "".join(sorted(f"{name} {value}\n" for name, value in entries.items()))
    return hashlib.sha256(lines.encode()).hexdigest()
