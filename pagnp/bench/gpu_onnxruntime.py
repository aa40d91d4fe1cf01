"""ONNX Runtime's CUDA provider, where it is installed: a network with input and output in the GPU's memory."""

from typing import Any

import numpy as np

from pagnp.bench.peers import Peer, SkippedError
from pagnp.graph import Graph
from pagnp.types import Tensor

NAME, PROVIDER = "onnxruntime", "CUDAExecutionProvider"


def network(graph: Graph, x: Tensor) -> Peer:
    """Return the Peer for a graph on x (n, h, w, c). Raises SkippedError with the reason."""
    try:
        import onnxruntime
    except ImportError as error:
        raise SkippedError(f"cannot import {error.name}") from error
    if PROVIDER not in onnxruntime.get_available_providers():
        raise SkippedError(f"onnxruntime {onnxruntime.__version__} is there, without its {PROVIDER}")
    from pagnp import onnx

    document = onnx.model(graph, size=x.shape[1:3], batch=x.shape[0]).SerializeToString()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(document, options, providers=[(PROVIDER, {"use_tf32": "0"})])
    if session.get_providers()[0] != PROVIDER:
        raise SkippedError(f"onnxruntime {onnxruntime.__version__} does not start its {PROVIDER}")
    binding = session.io_binding()
    binding.bind_ortvalue_input("input", _on_gpu(onnxruntime, np.ascontiguousarray(x.transpose(0, 3, 1, 2))))
    for output in session.get_outputs():
        binding.bind_output(output.name, "cuda")
    return Peer(NAME, lambda: session.run_with_iobinding(binding), f"{PROVIDER}, use_tf32 0, input and output bound")


def _on_gpu(onnxruntime: Any, array: Tensor) -> Any:
    return onnxruntime.OrtValue.ortvalue_from_numpy(array, "cuda", 0)
