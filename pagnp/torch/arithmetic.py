"""Rules of the exporter for arithmetic, comparisons and masks."""

import operator
from dataclasses import replace

import numpy as np
import torch

from pagnp.torch.values import UNKNOWN, Dim, Ref, UnsupportedError, Zeros, number, tensor

_MIRRORED = {"gt": "lt", "ge": "le", "lt": "gt", "le": "ge", "eq": "eq", "ne": "ne"}


def squeeze(ref):
    """Return the Ref without its channel axis."""
    return ref if ref is UNKNOWN else replace(ref, squeezed=True)


def unsqueeze(ref):
    """Return the Ref with its channel axis."""
    return ref if ref is UNKNOWN else replace(ref, squeezed=False)


def _operands(a, b):
    """Bring two operands to (Refs or numbers, squeezed). Raises UnsupportedError."""
    if a is UNKNOWN or b is UNKNOWN:
        return (UNKNOWN, UNKNOWN), False
    found, squeezed = [], []
    for value in (a, b):
        if isinstance(value, Ref):
            squeezed.append(value.squeezed)
            found.append(unsqueeze(value))
        else:
            found.append(number(value))
            if found[-1] is None:
                raise UnsupportedError(f"arithmetic with {value!r}; only feature maps and numbers")
    if len(set(squeezed)) > 1:
        raise UnsupportedError("arithmetic between a tensor with and one without its channel axis")
    return found, bool(squeezed and squeezed[0])


def _as_tensor(t, ref):
    if isinstance(ref, Ref) and ref.kind == "mask":
        return t.emit("to_float", (ref,))
    if isinstance(ref, Ref) and ref.kind == "index":
        raise UnsupportedError("arithmetic with an argmax; compare it instead")
    return ref


def binary(op):
    """Return the rule of add, sub, mul or div."""

    def rule(t, a, b, *, alpha=1, rounding_mode=None):
        if isinstance(a, Dim) or isinstance(b, Dim):
            return _sized(op, a, b)
        if isinstance(a, (int, float)) and isinstance(b, (int, float)):
            return _python(op)(a, b)
        if alpha != 1 or rounding_mode is not None:
            raise UnsupportedError(f"{op} with alpha={alpha}, rounding_mode={rounding_mode}")
        (a, b), squeezed = _operands(a, b)
        a, b = _as_tensor(t, a), _as_tensor(t, b)
        if isinstance(a, float) and isinstance(b, float):  # a parameter of one element and a number
            return float(np.float32(_python(op)(a, b)))
        if isinstance(b, float):
            result = t.emit(op, (a,), value=b)
        elif isinstance(a, float):
            result = t.emit(op, (b,), value=a, reverse=True)
        else:
            result = t.emit(op, (a, b))
        return squeeze(result) if squeezed else result

    return rule


def _python(op):
    return getattr(operator, {"div": "truediv"}.get(op, op))


def whole_numbers(function):
    """Return the rule of // or %, which only counts of channels take (`x.shape[1] // 2`)."""

    def rule(t, a, b):
        if a is UNKNOWN or b is UNKNOWN:
            return UNKNOWN
        if not isinstance(a, int) or not isinstance(b, int):
            raise UnsupportedError(f"{function.__name__} on feature maps or sizes; only on numbers of channels")
        return function(a, b)

    return rule


def _sized(op, a, b):
    """Sizes may be multiplied by a whole number: `size=(2 * h, 2 * w)`."""
    if a is UNKNOWN or b is UNKNOWN:
        return UNKNOWN
    dim, factor = (a, b) if isinstance(a, Dim) else (b, a)
    if op != "mul" or not isinstance(factor, int):
        raise UnsupportedError(f"{op} on sizes; only whole multiples")
    return Dim(dim.of, dim.axis, dim.factor * factor)


def in_place(op):
    """Return the rule of add_, += and their like."""

    def rule(t, a, b, **options):
        result = binary(op)(t, a, b, **options)
        return t.aliases.change(a, result)

    return rule


def reversed_sub(t, a, b, *, alpha=1):
    return binary("sub")(t, b, a, alpha=alpha)


def negative(t, x):
    # -x is x * -1 to the bit; 0 - x would turn +0 into +0 and lose the sign.
    return binary("mul")(t, x, -1.0)


def comparison(op):
    """Return the rule of a comparison."""

    def rule(t, a, b):
        (a, b), squeezed = _operands(a, b)
        a, b = (_as_tensor(t, v) if isinstance(v, Ref) and v.kind == "mask" else v for v in (a, b))
        if isinstance(a, float) and isinstance(b, float):
            raise UnsupportedError("a comparison of two numbers; one side must be a feature map")
        if isinstance(b, float):
            result = t.emit("compare", (a,), op=op, value=b)
        elif isinstance(a, float):
            result = t.emit("compare", (b,), op=_MIRRORED[op], value=a)
        else:
            result = t.emit("compare", (a, b), op=op)
        return squeeze(result) if squeezed else result

    return rule


