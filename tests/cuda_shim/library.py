"""Loads compiled CUDA sources and launches their kernels."""

import ctypes
import os
import struct

from cuda_shim import build

ORDERS = ("ascending", "descending", "shuffled")
FORMATS = {"f32": "f4x", "f64": "d", "i32": "i4x", "i64": "q", "u8": "B7x", "u32": "I4x", "u64": "Q"}


class KernelError(Exception):
    """A kernel did what no kernel may do: a barrier that not all threads reach, a shuffle of a missing lane, ..."""


class _Launch(ctypes.Structure):
    """pagnp_launch_t of machine.h."""

    _fields_ = [
        ("kernel", ctypes.c_void_p),
        ("slots", ctypes.c_char_p),
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("shared_bytes", ctypes.c_uint),
        ("order", ctypes.c_int),
        ("seed", ctypes.c_ulonglong),
        ("deferred", ctypes.c_int),
        ("workers", ctypes.c_int),
        ("error", ctypes.c_char * 1024),
    ]


class Kernels:
    """The kernels of one CUDA source, compiled into `folder`."""

    def __init__(self, source, signatures, folder, sanitize=False, **options):
        self._source, self._signatures = source, signatures
        path = build.library(source, signatures, folder, sanitize, **options)
        self._library = ctypes.CDLL(str(path))
        self._launch = self._library.pagnp_launch  # of the machine that it is linked to

    def launch(self, name, grid, block, values, shared=0, *, order="ascending", seed=0, deferred=False):
        """Run a kernel. grid, block: up to three numbers; values: numbers, and addresses for pointers.

        order     in which the threads of a block run between barriers: one of ORDERS
        deferred  asynchronous copies happen when they are waited for, else at once
        """
        parameters = self._signatures[name].parameters
        if len(values) != len(parameters):
            raise KernelError(f"{name} takes {len(parameters)} arguments, not {len(values)}")
        launch = _Launch(self._entry(name), self._packed(name, parameters, values))
        launch.grid[:], launch.block[:] = _three(grid), _three(block)
        launch.shared_bytes, launch.order, launch.seed = shared, ORDERS.index(order), seed
        launch.deferred, launch.workers = deferred, len(os.sched_getaffinity(0))
        if self._launch(ctypes.byref(launch)):
            raise KernelError(f"{name}: {launch.error.decode()}")

    def _entry(self, name):
        if not hasattr(self._library, f"entry_{name}"):
            raise KernelError(f"no kernel {name} in {self._source}")
        return ctypes.cast(getattr(self._library, f"entry_{name}"), ctypes.c_void_p).value

    def _packed(self, name, parameters, values):
        slots = bytearray()
        for (kind, parameter), value in zip(parameters, values, strict=True):
            try:
                slots += struct.pack("<Q" if kind.endswith("*") else f"<{FORMATS[kind]}", value)
            except struct.error as error:
                raise KernelError(f"{name}: {parameter} = {value!r} is no {kind}") from error
        return bytes(slots)


def _three(size):
    size = (size,) if isinstance(size, int) else tuple(size)
    return (*size, 1, 1)[:3]
