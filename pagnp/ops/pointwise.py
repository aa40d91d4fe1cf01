"""Element by element: arithmetic, comparison, relu, exp and its kin, norm, the input's normalisation."""

import numpy as np

from pagnp.backends.base import BackendLike
from pagnp.errors import DtypeError, ShapeError
from pagnp.ops import checks
from pagnp.ops.call import Call, contiguous, is_numpy
from pagnp.types import AnyIndex, AnyPixels, AnyTensor, Comparison, Mask, Operand, Tensor

_COMPARISONS = ("gt", "ge", "lt", "le", "eq", "ne")


def add(a: Operand, b: Operand, *, backend: BackendLike = "numpy") -> Tensor:
    """Return a + b; float32 arrays of up to four axes, or a number, broadcast as in NumPy.

    Numerics: EXACT; one IEEE addition.
    Raises:   DtypeError; ShapeError if the shapes do not broadcast.
    """
    return _binary(Call("add", backend), a, b, np.float32)


def sub(a: Operand, b: Operand, *, backend: BackendLike = "numpy") -> Tensor:
    """Return a - b; arguments, numerics and errors as `add`."""
    return _binary(Call("sub", backend), a, b, np.float32)


def mul(a: Operand, b: Operand, *, backend: BackendLike = "numpy") -> Tensor:
    """Return a * b; arguments, numerics and errors as `add`."""
    return _binary(Call("mul", backend), a, b, np.float32)


def div(a: Operand, b: Operand, *, backend: BackendLike = "numpy") -> Tensor:
    """Return a / b; arguments, numerics and errors as `add`."""
    return _binary(Call("div", backend), a, b, np.float32)


def compare(a: Operand | AnyIndex, b: Operand | AnyIndex, op: Comparison, *, backend: BackendLike = "numpy") -> Mask:
    """Return the bool array of a op b; op is gt, ge, lt, le, eq or ne. Arguments and errors as `add`.

    Indices (int32 arrays) are compared with each other or with a whole number.

    Numerics: EXACT; IEEE: with a NaN only `ne` holds, and -0 == +0.
    """
    checks.choice("compare", "op", op, _COMPARISONS)
    call = Call("compare", backend)
    a, b = call.adopt("a", a), call.adopt("b", b)
    index = any(call.dtype(value) == np.int32 for value in (a, b))
    return _binary(call, a, b, np.bool_, op, dtype_in=np.int32 if index else np.float32)


def relu(x: AnyTensor, *, backend: BackendLike = "numpy") -> Tensor:
    """Return +0 where x < 0, else x (float32, any shape).

    Numerics: EXACT; NaN stays NaN, -0 stays -0.
    Raises:   DtypeError, ShapeError.
    """
    return _unary(Call("relu", backend), x)


def sigmoid(x: AnyTensor, *, backend: BackendLike = "numpy") -> Tensor:
    """Return 1 / (1 + e^-x) (float32, any shape).

    Numerics: EXACT; own float64 routine, rounded once (docs/NUMERICS.md); worst error in CONTRACT.
    Raises:   DtypeError, ShapeError.
    """
    return _unary(Call("sigmoid", backend), x)


def exp(x: AnyTensor, *, backend: BackendLike = "numpy") -> Tensor:
    """Return e^x (float32, any shape); numerics and errors as `sigmoid`."""
    return _unary(Call("exp", backend), x)


def exp10(x: AnyTensor, *, backend: BackendLike = "numpy") -> Tensor:
    """Return 10^x (float32, any shape); numerics and errors as `sigmoid`."""
    return _unary(Call("exp10", backend), x)


def log(x: AnyTensor, *, backend: BackendLike = "numpy") -> Tensor:
    """Return ln x (float32, any shape), -inf for zeros, NaN for negative x; numerics and errors as `sigmoid`."""
    return _unary(Call("log", backend), x)


def norm(x: AnyTensor, scale: AnyTensor, shift: AnyTensor, *, backend: BackendLike = "numpy") -> Tensor:
    """Return fma(x, scale, shift) per channel.

    x             (n, h, w, c) float32
    scale, shift  (c,) float32
    returns       (n, h, w, c) float32

    Numerics: EXACT; one rounding.
    Raises:   DtypeError, ShapeError.
    """
    call = Call("norm", backend)
    x = call.tensor("x", x)
    scale, shift = (call.channel_vector(*named, x.shape[3]) for named in (("scale", scale), ("shift", shift)))
    return call.fill(x, scale, shift, shape=x.shape)