def _mask(value):
    if value is UNKNOWN:
        return value
    if not isinstance(value, Ref) or value.kind != "mask":
        raise UnsupportedError("a condition that is no mask; a mask comes from a comparison")
    if value.squeezed:
        raise UnsupportedError("a mask without its channel axis; unsqueeze(1) it first")
    return value


def logical_not(t, mask):
    if isinstance(mask, Ref) and mask.squeezed:
        return squeeze(logical_not(t, unsqueeze(mask)))
    return t.emit("logical_not", (_mask(mask),))


def where(t, condition, a, b):
    """torch.where(mask, a, b): select, or masked where one side is zero."""
    mask = _mask(condition)
    if a is UNKNOWN or b is UNKNOWN or mask is UNKNOWN:
        return UNKNOWN
    if _is_zero(b, a):
        return t.emit("masked", (_branch(a), mask))
    if _is_zero(a, b):
        return t.emit("masked", (_branch(b), t.emit("logical_not", (mask,))))
    return t.emit("select", (mask, _branch(b), _branch(a)))


def _is_zero(value, other):
    """Tell whether one side of a torch.where is zero, and no wider than the other side."""
    if isinstance(value, Zeros):
        if isinstance(other, Ref) and value.c not in (1, other.c):
            raise UnsupportedError(f"torch.where with zeros of {value.c} channels beside a tensor of {other.c}")
        return True
    return not isinstance(value, Ref) and number(value) == 0


def _branch(value):
    if not isinstance(value, Ref) or value.kind != "tensor" or value.squeezed:
        raise UnsupportedError(f"torch.where with {value!r}; its sides are feature maps, or one of them is 0")
    return value


def masked_fill(t, x, mask, value):
    return where(t, mask, value, x)


def where_method(t, x, condition, other):
    return where(t, condition, x, other)


def zeros_like(t, x, *, dtype=None, **options):
    return UNKNOWN if x is UNKNOWN else Zeros(tensor(x).c)


def cast(t, x, *targets, dtype=None, device=None, **options):
    """x.to(...), x.type(...), x.type_as(y): a mask becomes numbers, the rest stays float32."""
    for target in (*targets, dtype):
        if isinstance(target, torch.dtype):
            dtype = target
        elif isinstance(target, Ref):
            dtype = torch.bool if target.kind == "mask" else torch.float32
    if x is UNKNOWN or dtype is None:
        return x
    if isinstance(x, Ref) and x.kind == "mask" and dtype == torch.float32:
        result = t.emit("to_float", (unsqueeze(x),))
        return squeeze(result) if x.squeezed else result
    have = {"tensor": torch.float32, "mask": torch.bool}.get(getattr(x, "kind", None))
    if have != dtype and not isinstance(x, Zeros):
        raise UnsupportedError(f"conversion to {dtype}; only float32")
    return x


def to_float(t, x):
    return cast(t, x, torch.float32)


_ARITHMETIC = ("add", "sub", "mul", "div")
_BASIC = {name: binary(name) for name in _ARITHMETIC}
_COMPARE = {name: comparison(name) for name in _MIRRORED}
_LONG = {"greater": "gt", "greater_equal": "ge", "less": "lt", "less_equal": "le", "not_equal": "ne"}

FUNCTIONS = {
    **_BASIC,
    **_COMPARE,
    **{name: _COMPARE[op] for name, op in _LONG.items()},
    "subtract": _BASIC["sub"],
    "multiply": _BASIC["mul"],
    "divide": _BASIC["div"],
    "true_divide": _BASIC["div"],
    "rsub": reversed_sub,
    "neg": negative,
    "negative": negative,
    "logical_not": logical_not,
    "bitwise_not": logical_not,
    "where": where,
    "zeros_like": zeros_like,
    "masked_fill": masked_fill,
}
OPERATORS = {
    **{getattr(operator, name): rule for name, rule in _COMPARE.items()},
    operator.add: _BASIC["add"],
    operator.sub: _BASIC["sub"],
    operator.mul: _BASIC["mul"],
    operator.truediv: _BASIC["div"],
    operator.floordiv: whole_numbers(operator.floordiv),
    operator.mod: whole_numbers(operator.mod),
    operator.iadd: in_place("add"),
    operator.isub: in_place("sub"),
    operator.imul: in_place("mul"),
    operator.itruediv: in_place("div"),
    operator.neg: negative,
    operator.invert: logical_not,
}
METHODS = {
    **{
        name: FUNCTIONS[name]
        for name in ("neg", "logical_not", "bitwise_not", "masked_fill", *_BASIC, *_COMPARE, *_LONG)
    },
    **{f"{name}_": in_place(name) for name in _ARITHMETIC},
    "where": where_method,
    "to": cast,
    "type": cast,
    "type_as": cast,
    "float": to_float,
}
