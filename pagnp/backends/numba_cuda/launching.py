"""What a launch needs of a kernel: the function of its name, and arguments of its signature's types."""

import functools
import importlib

import numpy as np

from pagnp.backends.gpu import SIGNATURES

DTYPES = {
    "f32": np.dtype(np.float32),
    "f64": np.dtype(np.float64),
    "i32": np.dtype(np.int32),
    "i64": np.dtype(np.int64),
    "u8": np.dtype(np.uint8),
    "u32": np.dtype(np.uint32),
    "u64": np.dtype(np.uint64),
}


@functools.cache
def function_of(kernel):
    """Return the Numba function of the kernel's name: numba_cuda/<source>.py has it."""
    module = importlib.import_module(f"pagnp.backends.numba_cuda.{SIGNATURES[kernel].source}")
    return getattr(module, kernel)


@functools.cache
def types_of(kernel):
    """Return [(dtype, is an array)] of a kernel's parameters."""
    kinds = [kind for kind, _ in SIGNATURES[kernel].parameters]
    return [(DTYPES[kind.rstrip("*")], kind.endswith("*")) for kind in kinds]


def arguments(kernel, args, flat, absent):
    """Return the arguments as the kernel takes them.

    flat(array, dtype)  gives an array of any shape as 1-D of that dtype;  absent(dtype)  what stands for no array
    """
    types = types_of(kernel)
    if len(types) != len(args):
        raise TypeError(f"kernel {kernel}: takes {len(types)} arguments, got {len(args)}")
    return [
        dtype.type(value) if not is_array else absent(dtype) if value is None or not value.size else flat(value, dtype)
        for (dtype, is_array), value in zip(types, args, strict=True)
    ]
