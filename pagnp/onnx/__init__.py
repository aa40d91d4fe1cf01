"""ONNX side of pagnp: a graph as an ONNX model, every branch dense. The only place that imports onnx."""

from pagnp.errors import BackendError

try:
    import onnx as _onnx  # noqa: F401
except ImportError as error:
    raise BackendError(f"onnx: cannot import {error.name}; pip install 'pagnp[onnx]'") from error

from pagnp.onnx.export import export, model

__all__ = ["export", "model"]
