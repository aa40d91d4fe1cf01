"""Element by element: arithmetic, comparison, relu, exp and its kin, norm, the input's normalisation."""

import numpy as np

from pagnp.backends.base import BackendLike
from pagnp.backends.numpy_ref.fma import fma_f32
from pagnp.errors import DtypeError, ShapeError
from pagnp.ops import checks
from pagnp.types import Comparison, Index, Mask, Operand, Pixels, Tensor

_COMPARISONS = ("gt", "ge", "lt", "le", "eq", "ne")


def add(a: Operand, b: Operand, *, backend: BackendLike = "numpy") -> Tensor:
    """Return a + b; float32 arrays of up to four axes, or a number, broadcast as in NumPy.

    Numerics: EXACT; one IEEE addition.
    Raises:   DtypeError; ShapeError if the shapes do not broadcast.
    """
    return _binary("add", a, b, np.float32, backend)


def sub(a: Operand, b: Operand, *, backend: BackendLike = "numpy") -> Tensor:
    """Return a - b; arguments, numerics and errors as `add`."""
    return _binary("sub", a, b, np.float32, backend)


def mul(a: Operand, b: Operand, *, backend: BackendLike = "numpy") -> Tensor:
    """Return a * b; arguments, numerics and errors as `add`."""
    return _binary("mul", a, b, np.float32, backend)


def div(a: Operand, b: Operand, *, backend: BackendLike = "numpy") -> Tensor:
    """Return a / b; arguments, numerics and errors as `add`."""
    return _binary("div", a, b, np.float32, backend)


def compare(a: Operand | Index, b: Operand | Index, op: Comparison, *, backend: BackendLike = "numpy") -> Mask:
    """Return the bool array of a op b; op is gt, ge, lt, le, eq or ne. Arguments and errors as `add`.

    Indices (int32 arrays) are compared with each other or with a whole number.

    Numerics: EXACT; IEEE: with a NaN only `ne` holds, and -0 == +0.
    """
    checks.choice("compare", "op", op, _COMPARISONS)
    index = any(isinstance(value, np.ndarray) and value.dtype == np.int32 for value in (a, b))
    return _binary("compare", a, b, np.bool_, backend, op, dtype_in=np.int32 if index else np.float32)


def relu(x: Tensor, *, backend: BackendLike = "numpy") -> Tensor:
    """Return +0 where x < 0, else x (float32, any shape).

    Numerics: EXACT; NaN stays NaN, -0 stays -0.
    Raises:   DtypeError, ShapeError.
    """
    return _unary("relu", x, backend)


def sigmoid(x: Tensor, *, backend: BackendLike = "numpy") -> Tensor:
    """Return 1 / (1 + e^-x) (float32, any shape).

    Numerics: EXACT; own float64 routine, rounded once (docs/NUMERICS.md); worst error in CONTRACT.
    Raises:   DtypeError, ShapeError.
    """
    return _unary("sigmoid", x, backend)


def exp(x: Tensor, *, backend: BackendLike = "numpy") -> Tensor:
    """Return e^x (float32, any shape); numerics and errors as `sigmoid`."""
    return _unary("exp", x, backend)


def exp10(x: Tensor, *, backend: BackendLike = "numpy") -> Tensor:
    """Return 10^x (float32, any shape); numerics and errors as `sigmoid`."""
    return _unary("exp10", x, backend)


def log(x: Tensor, *, backend: BackendLike = "numpy") -> Tensor:
    """Return ln x (float32, any shape), -inf for zeros, NaN for negative x; numerics and errors as `sigmoid`."""
    return _unary("log", x, backend)


def norm(x: Tensor, scale: Tensor, shift: Tensor, *, backend: BackendLike = "numpy") -> Tensor:
    """Return fma(x, scale, shift) per channel.

    x             (n, h, w, c) float32
    scale, shift  (c,) float32
    returns       (n, h, w, c) float32

    Numerics: EXACT; one rounding.
    Raises:   DtypeError, ShapeError.
    """
    x = checks.tensor("norm", "x", x)
    scale = checks.channel_vector("norm", "scale", scale, x.shape[3])
    shift = checks.channel_vector("norm", "shift", shift, x.shape[3])
    out = np.empty_like(x)
    checks.kernel("norm", backend)(x, scale, shift, out)
    return out


