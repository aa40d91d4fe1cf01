"""A graph's ONNX model run by ONNX's reference evaluator or by ONNX Runtime, with every node's value recorded."""

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from pagnp.graph import INPUT


def by_evaluator(proto, feeds):
    """Return the outputs of `proto` in order, by ONNX's own evaluator: plain NumPy, the meaning of the standard."""
    with np.errstate(all="ignore"):
        return ReferenceEvaluator(proto).run(None, feeds)


def by_runtime(proto, feeds):
    """Return the outputs of `proto` in order, by ONNX Runtime on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def nchw(x):
    """Return (n, h, w, c) as (n, c, h, w)."""
    return np.ascontiguousarray(np.moveaxis(x, -1, 1))


def ours(array):
    """Return an ONNX value in our layout: (n, h, w, c), a mask or index (n, h, w)."""
    if array.dtype == np.float32:
        return np.ascontiguousarray(np.moveaxis(array, 1, -1))
    return np.ascontiguousarray(array[:, 0]).astype(bool if array.dtype == bool else np.int32)


def values_of(proto, names, feeds, run):
    """Return name -> value in our layout, of the graph's nodes `names`, whose names the ONNX nodes have."""
    found = {node.name: node.output[0] for node in proto.graph.node if node.name in names}
    whole = onnx.ModelProto()
    whole.CopyFrom(proto)
    known = {output.name for output in whole.graph.output}
    missing = [onnx.ValueInfoProto(name=value) for value in found.values() if value not in known]
    whole.graph.output.extend(missing)
    outputs = dict(zip([output.name for output in whole.graph.output], run(whole, feeds), strict=True))
    return {name: ours(outputs[value]) for name, value in found.items()}


def feeds_of(x, noises):
    """Return the inputs of a model: x (n, h, w, c), noises gate -> (n, h, w, K)."""
    return {INPUT: nchw(x)} | {f"{gate}.noise": nchw(noise) for gate, noise in noises.items()}
