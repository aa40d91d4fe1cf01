"""What a GPU kernel is called, where it lies and what it takes.

A kernel `relu_f32` of the family `pointwise` is written twice: in cuda/pointwise.cu and in numba_cuda/pointwise.py. Its
signature stands in gpu/pointwise.py, beside the code that launches it.

Types: f32 f64 i32 i64 u32 u64 are passed by value; with a * they are C-contiguous arrays in the device's memory
(u8* holds masks or pixels). A pointer may be null. Numba knows no null: there an array of one element stands for it, so
that a number must say what is there.
"""

import re
from dataclasses import dataclass

CUPY, NUMBA = "cupy", "numba-cuda"
TYPES = ("f32", "f64", "i32", "i64", "u8", "u32", "u64")


@dataclass(frozen=True)
class Signature:
    """source: cuda/<source>.cu, numba_cuda/<source>.py; parameters: (type, name); the backends that have the kernel."""

    source: str
    parameters: tuple[tuple[str, str], ...]
    backends: tuple[str, ...] = (CUPY, NUMBA)


def signatures(source: str, text: str, backends: tuple[str, ...] = (CUPY, NUMBA)) -> dict[str, Signature]:
    """Return name -> Signature of the `name(type name, ...)` in `text`."""
    found = {}
    for name, inside in re.findall(r"(\w+)\(([^)]*)\)", text):
        parameters = tuple((kind, parameter) for kind, parameter in (part.split() for part in inside.split(",")))
        unknown = [kind for kind, _ in parameters if kind.rstrip("*") not in TYPES]
        if unknown:
            raise TypeError(f"kernel {name}: no type {unknown[0]}")
        found[name] = Signature(source, parameters, backends)
    return found
