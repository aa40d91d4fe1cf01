"""A graph's ONNX model run by ONNX's reference evaluator or by ONNX Runtime, every node held against pagnp."""

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from pagnp.backends.base import get_backend
from pagnp.canonical import canonical
from pagnp.errorbound import network
from pagnp.graph import INPUT


def by_evaluator(proto, feeds):
    """Return the outputs of `proto` in order, by ONNX's own evaluator: plain NumPy, the standard in code."""
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


RUNS = {"evaluator": by_evaluator, "onnxruntime": by_runtime}


def evaluator_errs(proto):
    """Return what ONNX's evaluator (1.23) is known to get wrong in `proto`, or None; ONNX Runtime gets it right."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in proto.graph.initializer}
    for node in proto.graph.node:
        a = {attr.name: onnx.helper.get_attribute_value(attr) for attr in node.attribute}
        if node.op_type == "BatchNormalization" and proto.opset_import[0].version < 14:
            return "takes the batch's own mean and variance before opset 14"
        if node.op_type == "MaxPool" and {*a["strides"], *a["dilations"]} == {1} and len(set(a["pads"])) > 1:
            return "MaxPool with stride 1 and paddings that differ: a map of another size"
        if node.op_type == "ConvTranspose" and a["group"] > 1 and shapes[node.input[1]][:2] != (a["group"], 1):
            return "ConvTranspose in groups of several channels: arrays that do not fit"
    return None


def has_dilated_conv(graph):
    """True where infinities make NaN of pixels between the taps: the evaluator fills a dilated kernel with zeros."""
    return any(node.op == "conv2d" and max(node.attrs["dilation"]) > 1 for node in graph.nodes.values())


def nchw(x):
    """Return (n, h, w, c) as (n, c, h, w)."""
    return np.ascontiguousarray(np.moveaxis(x, -1, 1))


def ours(array):
    """Return an ONNX value in our layout: (n, h, w, c), a mask or index (n, h, w)."""
    if array.dtype == np.float32:
        return np.ascontiguousarray(np.moveaxis(array, 1, -1))
    return np.ascontiguousarray(array[:, 0]).astype(bool if array.dtype == bool else np.int32)


def values_of(proto, graph, feeds, run):
    """Return name -> value in our layout of all outputs, and of the graph's nodes, whose names ONNX nodes have."""
    found = {node.name: node.output[0] for node in proto.graph.node if node.name in graph.nodes}
    found |= {output.name: output.name for output in proto.graph.output if "/" in output.name}
    whole = onnx.ModelProto()
    whole.CopyFrom(proto)
    known = {output.name for output in whole.graph.output}
    whole.graph.output.extend(onnx.ValueInfoProto(name=value) for value in found.values() if value not in known)
    outputs = dict(zip([output.name for output in whole.graph.output], run(whole, feeds), strict=True))
    return {name: ours(outputs[value]) for name, value in found.items()}


def noises_of(graph, h, w):
    """Return gate -> noise (1, h, w, K) of the Gumbel gates, that of seed 0."""
    found, values, kernels = {}, graph.infer(h, w), get_backend("numpy")
    for node in graph.nodes.values():
        if node.op == "gate" and node.attrs["mode"].startswith("gumbel"):
            found[node.name] = np.empty((1, *values[node.inputs[0]].shape), np.float32)
            kernels.gumbel_noise(0, node.attrs["gate_index"], node.attrs["form"], 0, 0, found[node.name][0])
    return found


def feeds_of(x, noises):
    """Return the inputs of a model: x (n, h, w, c), noises gate -> (n, h, w, K)."""
    return {INPUT: nchw(x)} | {f"{gate}.noise": nchw(noise) for gate, noise in noises.items()}


def check(graph, proto, x, run):
    """Run `proto`, made of `graph`, on x (1, h, w, c) and hold every node against pagnp within bounds.

    Returns the rows of the report (pagnp.errorbound.rows.Row), none where the evaluator cannot be trusted with infinite
    values; AssertionError names the first that is out of bound.
    """
    feeds = feeds_of(x, noises_of(canonical(graph), *x.shape[1:3]))
    values = values_of(proto, graph, feeds, RUNS[run])
    if run == "evaluator" and has_dilated_conv(graph) and not all(np.isfinite(v).all() for v in values.values()):
        return []
    report = network.check(graph, x, values, get_backend("numba", 1))
    for row in report.rows:
        assert row.ok or loosely(row, run), f"{run}: {row}"
    assert report.rows and not report.missing
    return report.rows


def loosely(row, run):
    """True for logarithms and sigmoids as these two compute them, which is less exact than the bounds take for granted.

    NumPy's float32 log, and that of ONNX Runtime, is good to 4 ulp; ONNX Runtime's sigmoid is a rational function.
    """
    if row.op == "log":
        return row.ulp is not None and row.ulp <= 5
    return row.op == "sigmoid" and run == "onnxruntime" and row.difference < 2**-22
