"""pagnp: a NumPy/Numba engine for Pixel-wise Attentional Gating networks, one bit pattern on every backend.

import pagnp
result = pagnp.load("model.h5")("image.png")
result.outputs["segmentation"], result.ponder, result.macs, result.digest
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Graph", "Model", "Result", "errors", "load", "nn", "ops"]

if TYPE_CHECKING:
    from pagnp import errors as errors
    from pagnp import nn as nn
    from pagnp import ops as ops
    from pagnp.graph import Graph as Graph
    from pagnp.model import Model as Model
    from pagnp.model import load as load
    from pagnp.result import Result as Result

_PLACES = {"Graph": "pagnp.graph", "Model": "pagnp.model", "load": "pagnp.model", "Result": "pagnp.result"}
_MODULES = ("errors", "nn", "ops")


if not TYPE_CHECKING:  # a type checker that saw it would accept any name

    def __getattr__(name: str) -> Any:
        # Loaded when first asked for: `import pagnp` stays quick and needs nothing but NumPy.
        if name in _MODULES:
            return importlib.import_module(f"pagnp.{name}")
        if name in _PLACES:
            return getattr(importlib.import_module(_PLACES[name]), name)
        raise AttributeError(f"module 'pagnp' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted((*globals(), *__all__))