def fma(a: Operand, b: Operand, c: Operand) -> Tensor:
    """Return a * b + c with one rounding; float32 arrays of any shape, or numbers, that broadcast together.

    Numerics: EXACT for all inputs, subnormals and ties included.
    Raises:   DtypeError; ShapeError if the shapes do not broadcast.
    """
    operands = [_operand("fma", name, value) for name, value in (("a", a), ("b", b), ("c", c))]
    _broadcast_shape("fma", operands)
    return fma_f32(*operands)


def normalize_image(image_u8: Pixels, scale: Tensor, shift: Tensor) -> Tensor:
    """Return the network's input: fma(f32(pixel), scale, shift) per channel.

    image_u8      (h, w, c) uint8
    scale, shift  (c,) float32
    returns       (h, w, c) float32

    Numerics: EXACT; a table of 256 values per channel.
    Raises:   DtypeError, ShapeError.
    """
    op = "normalize_image"
    image_u8 = checks.array(op, "image_u8", image_u8, np.uint8, "(h, w, c)")
    channels = image_u8.shape[2]
    scale = checks.channel_vector(op, "scale", scale, channels)
    shift = checks.channel_vector(op, "shift", shift, channels)
    table = fma_f32(np.arange(256, dtype=np.float32)[:, None], scale, shift)
    out = np.empty(image_u8.shape, np.float32)
    for c in range(channels):
        out[..., c] = table[image_u8[..., c], c]
    return out


def _operand(op, name, value, dtype=np.float32):
    """Return an array of `dtype`; a Python or NumPy number becomes the nearest float32, or must be a whole int32."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.number, np.ndarray)):
        raise DtypeError(f"{op}: {name} is a {type(value).__name__}, need a float32 array or a number")
    if isinstance(value, np.ndarray) and value.dtype != dtype:
        need = np.dtype(dtype).name
        raise DtypeError(f"{op}: {name} is {value.dtype}, need {need}; convert it with {name}.astype(np.{need})")
    if dtype == np.int32 and not isinstance(value, np.ndarray) and np.int32(value) != value:
        raise DtypeError(f"{op}: {name} is {value}; an index is compared with a whole number")
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(value, dtype).reshape(np.shape(value))


def _broadcast_shape(op, operands):
    try:
        return np.broadcast_shapes(*(operand.shape for operand in operands))
    except ValueError as error:
        shapes = ", ".join(str(operand.shape) for operand in operands)
        raise ShapeError(f"{op}: shapes {shapes} do not broadcast; sizes must be equal or 1") from error


def _binary(op, a, b, dtype, backend, *extra, dtype_in=np.float32):
    """Check a pair, widen both to four axes, call the kernel."""
    operands = [_operand(op, "a", a, dtype_in), _operand(op, "b", b, dtype_in)]
    shape = _broadcast_shape(op, operands)
    if len(shape) > 4:
        raise ShapeError(f"{op}: the result has {len(shape)} axes {shape}, need at most 4 (n, h, w, c)")
    if 0 in shape:
        raise ShapeError(f"{op}: the result has shape {shape}, every size must be at least 1")
    wide = [operand.reshape((1,) * (4 - operand.ndim) + operand.shape) for operand in operands]
    out = np.empty((1,) * (4 - len(shape)) + shape, dtype)
    checks.kernel(op, backend)(*wide, *extra, out)
    return out.reshape(shape)


def _unary(op, x, backend):
    """Check one array of any shape, call the kernel on it with four axes."""
    x = checks.array(op, "x", x, np.float32, None)
    out = np.empty(x.shape if x.ndim == 4 else (1, 1, 1, x.size), np.float32)
    checks.kernel(op, backend)(x.reshape(out.shape), out)
    return out.reshape(x.shape)
