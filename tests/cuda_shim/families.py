"""The signatures and the table of the GPU backends, also while some families of kernels are not written yet."""

import functools
import importlib
import importlib.util
import sys
import types
from pathlib import Path

from pagnp.backends import base

NAMES = ("conv", "pool", "resample", "pointwise", "reduce", "layout", "gate", "random", "flow")


def stand_in():
    """Make pagnp.backends.gpu a package whose modules can be imported one by one, if it cannot be imported whole."""
    try:
        importlib.import_module("pagnp.backends.gpu")
    except ImportError:
        package = types.ModuleType("pagnp.backends.gpu")
        package.__path__ = [str(Path(base.__file__).parent / "gpu")]
        sys.modules["pagnp.backends.gpu"] = package


stand_in()


@functools.cache
def families():
    """Return (name -> Signature, device -> table of kernels)."""
    gpu = sys.modules["pagnp.backends.gpu"]
    if hasattr(gpu, "table"):
        return gpu.SIGNATURES, gpu.table
    modules = []
    for name in NAMES:
        if importlib.util.find_spec(f"pagnp.backends.gpu.{name}"):
            modules.append(importlib.import_module(f"pagnp.backends.gpu.{name}"))
    signatures = {name: signature for module in modules for name, signature in module.KERNELS.items()}

    def missing(op):
        def kernel(*args, **kwargs):
            raise NotImplementedError(op)

        return kernel

    def table(device):
        found = {name: missing(name) for name in (*base.KERNELS, *base.INTERNAL)}
        for name in found:
            for module in modules:
                if hasattr(module, name):
                    found[name] = functools.partial(getattr(module, name), device)
        return found

    return signatures, table