def fma(a: Operand, b: Operand, c: Operand, *, backend: BackendLike = "numpy") -> Tensor:
    """Return a * b + c with one rounding; float32 arrays of any shape, or numbers, that broadcast together.

    Numerics: EXACT for all inputs, subnormals and ties included.
    Raises:   DtypeError; ShapeError if the shapes do not broadcast, or have more than four axes and do so on a GPU.
    """
    call = Call("fma", backend)
    operands = [_operand(call, *named, np.float32) for named in (("a", a), ("b", b), ("c", c))]
    shape = _broadcast_shape("fma", operands)
    out = call.empty(shape)
    if out.size:
        # `norm` is fma(x, scale, shift) per channel: here every element is a channel of its own.
        x, scale, shift = (_spread(call, operand, shape).reshape((out.size,)) for operand in operands)
        one_row = (1, 1, 1, out.size)
        call.run(x.reshape(one_row), scale, shift, out.reshape(one_row), kernel="norm")
    return call.result(out)


def normalize_image(
    image_u8: AnyPixels, scale: AnyTensor, shift: AnyTensor, *, backend: BackendLike = "numpy"
) -> Tensor:
    """Return the network's input: fma(f32(pixel), scale, shift) per channel.

    image_u8      (h, w, c) uint8
    scale, shift  (c,) float32
    returns       (h, w, c) float32

    Numerics: EXACT.
    Raises:   DtypeError, ShapeError.
    """
    call = Call("normalize_image", backend)
    image_u8 = call.array("image_u8", image_u8, np.uint8, "(h, w, c)")
    vectors = (call.channel_vector(*named, image_u8.shape[2]) for named in (("scale", scale), ("shift", shift)))
    out = call.empty((1, *image_u8.shape))
    call.run(image_u8, *vectors, out, kernel="normalize_u8")
    return call.result(out.reshape(image_u8.shape))


def _operand(call, name, value, dtype):
    """Return an array of `dtype`; a Python or NumPy number becomes the nearest float32, or must be a whole int32."""
    value, need = call.adopt(name, value), np.dtype(dtype).name
    have = call.dtype(value)
    if have is None:
        return _number(call.op, name, value, dtype)
    if have != dtype:
        raise DtypeError(f"{call.op}: {name} is {have}, need {need}; convert it with {name}.astype(np.{need})")
    return contiguous(value)


def _number(op, name, value, dtype):
    if not checks.is_number(value):
        raise DtypeError(f"{op}: {name} is a {type(value).__name__}, need a float32 array or a number")
    if dtype == np.int32:
        value = value.item() if isinstance(value, np.generic) else value
        if not -(2**31) <= value < 2**31 or value % 1:
            raise DtypeError(f"{op}: {name} is {value}; an index is compared with a whole number of 32 bits")
        return np.array(int(value), np.int32)
    return np.array(checks.number(op, name, value))


def _spread(call, operand, shape):
    """Return an operand with the elements of `shape`."""
    if operand.shape == shape:
        return operand
    if is_numpy(operand):
        return np.ascontiguousarray(np.broadcast_to(operand, shape))
    # On a device, x - (+0): x to the bit, -0 too.
    zeros, out = call.empty(_wide(call.op, shape)), call.empty(_wide(call.op, shape))
    call.run(zeros, kernel="zero")
    call.run(operand.reshape(_wide(call.op, operand.shape)), zeros, out, kernel="sub")
    return out


def _wide(op, shape):
    """Return `shape` with four axes."""
    if len(shape) > 4:
        raise ShapeError(f"{op}: the result has {len(shape)} axes {shape}, need at most 4 (n, h, w, c)")
    return (1,) * (4 - len(shape)) + shape


def _broadcast_shape(op, operands):
    try:
        return np.broadcast_shapes(*(operand.shape for operand in operands))
    except ValueError as error:
        shapes = ", ".join(str(operand.shape) for operand in operands)
        raise ShapeError(f"{op}: shapes {shapes} do not broadcast; sizes must be equal or 1") from error


def _binary(call, a, b, dtype, *extra, dtype_in=np.float32):
    """Check a pair, widen both to four axes, call the kernel."""
    operands = [_operand(call, "a", a, dtype_in), _operand(call, "b", b, dtype_in)]
    shape = _broadcast_shape(call.op, operands)
    wide = _wide(call.op, shape)
    if 0 in shape:
        raise ShapeError(f"{call.op}: the result has shape {shape}, every size must be at least 1")
    out = call.empty(wide, dtype)
    call.run(*(operand.reshape(_wide(call.op, operand.shape)) for operand in operands), *extra, out)
    return call.result(out.reshape(shape))


def _unary(call, x):
    """Check one array of any shape, call the kernel on it with four axes."""
    x = call.array("x", x, np.float32, None)
    out = call.empty(x.shape if x.ndim == 4 else (1, 1, 1, x.size))
    call.run(x.reshape(out.shape), out)
    return call.result(out.reshape(x.shape))
