"""Checks of arguments, used by every op: dtype, number of axes, sizes. A failure says what to do."""

from typing import TypeVar

import numpy as np
import numpy.typing as npt

from pagnp.backends.base import Backend, BackendLike, Kernel, get_backend
from pagnp.errors import DtypeError, ShapeError, SiteError, UsageError
from pagnp.types import Array, Index, Mask, MaybeNone, Pair, Sides, Tensor

Choice = TypeVar("Choice", bound=str)


def kernel(op: str, backend: BackendLike, threads: int | None = None) -> Kernel:
    """Return the kernel `op` of a backend, given by name or as a Backend."""
    chosen = backend if isinstance(backend, Backend) else get_backend(backend, threads)
    return chosen.kernels[op]


def array(op: str, name: str, value: Array, dtype: npt.DTypeLike, axes: str | MaybeNone) -> Array:
    """Return `value` C-contiguous (copied if need be) after checking its dtype and its axes.

    axes  their names, as in "(n, h, w, c)"; None for any number. Only "(m,)" may be empty.
    """
    want = np.dtype(dtype)
    if not isinstance(value, np.ndarray):
        raise DtypeError(f"{op}: {name} is a {type(value).__name__}, need a {want} array {axes or ''}".rstrip())
    if value.dtype != want:
        hint = f"convert it with {name}.astype(np.{want})"
        raise DtypeError(f"{op}: {name} is {value.dtype}, need {want}; {hint}")
    ndim = value.ndim if axes is None else len(axes.removesuffix(",)").split(","))
    if value.ndim != ndim:
        hint = f"; add the batch axis with {name}[None]" if axes.startswith("(n, ") and value.ndim == ndim - 1 else ""
        raise ShapeError(f"{op}: {name} has shape {value.shape}, need {axes}{hint}")
    if value.size == 0 and axes != "(m,)":
        raise ShapeError(f"{op}: {name} has shape {value.shape}, every size must be at least 1")
    return np.ascontiguousarray(value).reshape(value.shape)  # ascontiguousarray makes an axis where there is none


def tensor(op: str, name: str, value: Array) -> Tensor:
    """Return a checked float32 (n, h, w, c)."""
    return array(op, name, value, np.float32, "(n, h, w, c)")


def mask(op: str, name: str, value: Array, shape: tuple[int, ...] | None = None) -> Mask:
    """Return a checked bool (n, h, w); with `shape` given, of that shape or (n, 1, 1)."""
    value = array(op, name, value, np.bool_, "(n, h, w)")
    if shape is not None and value.shape not in (tuple(shape), (shape[0], 1, 1)):
        raise ShapeError(f"{op}: {name} has shape {value.shape}, need {tuple(shape)} or {(shape[0], 1, 1)}")
    return value


def channel_vector(op: str, name: str, value: Array, channels: int) -> Tensor:
    """Return a checked float32 (channels,)."""
    value = array(op, name, value, np.float32, "(c,)")
    if value.shape != (channels,):
        raise ShapeError(f"{op}: {name} has shape {value.shape}, need ({channels},)")
    return value


def sites(op: str, value: Array, count: int) -> Index:
    """Return checked sites: int32 (m,), strictly increasing, inside 0 .. count-1."""
    value = array(op, "sites", value, np.int32, "(m,)")
    backwards = np.flatnonzero(value[1:] <= value[:-1])
    if len(backwards):
        i = int(backwards[0])
        raise SiteError(
            f"{op}: sites[{i + 1}] = {value[i + 1]} follows {value[i]}, need strictly increasing sites; sort them"
            " with np.unique"
        )
    if len(value) and not 0 <= value[0] <= value[-1] < count:
        raise SiteError(f"{op}: sites run from {value[0]} to {value[-1]}, the map has {count} pixels, 0 to {count - 1}")
    return value


def integer(op: str, name: str, value: int, low: int) -> int:
    """Return `value` as an int of at least `low`."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)) or value < low:
        raise UsageError(f"{op}: {name} is {value!r}, need an integer of at least {low}")
    return int(value)


def pair(op: str, name: str, value: Pair, low: int = 1) -> tuple[int, int]:
    """Return (y, x) of an int or a pair of ints."""
    if isinstance(value, (tuple, list)):
        if len(value) != 2:
            raise UsageError(f"{op}: {name} is {value!r}, need an int or a pair (y, x)")
        return integer(op, name, value[0], low), integer(op, name, value[1], low)
    return (integer(op, name, value, low),) * 2


def sides(op: str, value: Sides, low: int = 0) -> tuple[int, int, int, int]:
    """Return (top, bottom, left, right) of an int or a 4-tuple."""
    if isinstance(value, (tuple, list)):
        if len(value) != 4:
            raise UsageError(f"{op}: padding is {value!r}, need an int or (top, bottom, left, right)")
        top, bottom, left, right = (integer(op, "padding", side, low) for side in value)
        return top, bottom, left, right
    return (integer(op, "padding", value, low),) * 4


def choice(op: str, name: str, value: Choice, choices: tuple[str, ...]) -> Choice:
    """Return `value` if it is one of `choices`."""
    if value not in choices:
        raise UsageError(f"{op}: {name} is {value!r}, choose one of {', '.join(choices)}")
    return value


def same_shape(op: str, name: str, value: Array, shape: tuple[int, ...], other: str) -> None:
    """Raise ShapeError unless `value` has `shape`, the shape of `other`."""
    if value.shape != tuple(shape):
        raise ShapeError(f"{op}: {name} has shape {value.shape}, {other} has {tuple(shape)}; they must be equal")
